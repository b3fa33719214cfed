import contextlib
import io

import numpy as np
import pytest

from frontier.metrics import (
    STATISTICS,
    Detections,
    ImageMatches,
    Truth,
    bootstrap_ap,
    coco_metrics,
    paired_bootstrap,
    per_class_ap,
)


def problem(seed, images=12, classes=3, boxes=5, found=130, crowds=True, ties=True):
    """A random truth, and detections some of which lie near it."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, boxes + 1, images)
    total = int(counts.sum())
    corner = rng.uniform(0, 200, (total, 2))
    size = rng.uniform(4, 150, (total, 2))
    truth = Truth(
        classes,
        rng.permutation(1000)[:images],
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        rng.integers(0, classes, total),
        (rng.random(total) < 0.15) & crowds,
    )
    n = found * 2
    near = rng.integers(0, max(total, 1), n)
    base = truth.boxes_xyxy[near] if total else np.zeros((n, 4), np.float32)
    moved = base + rng.normal(0, 8, (n, 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    image_of_box = np.repeat(truth.image_ids, counts)
    image = image_of_box[near] if total else rng.choice(truth.image_ids, n)
    image[: n // 2] = truth.image_ids[0]  # more than 100 in one image
    scores = rng.random(n)
    return truth, Detections(
        image,
        moved.astype(np.float32),
        np.round(scores, 1) if ties else scores,
        truth.labels[near] if total else rng.integers(0, classes, n),
    )


def reference(truth, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from frontier.metrics import _as_coco, _as_results

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = _as_coco(truth)
        gt.createIndex()
        rows = _as_results(detections)
        dt = gt.loadRes(rows) if rows else COCO()
        if not rows:
            dt.dataset = {**gt.dataset, "annotations": []}
            dt.createIndex()
        evaluator = COCOeval(gt, dt, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(STATISTICS, evaluator.stats, strict=False))


@pytest.mark.parametrize("seed", range(8))
def test_equals_pycocotools(seed):
    truth, detections = problem(seed, ties=seed % 2 == 0, crowds=seed % 3 != 0)
    assert coco_metrics(truth, detections) == pytest.approx(reference(truth, detections), abs=1e-9)


def test_equals_pycocotools_without_detections_or_truth():
    truth, detections = problem(0)
    nothing = detections.only(np.array([], np.int64))
    assert coco_metrics(truth, nothing) == pytest.approx(reference(truth, nothing))
    assert coco_metrics(truth, nothing)["AP"] == 0.0
    empty, found = problem(1, boxes=0)
    assert coco_metrics(empty, found) == pytest.approx(reference(empty, found))
    assert coco_metrics(empty, found)["AP"] == -1.0


def test_a_perfect_detector_scores_one():
    truth, _ = problem(3, crowds=False)
    image = np.repeat(truth.image_ids, np.diff(truth.offsets))
    perfect = Detections(image, truth.boxes_xyxy, np.ones(len(image)), truth.labels)
    assert coco_metrics(truth, perfect)["AP"] == pytest.approx(1.0)
    assert per_class_ap(truth, perfect) == pytest.approx([1.0, 1.0, 1.0])


def test_per_class_ap_averages_to_ap_and_is_nan_for_an_absent_class():
    truth, detections = problem(4)
    values = per_class_ap(truth, detections)
    assert np.mean(values) == pytest.approx(coco_metrics(truth, detections)["AP"], abs=1e-9)
    wider = Truth(**{**vars(truth), "num_classes": truth.num_classes + 1})
    assert np.isnan(per_class_ap(wider, detections)[-1])


@pytest.mark.parametrize("seed", range(4))
def test_the_identity_resample_is_ap(seed):
    truth, detections = problem(seed)
    identity = np.arange(len(truth.image_ids))
    ap = ImageMatches(truth, detections).ap(identity)
    assert ap == pytest.approx(coco_metrics(truth, detections)["AP"], abs=1e-9)


def test_a_resample_equals_scoring_the_repeated_images():
    truth, detections = problem(5, ties=False)
    indices = np.random.default_rng(0).integers(0, len(truth.image_ids), len(truth.image_ids))
    indices = indices[np.argsort(truth.image_ids[indices])]  # ties of score go by image id
    rows = [np.arange(truth.offsets[i], truth.offsets[i + 1]) for i in indices]
    boxes = np.concatenate(rows)
    repeated = Truth(
        truth.num_classes,
        np.arange(len(indices)),
        np.concatenate([[0], np.cumsum([len(r) for r in rows])]),
        truth.boxes_xyxy[boxes],
        truth.labels[boxes],
        truth.ignore[boxes],
    )
    found = [detections.only(truth.image_ids[[i]]) for i in indices]
    copies = Detections.gather(
        range(len(indices)), [(d.boxes_xyxy, d.scores, d.labels) for d in found]
    )
    expected = coco_metrics(repeated, copies)["AP"]
    assert ImageMatches(truth, detections).ap(indices) == pytest.approx(expected, abs=1e-9)


def test_intervals_hold_the_estimate_and_repeat():
    truth, good = problem(6, images=40)
    bad = Detections(good.image_id, good.boxes_xyxy + 30, good.scores, good.labels)
    ap, low, high = bootstrap_ap(truth, good, samples=60)
    assert low < ap < high
    assert ap == pytest.approx(coco_metrics(truth, good)["AP"], abs=1e-9)
    assert (ap, low, high) == bootstrap_ap(truth, good, samples=60)
    delta, low, high = paired_bootstrap(truth, good, bad, samples=60)
    assert 0 < low < delta < high
    assert paired_bootstrap(truth, good, good, samples=20) == (0.0, 0.0, 0.0)


def test_prints_nothing(capfd):
    coco_metrics(*problem(0))
    assert capfd.readouterr() == ("", "")
