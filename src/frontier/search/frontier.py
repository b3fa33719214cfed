"""The efficient frontier and the one recommended point on it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import numpy as np

from frontier.params import Search


class Point(NamedTuple):
    """One timed architecture; `ap_low` is the lower confidence bound of `ap` (0..1).

    Size and memory are None where they were not measured.
    """

    code: str
    ap: float
    ap_low: float
    ms: float
    size_mb: float | None = None
    memory_mb: float | None = None


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


@dataclass(frozen=True)
class Limits:
    """What the answer must keep to; None where there is no limit.

    Attributes:
        max_latency_ms: of an image.
        max_size_mb: of the INT8 network's file.
        max_memory_mb: peak of a process that loads and runs it.
        min_ap: held by the lower end of the AP's interval, 0..1.
    """

    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    max_memory_mb: float | None = None
    min_ap: float | None = None

    @classmethod
    def of(cls, search: Search) -> Self:
        return cls(**{field.name: getattr(search, field.name) for field in fields(cls)})

    def misses(self, point: Point) -> dict[str, float]:
        """By how much of the limit a point misses each that it does not keep to."""
        costs = {
            "max_latency_ms": point.ms,
            "max_size_mb": point.size_mb,
            "max_memory_mb": point.memory_mb,
        }
        over = {name: _over(cost, getattr(self, name)) for name, cost in costs.items()}
        short = (
            0.0 if self.min_ap is None else (self.min_ap - point.ap_low) / max(self.min_ap, 1e-9)
        )
        return {name: miss for name, miss in {**over, "min_ap": short}.items() if miss > 0}


def _over(cost: float | None, limit: float | None) -> float:
    return 0.0 if cost is None or limit is None else cost / limit - 1


def recommend(points: Sequence[Point], baseline: Point, limits: Limits) -> Choice:
    """Fastest with AP >= `min_ap` by its lower bound, or most accurate within the limits.

    With no limit on AP or time the baseline's own latency is the limit: the most accurate that is
    no slower. Limits that nothing keeps to give the nearest miss and say by how much.
    """
    candidates = [p for p in points if np.isfinite(p.ap) and np.isfinite(p.ms)]
    free = limits.min_ap is None and limits.max_latency_ms is None
    held = replace(limits, max_latency_ms=baseline.ms) if free else limits
    good = [p for p in candidates if not held.misses(p)]
    if not good:
        return nearest(candidates, held)
    if held.min_ap is not None:
        best = min(good, key=lambda p: p.ms)
        text = (
            f"The fastest of {len(candidates)} timed architectures within the limits whose AP is "
            f"at least {held.min_ap:.3f} by the lower end of its 95 % interval "
            f"({best.ap_low:.3f}): {best.ms:.2f} ms, AP {best.ap:.3f}."
        )
        return Choice(best.code, True, text)
    best = max(good, key=lambda p: (p.ap, -p.ms))
    named = "the baseline's own latency" if free else "the limit"
    text = (
        f"The most accurate of {len(candidates)} timed architectures within {named} "
        f"({held.max_latency_ms:.2f} ms): supernet AP {best.ap:.3f} at {best.ms:.2f} ms, against "
        f"the baseline's {baseline.ap:.3f} at {baseline.ms:.2f} ms."
    )
    return Choice(best.code, True, text)


def nearest(points: Sequence[Point], limits: Limits) -> Choice:
    """The point whose worst miss, as a share of its limit, is least."""
    best = min(points, key=lambda p: (max(limits.misses(p).values()), -p.ap_low))
    words = {
        "max_latency_ms": lambda limit: (
            f"takes {best.ms:.2f} ms, {best.ms - limit:.2f} ms over {limit:.2f}"
        ),
        "max_size_mb": lambda limit: (
            f"has {best.size_mb:.2f} MB, {best.size_mb - limit:.2f} MB over {limit:.2f}"
        ),
        "max_memory_mb": lambda limit: (
            f"needs {best.memory_mb:.0f} MB of memory, "
            f"{best.memory_mb - limit:.0f} MB over {limit:.0f}"
        ),
        "min_ap": lambda limit: (
            f"has an AP of at least {best.ap_low:.3f} (AP {best.ap:.3f}), "
            f"{limit - best.ap_low:.3f} short of {limit:.3f}"
        ),
    }
    missed = [words[name](getattr(limits, name)) for name in limits.misses(best)]
    text = f"No timed architecture keeps to every limit; the nearest {' and '.join(missed)}."
    return Choice(best.code, False, text)
