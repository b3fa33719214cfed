"""From detections to pseudo-labels: thresholds, two looks, leaks, verdicts, and going on."""

import math
from pathlib import Path

import numpy as np
import pytest

from frontier.data.loading.packing import load_split
from frontier.errors import UsageError
from frontier.labeling import labelling
from frontier.labeling.agreement import agreement
from frontier.labeling.labelling import Answer, Question, ask
from frontier.labeling.leakage import EQUAL, NEAR, hashes, leaks
from frontier.labeling.pseudo import Verdicts, label_images
from frontier.labeling.review import carried_over, read_review, to_csv, verdicts
from frontier.labeling.thresholds import (
    Judged,
    Share,
    Threshold,
    best_score,
    choose,
    joined,
    judged,
    share,
    wilson,
)
from frontier.metrics import Detections, Truth
from tests import tiny


def detections(*rows: tuple) -> Detections:
    """(image, box, score, label) each."""
    ids, boxes, scores, labels = zip(*rows, strict=True)
    return Detections(
        np.array(ids), np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels)
    )


A, B, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]


def test_detections_are_judged_with_the_labels_of_their_own_image():
    truth = Truth(
        2, np.array([7, 3, 5]), np.array([0, 2, 2, 4]),
        np.array([A, B, A, FAR], np.float32), np.array([0, 1, 1, 0]),
        np.array([0, 0, 0, 1], np.uint8),
    )  # fmt: skip
    found = detections(
        (5, A, 0.9, 1), (7, A, 0.8, 0), (7, [0, 0, 9, 9], 0.7, 0), (3, A, 0.6, 0),
        (7, B, 0.5, 0), (5, FAR, 0.4, 0), (99, A, 0.9, 0),
    )  # fmt: skip
    seen = judged(truth, found)
    rows = sorted(zip(seen.scores.round(1), seen.labels, seen.right, seen.image, strict=True))
    assert rows == [
        (0.5, 0, False, 0), (0.6, 0, False, 1), (0.7, 0, False, 0), (0.8, 0, True, 0),
        (0.9, 1, True, 2),
    ]  # fmt: skip
    assert seen.truth.tolist() == [[1, 1], [0, 0], [0, 1]]  # the crowd is nobody's
    few = judged(truth, found, np.array([True, False, True, True, True, True, True]))
    assert 0.8 not in few.scores.round(1)
    both = joined([seen, seen])
    assert both.image.max() == 5
    assert both.truth.shape == (6, 2)


def slow_best_score(scores, right, total, precision, beta):
    """Every score tried as a threshold."""
    best = (-1.0, math.inf)
    for threshold in set(scores):
        kept = [r for s, r in zip(scores, right, strict=True) if s >= threshold]
        hits, p = sum(kept), sum(kept) / len(kept)
        recall = hits / total if total else 0
        if p >= precision and hits:
            f = (1 + beta**2) * p * recall / (beta**2 * p + recall)
            best = max(best, (f, threshold))
    return best


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("precision", [0.0, 0.5, 0.9])
def test_the_threshold_has_the_best_f_beta_of_those_precise_enough(seed, beta, precision):
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 12, 30) / 12  # many equal ones
    right = rng.uniform(size=30) < scores
    total = int(right.sum()) + int(rng.integers(0, 9))
    f, _ = slow_best_score(scores.tolist(), right.tolist(), total, precision, beta)
    found = best_score(scores, right, total, precision, beta)
    if f < 0:
        assert math.isinf(found)
        return
    kept = right[scores >= found]
    p, recall = kept.mean(), kept.sum() / total
    assert p >= precision
    assert (1 + beta**2) * p * recall / (beta**2 * p + recall) == pytest.approx(f)


def noise(images: int, seed: int) -> Judged:
    """Ten detections an image, right by chance alone, whatever their score."""
    rng = np.random.default_rng(seed)
    count = 10 * images
    return Judged(
        rng.uniform(size=count), np.zeros(count, np.int64), rng.uniform(size=count) < 0.5,
        np.repeat(np.arange(images), 10), np.full((images, 1), 10),
    )  # fmt: skip


