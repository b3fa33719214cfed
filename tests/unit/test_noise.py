"""Label-noise candidates: planted faults are found, and nothing is suspected where none is."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from frontier.labeling.noise import CUT, FAINT, SURE, suspects
from frontier.metrics import Detections, Truth

SIDE, CLASSES, KINDS = 100, 3, ("missing", "wrong-class", "badly-placed")


def truth_of(boxes: list[list[tuple[float, ...]]], crowds: bool = False) -> Truth:
    """Rows of (x1, y1, x2, y2, label) per image, whose ids are 10, 20, ..."""
    rows = np.array([row for own in boxes for row in own], np.float32).reshape(-1, 5)
    return Truth(
        CLASSES,
        10 * np.arange(1, len(boxes) + 1),
        np.cumsum([0, *map(len, boxes)]),
        rows[:, :4],
        rows[:, 4].astype(np.int64),
        np.full(len(rows), crowds, np.uint8),
    )


def found(rows: list[tuple[float, ...]]) -> Detections:
    """Rows of (image id, x1, y1, x2, y2, label, score)."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    return Detections(
        table[:, 0].astype(np.int64), table[:, 1:5], table[:, 6], table[:, 5].astype(np.int64)
    )


def made(images: int, per_side: int = 3) -> Truth:
    """Boxes of all classes on a loose grid, some side by side, none on another."""
    rng = np.random.default_rng(0)
    cell = SIDE / per_side
    places = np.array([*product(range(per_side), repeat=2)]) * cell
    corners = places + rng.uniform(0, cell * 0.3, (images, len(places), 2))
    sizes = rng.uniform(cell * 0.4, cell * 0.7, corners.shape)
    labels = rng.integers(0, CLASSES, (*corners.shape[:2], 1))
    rows = np.concatenate([corners, corners + sizes, labels], axis=2)
    return truth_of(rows.tolist())


def perfect(truth: Truth) -> Detections:
    """Every box within a few percent of its size, surely and by its class."""
    rng = np.random.default_rng(1)
    sides = np.tile(truth.boxes_xyxy[:, 2:] - truth.boxes_xyxy[:, :2], 2)
    moved = truth.boxes_xyxy + sides * rng.uniform(-0.04, 0.04, sides.shape)
    image_id = np.repeat(truth.image_ids, np.diff(truth.offsets))
    return Detections(
        image_id,
        moved.astype(np.float32),
        rng.uniform(0.7, 0.97, len(image_id)).astype(np.float32),
        truth.labels.copy(),
    )


def planted(truth: Truth) -> Truth:
    """The first label of an image each: gone, of another class, and half its width to the right."""
    second, third, fourth = (int(truth.offsets[i]) for i in (1, 2, 3))
    boxes, labels = truth.boxes_xyxy.copy(), truth.labels.copy()
    labels[third] = (labels[third] + 1) % CLASSES
    boxes[fourth, [0, 2]] += 0.5 * (boxes[fourth, 2] - boxes[fourth, 0])
    return replace(
        truth,
        offsets=truth.offsets - (np.arange(len(truth.offsets)) > 1),
        boxes_xyxy=np.delete(boxes, second, axis=0),
        labels=np.delete(labels, second),
        ignore=np.delete(truth.ignore, second),
    )


def test_exactly_the_planted_faults_are_suspected() -> None:
    clean = made(8)
    noisy, detections = planted(clean), perfect(clean)
    first = {suspect.kind: suspect for suspect in suspects(noisy, detections, 5)}
    assert len(suspects(noisy, detections, 5)) == 3
    assert {kind: first[kind].image_id for kind in KINDS} == dict(
        zip(KINDS, (20, 30, 40), strict=True)
    )
    assert first["missing"].label == clean.labels[clean.offsets[1]]
    assert first["missing"].box_xyxy == pytest.approx(clean.boxes_xyxy[clean.offsets[1]], abs=2)
    swapped = first["wrong-class"]
    assert (swapped.label, swapped.other) == (
        (clean.labels[clean.offsets[2]] + 1) % CLASSES,
        clean.labels[clean.offsets[2]],
    )
    # the label as it stands, not where the network sees its object
    shifted = noisy.boxes_xyxy[noisy.offsets[3]]
    assert first["badly-placed"].box_xyxy == pytest.approx(shifted)


def test_a_good_network_suspects_no_good_label() -> None:
    assert suspects(made(50), perfect(made(50)), 100) == []


def test_the_most_suspicious_come_first_and_so_many_of_each_kind() -> None:
    truth = made(12)
    blind = replace(truth, labels=(truth.labels + 1) % CLASSES)
    none = truth_of([[]] * 12)
    for labels, kind in ((blind, "wrong-class"), (none, "missing")):
        rows = suspects(labels, perfect(truth), 7)
        assert [row.kind for row in rows] == [kind] * 7
        everything = suspects(labels, perfect(truth), 1000)
        assert rows == everything[:7]
        assert [row.score for row in everything] == sorted(row.score for row in everything)
        assert len(everything) == len(truth.labels)


