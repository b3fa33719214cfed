"""The walk from the baseline to the answer: what each edit cost and what it gained."""

import itertools
from dataclasses import dataclass

from frontier.models.architecture import Architecture, edits


@dataclass(frozen=True)
class Step:
    """One edit; deltas are differences of two measurements, so the steps add up exactly."""

    edit: str
    delta_ms: float
    delta_AP: float
    text: str


def walk(baseline: Architecture, answer: Architecture) -> list[tuple[str, Architecture]]:
    """The architectures on the way, the baseline (unnamed) first and the answer last."""
    return [("", baseline), *edits(baseline, answer)]


def explain(
    path: list[tuple[str, Architecture]], ms: dict[str, float], ap: dict[str, float]
) -> list[Step]:
    """Deltas along the path; `ms` and `ap` (0..1) are by architecture code."""
    steps = []
    for (_, before), (edit, after) in itertools.pairwise(path):
        delta_ms = ms[after.code] - ms[before.code]
        delta_ap = ap[after.code] - ap[before.code]
        steps.append(Step(edit, delta_ms, delta_ap, _sentence(edit, delta_ms, delta_ap)))
    return steps


def _sentence(edit: str, delta_ms: float, delta_ap: float) -> str:
    time = f"{'saved' if delta_ms <= 0 else 'cost'} {abs(delta_ms):.2f} ms"
    points = 100 * delta_ap
    accuracy = f"{'gained' if points >= 0 else 'lost'} {abs(points):.1f} AP points"
    return f"{edit}: {time} and {accuracy}."