def test_what_to_expect_is_not_flattered_by_the_choice():
    found = [choose(noise(12, seed), 0.75, 1.0, seed)[0] for seed in range(60)]
    chosen = [t for t in found if t.score is not None]
    assert len(chosen) > 30  # by luck a few scores at the top are right often enough
    told = [t.precision.value for t in chosen if t.precision.value is not None]
    # not .75, as they look; rather below .5: who leaves out the lucky fifth chooses on the rest
    assert 0.3 < np.mean(told) < 0.55
    inside = [t.precision.low <= 0.5 <= t.precision.high for t in chosen if t.precision.value]
    assert np.mean(inside) > 0.85


def test_a_class_without_precise_detections_is_never_sure():
    seen = noise(20, 0)
    (none,) = choose(seen._replace(right=np.zeros(200, bool)), 0.9, 1.0, 0)
    assert none == Threshold(None, Share(None, None, None), share(0, 200))


def test_wilson_interval_of_a_known_case():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


def test_two_looks_agree_on_class_image_and_place():
    found = detections((1, A, 0.8, 0), (1, B, 0.6, 1), (2, A, 0.9, 0), (3, A, 0.7, 0))
    turned = detections((1, [0, 0, 10, 9], 0.4, 0), (1, B, 0.9, 0), (2, FAR, 0.9, 0))
    agreed, twice = agreement(found, turned, 0.5)
    assert twice.tolist() == [True, False, False, False]
    assert agreed.scores.tolist() == pytest.approx([0.6, 0.6, 0.9, 0.7])
    _, strict = agreement(found, turned, 0.95)
    assert not strict.any()


NOBODY = Share(None, None, None)


def labelled(**changes):
    split = tiny.split_of(4, first_id=10)
    found = detections(
        (10, A, 0.9, 0), (10, B, 0.5, 0), (10, FAR, 0.2, 0),  # sure, in doubt, no
        (11, A, 0.5, 0),  # nothing sure
        (12, A, 0.9, 1),  # a class that is never sure
        (13, A, 0.9, 0), (13, B, 0.95, 0),  # the second was seen in one look only
    )  # fmt: skip
    twice = np.array([True] * 6 + [False])
    thresholds = [Threshold(0.8, NOBODY, NOBODY), Threshold(None, NOBODY, NOBODY)]
    none = np.zeros(len(twice), bool)
    said = Verdicts(changes.pop("accepted", none), changes.pop("struck", none))
    return label_images(split, Answer(found, twice), thresholds, 0.3, said=said, **changes)


def test_sure_boxes_are_kept_doubtful_ones_ignored_and_unsure_images_left_out():
    labels = labelled()
    assert labels.split.image_ids.tolist() == [10, 13]
    assert labels.sure.tolist() == [True, False, False, False, False, True, False]
    assert labels.doubtful.tolist() == [False, True, False, False, False, False, True]
    boxes, classes, ignore = labels.split.targets(0)
    assert boxes.tolist() == [A, B]
    assert classes.tolist() == [0, 0]
    assert ignore.tolist() == [0, 1]
    assert (labels.split.images[1] == tiny.split_of(4, first_id=10).images[3]).all()


def test_refused_images_and_verdicts_of_a_person_are_honoured():
    assert labelled(refused={0}).split.image_ids.tolist() == [13]
    rows = np.arange(7)
    labels = labelled(accepted=rows == 3, struck=rows == 5)
    assert labels.split.image_ids.tolist() == [10, 11]
    both = labelled(accepted=rows == 0, struck=rows == 0)
    assert both.split.image_ids.tolist() == [13]


