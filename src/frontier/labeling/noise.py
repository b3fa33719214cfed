"""Labels worth a second look: where a trained network and the labels disagree, by cleanlab.

Only what neither side explains is scored: detections that hit no label of their class at IoU 0.5,
and labels that no such detection hit. So a good network on good labels suspects nothing.

Legend: N detections and T labels of one image; boxes are xyxy in pixels.

Reference: Tkachenko, Thyagarajan, Mueller 2023, "ObjectLab", arXiv:2309.00832.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.boxes import iou
from frontier.matching import NEAR_IOU, Scene, match, scenes
from frontier.metrics import Detections, Truth

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

Kind = Literal["missing", "wrong-class", "badly-placed"]

# cleanlab's own: similarity is 0.9 of IoU and 0.1 of nearness, which falls to 1/e in 10 px
OVERLAP, NEARNESS_PX = 0.9, 10.0
# Below the nearness of any two boxes in a picture of 1,000 px. cleanlab takes the least similarity
# that it was shown, which is none to speak of where few pairs are left.
FLOOR = 1e-50
# Score of a detection that may speak against a label. cleanlab's own for places; of missing labels
# and other classes it lets speak only from 0.95 on, which is meant for class probabilities: scores
# that also rate the box, as here, never get there.
SURE = 0.5
# Of one that may speak for a label where it is: an object that is hard to see has a weak detection
# in its own place, and would else be taken for the neighbour that touches it.
FAINT = 0.1
# Similarity of a half: below it label and detection of one class are badly placed to each other,
# above it they are the same object, so that the class is in question. Jitter costs a perfect
# detection a tenth or two of it.
CUT = 0.5


class Suspect(NamedTuple):
    """A label, or for "missing" a detection, that is likely an error.

    `other` is the class that the network sees instead (wrong class only); `score` is in 0..1,
    lower is more suspicious; scores of different kinds do not compare.
    """

    kind: Kind
    image_id: int
    label: int
    other: int | None
    box_xyxy: tuple[float, ...]
    score: float


class _Left(NamedTuple):
    """What matching left over in one image: N detections, and of T labels some.

    Attributes:
        open: `[T]` no detection of the label's class above `SURE` hit it.
        blank: `[T]` none above `FAINT` did.
    """

    image_id: int
    boxes_xyxy: Floats
    scores: Floats
    labels: Ints
    given_xyxy: Floats
    given: Ints
    open: Flags
    blank: Flags


def suspects(truth: Truth, detections: Detections, most: int) -> list[Suspect]:
    """The most suspicious first, at most `most` of each kind; crowds are never judged."""
    seen = detections.scores > FAINT
    found = Detections(
        detections.image_id[seen],
        detections.boxes_xyxy[seen],
        detections.scores[seen],
        detections.labels[seen],
    )
    images = zip(truth.image_ids.tolist(), scenes(truth, found), strict=True)
    left = [_left_over(image_id, scene) for image_id, scene in images]
    left = [image for image in left if len(image.scores)]
    kinds = (_missing(left), *_doubted(left))
    return sorted((own for kind in kinds for own in sorted(kind, key=_rank)[:most]), key=_rank)


def _rank(suspect: Suspect) -> tuple[Any, ...]:
    return suspect.score, suspect.image_id, suspect.box_xyxy, suspect.kind, suspect.label


def _left_over(image_id: int, scene: Scene) -> _Left:
    """The best scores match first, so that faint detections take nothing from the sure ones."""
    matched, judged, sure = match(scene), ~scene.crowd, scene.scores > SURE
    left = matched.counts & ~matched.right & sure
    labels = np.arange(len(judged))
    hit, hit_surely = (np.isin(labels, matched.found[rows]) for rows in (slice(None), sure))
    return _Left(
        image_id,
        scene.boxes_xyxy[left],
        scene.scores[left],
        scene.labels[left],
        scene.truth_xyxy[judged],
        scene.truth_labels[judged],
        ~hit_surely[judged],
        ~hit[judged],
    )


def _input(image: _Left) -> Any:
    """One of cleanlab's `auxiliary_inputs`; made here because its own take a loop over pairs."""
    overlap = iou(image.given_xyxy, image.boxes_xyxy).astype(np.float64)
    given, boxes = ((b[:, :2] + b[:, 2:]) / 2 for b in (image.given_xyxy, image.boxes_xyxy))
    distance = np.linalg.norm(given[:, None] - boxes[None], axis=2).astype(np.float64)
    return {
        "pred_labels": image.labels,
        "pred_label_probs": image.scores.astype(np.float64),
        "pred_bboxes": image.boxes_xyxy,
        "lab_labels": image.given,
        "lab_bboxes": image.given_xyxy,
        "similarity_matrix": OVERLAP * overlap + (1 - OVERLAP) * np.exp(-distance / NEARNESS_PX),
        "iou_matrix": overlap,
        "min_possible_similarity": FLOOR,
    }


def _missing(left: Sequence[_Left]) -> Iterator[Suspect]:
    """Sure detections that touch no label; the farther from any of their class, the worse."""
    from cleanlab.object_detection.rank import compute_overlooked_box_scores  # takes seconds

    scores = compute_overlooked_box_scores(
        auxiliary_inputs=[_input(image) for image in left], high_probability_threshold=SURE
    )
    for image, own in zip(left, scores, strict=True):
        for row in np.flatnonzero(~np.isnan(own)).tolist():
            box = tuple(image.boxes_xyxy[row].tolist())
            label = int(image.labels[row])
            yield Suspect("missing", image.image_id, label, None, box, float(own[row]))


def _doubted(left: Sequence[_Left]) -> tuple[list[Suspect], list[Suspect]]:
    """Open labels of wrong class, and badly placed ones; each label is one of them at most."""
    from cleanlab.object_detection.rank import compute_badloc_box_scores, compute_swap_box_scores

    left = [_only_open(image) for image in left if image.open.any()]
    inputs = [_input(image) for image in left]
    swap = compute_swap_box_scores(
        auxiliary_inputs=inputs, high_probability_threshold=SURE, overlapping_label_check=False
    )
    place = compute_badloc_box_scores(auxiliary_inputs=inputs, low_probability_threshold=SURE)
    wrong: list[Suspect] = []
    misplaced: list[Suspect] = []
    for image, swap_scores, place_scores in zip(left, swap, place, strict=True):
        overlap = iou(image.given_xyxy, image.boxes_xyxy)  # [T, N]
        same = image.given[:, None] == image.labels
        blank = image.blank & ((overlap * same).max(axis=1) >= NEAR_IOU)
        rival = (overlap * ~same).argmax(axis=1)
        for row, label in enumerate(image.given.tolist()):
            box = tuple(image.given_xyxy[row].tolist())
            if (score := float(swap_scores[row])) < CUT:
                other = int(image.labels[rival[row]])
                wrong.append(Suspect("wrong-class", image.image_id, label, other, box, score))
            elif blank[row] and (score := float(place_scores[row])) < CUT:
                misplaced.append(Suspect("badly-placed", image.image_id, label, None, box, score))
    return wrong, misplaced


def _only_open(image: _Left) -> _Left:
    return image._replace(
        given_xyxy=image.given_xyxy[image.open],
        given=image.given[image.open],
        open=image.open[image.open],
        blank=image.blank[image.open],
    )
