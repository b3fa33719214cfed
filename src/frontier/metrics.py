"""COCO accuracy by faster-coco-eval, in one place.

Legend: N boxes, I images, C classes; boxes are xyxy in pixels; AP and AR are in 0..1.

Reference: Lin et al. 2014, "Microsoft COCO", arXiv:1405.0312; the intervals are the percentile
bootstrap over images, Efron and Tibshirani 1993, chapter 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STATISTICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100"),
)
RECALLS = np.arange(101) / 100  # where COCO reads precision
SIZES_PX = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, 1e5)}  # sqrt of area


@dataclass(frozen=True)
class Detections:
    """What a detector found: image_id [N], boxes_xyxy [N, 4], scores [N], labels [N]."""

    image_id: Array
    boxes_xyxy: Array
    scores: Array
    labels: Array

    @classmethod
    def gather(
        cls, image_ids: Sequence[int], found: Sequence[tuple[Array, Array, Array]]
    ) -> "Detections":
        """Join one (boxes_xyxy, scores, labels) per image into one table."""
        boxes, scores, labels = zip(*found, strict=True) if found else ((), (), ())
        counts = [len(rows) for rows in scores]
        return cls(
            np.repeat(np.asarray(image_ids, np.int64), counts),
            np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            np.concatenate([np.zeros(0, np.float32), *scores]),
            np.concatenate([np.zeros(0, np.int64), *labels]),
        )

    def only(self, image_ids: Array) -> "Detections":
        """The detections of some of the images."""
        keep = np.isin(self.image_id, image_ids)
        return Detections(
            self.image_id[keep], self.boxes_xyxy[keep], self.scores[keep], self.labels[keep]
        )


class GroundTruth(Protocol):
    """The boxes of image i are rows offsets[i]:offsets[i + 1]; `ignore` marks crowds.

    The splits of the catalog and of the packed data are such; their boxes are in original pixels
    and in pixels of the square.
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def image_ids(self) -> Array: ...
    @property
    def offsets(self) -> Array: ...
    @property
    def boxes_xyxy(self) -> Array: ...
    @property
    def labels(self) -> Array: ...
    @property
    def ignore(self) -> Array: ...


@dataclass(frozen=True)
class Truth:
    """A ground truth held in memory."""

    num_classes: int
    image_ids: Array
    offsets: Array
    boxes_xyxy: Array
    labels: Array
    ignore: Array


def coco_metrics(truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """The COCO statistics by name; -1, as COCO has it, where the truth holds no such box."""
    evaluator = _evaluate(truth, detections)
    evaluator.accumulate()
    evaluator.summarize()
    return dict(zip(STATISTICS, map(float, evaluator.stats), strict=False))


def per_class_ap(truth: GroundTruth, detections: Detections) -> list[float]:
    """AP of each class; NaN for a class without a box in the truth."""
    evaluator = _evaluate(truth, detections)
    evaluator.accumulate()
    # [thresholds, recalls, classes, areas, detection limits]: all areas, the largest limit
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]
    return [
        float(values.mean()) if (values := precision[:, :, label]).max(initial=-1) > -1 else np.nan
        for label in range(truth.num_classes)
    ]


def precision_curves(truth: GroundTruth, detections: Detections) -> Array:
    """Precision of each class at `RECALLS`, IoU 0.5, `[C, 101]`; NaN for a class without a box.

    It is COCO's: the best precision at that recall or beyond, 0 beyond the recall reached. The
    mean of a row is the class's AP50.
    """
    evaluator = _evaluate(truth, detections)
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"], np.float64)[0, :, :, 0, -1].T
    return np.where(precision > -1, precision, np.nan)


def boxes_per_size(truth: GroundTruth) -> dict[str, int]:
    """Truth boxes on which `AP_small`, `AP_medium` and `AP_large` rest, crowds left out.

    A box on a border counts on both sides, as COCO has it.
    """
    xywh = _xywh(truth.boxes_xyxy)[~np.asarray(truth.ignore, bool)]
    area = xywh[:, 2] * xywh[:, 3]
    return {
        name: int(((area >= low**2) & (area <= high**2)).sum())
        for name, (low, high) in SIZES_PX.items()
    }


