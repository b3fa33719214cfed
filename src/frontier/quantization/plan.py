"""Which groups stay float: the fastest plan whose AP drop is within the budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from frontier.quantization.sensitivity import Gain, Sensitivity

MEASURABLE_MS = 0.02  # the least a group counts as saving when AP is weighed against time


@dataclass
class Plan:
    """`float_groups` maps each group left float to the reason, in words."""

    float_groups: dict[str, str] = field(default_factory=dict)
    ap: float = 0.0


def choose(
    sensitivity: Mapping[str, Sensitivity],
    gains: Mapping[str, Gain] | None,
    ap_of: Callable[[set[str]], float],
    ap_float: float,
    max_ap_drop: float,
) -> Plan:
    """Take groups out of INT8, the most AP for the fewest milliseconds first.

    Groups that INT8 surely makes no faster go first: they cost accuracy for nothing. The most
    sensitive group of the rest always goes. More follow until the drop is within the budget.

    Args:
        sensitivity: per group, alone in INT8.
        gains: per group; None where the target cannot be timed.
        ap_of: AP of the network with these groups float and all others INT8.
    """
    plan = Plan()
    for name, gain in (gains or {}).items():
        if gain.interval_ms[1] <= 0:
            plan.float_groups[name] = f"INT8 measured slower here, by {-gain.ms:.3f} ms"
    plan.ap = ap_of(set(plan.float_groups))
    order = _by_cost(sensitivity, gains, exclude=set(plan.float_groups))
    for rank, name in enumerate(order):
        why = "measured most sensitive" if rank == 0 else f"AP drop was {ap_float - plan.ap:.4f}"
        plan.float_groups[name] = f"{why}; {_in_words(sensitivity[name], gains, name)}"
        plan.ap = ap_of(set(plan.float_groups))
        if ap_float - plan.ap <= max_ap_drop:
            break
    return plan


def _by_cost(
    sensitivity: Mapping[str, Sensitivity], gains: Mapping[str, Gain] | None, exclude: set[str]
) -> list[str]:
    """Group names, the most AP (then the most output error) per millisecond first."""

    def cost(name: str) -> tuple[float, float, str]:
        found = sensitivity[name]
        saved_ms = max(gains[name].ms, MEASURABLE_MS) if gains else 1.0
        return max(found.ap_drop, 0.0) / saved_ms, found.output_error / saved_ms, name

    return sorted(set(sensitivity) - exclude, key=cost, reverse=True)


def _in_words(found: Sensitivity, gains: Mapping[str, Gain] | None, name: str) -> str:
    gain = f" to save {gains[name].ms:.3f} ms" if gains else ""
    return (
        f"alone in INT8 it costs {found.ap_drop:.4f} AP{gain} (output error "
        f"{found.output_error:.4f})"
    )
