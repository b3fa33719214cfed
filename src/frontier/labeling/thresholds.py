"""Score thresholds per class, chosen on labelled data for a wanted precision.

N detections of one class over a split; a detection is right if it takes a still free true box of
its class at IoU >= 0.5, best score first.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.boxes import iou
from frontier.metrics import Detections, Truth

IOU = 0.5
Z = 1.96


class Threshold(NamedTuple):
    """Score from which a class is kept, with the precision (95 % interval) and recall there.

    `score` is None where no score reaches the wanted precision: nothing of that class is kept.
    """

    score: float | None
    precision: float
    low: float
    high: float
    recall: float


def choose(truth: Truth, detections: Detections, wanted: float) -> list[Threshold]:
    """One threshold per class: the lowest score at which precision is still `wanted`."""
    return [
        _choose_class(*matches(truth, detections, label), wanted)
        for label in range(truth.num_classes)
    ]


def matches(
    truth: Truth, detections: Detections, label: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int]:
    """Scores (descending) and rightness of a class's detections, and its number of true boxes."""
    scores, right, total = [], [], 0
    for index, image_id in enumerate(truth.image_ids):
        own = slice(int(truth.offsets[index]), int(truth.offsets[index + 1]))
        wanted = (truth.labels[own] == label) & (truth.ignore[own] == 0)
        boxes = truth.boxes_xyxy[own][wanted]
        total += len(boxes)
        mine = (detections.image_id == image_id) & (detections.labels == label)
        order = np.argsort(-detections.scores[mine], kind="stable")
        scores.append(detections.scores[mine][order])
        right.append(_greedy(detections.boxes_xyxy[mine][order], boxes))
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    return all_scores[order], all_right[order], total


def _greedy(
    found: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    right = np.zeros(len(found), bool)
    overlaps = iou(found, boxes)
    for row in range(len(found) if len(boxes) else 0):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= IOU:
            right[row] = True
            overlaps[:, best] = -1.0
    return right


def _choose_class(
    scores: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], total: int, wanted: float
) -> Threshold:
    hits = np.cumsum(right)
    counts = np.arange(1, len(right) + 1)
    enough = np.flatnonzero(hits >= wanted * counts)
    if not len(enough):
        return Threshold(None, 0.0, 0.0, 1.0, 0.0)
    last = int(enough[-1])
    low, high = wilson(int(hits[last]), last + 1)
    return Threshold(
        float(scores[last]),
        float(hits[last] / (last + 1)),
        low,
        high,
        float(hits[last] / max(1, total)),
    )


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927)."""
    share = hits / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
