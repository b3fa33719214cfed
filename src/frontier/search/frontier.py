"""The efficient frontier and the one recommended point on it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """One timed architecture; `ap_low` is the lower confidence bound of `ap` (0..1)."""

    code: str
    ap: float
    ap_low: float
    ms: float


class Choice(NamedTuple):
    code: str
    feasible: bool
    reason: str


def non_dominated(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats on both AP and ms, fastest first."""
    frontier: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ms, -p.ap)):
        if not frontier or point.ap > frontier[-1].ap:
            frontier.append(point)
    return frontier


def ranks(ap: Sequence[float], ms: Sequence[float]) -> list[int]:
    """Non-domination rank of each pair, 0 the frontier, 1 the frontier without it, and so on.

    Reference: NSGA-II, Deb et al. 2002.
    """
    left = {i: Point(str(i), a, a, m) for i, (a, m) in enumerate(zip(ap, ms, strict=True))}
    result = [0] * len(left)
    rank = 0
    while left:
        for point in non_dominated([*left.values()]):
            result[int(point.code)] = rank
            del left[int(point.code)]
        rank += 1
    return result


def hypervolume(points: Sequence[Point], worst_ms: float) -> float:
    """Area of (AP, ms) that the points dominate, up from AP 0 and down from `worst_ms`; AP x ms.

    Reference: Zitzler and Thiele 1999, "Multiobjective Evolutionary Algorithms".
    """
    from moocore import hypervolume as volume

    costs = np.array([[-point.ap, point.ms] for point in points]).reshape(-1, 2)
    return float(volume(costs, ref=[0.0, worst_ms]))


def recommend(
    points: Sequence[Point], baseline: Point, max_latency_ms: float | None, min_ap: float | None
) -> Choice:
    """Fastest with AP >= `min_ap` by its lower bound, or most accurate within `max_latency_ms`.

    With no limit the baseline's own latency is the limit: the most accurate that is no slower.
    An infeasible limit gives the nearest miss and says by how much.
    """
    candidates = [p for p in points if np.isfinite(p.ap) and np.isfinite(p.ms)]
    if min_ap is not None:
        return _fastest(candidates, min_ap, max_latency_ms)
    limit = baseline.ms if max_latency_ms is None else max_latency_ms
    within = [p for p in candidates if p.ms <= limit]
    if not within:
        nearest = min(candidates, key=lambda p: p.ms)
        return Choice(
            nearest.code,
            False,
            (
                f"No architecture meets {limit:.2f} ms; the nearest takes {nearest.ms:.2f} ms, "
                f"{nearest.ms - limit:.2f} ms over."
            ),
        )
    best = max(within, key=lambda p: (p.ap, -p.ms))
    named = "the baseline's own latency" if max_latency_ms is None else "the limit"
    return Choice(
        best.code,
        True,
        (
            f"The most accurate of {len(candidates)} timed architectures within {named} "
            f"({limit:.2f} ms): supernet AP {best.ap:.3f} at {best.ms:.2f} ms, against the "
            f"baseline's {baseline.ap:.3f} at {baseline.ms:.2f} ms."
        ),
    )


def _fastest(points: Sequence[Point], min_ap: float, max_ms: float | None) -> Choice:
    limit = float("inf") if max_ms is None else max_ms
    good = [p for p in points if p.ap_low >= min_ap and p.ms <= limit]
    if good:
        best = min(good, key=lambda p: p.ms)
        return Choice(
            best.code,
            True,
            (
                f"The fastest of {len(points)} timed architectures whose AP is at least "
                f"{min_ap:.3f} by the lower end of its 95 % interval ({best.ap_low:.3f}): "
                f"{best.ms:.2f} ms, AP {best.ap:.3f}."
            ),
        )
    affordable = [p for p in points if p.ms <= limit] or [min(points, key=lambda p: p.ms)]
    nearest = max(affordable, key=lambda p: p.ap_low)
    over = f" and {nearest.ms - limit:.2f} ms over the limit" if nearest.ms > limit else ""
    return Choice(
        nearest.code,
        False,
        (
            f"No timed architecture reaches AP {min_ap:.3f} by its lower bound; the nearest has "
            f"{nearest.ap_low:.3f} (AP {nearest.ap:.3f}), {min_ap - nearest.ap_low:.3f} short"
            f"{over}."
        ),
    )
