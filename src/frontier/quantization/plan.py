"""Which groups stay float: the fastest plan whose AP drop is within the budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from frontier.quantization.sensitivity import Sensitivity

MEASURABLE_MS = 0.005  # a smaller difference between two medians is noise


@dataclass
class Plan:
    """`float_groups` maps each group left float to the reason, in words."""

    float_groups: dict[str, str] = field(default_factory=dict)
    ap: float = 0.0


def choose(
    sensitivity: Mapping[str, Sensitivity],
    gains: Mapping[str, float] | None,
    ap_of: Callable[[set[str]], float],
    ap_float: float,
    max_ap_drop: float,
) -> Plan:
    """Take groups out of INT8, the most AP for the fewest milliseconds first.

    Groups that INT8 makes no faster go first: they cost accuracy for nothing. The most sensitive
    group of the rest always goes. More follow until the drop is within the budget.

    Args:
        sensitivity: per group, alone in INT8.
        gains: milliseconds that INT8 saves per group; None where the target cannot be timed.
        ap_of: AP of the network with these groups float and all others INT8.
    """
    plan = Plan()
    for name, gain in (gains or {}).items():
        if gain <= MEASURABLE_MS:
            plan.float_groups[name] = f"INT8 measured no faster here ({gain:+.3f} ms saved)"
    before = ap_of(set(plan.float_groups))
    for rank, name in enumerate(_by_cost(sensitivity, gains, exclude=set(plan.float_groups))):
        why = (
            "measured most sensitive" if rank == 0 else f"AP drop was still {ap_float - before:.4f}"
        )
        plan.float_groups[name] = f"{why}; {_in_words(sensitivity[name], gains, name)}"
        before = ap_of(set(plan.float_groups))
        if ap_float - before <= max_ap_drop:
            break
    plan.ap = before
    return plan


def _by_cost(
    sensitivity: Mapping[str, Sensitivity], gains: Mapping[str, float] | None, exclude: set[str]
) -> list[str]:
    def cost(name: str) -> tuple[float, float]:
        found, gain = sensitivity[name], gains[name] if gains else 1.0
        return max(found.ap_drop, 0.0) / gain, found.output_error / gain

    return sorted(set(sensitivity) - exclude, key=lambda name: (cost(name), name), reverse=True)


def _in_words(found: Sensitivity, gains: Mapping[str, float] | None, name: str) -> str:
    gain = f" to save {gains[name]:.3f} ms" if gains else ""
    return (
        f"alone in INT8 it costs {found.ap_drop:.4f} AP{gain} (output error "
        f"{found.output_error:.4f})"
    )
