"""Latency of subnets: whole models timed in the target's runtime, and a rough estimate between.

Each architecture is timed twice, side by side: in float and in the INT8 spelling that would ship.
"""

from dataclasses import asdict, dataclass
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
from frontier.targets.measure import Latency, measure_latency
from frontier.targets.network import export_network


@dataclass(frozen=True)
class Timing:
    """INT8 (what ships) and float latency of one architecture."""

    int8: Latency
    float32: Latency


def time_architectures(
    detectors: dict[str, Detector],
    target: Target,
    measure: Measure,
    threads: int,
    records: Path,
    folder: Path,
    reference: Detector,
    reference_ms: float | None,
) -> dict[str, Timing]:
    """Export, quantize with arbitrary ranges (enough for time) and time all, interleaved.

    Args:
        detectors: architecture code -> network.
        records: where measurements of this device are recorded.
        folder: for the networks' files.
        reference: the network that drift is corrected by.
        reference_ms: its INT8 latency where an earlier call measured it; None measures it here.
    """
    named = reference.architecture.code
    paths = _artifacts(named, reference, target, folder)
    if named not in detectors:
        del paths[f"{named}/float32"]  # only its INT8 form is compared with
    for code, detector in detectors.items():
        paths |= _artifacts(code, detector, target, folder)
    latencies = measure_latency(
        paths, target, measure, threads, records, f"{named}/int8", reference_ms=reference_ms
    )
    return {
        code: Timing(latencies[f"{code}/int8"], latencies[f"{code}/float32"]) for code in detectors
    }


def append_timings(journal: Path, timed: dict[str, Timing]) -> None:
    """One line an architecture, behind those that are there."""
    append_json_lines(journal, [{"architecture": c, **asdict(timed[c])} for c in timed])


def read_timings(journal: Path) -> dict[str, Timing]:
    """What `append_timings` wrote."""
    rows = read_json_lines(journal)
    return {row.pop("architecture"): Timing(**_latencies(row)) for row in rows}


def _latencies(row: dict[str, Any]) -> dict[str, Latency]:
    return {
        form: Latency(**{**values, "interval_ms": tuple(values["interval_ms"])})
        for form, values in row.items()
    }


def _artifacts(code: str, detector: Detector, target: Target, folder: Path) -> dict[str, Path]:
    float_path, int8_path = folder / f"{code}.onnx", folder / f"{code}.int8.onnx"
    export_network(detector.deploy(), detector.architecture.image_side, float_path)
    model = onnx.load(float_path)
    quantized = qdq.quantize(model, qdq.random_ranges(model), set(), target.int8_spelling)
    onnx.save(quantized, int8_path)
    return {f"{code}/float32": float_path, f"{code}/int8": int8_path}


class LatencyEstimator:
    """Ridge regression from code features to log milliseconds, fit on whole models timed here.

    It only proposes candidates; every finalist is timed whole.
    """

    def __init__(self, space: SearchSpace, timed: dict[str, float]) -> None:
        from sklearn.linear_model import Ridge

        self.space = space
        self.model = Ridge(alpha=1.0)
        architectures = [Architecture.parse(code) for code in timed]
        inputs = features(space, genes_of(space, architectures))
        self.model.fit(inputs, np.log([*timed.values()]))

    def estimate_ms(self, genes_NG: Genes) -> npt.NDArray[np.float64]:
        """Milliseconds, `[N]`."""
        return np.asarray(np.exp(self.model.predict(features(self.space, genes_NG))))
