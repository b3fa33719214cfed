"""The survey of a device: the networks behind the latency table, timed once and kept.

All are timed in the INT8 spelling that ships, beside one reference network that every later
measurement is scaled to. What was timed on this device before, to the byte, is taken from there.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from frontier import tracking
from frontier.models.architecture import Architecture, SearchSpace
from frontier.params import Measure, Search
from frontier.quantization import qdq
from frontier.search.costs import Surveyed
from frontier.search.graphs import Graphs
from frontier.search.strategies import by_cost
from frontier.search.table import Table, TableEstimator, base_of, entries
from frontier.targets.base import Target
from frontier.targets.measure import Latency, measure_latency

TOGETHER = 12  # networks that are loaded and take turns
LONGEST_S = 1200.0  # of all queries of a survey; slower devices get fewer queries a network
FEWEST_QUERIES = 4  # of a block, one in each of its rounds
SEED = 0  # of the networks drawn: the same on every run, so that their latencies can be kept


@dataclass(frozen=True)
class Survey:
    """How to time networks of one space.

    Attributes:
        records: what was measured on this device (`targets.measure.records_path`).
        folder: for the networks' files, of which only `TOGETHER` are there at once.
    """

    graphs: Graphs
    target: Target
    measure: Measure
    threads: int
    records: Path
    folder: Path

    def time(self, architectures: list[Architecture], measure: Measure) -> dict[str, Latency]:
        """Latency of one query by code, drift corrected by the base network."""
        base = base_of(self.graphs.space)
        reference = self._time([base], base, measure, None)
        usual_ms = reference[base.code].p50_ms
        wanted = [a for a in dict.fromkeys(architectures) if a != base]
        timed = dict(reference)
        for start in range(0, len(wanted), TOGETHER):
            some = wanted[start : start + TOGETHER]
            timed |= self._time([*some, base], base, measure, usual_ms)
            tracking.log_progress(min(start + TOGETHER, len(wanted)), len(wanted), "parts timed")
        return timed

    def _time(
        self, some: list[Architecture], base: Architecture, measure: Measure, usual: float | None
    ) -> dict[str, Latency]:
        paths = {architecture.code: self._write(architecture) for architecture in some}
        kept = measure.model_copy(update={"latency": "reuse"})
        found = measure_latency(
            paths, self.target, kept, self.threads, self.records, base.code, reference_ms=usual
        )
        for path in paths.values():
            path.unlink()
        return found

    def _write(self, architecture: Architecture) -> Path:
        model = self.graphs.compose(architecture)
        path = self.folder / f"{architecture.code}.part.onnx"
        spelling = self.target.int8_spelling
        onnx.save(qdq.quantize(model, qdq.random_ranges(model), set(), spelling), path)
        return path


def build(survey: Survey, search: Search) -> Surveyed:
    """Time what the table needs; the estimator, and how good it is on networks held out."""
    space = survey.graphs.space
    parts = entries(space)
    calibration, held_out = _whole(space, search)
    count = len(parts) + len(calibration) + len(held_out)
    measure = affordable(survey, count)
    timed = survey.time([*parts, *calibration, *held_out], measure)
    table = Table(space, {a.code: timed[a.code].p50_ms for a in parts})
    estimator = TableEstimator(table, {a.code: timed[a.code].p50_ms for a in calibration})
    measured = {a.code: timed[a.code].p50_ms for a in held_out}
    quality = {
        **estimator.judge(measured),
        "parts": len(parts),
        "calibration": len(calibration),
        "queries": measure.queries * measure.blocks,
        "unstable": sum(not latency.stable for latency in timed.values()),
        "reference": {"architecture": base_of(space).code, **asdict(timed[base_of(space).code])},
    }
    return Surveyed(estimator, quality)


def _whole(space: SearchSpace, search: Search) -> tuple[list[Architecture], list[Architecture]]:
    """Networks drawn evenly over cost, to calibrate on and, in turns, to hold out."""
    count = search.calibration_models + search.held_out_models
    drawn = by_cost(space, np.random.default_rng(SEED), count, set())
    chosen = np.random.default_rng(SEED).permutation(len(drawn))[: search.held_out_models]
    held_out = {int(index) for index in chosen}
    return (
        [a for i, a in enumerate(drawn) if i not in held_out],
        [a for i, a in enumerate(drawn) if i in held_out],
    )


def affordable(survey: Survey, count: int) -> Measure:
    """`measure`, with as few queries a network as keep `count` of them within `LONGEST_S`."""
    measure = survey.measure
    largest = survey.time([survey.graphs.space.largest], measure)[survey.graphs.space.largest.code]
    for queries in _halved(measure.queries):
        # the reference takes up to as many again; few networks are as slow as the largest
        seconds = count * measure.blocks * 2 * queries * largest.p50_ms / 2000
        if seconds <= LONGEST_S:
            break
    return measure.model_copy(update={"queries": queries})


def _halved(queries: int) -> Iterator[int]:
    while queries > FEWEST_QUERIES:
        yield queries
        queries //= 2
    yield FEWEST_QUERIES
