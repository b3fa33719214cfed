"""What is wrong with each box of some images, computed for all of them at once."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.boxes import area, paired_iou, xywh_to_xyxy
from frontier.data.catalog import clip_each
from frontier.params import Validate

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

OK, CLIPPED, DUPLICATE, DEGENERATE = range(4)
CODES = ("ok", "out-of-image", "duplicate-box", "degenerate-box")

OUTSIDE_PX = 0.01  # a box may reach this far beyond its image by rounding
MANY = 64  # a box is compared with so many that follow it from left to right


class BoxFaults(NamedTuple):
    """Of N boxes.

    Attributes:
        code: index into `CODES`, `[N]`; clipped ones are repaired, those after it dropped.
        far: reaches out of its image by more than `far` of its side, `[N]`.
        fits: would lie within its image if its numbers meant something else, `[N, 2]`: corners,
            or a centre where a corner is expected (in YOLO, a corner where the centre is).
        thin: one side is more than `max_aspect` times the other, `[N]`.
        doubtful: less than `tiny_px` on a side, or all of the image, `[N]`.
        inside_xyxy: clipped, `[N, 4]`.
    """

    code: npt.NDArray[np.int8]
    far: Flags
    fits: Flags
    thin: Flags
    doubtful: Flags
    inside_xyxy: Floats


def box_faults(
    table: Any, rows: Ints, sizes_hw: Ints, params: Validate, *, centred: bool
) -> BoxFaults:
    """Judge the boxes of a table of `catalog.BOXES`.

    Args:
        rows: the image of each box, `[N]`, ascending.
        sizes_hw: of the images, `[I, 2]`.
        centred: the file stated centres, not corners.
    """
    given = np.stack([table[key].to_numpy() for key in "xywh"], axis=1)
    corners = xywh_to_xyxy(given)
    sizes = sizes_hw[rows]
    inside = clip_each(corners, sizes)
    sides = inside[:, 2:] - inside[:, :2]
    code = np.zeros(len(rows), np.int8)
    code[(np.abs(corners - inside) > OUTSIDE_PX).any(axis=1)] = CLIPPED
    code[_duplicates(table, rows, inside, params.same_iou)] = DUPLICATE
    code[(sides < params.min_side_px).any(axis=1)] = DEGENERATE
    solid = code < DUPLICATE
    short, long = sides.min(axis=1, initial=np.inf), sides.max(axis=1, initial=0)
    covers = area(inside) >= params.whole * sizes.prod(axis=1)
    return BoxFaults(
        code,
        _beyond(corners, sizes, params.far),
        _fits(given, sizes, centred=centred),
        solid & (long > params.max_aspect * short),
        solid & ((short < params.tiny_px) | covers),
        inside,
    )


def _beyond(corners: Floats, sizes_hw: Ints, far: float) -> Flags:
    """Which boxes leave their image by more than `far` of its side, and a pixel."""
    sides = sizes_hw[:, ::-1]
    margin = far * sides + 1
    outside: Any = (corners[:, :2] < -margin) | (corners[:, 2:] > sides + margin)
    beyond: Flags = outside.any(axis=1)
    return beyond


def _fits(given: Floats, sizes_hw: Ints, *, centred: bool) -> Flags:
    """Whether the stated numbers of each `[x, y, w, h]` fit their image in other readings."""
    start, sides = given[:, :2], given[:, 2:]
    stated = start + sides / 2 if centred else start
    moved = start + sides / 2 if centred else start - sides / 2
    as_corners = np.concatenate([stated, sides], axis=1)
    shifted = np.concatenate([moved, moved + sides], axis=1)
    solid = (sides > stated).all(axis=1)
    inside = [~_beyond(box, sizes_hw, 0.0) for box in (as_corners, shifted)]
    return np.stack([solid & inside[0], inside[1]], axis=1)


def _duplicates(table: Any, rows: Ints, corners: Floats, same_iou: float) -> Flags:
    """All but the first of nearly equal boxes of one class in one image, crowds excepted."""
    category = table["category_id"].to_numpy()
    crowd = table["is_crowd"].to_numpy(zero_copy_only=False)
    kind = np.stack([rows, category, crowd], axis=1)
    repeats, whole = _repeats(kind, corners, same_iou)
    if not whole:  # a column of boxes, one below the other: from top to bottom they lie apart
        repeats |= _repeats(kind, corners[:, [1, 0, 3, 2]], same_iou)[0]
    repeats[crowd] = False
    return repeats


def _repeats(kind: Ints, corners: Floats, same_iou: float) -> tuple[Flags, bool]:
    """Boxes that repeat one of their kind, and whether each met all that lie near from the left."""
    order = np.lexsort((corners[:, 1], corners[:, 0], *kind.T[::-1]))
    kind = kind[order]
    sorted_corners = corners[order]
    apart = (1 - same_iou) / same_iou  # left edges of two such boxes differ by less, in widths
    limit = sorted_corners[:, 0] + apart * (sorted_corners[:, 2] - sorted_corners[:, 0])
    repeats = np.zeros(len(kind), bool)
    first = np.arange(len(kind))
    for lag in range(1, MANY + 1):
        first = first[first < len(kind) - lag]
        second = first + lag
        close = (kind[first] == kind[second]).all(axis=1)
        first = first[close & (sorted_corners[second, 0] <= limit[first])]
        if not len(first):
            return repeats, True
        same = paired_iou(sorted_corners[first], sorted_corners[first + lag]) > same_iou
        pair = order[first[same]], order[first[same] + lag]
        repeats[np.maximum(*pair)] = True
    return repeats, False
