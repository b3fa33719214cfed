"""What is checked about a catalog: flag tables (one row a thing, one column a rule), and the rules.

Great Expectations judges the tables (`expectations.py`); nothing here imports it.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from frontier.boxes import paired_iou, xywh_to_xyxy
from frontier.data.catalog import Catalog, clip_each
from frontier.data.formats import Severity
from frontier.params import Validate

Flags = npt.NDArray[np.bool_]

FITTED, MEASURED = ("train", "unlabelled"), ("val", "test")
FAULTS = (
    *("missing-field", "wrong-type", "not-finite", "duplicate-id", "duplicate-class"),
    *("class-conflict", "unknown-image", "unknown-category", "unsafe-path"),
)
MIN_SIDE_PX = 0.5  # of a box once clipped; less is no box
OUTSIDE_PX = 0.01  # a box may reach this far beyond its image by rounding
SAME_IOU = 0.9
MANY = 512  # a box is compared with this many that follow it in its image and class


class Rule(NamedTuple):
    """`column` of `table` must be true in at least `share` of the rows."""

    code: str
    table: str
    column: str
    severity: Severity
    share: float
    message: str


def rules(params: Validate) -> list[Rule]:
    """Every rule, critical ones stopping the run; the order is that of the report."""
    readable, whole = 1 - params.max_quarantined, 1 - params.max_repaired
    faults = [
        Rule(code, "records", code, "critical", 1.0, f"annotation records without fault {code}")
        for code in FAULTS
    ]
    return [
        *faults,
        Rule("notes", "records", "notes", "warning", 1.0, "records without remarks"),
        Rule("images-usable", "images", "usable", "critical", readable, "images that can be used"),
        Rule("no-leak", "images", "no_leak", "critical", 1.0, "images in one split only"),
        Rule("no-near-leak", "images", "no_near_leak", "warning", 1.0, "no look-alikes of test"),
        Rule("xywh-order", "boxes", "near", "critical", 0.5, "boxes as [x, y, width, height]"),
        Rule("boxes-whole", "boxes", "whole", "warning", whole, "boxes used as they were given"),
        Rule("split-filled", "splits", "filled", "critical", 1.0, "splits with images and boxes"),
        Rule("class-examples", "classes", "enough", "warning", 1.0, "classes with enough boxes"),
    ]


def flag_tables(
    catalog: Catalog, problems: list[dict[str, Any]], params: Validate
) -> dict[str, pd.DataFrame]:
    """The tables `records`, `images`, `boxes`, `splits`, `classes`; `where` names each row."""
    images = _images(catalog.images.to_pandas())
    boxes = _boxes(catalog.boxes.to_pandas(), images)
    return {
        "records": _records(problems, len(images) + len(boxes)),
        "images": images,
        "boxes": boxes,
        "splits": _splits(images, boxes),
        "classes": _classes(catalog.classes, boxes, params.min_boxes_per_class),
    }


def _records(problems: list[dict[str, Any]], sound: int) -> pd.DataFrame:
    """One row per fault, then one per sound record."""
    count = len(problems) + sound
    table: dict[str, Any] = {
        "where": [f"{p['where']}: {p['message']}" for p in problems] + ["sound"] * sound
    }
    for code in FAULTS:
        table[code] = np.ones(count, bool)
    table["notes"] = np.ones(count, bool)
    for row, problem in enumerate(problems):
        critical = problem["severity"] == "critical"
        table[problem["code"] if critical else "notes"][row] = False
    return pd.DataFrame(table)


def _images(table: pd.DataFrame) -> pd.DataFrame:
    table["where"] = table["split"] + "/" + table["file_name"]
    declared = (table["declared_width"] > 0) & (table["declared_height"] > 0)
    differs = (table["declared_width"] != table["width"]) | (
        table["declared_height"] != table["height"]
    )
    table["code"] = table["status"].where(
        (table["status"] != "ok") | ~(declared & differs), "size-mismatch"
    )
    table["usable"] = table["code"] == "ok"
    table["no_leak"] = ~_shared(table, "sha256")
    table["no_near_leak"] = ~_shared(table, "phash") | ~table["no_leak"]
    return table


def _shared(table: pd.DataFrame, key: str) -> "pd.Series[bool]":
    """Is an image both in a split that is learned from and in one that measures."""
    known = table[table[key] != ""]
    fitted = set(known.loc[known["split"].isin(FITTED), key])
    measured = set(known.loc[known["split"].isin(MEASURED), key])
    return table[key].isin(fitted & measured)


def _boxes(table: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """`near`: not far outside; `code`: ok, clipped, degenerate, duplicate or unused."""
    facts = images[["split", "image_id", "width", "height", "usable", "where"]]
    table = table.merge(facts, on=["split", "image_id"], how="left")
    table["where"] += " box " + table["box_id"].astype(str)
    corners = xywh_to_xyxy(table[list("xywh")].to_numpy())
    sizes_hw = table[["height", "width"]].to_numpy()
    inside = clip_each(corners, sizes_hw)
    outside = (np.abs(corners - inside) > OUTSIDE_PX).any(axis=1)
    degenerate = ((inside[:, 2:] - inside[:, :2]) < MIN_SIDE_PX).any(axis=1)
    used = table["usable"].to_numpy(bool)
    code = np.where(outside, "clipped", "ok").astype(object)
    code[_duplicates(table, inside)] = "duplicate"
    code[degenerate] = "degenerate"
    code[~used] = "unused"  # its image is quarantined: says nothing about the box
    table["code"] = code
    table["whole"] = np.isin(code, ["ok", "unused"])
    reach = corners[:, 2:] - sizes_hw[:, ::-1] * 1.05
    table["near"] = ~used | (reach <= 1).all(axis=1)
    return table


def _duplicates(table: pd.DataFrame, corners: npt.NDArray[np.float32]) -> Flags:
    """All but the first of nearly equal boxes of one class in one image, crowds excepted."""
    keys = ["split", "image_id", "category_id", "is_crowd"]
    group = table.groupby(keys, sort=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    group, sorted_corners = group[order], corners[order]
    repeats = np.zeros(len(table), bool)
    sizes = np.bincount(group) if len(group) else np.zeros(1, np.int64)
    # compare each box with the one `lag` places on, while both are in one group
    for lag in range(1, min(int(sizes.max()), MANY)):
        first = np.flatnonzero(group[:-lag] == group[lag:])
        same = paired_iou(sorted_corners[first], sorted_corners[first + lag]) > SAME_IOU
        repeats[order[first[same] + lag]] = True
    repeats[table["is_crowd"].to_numpy(bool)] = False
    return repeats


def _splits(images: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for split in ("train", "val", "test"):
        usable = int(images.loc[images["split"] == split, "usable"].sum())
        own = boxes.loc[boxes["split"] == split, "code"].isin(["ok", "clipped"])
        where = f"{split}: {usable} usable images, {int(own.sum())} usable boxes"
        rows.append({"where": where, "filled": bool(usable and own.any())})
    return pd.DataFrame(rows)


def _classes(classes: list[dict[str, Any]], boxes: pd.DataFrame, least: int) -> pd.DataFrame:
    used = boxes[boxes["code"].isin(["ok", "clipped"])]
    counts = used.groupby(["category_id", "split"]).size()
    rows = []
    for entry in classes:
        own = {s: int(counts.get((entry["category_id"], s), 0)) for s in ("train", "val", "test")}
        where = f"class {entry['name']!r}: {own['train']} boxes in train"
        rows.append({"name": entry["name"], **own, "where": where, "enough": own["train"] >= least})
    columns = ["name", "train", "val", "test", "where", "enough"]
    return pd.DataFrame(rows, columns=columns)
