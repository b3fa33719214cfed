"""Right and wrong detections, on cases small enough to see."""

from typing import Any

import numpy as np
import pytest

from frontier.matching import Scene, best_threshold, confusion, judge, match, scenes
from tests.unit.test_metrics import problem

SQUARE, OTHER, HALF = (10, 10, 50, 50), (60, 60, 90, 90), (10, 10, 50, 26)
SHIFTED = (22, 10, 62, 50)  # overlaps SQUARE by 0.54
AWAY = (40, 10, 80, 50)  # by 0.14


def scene(truth: list[Any], found: list[Any], crowd: tuple[int, ...] = ()) -> Scene:
    """Truth as (box, label), detections as (box, score, label)."""
    return Scene(
        np.array([box for box, _ in truth], np.float32).reshape(-1, 4),
        np.array([label for _, label in truth], np.int64),
        np.isin(np.arange(len(truth)), crowd),
        np.array([box for box, *_ in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for *_, label in found], np.int64),
    )


def states(given: Scene, threshold: float = 0.5) -> list[str]:
    return judge(given, match(given), threshold).states.tolist()


def matrix(given: Scene, threshold: float = 0.5, classes: int = 2) -> list[list[int]]:
    judged = [judge(given, match(given), threshold)]
    return confusion([given], judged, classes).tolist()


def test_a_right_one_is_on_the_diagonal() -> None:
    given = scene([(SQUARE, 0), (OTHER, 1)], [(SQUARE, 0.9, 0), (OTHER, 0.8, 1)])
    assert states(given) == ["right", "right"]
    assert matrix(given) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_wrong_class_stands_in_its_column() -> None:
    given = scene([(SQUARE, 0)], [(SQUARE, 0.9, 1)])
    assert states(given) == ["mislabelled"]
    assert matrix(given) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_a_right_one_goes_before_a_surer_one_of_another_class() -> None:
    given = scene([(SQUARE, 0)], [(SQUARE, 0.9, 1), (SQUARE, 0.6, 0)])
    assert states(given) == ["false", "right"]
    assert matrix(given) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_a_second_detection_of_one_box_is_background() -> None:
    given = scene([(SQUARE, 0)], [(SHIFTED, 0.7, 0), (SQUARE, 0.9, 0)])
    assert states(given) == ["false", "right"]
    assert matrix(given) == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_a_missed_box_is_taken_for_background() -> None:
    assert matrix(scene([(SQUARE, 0), (OTHER, 1)], [])) == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_too_little_overlap_is_misplaced_missed_and_false_at_once() -> None:
    given = scene([(SQUARE, 0)], [(AWAY, 0.9, 0), (OTHER, 0.9, 0)])
    assert states(given) == ["misplaced", "false"]
    assert matrix(given) == [[0, 0, 1], [0, 0, 0], [2, 0, 0]]
    assert judge(given, match(given), 0.5).wrong == 3


def test_what_lies_in_a_crowd_of_its_class_stands_nowhere() -> None:
    """By the share of the detection that lies in it, as COCO has it: a crowd is large."""
    found = [(HALF, 0.9, 0), (HALF, 0.8, 1)]
    given = scene([(SQUARE, 0)], found, crowd=(0,))
    assert states(given) == ["ignored", "false"]
    assert matrix(given) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert judge(given, match(given), 0.5).truth.tolist() == ["ignored"]


def test_below_the_threshold_nothing_is_seen() -> None:
    given = scene([(SQUARE, 0)], [(SQUARE, 0.4, 0), (OTHER, 0.3, 1)])
    assert states(given) == ["hidden", "hidden"]
    assert matrix(given) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert judge(given, match(given), 0.5).f1 == 0.0
    assert judge(given, match(given), 0.35).f1 == 1.0


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    empty = scene([], [])
    assert judge(empty, match(empty), 0.5).f1 == 1.0
    assert best_threshold([empty], [match(empty)]) == 0.5
    assert matrix(empty) == [[0] * 3] * 3


def test_threshold_is_where_f1_is_highest() -> None:
    given = scene([(SQUARE, 0)], [(SQUARE, 0.6, 0), (OTHER, 0.3, 0)])
    assert best_threshold([given], [match(given)]) == pytest.approx(0.6)


def test_a_threshold_splits_no_equal_scores() -> None:
    """Stopping between two equal scores would look better than any threshold can be."""
    near, far = (0, 0, 9, 9), (70, 0, 80, 9)
    found = [(SQUARE, 0.9, 0), (OTHER, 0.6, 0), (near, 0.6, 0), (far, 0.6, 0)]
    given = scene([(SQUARE, 0), (OTHER, 0)], found)
    assert best_threshold([given], [match(given)]) == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(6))
def test_counts_add_up(seed: int) -> None:
    truth, detections = problem(seed)
    pictures = scenes(truth, detections)
    matches = [match(given) for given in pictures]
    threshold = best_threshold(pictures, matches)
    judged = [judge(*pair, threshold) for pair in zip(pictures, matches, strict=True)]
    counts = confusion(pictures, judged, truth.num_classes)
    solid = truth.labels[~truth.ignore.astype(bool)]
    assert counts[:-1].sum(axis=1).tolist() == np.bincount(solid, minlength=3).tolist()
    shown = detections.labels[detections.scores >= threshold]
    ignored = sum(judgement.amount("ignored") for judgement in judged)
    assert counts[:, :-1].sum() == len(shown) - ignored
    assert np.trace(counts[:-1, :-1]) == sum(j.amount("right") for j in judged)
    assert counts[:-1, -1].sum() + np.trace(counts) + sum(
        j.amount("mislabelled") for j in judged
    ) == len(solid)
    assert counts[-1, -1] == 0
