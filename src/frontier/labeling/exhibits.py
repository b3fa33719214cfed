"""Pseudo-labels to look at: rows for a table and a list, and a sheet of pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import Letterbox
from frontier.data.drawing import Mark, marked, sheet
from frontier.data.loading.packing import PackedSplit
from frontier.labeling.agreement import rows_by_image
from frontier.labeling.pseudo import Labels
from frontier.labeling.thresholds import Threshold
from frontier.metrics import Detections

Bytes = npt.NDArray[np.uint8]

SHOWN, COLUMNS = 12, 4
PICTURE_PX = 320


def rows(
    split: PackedSplit,
    found: Detections,
    labels: Labels,
    thresholds: Sequence[Threshold],
    file_names: Mapping[int, str],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """One per box that was used, boxes in pixels of the image; the least sure images first.

    Args:
        file_names: by image id.
        names: of the classes, by label.
    """
    order = least_sure(found, labels, thresholds)
    place = {image_id: i for i, image_id in enumerate(split.image_ids.tolist())}
    own = rows_by_image(found)
    made = []
    for image_id in order:
        height, width = split.sizes_hw[place[image_id]].tolist()
        letterbox = Letterbox((height, width), split.image_size)
        for row in own[image_id].tolist():
            if labels.sure[row] or labels.doubtful[row]:
                box = letterbox.from_square(found.boxes_xyxy[[row]])[0].tolist()
                made.append(
                    {
                        "image": file_names[image_id],
                        "image_id": image_id,
                        "class": names[int(found.labels[row])],
                        **dict(
                            zip(("x1", "y1", "x2", "y2"), (round(v, 2) for v in box), strict=True)
                        ),
                        "score": round(float(found.scores[row]), 4),
                        "state": "sure" if labels.sure[row] else "ignored",
                    }
                )
    return made


def least_sure(found: Detections, labels: Labels, thresholds: Sequence[Threshold]) -> list[int]:
    """Ids of the images with labels, by how far the weakest label lies above its threshold."""
    scores = np.array([0.0 if t.score is None else t.score for t in thresholds])
    margin = found.scores - scores[found.labels]
    weakest: dict[int, float] = {}
    for row in np.flatnonzero(labels.sure).tolist():
        image_id = int(found.image_id[row])
        weakest[image_id] = min(weakest.get(image_id, np.inf), float(margin[row]))
    return sorted(weakest, key=lambda image_id: (weakest[image_id], image_id))


def picture(
    split: PackedSplit,
    found: Detections,
    labels: Labels,
    image_ids: Sequence[int],
    names: Sequence[str],
) -> Bytes:
    """A sheet of some images: sure boxes solid with class and score, doubtful ones hatched."""
    tiles = [tile(split, found, labels, image_id, names) for image_id in image_ids]
    return sheet(tiles, min(COLUMNS, len(tiles)))


def tile(
    split: PackedSplit, found: Detections, labels: Labels, image_id: int, names: Sequence[str]
) -> Bytes:
    """One image with its labels."""
    scale = PICTURE_PX / split.image_size
    place = int(np.flatnonzero(split.image_ids == image_id)[0])
    method = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(split.images[place], (PICTURE_PX, PICTURE_PX), interpolation=method)
    own = np.flatnonzero(found.image_id == image_id)
    marks = [
        Mark((found.boxes_xyxy[row] * scale).tolist(), text, style)
        for row in own.tolist()
        for style, text in _style(found, labels, row, names)
    ]
    return marked(np.asarray(large, np.uint8), marks)


def _style(
    found: Detections, labels: Labels, row: int, names: Sequence[str]
) -> list[tuple[str, str]]:
    if labels.sure[row]:
        return [("solid", f"{names[int(found.labels[row])]} {found.scores[row]:.2f}")]
    return [("hatched", "")] if labels.doubtful[row] else []
