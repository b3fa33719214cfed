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
    boxes_per_size,
    coco_metrics,
    paired_bootstrap,
    per_class_ap,
    precision_curves,
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


def coco_box(corners):
    left, top, right, bottom = (float(value) for value in corners)
    return [left, top, right - left, bottom - top]


def coco_truth(truth):
    """A COCO file written out by its definition, not by the code under test."""
    annotations = []
    for image, image_id in enumerate(truth.image_ids):
        for row in range(int(truth.offsets[image]), int(truth.offsets[image + 1])):
            box = coco_box(truth.boxes_xyxy[row])
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": int(image_id), "bbox": box,
                    "area": box[2] * box[3], "category_id": int(truth.labels[row]),
                    "iscrowd": int(truth.ignore[row]),
                }
            )  # fmt: skip
    return {
        "images": [{"id": int(image_id)} for image_id in truth.image_ids],
        "annotations": annotations,
        "categories": [
            {"id": label, "name": f"class {label}"} for label in range(truth.num_classes)
        ],
    }


def coco_results(detections):
    return [
        {
            "image_id": int(detections.image_id[row]), "category_id": int(detections.labels[row]),
            "bbox": coco_box(detections.boxes_xyxy[row]), "score": float(detections.scores[row]),
        }
        for row in range(len(detections.scores))
    ]  # fmt: skip


def reference(truth, detections):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = coco_truth(truth)
        gt.createIndex()
        rows = coco_results(detections)
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


def slow_precision(truth, detections, label):
    """COCO's rules one by one: precision at 101 recalls of one class at IoU 0.5."""
    marks = []
    total = 0
    for image, image_id in enumerate(truth.image_ids):
        own = range(truth.offsets[image], truth.offsets[image + 1])
        boxes = [
            (truth.boxes_xyxy[row].astype(float), bool(truth.ignore[row]))
            for row in own
            if truth.labels[row] == label
        ]
        total += sum(not crowd for _, crowd in boxes)
        rows = np.flatnonzero((detections.image_id == image_id) & (detections.labels == label))
        rows = sorted(rows, key=lambda row: -detections.scores[row])[:100]
        taken = set()
        for row in rows:
            found = detections.boxes_xyxy[row].astype(float)
            best, which = 0.5, None
            for index, (box, crowd) in enumerate(boxes):
                if not crowd and index not in taken and overlap(found, box) >= best:
                    best, which = overlap(found, box), index
            if which is not None:
                taken.add(which)
                marks.append((detections.scores[row], image_id, True))
            elif not any(crowd and overlap(found, box, crowd) >= 0.5 for box, crowd in boxes):
                marks.append((detections.scores[row], image_id, False))
    marks.sort(key=lambda mark: (-mark[0], mark[1]))
    right = np.cumsum([mark[2] for mark in marks])
    recall = right / total
    precision = right / np.arange(1, len(right) + 1)
    return [
        max((p for r, p in zip(recall, precision, strict=True) if r >= wanted), default=0.0)
        for wanted in np.linspace(0, 1, 101)
    ]


def overlap(a, b, crowd=False):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1])
    return shared / (area if crowd else area + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.mark.parametrize("seed", range(4))
def test_precision_curves_equal_the_obvious_way(seed):
    truth, detections = problem(seed, ties=seed % 2 == 0)
    curves = precision_curves(truth, detections)
    for label in range(truth.num_classes):
        expected = slow_precision(truth, detections, label)
        np.testing.assert_allclose(curves[label], expected, atol=1e-9)
    assert curves.mean() == pytest.approx(coco_metrics(truth, detections)["AP50"], abs=1e-9)
    wider = Truth(**{**vars(truth), "num_classes": truth.num_classes + 1})
    assert np.isnan(precision_curves(wider, detections)[-1]).all()


def test_boxes_are_counted_per_size_without_crowds():
    sides = [4, 31, 32, 33, 95, 97, 97]
    boxes = np.array([[5, 5, 5 + side, 5 + side] for side in sides], np.float32)
    crowd = np.arange(7) == 6
    truth = Truth(1, np.array([1]), np.array([0, 7]), boxes, np.zeros(7, int), crowd)
    # 32 x 32 lies on the border and counts twice, as in COCO
    assert boxes_per_size(truth) == {"small": 3, "medium": 3, "large": 1}


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