def test_an_image_that_measures_is_refused_and_so_is_one_that_looks_like_it():
    rng = np.random.default_rng(0)
    pixels = [np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((12, 16, 1))) for _ in range(4)]
    split = tiny.split_of(4)
    for i, picture in enumerate(pixels):
        split.images.pixels[i, 16:112] = picture
    measuring = hashes(split.subset([0, 1]))
    near = hashes(split.subset([1]))
    near[0, 3] ^= 1
    unlabelled = np.concatenate([hashes(split.subset([2, 0, 3])), near, hashes(split.subset([0]))])
    assert leaks(unlabelled, [measuring], 8) == {1: EQUAL, 3: NEAR, 4: EQUAL}
    assert leaks(unlabelled, [measuring], 0) == {1: EQUAL, 4: EQUAL}
    assert leaks(unlabelled, [], 8) == {}


def csv_row(verdict: str, **changes) -> dict:
    corners = dict(zip(("x1", "y1", "x2", "y2"), A, strict=True))
    row = {"image": "a, b.png", "class": "dog", **corners, "score": 0.9, "state": "sure"}
    return {**row, "verdict": verdict, **changes}


def test_a_list_goes_to_a_spreadsheet_and_back(tmp_path):
    path = tmp_path / "review.csv"
    assert read_review(path) == []
    path.write_text("\ufeff" + to_csv([csv_row(""), csv_row(" Strike "), csv_row("accept", x1=5)]))
    rows = read_review(path)
    assert [row["verdict"] for row in rows] == ["strike", "accept"]
    assert rows[0] == {"image": "a, b.png", "class": "dog", "box_xyxy": A, "verdict": "strike"}
    found = detections((1, [0, 0, 11, 10], 0.7, 1), (1, B, 0.7, 1), (1, A, 0.6, 0), (2, A, 0.9, 1))
    accepted, struck = verdicts(rows[:1], found, {"a, b.png": 1}, ["cat", "dog"])
    assert struck.tolist() == [True, False, False, False]
    assert not accepted.any()
    assert not verdicts(rows, found, {}, ["cat", "dog"])[1].any()
    again = carried_over(path, [csv_row("", image="other"), csv_row("", y2=9.0)])
    assert [row["verdict"] for row in again] == ["", "strike"]


def test_what_a_list_says_wrong_is_told_line_by_line(tmp_path):
    path = tmp_path / "review.csv"
    path.write_text(to_csv([csv_row("strik"), csv_row("accept", x1="one"), csv_row("accept")]))
    with pytest.raises(UsageError) as told:
        read_review(path)
    assert "review.csv:2: verdict 'strik': did you mean 'strike'?" in str(told.value)
    assert "review.csv:3: x1, y1, x2, y2 must be numbers" in str(told.value)
    path.write_text("image,class\n")
    with pytest.raises(UsageError, match="no column x1, y1"):
        read_review(path)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return tiny.write_teacher(tmp_path_factory.mktemp("teacher"), unlabelled=11)


def asked(teacher: Path, work: Path) -> Answer:
    question = Question(
        str(teacher), str(teacher / "pack"), "unlabelled", 0.5, "cpu", 1, tiny.PARAMS.evaluate
    )
    return ask(question, work, tiny.PARAMS.workers.model_copy(update={"jobs": 1}))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_killed_labelling_goes_on_and_ends_with_the_same_bytes(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "PORTION", 3)
    whole = asked(teacher, tmp_path / "whole")
    assert len(whole.found.scores)
    assert set(whole.found.image_id) <= set(load_split(teacher / "pack", "unlabelled").image_ids)
    first, answered = labelling.answer_portion, []

    def dying(question, start, stop, path):
        if start == 6:
            raise Killed
        answered.append(start)
        first(question, start, stop, path)

    monkeypatch.setattr(labelling, "answer_portion", dying)
    with pytest.raises(Killed):
        asked(teacher, tmp_path / "cut")
    assert answered == [0, 3]
    monkeypatch.setattr(
        labelling, "answer_portion",
        lambda question, start, *rest: answered.append(start) or first(question, start, *rest),
    )  # fmt: skip
    asked(teacher, tmp_path / "cut")
    assert answered == [0, 3, 6, 9]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
