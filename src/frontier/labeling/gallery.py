"""Suspected labels as rows for a table and as one picture."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import Letterbox
from frontier.data.drawing import Mark, marked, sheet
from frontier.data.loading.packing import PackedSplit
from frontier.labeling.noise import Suspect

Bytes = npt.NDArray[np.uint8]

SHOWN, COLUMNS = 12, 4
PICTURE_PX = 320  # side; larger than a training picture's, for a reader must judge a small box


class Find(NamedTuple):
    """A suspect and the name of the split that it is in."""

    split: str
    suspect: Suspect


def in_turns(finds: Iterable[Find]) -> list[Find]:
    """The most suspicious of each kind, then the second of each, as their scores do not compare."""
    before: Counter[str] = Counter()
    places = []
    for find in sorted(finds, key=lambda find: (find.suspect.score, find)):
        kind = find.suspect.kind
        places.append((before[kind], kind, find))
        before[kind] += 1
    return [find for _, _, find in sorted(places, key=lambda place: place[:2])]


def rows(
    finds: Iterable[Find], splits: Mapping[str, PackedSplit], names: Sequence[str]
) -> list[dict[str, Any]]:
    """One per find, boxes in pixels of the original image.

    Args:
        splits: by name, those of the finds.
        names: of the classes, by label.
    """
    rows_of = {name: _rows_of(split) for name, split in splits.items()}
    return [
        {
            "split": name,
            "image_id": suspect.image_id,
            "kind": suspect.kind,
            "class": names[suspect.label],
            "seen_as": None if suspect.other is None else names[suspect.other],
            "box_xyxy": _original(suspect, splits[name], rows_of[name][suspect.image_id]),
            "score": suspect.score,
        }
        for name, suspect in finds
    ]


def _rows_of(split: PackedSplit) -> dict[int, int]:
    return {image_id: row for row, image_id in enumerate(split.image_ids.tolist())}


def _original(suspect: Suspect, split: PackedSplit, row: int) -> list[float]:
    height, width = split.sizes_hw[row].tolist()
    letterbox = Letterbox((height, width), split.image_size)
    boxes = letterbox.from_square(np.array([suspect.box_xyxy], np.float32))
    return [round(value, 2) for value in boxes[0].tolist()]


def picture(
    finds: Sequence[Find], splits: Mapping[str, PackedSplit], names: Sequence[str]
) -> Bytes:
    """The first finds: the suspect dashed, the other labels of its image solid, crowds hatched."""
    rows_of = {name: _rows_of(split) for name, split in splits.items()}
    tiles = [
        _tile(suspect, splits[name], rows_of[name][suspect.image_id], names)
        for name, suspect in finds[:SHOWN]
    ]
    return sheet(tiles, min(COLUMNS, len(tiles)))


def _tile(suspect: Suspect, split: PackedSplit, row: int, names: Sequence[str]) -> Bytes:
    scale = PICTURE_PX / split.image_size
    method = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(split.images[row], (PICTURE_PX, PICTURE_PX), interpolation=method)
    box = np.array(suspect.box_xyxy)
    marks = [
        Mark((other * scale).tolist(), "", "hatched" if ignore else "solid")
        for other, label, ignore in zip(*split.targets(row), strict=True)
        if suspect.kind == "missing" or label != suspect.label or not np.allclose(other, box)
    ]
    classes = [names[label] for label in (suspect.label, suspect.other) if label is not None]
    caption = f"{suspect.kind}: {', seen as '.join(classes)}"
    own = Mark((box * scale).tolist(), "", "dashed")
    return marked(np.asarray(large, np.uint8), [*marks, own], caption)
