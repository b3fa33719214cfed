"""Offenders as pictures: what is wrong with them is drawn, and said in words below.

Legend: S the side of a picture, `SIDE_PX`; N boxes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import PAD_VALUE, Letterbox
from frontier.data.drawing import Mark, marked, sheet
from frontier.data.verdict.offenders import DOUBTS, Offender
from frontier.images import ImageError, read_image

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Root = Callable[[str], Path]  # the folder that the file names of a split are relative to

SIDE_PX = 320
LEAST_PX = 8.0  # side of a drawn box, so that one without area is seen
CAPTION = 36  # letters of a name, counted from its end: the ends differ
COLUMNS = 4  # even: pairs, which come first, stay side by side
MOST_TEXTS = 3  # of a code; more of them hide the picture and each other
MOST_CLASSES = 4  # named in a remark
USED = ("ok", *DOUBTS)  # codes of boxes that are used as they are
LEAKED = {"no-leak": "the same file in two splits", "no-near-leak": "alike, in two splits"}


class Exhibit(NamedTuple):
    """A case.

    Attributes:
        names: of its files.
        pictures: of its files, `[S, S, 3]` RGB; none where one cannot be read.
        remarks: what is wrong, in words.
    """

    names: list[str]
    pictures: list[Bytes]
    remarks: list[str]


def of_offender(offender: Offender, root: Root, class_names: dict[int, str]) -> Exhibit:
    """Used boxes solid, repaired and dropped ones dashed, under their code."""
    remarks = _remarks(offender, class_names)
    return _exhibit([offender._asdict()], root, remarks, offender)


def of_pair(code: str, files: Sequence[dict[str, Any]], root: Root) -> Exhibit:
    """Two images that should not stand in two splits, side by side.

    Args:
        files: `split` and `file_name` of both.
    """
    return _exhibit(files, root, [f"{code}: {LEAKED[code]}"], None)


def exhibit_sheet(exhibits: Sequence[Exhibit]) -> Bytes | None:
    """All pictures as one, pairs first; None without any."""
    ordered = sorted(exhibits, key=lambda exhibit: -len(exhibit.pictures))
    pictures = [picture for exhibit in ordered for picture in exhibit.pictures]
    return sheet(pictures, min(COLUMNS, len(pictures))) if pictures else None


def _exhibit(
    files: Sequence[dict[str, Any]], root: Root, remarks: list[str], offender: Offender | None
) -> Exhibit:
    names = [f"{file['split']}/{file['file_name']}" for file in files]
    try:
        images = [read_image(root(file["split"]) / file["file_name"]) for file in files]
    except ImageError as error:  # gone since `ingest`, or never looked at
        return Exhibit(names, [], [*remarks, f"no picture: {error}"])
    pictures = [
        _picture(image, offender, name[-CAPTION:])
        for image, name in zip(images, names, strict=True)
    ]
    return Exhibit(names, pictures, remarks)


def _picture(image_HWC: Bytes, offender: Offender | None, caption: str) -> Bytes:
    height, width = image_HWC.shape[:2]
    letterbox = Letterbox((height, width), SIDE_PX)
    rows, columns = letterbox.new_hw
    method = cv2.INTER_AREA if letterbox.ratio < 1 else cv2.INTER_LINEAR
    square = np.full((SIDE_PX, SIDE_PX, 3), PAD_VALUE, np.uint8)
    inside = square[letterbox.top :, letterbox.left :][:rows, :columns]
    inside[:] = cv2.resize(image_HWC, (columns, rows), interpolation=method)
    return marked(square, _marks(offender, letterbox) if offender else [], caption)


def _marks(offender: Offender, letterbox: Letterbox) -> list[Mark]:
    """Of each box; dashed ones last, since a duplicate lies on what it repeats."""
    boxes = _seen(letterbox.to_square(offender.boxes_xyxy)).tolist()
    # the code of a whole image stands below it, not at each of its boxes
    seen = Counter({"ok": MOST_TEXTS, offender.code: MOST_TEXTS})
    marks = []
    for corners, code in zip(boxes, offender.box_codes, strict=True):
        text = code if seen[code] < MOST_TEXTS else ""
        seen[code] += 1
        marks.append(Mark(corners, text, "solid" if code in USED else "dashed"))
    return sorted(marks, key=lambda mark: mark.style == "dashed")


def _seen(corners: Floats) -> Floats:
    """Boxes `[N, 4]` with sides of at least `LEAST_PX`, inside the square."""
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    half = np.maximum(corners[:, 2:] - corners[:, :2], LEAST_PX) / 2
    centre = centre.clip(LEAST_PX / 2, SIDE_PX - LEAST_PX / 2)
    return np.concatenate([centre - half, centre + half], axis=1)


def _remarks(offender: Offender, class_names: dict[int, str]) -> list[str]:
    if offender.code != "ok":
        missing = "" if len(offender.boxes_xyxy) else "; none is drawn"
        return [f"{offender.code}: left out, with all its boxes{missing}"]
    found: dict[str, Counter[str]] = {}
    for code, category in zip(offender.box_codes, offender.category_ids, strict=True):
        if code != "ok":
            found.setdefault(code, Counter())[class_names[category]] += 1
    return [f"{code}: {_counted(own)}" for code, own in sorted(found.items())]


def _counted(names: Counter[str]) -> str:
    """Classes with how many boxes of each, the most frequent first."""
    listed = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{name} ({amount})" if amount > 1 else name for name, amount in listed]
    rest = len(texts) - MOST_CLASSES
    more = [f"{rest} more {'class' if rest == 1 else 'classes'}"] if rest > 0 else []
    return ", ".join([*texts[:MOST_CLASSES], *more])