def similarity(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The paper's, box by box: 0.9 of overlap and 0.1 of nearness, which halves every 7 px."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    overlap = width * height / (sum(areas) - width * height)
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (a, b)]
    return 0.9 * overlap + 0.1 * math.exp(-0.1 * math.dist(*middles))


LABEL, NEAR, FAR = (10, 10, 30, 30), (17, 10, 37, 30), (60, 40, 80, 60)


@pytest.mark.parametrize(
    ("kind", "box", "label", "score"),
    [
        ("badly-placed", (20, 10, 40, 30), 0, similarity(LABEL, (20, 10, 40, 30))),
        ("wrong-class", (12, 10, 32, 30), 1, 1 - similarity(LABEL, (12, 10, 32, 30))),
        ("missing", FAR, 0, similarity(LABEL, FAR)),
    ],
)
def test_scores_are_those_of_the_paper(
    kind: str, box: tuple[float, ...], label: int, score: float
) -> None:
    (suspect,) = suspects(truth_of([[(*LABEL, 0)]]), found([(10, *box, label, 0.9)]), 9)
    assert (suspect.kind, suspect.image_id) == (kind, 10)
    assert suspect.score == pytest.approx(score, rel=1e-5)


def test_of_two_detections_without_a_label_of_their_class_the_surer_is_worse() -> None:
    rows = [(10, *FAR, 1, 0.7), (20, *FAR, 1, 0.9)]
    truth = truth_of([[(*LABEL, 0)], [(*LABEL, 0)]])
    assert [suspect.image_id for suspect in suspects(truth, found(rows), 9)] == [20, 10]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(10, *FAR, 0, SURE - 0.01)], "not sure enough for a missing label"),
        ([(10, *LABEL, 1, SURE - 0.01)], "not sure enough for another class"),
        ([(10, 20, 10, 40, 30, 0, SURE - 0.01)], "not sure enough for another place"),
        ([(10, *LABEL, 0, 0.9), (10, *LABEL, 1, 0.9)], "its own class is seen there too"),
        ([(10, *LABEL, 0, 0.9), (10, 15, 10, 35, 30, 0, 0.8)], "seen twice"),
        ([(10, 29, 29, 49, 49, 0, 0.9)], "a touch at the corner is no misplaced label"),
        ([(10, 15, 10, 33, 32, 1, 0.9), (10, 12, 11, 31, 30, 0, 0.55)], "found, if less surely"),
        ([(10, 20, 10, 40, 30, 0, 0.9), (10, *LABEL, 0, FAINT + 0.01)], "hard to see"),
    ],
)
def test_what_has_another_explanation_is_not_suspected(
    rows: list[tuple[float, ...]], why: str
) -> None:
    assert suspects(truth_of([[(*LABEL, 0)]]), found(rows), 9) == [], why


def test_the_detection_of_a_neighbour_speaks_for_the_neighbour_alone() -> None:
    """A label that nothing found is not misplaced because the next object was found."""
    truth = truth_of([[(*LABEL, 0), (*NEAR, 0)]])
    assert suspects(truth, found([(10, *NEAR, 0, 0.9)]), 9) == []


@pytest.mark.parametrize(
    ("truth", "rows"),
    [
        (truth_of([]), []),
        (truth_of([[], []]), []),
        (truth_of([[(*LABEL, 0)], []]), []),
        (truth_of([[(*LABEL, 0)]], crowds=True), [(10, *LABEL, 0, 0.9), (10, *LABEL, 0, 0.8)]),
    ],
    ids=["no-images", "no-labels", "no-detections", "crowds"],
)
def test_nothing_is_made_of_nothing(truth: Truth, rows: list[tuple[float, ...]]) -> None:
    assert suspects(truth, found(rows), 9) == []


def test_a_crowd_is_no_neighbour_of_a_missing_label() -> None:
    """It has no place of its own to be near to: the score is as without it."""
    rows = found([(10, *FAR, 0, 0.9)])
    (alone,) = suspects(truth_of([[]]), rows, 9)
    (beside,) = suspects(truth_of([[(*LABEL, 0)]], crowds=True), rows, 9)
    assert beside == alone
    assert alone.score <= 1 - 0.9 + 1e-6


def test_scores_stay_in_their_range() -> None:
    truth = made(200)
    faulty = replace(truth, labels=np.where(np.arange(1800) % 10, truth.labels, 0))
    rows = suspects(faulty, perfect(truth), 50)
    assert len(rows) == 50
    assert all(0 <= row.score < CUT for row in rows)
