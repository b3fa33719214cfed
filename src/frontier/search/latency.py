"""Latency of subnets: whole models timed in the target's runtime, and a rough estimate between.

Each architecture is timed twice, side by side: in float and in the INT8 spelling that would ship.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from frontier.files import append_json_lines, read_json_lines
from frontier.models.architecture import Architecture, SearchSpace
from frontier.models.detector import Detector
from frontier.params import Measure
from frontier.quantization import qdq
from frontier.search.features import Genes, features, genes_of
from frontier.targets.base import Target
from frontier.targets.measure import Latency, latency_of, measure_latency
from frontier.targets.memory import measure_memory_mb
from frontier.targets.network import export_network


@dataclass(frozen=True)
class Timing:
    """What one architecture costs on the target.

    Attributes:
        int8: milliseconds an image, in the form that ships.
        float32: the same in float.
        size_mb: of the INT8 network's file.
        memory_mb: peak of a process that loads and runs it; None where that was not asked for.
    """

    int8: Latency
    float32: Latency
    size_mb: float
    memory_mb: float | None

    def columns(self) -> dict[str, Any]:
        """As `search.json` has it of each timed architecture."""
        return {
            "latency_p50_ms": self.int8.p50_ms,
            "latency_interval_ms": [*self.int8.interval_ms],
            "latency_float_p50_ms": self.float32.p50_ms,
            "latency_float_interval_ms": [*self.float32.interval_ms],
            "size_mb": self.size_mb,
            "memory_mb": self.memory_mb,
            "reference_ms": [*self.int8.reference_ms],
            "stable": self.int8.stable and self.float32.stable,
        }


@dataclass(frozen=True)
class Stopwatch:
    """How networks are timed in one search.

    Attributes:
        batch_size: images a query takes.
        memory: whether peak memory is measured too.
        records: where measurements of this device are recorded.
        folder: for the networks' files.
    """

    target: Target
    measure: Measure
    threads: int
    batch_size: int
    memory: bool
    records: Path
    folder: Path

    def time(
        self, detectors: dict[str, Detector], reference: Detector, reference_ms: float | None
    ) -> dict[str, Timing]:
        """Export, quantize with arbitrary ranges (enough for time) and time all, interleaved.

        Args:
            detectors: architecture code -> network.
            reference: the network that drift is corrected by.
            reference_ms: its INT8 milliseconds an image where an earlier call measured it; None
                measures it here.
        """
        named = reference.architecture.code
        paths = self._artifacts(named, reference)
        if named not in detectors:
            del paths[f"{named}/float32"]  # only its INT8 form is compared with
        for code, detector in detectors.items():
            paths |= self._artifacts(code, detector)
        a_query = None if reference_ms is None else reference_ms * self.batch_size
        latencies = measure_latency(
            paths,
            self.target,
            self.measure,
            self.threads,
            self.records,
            f"{named}/int8",
            reference_ms=a_query,
        )
        return {code: self._timing(code, paths, latencies) for code in detectors}

    def _timing(self, code: str, paths: dict[str, Path], latencies: dict[str, Latency]) -> Timing:
        int8, float32 = (
            an_image(latencies[f"{code}/{form}"], self.batch_size) for form in ("int8", "float32")
        )
        path = paths[f"{code}/int8"]
        memory = measure_memory_mb([path], self.target, self.threads)[0] if self.memory else None
        return Timing(int8, float32, path.stat().st_size / 1e6, memory)

    def _artifacts(self, code: str, detector: Detector) -> dict[str, Path]:
        float_path, int8_path = self.folder / f"{code}.onnx", self.folder / f"{code}.int8.onnx"
        side = detector.architecture.image_side
        export_network(detector.deploy(), side, float_path, self.batch_size)
        model = onnx.load(float_path)
        spelling = self.target.int8_spelling
        quantized = qdq.quantize(model, qdq.random_ranges(model), set(), spelling)
        onnx.save(quantized, int8_path)
        return {f"{code}/float32": float_path, f"{code}/int8": int8_path}


def an_image(query: Latency, batch_size: int) -> Latency:
    """A query's latency shared by the images of its batch."""
    low, high = query.interval_ms
    p90, p99 = (None if p is None else p / batch_size for p in (query.p90_ms, query.p99_ms))
    return replace(
        query,
        p50_ms=query.p50_ms / batch_size,
        interval_ms=(low / batch_size, high / batch_size),
        p90_ms=p90,
        p99_ms=p99,
    )


def append_timings(journal: Path, timed: dict[str, Timing]) -> None:
    """One line an architecture, behind those that are there."""
    append_json_lines(journal, [{"architecture": c, **asdict(timed[c])} for c in timed])


def read_timings(journal: Path) -> dict[str, Timing]:
    """What `append_timings` wrote."""
    rows = read_json_lines(journal)
    return {row.pop("architecture"): _timing_of(row) for row in rows}


def _timing_of(row: dict[str, Any]) -> Timing:
    latencies = {form: latency_of(row[form]) for form in ("int8", "float32")}
    return Timing(**{**row, **latencies})


class Estimator:
    """Ridge regression from code features to the log of a cost, fit on whole models measured here.

    It only proposes candidates; every finalist is measured whole.

    Args:
        measured: architecture code -> milliseconds, or megabytes.
    """

    def __init__(self, space: SearchSpace, measured: dict[str, float]) -> None:
        from sklearn.linear_model import Ridge

        self.space = space
        self.model = Ridge(alpha=1.0)
        architectures = [Architecture.parse(code) for code in measured]
        inputs = features(space, genes_of(space, architectures))
        self.model.fit(inputs, np.log([*measured.values()]))

    def estimate(self, genes_NG: Genes) -> npt.NDArray[np.float64]:
        """The cost, `[N]`."""
        return np.asarray(np.exp(self.model.predict(features(self.space, genes_NG))))
