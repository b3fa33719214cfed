"""An architecture taken as it is: timed beside the baseline, neither searched nor evaluated."""

from dataclasses import asdict, replace
from typing import Any

from frontier.models.architecture import Architecture
from frontier.models.detector import cost
from frontier.models.supernet import Supernet
from frontier.params import Search
from frontier.search.frontier import Limits, Point, nearest
from frontier.search.latency import Stopwatch, Timing


def take(name: str, supernet: Supernet, search: Search, stopwatch: Stopwatch) -> dict[str, Any]:
    """The content of `search.json`, with `taken` in it.

    Accuracies are null: without trained shared weights there is nothing to estimate them by.

    Args:
        name: a code, or `yolo_nas_s|m|l`.
    """
    answer = supernet.space.member(name, "architecture")
    baseline = supernet.space.baseline(search.baseline)
    both = [*dict.fromkeys([baseline, answer])]
    detectors = {a.code: supernet.extract(a).cpu() for a in both}
    reference = detectors[baseline.code]
    timed = stopwatch.time(detectors, reference, None)
    roles = {baseline.code: "baseline", answer.code: "taken"}
    rows = [_row(supernet, a, timed[a.code], roles[a.code], recommended=a == answer) for a in both]
    limits = Limits.of(search)
    feasible, reason = _judge(answer, timed[answer.code], limits)
    return {
        "taken": True,
        "evaluated": [],
        "timed": rows,
        "recommended": {"architecture": answer.code, "reason": reason},
        "baseline": rows[0],
        "limits": asdict(limits),
        "objective": search.objective,
        "batch_size": search.batch_size,
        "seed": None,
        "feasible": feasible,
        "postmortem": [],
        "postmortem_residual": {"ms": 0.0, "AP": 0.0},
        "space_size": supernet.space.size,
    }


def _judge(answer: Architecture, timing: Timing, limits: Limits) -> tuple[bool | None, str]:
    """Whether the limits are met, None where that cannot be told before training; and why."""
    ms = timing.int8.p50_ms
    taken = f"Taken, not searched: `architecture` names it; {ms:.2f} ms measured"
    point = Point(answer.code, 0.0, 0.0, ms, timing.size_mb, timing.memory_mb)
    costs = replace(limits, min_ap=None)
    if costs.misses(point):
        return False, f"{taken}. {nearest([point], costs).reason}"
    if limits.min_ap is not None:
        return None, f"{taken}; whether it reaches AP {limits.min_ap:.3f} shows on the test split."
    within = ", within the limits" if costs != Limits() else ""
    return True, f"{taken}{within}."


def _row(
    supernet: Supernet, architecture: Architecture, timing: Timing, name: str, *, recommended: bool
) -> dict[str, Any]:
    detector = supernet.extract(architecture).cpu()
    parameters, gmac = cost(detector.deploy(), architecture.image_side)
    return {
        "architecture": architecture.code,
        "AP": None,
        "AP_interval": None,
        **timing.columns(),
        "gmac": gmac,
        "parameters": parameters,
        "on_frontier": False,
        "recommended": recommended,
        "name": name,
    }
