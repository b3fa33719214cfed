"""An architecture taken as it is: timed beside the baseline, neither searched nor evaluated."""

from pathlib import Path
from typing import Any

from frontier.models.architecture import Architecture
from frontier.models.detector import cost
from frontier.models.supernet import Supernet
from frontier.params import Measure, Search
from frontier.search.latency import Timing, time_architectures
from frontier.targets.base import Target


def take(
    name: str,
    supernet: Supernet,
    target: Target,
    search: Search,
    measure: Measure,
    threads: int,
    records: Path,
    work: Path,
) -> dict[str, Any]:
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
    timed = time_architectures(detectors, target, measure, threads, records, work, reference, None)
    roles = {baseline.code: "baseline", answer.code: "taken"}
    rows = [_row(supernet, a, timed[a.code], roles[a.code], recommended=a == answer) for a in both]
    feasible, reason = _judge(rows[-1]["latency_p50_ms"], search)
    return {
        "taken": True,
        "evaluated": [],
        "timed": rows,
        "recommended": {"architecture": answer.code, "reason": reason},
        "baseline": rows[0],
        "limits": {"max_latency_ms": search.max_latency_ms, "min_ap": search.min_ap},
        "feasible": feasible,
        "postmortem": [],
        "postmortem_residual": {"ms": 0.0, "AP": 0.0},
        "space_size": supernet.space.size,
    }


def _judge(ms: float, search: Search) -> tuple[bool | None, str]:
    """Whether the limits are met, None where that cannot be told before training; and why."""
    taken = f"Taken, not searched: `architecture` names it; {ms:.2f} ms measured"
    limit = search.max_latency_ms
    if limit is not None and ms > limit:
        return False, f"{taken}, {ms - limit:.2f} ms over the limit of {limit:.2f} ms."
    if search.min_ap is not None:
        return None, f"{taken}; whether it reaches AP {search.min_ap:.3f} shows on the test split."
    within = "" if limit is None else f", within the limit of {limit:.2f} ms"
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
        "latency_p50_ms": timing.int8.p50_ms,
        "latency_interval_ms": [*timing.int8.interval_ms],
        "latency_float_p50_ms": timing.float32.p50_ms,
        "latency_float_interval_ms": [*timing.float32.interval_ms],
        "gmac": gmac,
        "parameters": parameters,
        "stable": timing.int8.stable and timing.float32.stable,
        "on_frontier": False,
        "recommended": recommended,
        "name": name,
    }
