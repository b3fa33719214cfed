"""A person's word on pseudo-labels: a list of boxes, each to accept or to strike.

The list is CSV, so that it opens in any spreadsheet. An empty verdict leaves a box as it is. A
verdict is known by image, class and place (IoU >= 0.5), so that it outlives another teacher.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frontier.boxes import iou
from frontier.errors import UsageError, nearest
from frontier.labeling.agreement import rows_by_image
from frontier.metrics import Detections

REVIEW = Path("review") / "pseudo_labels.csv"
COLUMNS = ("image", "class", "x1", "y1", "x2", "y2", "score", "state", "verdict")
CORNERS = ("x1", "y1", "x2", "y2")
VERDICTS = ("accept", "strike")
SAME_IOU = 0.5

Flags = npt.NDArray[np.bool_]
Row = dict[str, Any]


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The list; boxes in pixels of the image."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_review(path: Path) -> list[Row]:
    """The rows that carry a verdict: image, class, box_xyxy, verdict.

    Raises:
        UsageError: lists every line that says something else.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"{path}: no column {', '.join(missing)}; run `frontier pseudo review`"
            )
        rows, problems = [], []
        for row in reader:
            try:
                rows += _row(row)
            except ValueError as error:
                problems.append(f"{path}:{reader.line_num}: {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return rows


def carried_over(path: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows with the verdicts that the list at `path` has on the same boxes already.

    Raises:
        UsageError: see `read_review`.
    """
    given: dict[tuple[str, str], list[Row]] = {}
    for known in read_review(path):
        given.setdefault((known["image"], known["class"]), []).append(known)
    return [
        {**row, "verdict": _known(row, given.get((row["image"], row["class"]), []))} for row in rows
    ]


def _known(row: Row, given: Sequence[Row]) -> str:
    box = np.array([[row[name] for name in CORNERS]], np.float32)
    for known in given:
        if iou(box, np.array([known["box_xyxy"]], np.float32))[0, 0] >= SAME_IOU:
            return str(known["verdict"])
    return ""


def _row(row: Mapping[str, str | None]) -> list[Row]:
    verdict = (row["verdict"] or "").strip().lower()
    if not verdict:
        return []
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r}: {nearest(verdict, [*VERDICTS])}")
    try:
        box = [float(row[name] or "") for name in CORNERS]
    except ValueError:
        raise ValueError("x1, y1, x2, y2 must be numbers; leave them as they were") from None
    if not np.isfinite(box).all():
        raise ValueError("x1, y1, x2, y2 must be finite; leave them as they were")
    return [{"image": row["image"], "class": row["class"], "box_xyxy": box, "verdict": verdict}]


def verdicts(
    rows: Sequence[Row], found: Detections, image_ids: Mapping[str, int], names: Sequence[str]
) -> tuple[Flags, Flags]:
    """Which detections `[N]` a person accepted, and which were struck.

    Args:
        rows: of `read_review`, boxes in the pixels of `found`.
        image_ids: by the name of the image; verdicts on images that are gone count for nothing.
        names: of the classes, by label.
    """
    label_of = {name: label for label, name in enumerate(names)}
    accepted, struck = np.zeros((2, len(found.scores)), bool)
    own = rows_by_image(found)
    for row in rows:
        here = own.get(image_ids.get(row["image"], -1), np.zeros(0, np.int64))
        here = here[found.labels[here] == label_of.get(row["class"], -1)]
        overlap = iou(found.boxes_xyxy[here], np.array([row["box_xyxy"]], np.float32))[:, 0]
        said = struck if row["verdict"] == "strike" else accepted
        said[here[overlap >= SAME_IOU]] = True
    return accepted & ~struck, struck
