"""Which groups stay float: the fastest plan whose AP drop is within the budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from frontier.quantization.sensitivity import Gain, Sensitivity

MEASURABLE_MS = 0.02  # the least a group counts as saving when AP is weighed against time
# A smaller drop of one group is chance: on some dozens of images, INT8 "gains" as much elsewhere.
MEASURABLE_AP = 0.005


@dataclass
class Plan:
    """What stays float, and the AP of every plan that was tried on the way.

    Attributes:
        float_groups: each group left float -> the reason, in words.
        tried: number of groups left float -> AP of that plan.
    """

    float_groups: dict[str, str] = field(default_factory=dict)
    ap: float = 0.0
    tried: dict[int, float] = field(default_factory=dict)


def choose(
    sensitivity: Mapping[str, Sensitivity],
    gains: Mapping[str, Gain] | None,
    ap_of: Callable[[frozenset[str]], float],
    ap_float: float,
    max_ap_drop: float,
) -> Plan:
    """Take groups out of INT8, the most accuracy for the fewest milliseconds first.

    Groups that INT8 surely makes no faster go first: they cost accuracy for nothing. The group
    that costs most for the time it saves always goes. More follow until the drop is within the
    budget.

    Args:
        sensitivity: per group, alone in INT8.
        gains: per group; None where the target cannot be timed.
        ap_of: AP of the network with these groups float and all others INT8.
    """
    plan = Plan()
    for name, gain in (gains or {}).items():
        if gain.interval_ms[1] <= 0:
            plan.float_groups[name] = f"INT8 measured slower here, by {-gain.ms:.3f} ms"
    worst, why = most_sensitive(sensitivity, gains)
    plan.float_groups.setdefault(worst, f"{why}; {_in_words(sensitivity, gains, worst)}")
    always = len(plan.float_groups)
    order = [*plan.float_groups, *_by_cost(sensitivity, gains, exclude=set(plan.float_groups))]

    def fits(count: int) -> bool:
        plan.tried[count] = plan.ap = ap_of(frozenset(order[:count]))
        return ap_float - plan.ap <= max_ap_drop

    count = _fewest(fits, always, len(order))
    plan.ap = plan.tried[count]
    for name in order[always:count]:
        # the plan with one group less was tried, and did not fit
        drop = ap_float - plan.tried[count - 1]
        why = f"with {count - 1} groups float the AP drop was still {drop:.4f}"
        plan.float_groups[name] = f"{why}; {_in_words(sensitivity, gains, name)}"
    return plan


def most_sensitive(
    sensitivity: Mapping[str, Sensitivity], gains: Mapping[str, Gain] | None
) -> tuple[str, str]:
    """The group that costs most (per millisecond, where those are known), and by which measure.

    Where no group alone has lowered AP measurably, or none was tried alone, AP says nothing about
    them and the output error decides.
    """
    name = _by_cost(sensitivity, gains, exclude=set())[0]
    measure = "AP drop" if _drop(sensitivity[name]) else "output error"
    for_time = " for the time it saves" if gains else ""
    return name, f"measured most sensitive by {measure}{for_time}"


def _fewest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The smallest count that fits, `least` to `most`: by doubling steps, then by bisection.

    More groups in float are taken to be no worse, and all of them to fit: each try is a pass over
    all images, and one for every group would take minutes.
    """
    low, high, step = least - 1, least, 1
    while not fits(high) and high < most:
        low, high, step = high, min(high + step, most), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _by_cost(
    sensitivity: Mapping[str, Sensitivity], gains: Mapping[str, Gain] | None, exclude: set[str]
) -> list[str]:
    """Group names, the most AP (then the most output error) per millisecond first."""

    def cost(name: str) -> tuple[float, float, str]:
        found = sensitivity[name]
        saved_ms = max(gains[name].ms, MEASURABLE_MS) if gains else 1.0
        return _drop(found) / saved_ms, found.output_error / saved_ms, name

    return sorted(set(sensitivity) - exclude, key=cost, reverse=True)


def _drop(found: Sensitivity) -> float:
    """AP drop as far as it is measurable."""
    drop = found.ap_drop or 0.0  # None where it was not measured alone
    return drop if drop >= MEASURABLE_AP else 0.0


def _in_words(
    sensitivity: Mapping[str, Sensitivity], gains: Mapping[str, Gain] | None, name: str
) -> str:
    found = sensitivity[name]
    ap = "AP not measured" if found.ap_drop is None else f"AP drop {found.ap_drop:.4f}"
    saved = f", {gains[name].ms:.3f} ms saved" if gains else ""
    return f"alone in INT8: output error {found.output_error:.4f}, {ap}{saved}"
