"""COCO metrics of the exported artifact, in its own runtime, on the test images as they are."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from frontier import tracking
from frontier.data.catalog import Catalog, CatalogSplit
from frontier.files import read_json, write_json
from frontier.images import read_image
from frontier.matching import best_threshold, confusion, judge, match, scenes
from frontier.metrics import (
    RECALLS,
    Detections,
    boxes_per_size,
    coco_metrics,
    interval,
    per_class_ap,
    precision_curves,
    resampled_ap,
)
from frontier.params import Evaluate, Run, Section, Target
from frontier.runtime.predictor import Predictor
from frontier.stages import Inputs

RESAMPLES = 200


class Params(Section):
    run: Run
    evaluate: Evaluate
    target: Target


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    exported = inputs.path(f"export/{inputs.target}")
    built = read_json(exported / "export.json")
    if built["status"] != "measured":
        write_json(out / "evaluate.json", {"status": built["status"], "reason": built["reason"]})
        return {}
    catalog = Catalog.load(inputs.path("ingest/catalog"), inputs.path("validate/judged"))
    split = catalog.split("test")
    found = {
        name: _detect(Predictor(exported / name, params.run.threads), split)
        for name in ("bundle", "float_bundle")
    }
    resampled = resampled_ap(split, [*found.values()], RESAMPLES, params.run.seed)
    scores = {
        name: {**_scores(split, detections), "AP_interval": list(interval(column))}
        for (name, detections), column in zip(found.items(), resampled.T, strict=True)
    }
    result: dict[str, Any] = {
        "status": "measured",
        "reason": "",
        "images": len(split),
        **scores["bundle"],
        "float": scores["float_bundle"],
        "AP_gap": scores["bundle"]["AP"] - scores["float_bundle"]["AP"],
        "AP_gap_interval": list(interval(resampled[:, 0] - resampled[:, 1])),
        "per_class": _per_class(catalog, split, found),
    }
    write_json(out / "evaluate.json", result)
    write_json(out / "curves.json", _curves(catalog, split, found["bundle"]))
    tracking.log_artifact(out / "curves.json")
    _write_detections(catalog, split, found["bundle"], out / "detections.parquet")
    numbers = {n: value for n, value in scores["bundle"].items() if isinstance(value, float)}
    return {**numbers, "AP_float": scores["float_bundle"]["AP"]}


def _detect(predictor: Predictor, split: CatalogSplit) -> Detections:
    rows = []
    for index in range(len(split)):
        found = predictor(read_image(split.image_path(index)))
        rows.append((found.boxes_xyxy, found.scores, found.labels))
        if index % 20 == 0:
            tracking.log_progress(index, len(split), "test images")
    return Detections.gather(split.image_ids.tolist(), rows)


def _scores(split: CatalogSplit, detections: Detections) -> dict[str, Any]:
    """COCO's numbers, null where the truth holds no such box."""
    numbers = coco_metrics(split, detections)
    return {name: value if value >= 0 else None for name, value in numbers.items()}


def _per_class(
    catalog: Catalog, split: CatalogSplit, found: dict[str, Detections]
) -> list[dict[str, Any]]:
    columns = [per_class_ap(split, found[name]) for name in ("bundle", "float_bundle")]
    boxes = np.bincount(split.labels, minlength=len(catalog.classes)).tolist()
    return [
        {
            "name": entry["name"],
            "AP": None if math.isnan(ap) else ap,
            "AP_float": None if math.isnan(ap_float) else ap_float,
            "boxes": count,
        }
        for entry, ap, ap_float, count in zip(catalog.classes, *columns, boxes, strict=True)
    ]


def _curves(catalog: Catalog, split: CatalogSplit, detections: Detections) -> dict[str, Any]:
    """What the report draws: precision over recall, and who is taken for whom at one threshold."""
    precision = precision_curves(split, detections)
    known = precision[~np.isnan(precision).any(axis=1)]
    pictures = scenes(split, detections)
    matches = [match(scene) for scene in pictures]
    threshold = best_threshold(pictures, matches)
    judged = [judge(*pair, threshold) for pair in zip(pictures, matches, strict=True)]
    rows = [None if np.isnan(row).any() else row.round(6).tolist() for row in precision]
    return {
        "classes": [entry["name"] for entry in catalog.classes],
        "recall": RECALLS.tolist(),
        "precision": rows,
        "precision_mean": known.mean(axis=0).round(6).tolist() if len(known) else None,
        "boxes_per_size": boxes_per_size(split),
        "score_threshold": threshold,
        "confusion": confusion(pictures, judged, len(catalog.classes)).tolist(),
    }


def _write_detections(
    catalog: Catalog, split: CatalogSplit, detections: Detections, path: Path
) -> None:
    """Boxes in pixels of the image; `category_id` as in the user's own file."""
    import pyarrow
    import pyarrow.parquet

    pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker
    names = dict(zip(split.image_ids.tolist(), split.file_names, strict=True))
    category_ids = np.array([entry["category_id"] for entry in catalog.classes], np.int64)
    sides = {name: detections.boxes_xyxy[:, i] for i, name in enumerate(("x1", "y1", "x2", "y2"))}
    columns = {
        "image_id": detections.image_id,
        "file_name": [names[image_id] for image_id in detections.image_id.tolist()],
        **sides,
        "score": detections.scores,
        "label": detections.labels,
        "category_id": category_ids[detections.labels],
    }
    pa.parquet.write_table(pa.table(columns), path)