def bootstrap_ap(
    truth: GroundTruth, detections: Detections, samples: int = 200, seed: int = 0
) -> tuple[float, float, float]:
    """AP with its 95 % interval over resampled images."""
    matches = ImageMatches(truth, detections)
    table = _resampled([matches], len(truth.image_ids), samples, seed)
    return (matches.ap(np.arange(len(truth.image_ids))), *interval(table[:, 0]))


def paired_bootstrap(
    truth: GroundTruth, a: Detections, b: Detections, samples: int = 200, seed: int = 0
) -> tuple[float, float, float]:
    """AP(a) - AP(b) with its 95 % interval; both are scored on the same resampled images."""
    table = resampled_ap(truth, [a, b], samples, seed)
    difference = coco_metrics(truth, a)["AP"] - coco_metrics(truth, b)["AP"]
    return (difference, *interval(table[:, 0] - table[:, 1]))


def resampled_ap(
    truth: GroundTruth, detectors: Sequence[Detections], samples: int, seed: int
) -> Array:
    """AP of each of D detectors on the same resampled images, [samples, D]."""
    matches = [ImageMatches(truth, detections) for detections in detectors]
    return _resampled(matches, len(truth.image_ids), samples, seed)


def _resampled(matches: Sequence["ImageMatches"], images: int, samples: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, images, images) for _ in range(samples))
    return np.array([[each.ap(indices) for each in matches] for indices in draws])


def interval(values: Array) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


class ImageMatches:
    """Each image matched once; AP of any multiset of images by accumulating again."""

    def __init__(self, truth: GroundTruth, detections: Detections) -> None:
        evaluator = _evaluate(truth, detections)
        images, areas = len(truth.image_ids), len(evaluator.params.areaRng)
        cells = evaluator._evalImgs_cpp  # by class, then area (all first), then sorted image id
        self._rank = np.argsort(np.argsort(truth.image_ids))
        self._cells = [
            cells[label * areas * images : label * areas * images + images]
            for label in range(truth.num_classes)
        ]
        self._params = evaluator._paramsEval
        self._params.areaRng = self._params.areaRng[:1]
        self._params.areaRngLbl = self._params.areaRngLbl[:1]
        self._params.maxDets = self._params.maxDets[-1:]

    def ap(self, indices: Array) -> float:
        """AP of the images at `indices` (positions, repeats allowed; as many as there are)."""
        from faster_coco_eval.faster_eval_api_cpp import COCOevalAccumulate

        ranks = np.sort(self._rank[indices])  # COCO breaks ties of score by image id
        chosen = [cells[rank] for cells in self._cells for rank in ranks]
        result = COCOevalAccumulate(self._params, chosen)
        precision = np.asarray(result["precision"])
        known = precision[precision > -1]
        return float(known.mean()) if known.size else -1.0


def _evaluate(truth: GroundTruth, detections: Detections) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    gt = COCO(_as_coco(truth))
    rows = _as_results(detections)
    # loadRes refuses an empty list
    dt = gt.loadRes(rows) if rows else COCO({**gt.dataset, "annotations": []})
    evaluator: Any = COCOeval_faster(gt, dt, "bbox", separate_eval=True)
    evaluator.evaluate()
    return evaluator


def _as_coco(truth: GroundTruth) -> dict[str, Any]:
    image_of_box = np.repeat(truth.image_ids, np.diff(truth.offsets)).tolist()
    xywh = _xywh(truth.boxes_xyxy).tolist()
    rows = zip(image_of_box, truth.labels.tolist(), xywh, truth.ignore.tolist(), strict=True)
    annotations = [
        {
            "id": index + 1,  # 0 would read as "unmatched"
            "image_id": image_id,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(crowd),
        }
        for index, (image_id, label, box, crowd) in enumerate(rows)
    ]
    images = [{"id": image_id} for image_id in truth.image_ids.tolist()]
    categories = [{"id": label, "name": str(label)} for label in range(truth.num_classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _as_results(detections: Detections) -> list[dict[str, Any]]:
    columns = (
        detections.image_id.tolist(),
        _xywh(detections.boxes_xyxy).tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
    )
    return [
        {"image_id": image_id, "bbox": box, "score": score, "category_id": label}
        for image_id, box, score, label in zip(*columns, strict=True)
    ]


def _xywh(boxes_xyxy: Array) -> Array:
    boxes = np.asarray(boxes_xyxy, np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
