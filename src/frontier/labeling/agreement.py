"""What a teacher sees twice: in an image and in its mirror image.

Legend: N detections, M those of the mirror images, turned back.
"""

import numpy as np
import numpy.typing as npt

from frontier.boxes import iou
from frontier.metrics import Detections

Flags = npt.NDArray[np.bool_]


def agreement(
    found: Detections, mirrored: Detections, least_iou: float
) -> tuple[Detections, Flags]:
    """The detections with the mean score of both looks, and which of them were seen twice `[N]`.

    One seen once keeps its score. Each takes the best overlapping one of its class and image.
    """
    scores, twice = found.scores.astype(np.float32).copy(), np.zeros(len(found.scores), bool)
    own, other = rows_by_image(found), rows_by_image(mirrored)
    for image_id, rows in own.items():
        seen = other.get(image_id)
        if seen is None:
            continue
        overlap = iou(found.boxes_xyxy[rows], mirrored.boxes_xyxy[seen])
        overlap = overlap * (found.labels[rows][:, None] == mirrored.labels[seen])
        best = overlap.argmax(axis=1)
        hit = overlap[np.arange(len(rows)), best] >= least_iou
        twice[rows] = hit
        scores[rows[hit]] = (scores[rows] + mirrored.scores[seen][best])[hit] / 2
    return Detections(found.image_id, found.boxes_xyxy, scores, found.labels), twice


def rows_by_image(found: Detections) -> dict[int, npt.NDArray[np.int64]]:
    """The rows of each image that has any, in their order."""
    order = np.argsort(found.image_id, kind="stable")
    ids, starts = np.unique(found.image_id[order], return_index=True)
    return dict(zip(ids.tolist(), np.split(order, starts[1:]), strict=True)) if len(ids) else {}
