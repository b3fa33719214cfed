"""Which detections are right, and what the wrong ones are wrong about.

Legend: T truth boxes and N detections of one image, C classes; boxes are xyxy in pixels.

Reference: the kinds of error follow TIDE, Bolya et al. 2020, arXiv:2008.08115.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from frontier.boxes import coverage, iou
from frontier.metrics import Detections, GroundTruth

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MATCH_IOU = 0.5
NEAR_IOU = 0.1  # from here to MATCH_IOU a detection of the right class is misplaced
UNSURE = 0.5  # the threshold where no detection is right at any


@dataclass(frozen=True)
class Scene:
    """One image: truth_xyxy [T, 4], truth_labels, crowd [T]; boxes_xyxy [N, 4], scores, labels."""

    truth_xyxy: Floats
    truth_labels: Ints
    crowd: Flags
    boxes_xyxy: Floats
    scores: Floats
    labels: Ints


@dataclass(frozen=True)
class Match:
    """Of one scene: which detections are right, which count at all, which truth each one found.

    Attributes:
        right: `[N]` detection matches a truth box of its label.
        counts: `[N]` false for detections in a crowd region, which are neither right nor wrong.
        found: `[N]` index of the truth box, -1 where none.
    """

    right: Flags
    counts: Flags
    found: Ints


@dataclass(frozen=True)
class Judgement:
    """One scene at a score threshold.

    Attributes:
        states: `[N]` right, mislabelled (a missed box of another class), misplaced (overlaps a
            missed box of its class too little), false (anything else, doubles too), ignored (in a
            crowd) or hidden (scored below the threshold).
        takes: `[N]` the truth box that a right or mislabelled detection stands for, or -1.
        truth: `[T]` right (found), missed or ignored (a crowd).
    """

    states: npt.NDArray[np.str_]
    takes: Ints
    truth: npt.NDArray[np.str_]

    def amount(self, state: str) -> int:
        """How many: of missed truth boxes, of any other state detections."""
        return int(((self.truth if state == "missed" else self.states) == state).sum())

    @property
    def wrong(self) -> int:
        """Errors in all: what was missed and what was seen that is not there."""
        return sum(map(self.amount, ("missed", "mislabelled", "misplaced", "false")))

    @property
    def f1(self) -> float:
        """In 0..1; 1 where there was nothing to find and nothing was found."""
        total = 2 * self.amount("right") + self.wrong
        return 2 * self.amount("right") / total if total else 1.0


def scenes(truth: GroundTruth, detections: Detections) -> list[Scene]:
    """One scene per image, in the order of the truth."""
    order = np.argsort(detections.image_id, kind="stable")
    ids = detections.image_id[order]
    starts, ends = (np.searchsorted(ids, truth.image_ids, side) for side in ("left", "right"))
    made = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        own = slice(int(truth.offsets[index]), int(truth.offsets[index + 1]))
        rows = order[start:end]
        made.append(
            Scene(
                truth.boxes_xyxy[own],
                truth.labels[own],
                np.asarray(truth.ignore[own], bool),
                detections.boxes_xyxy[rows],
                detections.scores[rows],
                detections.labels[rows],
            )
        )
    return made


def match(scene: Scene) -> Match:
    """Greedy by score, one truth box at most once, IoU at least 0.5, labels equal."""
    overlap = np.where(_same(scene), iou(scene.boxes_xyxy, scene.truth_xyxy), 0)
    found = np.full(len(scene.scores), -1, np.int64)
    _take(found, overlap, ~scene.crowd, np.argsort(-scene.scores, kind="stable"))
    inside = coverage(scene.boxes_xyxy, scene.truth_xyxy) * (_same(scene) & scene.crowd)
    in_crowd = (inside >= MATCH_IOU).any(axis=1)
    return Match(found >= 0, (found >= 0) | ~in_crowd, found)


def _same(scene: Scene) -> Flags:
    same: Flags = scene.labels[:, None] == scene.truth_labels[None, :]
    return same


def _take(found: Ints, overlap: Floats, free: Flags, order: Ints) -> None:
    """Give each detection in `order` the free truth box that it overlaps most, if enough."""
    reaches = overlap.max(axis=1, initial=0) >= MATCH_IOU
    for index in order[reaches[order]]:
        candidates = np.where(free, overlap[index], 0)
        if candidates.max() >= MATCH_IOU:
            found[index] = candidates.argmax()
            free[found[index]] = False


def best_threshold(scenes: Sequence[Scene], matches: Sequence[Match]) -> float:
    """The score at which F1 over all scenes is highest: what counts as a shown detection."""
    counts = np.concatenate([m.counts for m in matches])
    scores = np.concatenate([s.scores for s in scenes])[counts]
    right = np.concatenate([m.right for m in matches])[counts]
    if not right.any():
        return UNSURE
    order = np.argsort(-scores, kind="stable")
    truths = sum(int((~scene.crowd).sum()) for scene in scenes)
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + truths)
    whole = np.append(np.diff(scores[order]) < 0, True)  # a threshold splits no equal scores
    return float(scores[order][np.where(whole, f1, 0).argmax()])


def judge(scene: Scene, matched: Match, threshold: float) -> Judgement:
    """Say of every box what it is at a score threshold."""
    shown = scene.scores >= threshold
    takes = np.where(shown, matched.found, -1)
    free = ~scene.crowd
    free[takes[takes >= 0]] = False
    truth = np.where(scene.crowd, "ignored", np.where(free, "missed", "right"))
    overlap = iou(scene.boxes_xyxy, scene.truth_xyxy)
    near = (overlap * (_same(scene) & free)).max(axis=1, initial=0) >= NEAR_IOU
    order = np.argsort(-scene.scores, kind="stable")
    _take(takes, overlap, free, order[(shown & matched.counts & ~matched.right)[order]])
    states = np.select(
        [~shown, ~matched.counts, matched.right, takes >= 0, near],
        ["hidden", "ignored", "right", "mislabelled", "misplaced"],
        "false",
    )
    return Judgement(states, takes, truth)


def confusion(scenes: Sequence[Scene], judgements: Sequence[Judgement], num_classes: int) -> Ints:
    """Counts `[C + 1, C + 1]`: rows are truth, columns detections, the last of both background.

    The right ones are paired first, so that the diagonal counts what F1 counts; then what is left
    of both, whatever its class. Rows but the last add up to the truth boxes, columns but the last
    to the shown detections; crowds and what lies in them stand nowhere. faster-coco-eval's own
    matrix counts every crowd as missed.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for scene, judged in zip(scenes, judgements, strict=True):
        counted = ~np.isin(judged.states, ("hidden", "ignored"))
        true = np.append(scene.truth_labels, num_classes)[judged.takes]  # -1: background
        np.add.at(matrix, (true[counted], scene.labels[counted]), 1)
        taken = np.isin(np.arange(len(scene.truth_labels)), judged.takes)
        np.add.at(matrix[:, num_classes], scene.truth_labels[~taken & ~scene.crowd], 1)
    return matrix
