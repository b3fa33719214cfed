"""What is checked about a catalog: the rules, and which table and column each of them reads.

`judged.py` makes the tables, Great Expectations judges them (`expectations.py`).
"""

from typing import NamedTuple

from frontier.data.formats import Severity
from frontier.params import Validate

# critical faults of single records, as formats and `ingest` name them
FAULTS = (
    *("broken-file", "not-text", "too-large", "duplicate-key", "missing-field", "wrong-type"),
    *("not-finite", "not-normalised", "duplicate-id", "duplicate-class", "class-conflict"),
    *("unknown-image", "unknown-category", "unsafe-path", "broken-xml", "unsafe-xml"),
    *("broken-yaml", "missing-file"),
)
# what formats and `ingest` only remark
REMARKS = (
    *("missing-size", "wrong-size", "file-name", "no-label-file", "no-labels"),
    *("unreadable-size", "moved-path", "split-made", "crowded-hashes", "many-duplicates"),
    *("missing-split", "unsupported-image", "orphan-label", "unlisted-image"),
    *("shared-label", "zero-based"),
)
# of usable image files, as `probing` notes them
NOTES = ("wrong-extension", "exif-rotated", "cmyk", "sixteen-bit", "alpha", "animated")
PICTURES = (*NOTES, "no-near-leak")  # what cannot be told of files that were not opened


class Rule(NamedTuple):
    """`column` of `table` must be true in at least `share` of the rows; without a share it is a
    number, and at most `limit`."""

    code: str
    table: str
    column: str
    severity: Severity
    share: float | None
    message: str
    limit: float = 0


def rules(params: Validate, *, opened: bool) -> list[Rule]:
    """Every rule that can be judged, critical ones stopping the run, in the report's order.

    Args:
        opened: whether `ingest` opened the image files.
    """
    every = [*_records(), *_images(params), *_boxes(params), *_splits(params)]
    return [rule for rule in every if opened or rule.code not in PICTURES]


def _records() -> list[Rule]:
    faults = [
        Rule(code, "records", code, "critical", None, f"annotation records with fault {code}")
        for code in FAULTS
    ]
    remarks = [
        Rule(code, "records", code, "warning", None, f"records with remark {code}")
        for code in REMARKS
    ]
    return faults + remarks


def _images(params: Validate) -> list[Rule]:
    readable = 1 - params.max_quarantined
    notes = [
        Rule(code, "images", code, "warning", 1.0, f"image files without {code}") for code in NOTES
    ]
    return [
        Rule("images-usable", "images", "usable", "critical", readable, "images that can be used"),
        *notes,
        Rule(
            "empty-images",
            "labelled",
            "filled",
            "warning",
            1 - params.max_empty,
            "labelled images that show something",
        ),
    ]


def _boxes(params: Validate) -> list[Rule]:
    """Judged image by image: one image with many faults counts once."""
    clean = 1 - params.max_faulty_images
    kinds = [
        ("out-of-image", "boxes that end inside their image"),
        ("duplicate-box", "boxes that are stated once"),
        ("degenerate-box", "boxes with an area"),
        ("extreme-aspect", "boxes of common proportions"),
        ("suspicious-box", "boxes neither tiny nor all of the image"),
    ]
    return [
        Rule(code, "labelled", code, "warning", clean, f"images with only {text}")
        for code, text in kinds
    ]


def _splits(params: Validate) -> list[Rule]:
    drift = params.max_drift
    return [
        Rule("no-leak", "pairs", "no-leak", "critical", 1.0, "equal files in one split only"),
        Rule(
            "no-near-leak",
            "pairs",
            "no-near-leak",
            params.near_leak,
            1.0,
            "look-alikes in one split",
        ),
        Rule("no-copies", "pairs", "no-copies", "warning", 1.0, "files listed once in a split"),
        Rule("box-numbers", "splits", "understood", "critical", 1.0, "splits with boxes as stated"),
        Rule("split-filled", "splits", "filled", "critical", 1.0, "splits with images and boxes"),
        Rule("class-drift", "splits", "class_drift", "warning", None, "distance of classes", drift),
        Rule("size-drift", "splits", "size_drift", "warning", None, "distance of sizes", drift),
        Rule("class-examples", "classes", "enough", "warning", 1.0, "classes with enough boxes"),
        Rule("class-everywhere", "cells", "present", "warning", 1.0, "classes in every split"),
    ]
