"""What is wrong with each box of some images, computed for all of them at once."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.boxes import area, paired_iou, xywh_to_xyxy
from frontier.data.catalog import clip_each

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

OK, CLIPPED, DUPLICATE, DEGENERATE = range(4)
CODES = ("ok", "out-of-image", "duplicate-box", "degenerate-box")

MIN_SIDE_PX = 0.5  # of a box once clipped; less is no box
OUTSIDE_PX = 0.01  # a box may reach this far beyond its image by rounding
FAR = 1.05  # of the image's side: who reaches further has probably written [x1, y1, x2, y2]
SAME_IOU = 0.9
APART = (1 - SAME_IOU) / SAME_IOU  # left edges of two such boxes differ by less, in widths
MANY = 64  # a box is compared with so many that follow it from left to right
TINY_PX, WHOLE = 2.0, 0.99  # sides and shares of the image that are rarely meant


class BoxFaults(NamedTuple):
    """Of N boxes.

    Attributes:
        code: index into `CODES`, `[N]`; clipped ones are repaired, those after it dropped.
        far: reaches far beyond the image, `[N]`.
        thin: one side is more than `max_aspect` times the other, `[N]`.
        doubtful: less than `TINY_PX` on a side, or all of the image, `[N]`.
        inside_xyxy: clipped, `[N, 4]`.
    """

    code: npt.NDArray[np.int8]
    far: Flags
    thin: Flags
    doubtful: Flags
    inside_xyxy: Floats


def box_faults(table: Any, rows: Ints, sizes_hw: Ints, max_aspect: float) -> BoxFaults:
    """Judge the boxes of a table of `catalog.BOXES`.

    Args:
        rows: the image of each box, `[N]`, ascending.
        sizes_hw: of the images, `[I, 2]`.
        max_aspect: longer side over shorter.
    """
    given = np.stack([table[key].to_numpy() for key in "xywh"], axis=1)
    corners = xywh_to_xyxy(given)
    sizes = sizes_hw[rows]
    inside = clip_each(corners, sizes)
    sides = inside[:, 2:] - inside[:, :2]
    code = np.zeros(len(rows), np.int8)
    code[(np.abs(corners - inside) > OUTSIDE_PX).any(axis=1)] = CLIPPED
    code[_duplicates(table, rows, inside)] = DUPLICATE
    code[(sides < MIN_SIDE_PX).any(axis=1)] = DEGENERATE
    solid = code < DUPLICATE
    short, long = sides.min(axis=1, initial=np.inf), sides.max(axis=1, initial=0)
    covers = area(inside) >= WHOLE * sizes.prod(axis=1)
    far: Any = (corners[:, 2:] > sizes[:, ::-1] * FAR + 1).any(axis=1)
    return BoxFaults(
        code,
        far,
        solid & (long > max_aspect * short),
        solid & ((short < TINY_PX) | covers),
        inside,
    )


def _duplicates(table: Any, rows: Ints, corners: Floats) -> Flags:
    """All but the first of nearly equal boxes of one class in one image, crowds excepted."""
    category = table["category_id"].to_numpy()
    crowd = table["is_crowd"].to_numpy(zero_copy_only=False)
    order = np.lexsort((corners[:, 1], corners[:, 0], crowd, category, rows))
    kind = np.stack([rows, category, crowd], axis=1)[order]
    sorted_corners = corners[order]
    limit = sorted_corners[:, 0] + APART * (sorted_corners[:, 2] - sorted_corners[:, 0])
    repeats = np.zeros(len(rows), bool)
    first = np.arange(len(rows))
    for lag in range(1, MANY + 1):
        first = first[first < len(rows) - lag]
        second = first + lag
        close = (kind[first] == kind[second]).all(axis=1)
        first = first[close & (sorted_corners[second, 0] <= limit[first])]
        if not len(first):
            break
        same = paired_iou(sorted_corners[first], sorted_corners[first + lag]) > SAME_IOU
        pair = order[first[same]], order[first[same] + lag]
        repeats[np.maximum(*pair)] = True
    repeats[crowd] = False
    return repeats
