"""What INT8 costs, group by group, and what it gains, in milliseconds.

Cost is the output error on a few images, for every group; AP, which takes all images to tell two
groups apart, is measured for the worst of them only, and for whole plans (`plan.choose`).

Legend: I images, A anchors, S the network's side, in pixels.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from frontier.boxes import resize
from frontier.data.loading.packing import PackedSplit
from frontier.metrics import Detections, coco_metrics
from frontier.models.suppression import KeepBest
from frontier.params import Evaluate, Measure
from frontier.quantization import qdq
from frontier.runtime.session import OnnxSession
from frontier.targets.base import Spelling, Target
from frontier.targets.measure import Latency, measure_latency
from frontier.targets.network import INPUT

Floats = NDArray[np.float32]
Outputs = list[tuple[Floats, Floats]]  # per image: boxes_xyxy [A, 4], scores [A, C]

# An error is a mean over thousands of anchors: a few images rank groups as many would.
RANKING_IMAGES = 16
# A gain only ranks groups and comes with its interval: a shorter measurement does. With so few
# queries the halves of a block differ by more than the usual limit on a quiet machine too.
GAIN_PROTOCOL = {"queries": 12, "blocks": 5, "warmup": 2, "max_drift": 0.1}


@dataclass(frozen=True)
class Sensitivity:
    """One group, alone in INT8."""

    ap_drop: float | None  # None: not measured of this group alone
    output_error: float  # 0 for the float network's own outputs


@dataclass(frozen=True)
class Gain:
    """Milliseconds that INT8 in one group saves while all others are INT8."""

    ms: float
    interval_ms: tuple[float, float]


class Judge:
    """Scores networks on packed images, in ONNX Runtime."""

    def __init__(self, split: PackedSplit, side: int, threads: int, rules: Evaluate) -> None:
        self.split, self.side, self.threads = split, side, threads
        self.images = prepare(split, range(len(split)), side)
        self._keep_best = KeepBest(rules)

    @property
    def few(self) -> list[Floats]:
        """At most `RANKING_IMAGES` of the images, evenly spread."""
        return self.images[:: math.ceil(len(self.images) / RANKING_IMAGES)]

    def outputs(self, model: onnx.ModelProto, images: list[Floats]) -> Outputs:
        session = OnnxSession(model.SerializeToString(), self.threads)
        found = (session.run({INPUT: image}) for image in images)
        return [(result["boxes_xyxy"][0], result["scores"][0]) for result in found]

    def detections(self, model: onnx.ModelProto) -> Detections:
        """On all images, in pixels of the stored square."""
        stored = self.split.image_size
        outputs = self.outputs(model, self.images)
        found = [self._keep_best(*pair, self.side, stored) for pair in outputs]
        return Detections.gather(self.split.image_ids.tolist(), found)

    def ap(self, model: onnx.ModelProto) -> float:
        """AP over all images."""
        return coco_metrics(self.split, self.detections(model))["AP"]


def prepare(split: PackedSplit, indices: Sequence[int], side: int) -> list[Floats]:
    """Stored squares as network inputs, each [1, 3, S, S] in 0..1."""
    squares = (resize(split.images[index], (side, side)) for index in indices)
    return [
        np.ascontiguousarray(square.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        for square in squares
    ]


def measure_sensitivity(
    model: onnx.ModelProto,
    ranges: qdq.Ranges,
    spelling: Spelling,
    judge: Judge,
    ap_float: float,
    worst: int,
) -> dict[str, Sensitivity]:
    """Output error of every group, alone in INT8; AP drop of the `worst` by that error."""
    names = set(qdq.groups(model))
    reference = judge.outputs(model, judge.few)

    def alone(name: str) -> onnx.ModelProto:
        return qdq.quantize(model, ranges, names - {name}, spelling)

    errors = {
        name: output_error(reference, judge.outputs(alone(name), judge.few))
        for name in sorted(names)
    }
    judged = sorted(errors, key=errors.__getitem__, reverse=True)[:worst]
    drops = {name: ap_float - judge.ap(alone(name)) for name in judged}
    return {name: Sensitivity(drops.get(name), error) for name, error in errors.items()}


def measure_gains(
    model: onnx.ModelProto,
    ranges: qdq.Ranges,
    target: Target,
    measure: Measure,
    threads: int,
    records: Path,
) -> dict[str, Gain]:
    """What each group gains, its boundaries with the others included."""
    names = sorted(qdq.groups(model))
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in ["", *names]}
        for name, path in paths.items():
            left_out = {name} if name else set()
            onnx.save(qdq.quantize(model, ranges, left_out, target.int8_spelling), path)
        short = measure.model_copy(update=GAIN_PROTOCOL)
        latencies = measure_latency(paths, target, short, threads, records, reference="")
    return {name: _gain(latencies[name], latencies[""]) for name in names}


def _gain(without: Latency, everything: Latency) -> Gain:
    low = without.interval_ms[0] - everything.interval_ms[1]
    high = without.interval_ms[1] - everything.interval_ms[0]
    return Gain(without.p50_ms - everything.p50_ms, (low, high))


def output_error(reference: Outputs, outputs: Outputs) -> float:
    """How far outputs moved where there is something to detect: 1 - IoU, plus relative scores.

    Both parts are weighted by the reference's best score of each anchor, so that the boxes of
    empty background do not count.
    """
    shifts, changes, weights = [], [], []
    for (boxes_a, scores_a), (boxes_b, scores_b) in zip(reference, outputs, strict=True):
        weights.append(scores_a.max(axis=1))
        shifts.append(1 - _iou(boxes_a, boxes_b))
        changes.append(np.abs(scores_a - scores_b).max(axis=1))
    weight = np.concatenate(weights)
    shift = float((np.concatenate(shifts) * weight).sum() / weight.sum())
    return shift + float(np.concatenate(changes).sum() / weight.sum())


def _iou(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """IoU of box i of one with box i of the other, [A]."""
    sides = np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - np.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    shared = sides.clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) for boxes in (a_xyxy, b_xyxy)]
    union = areas[0] + areas[1] - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio
