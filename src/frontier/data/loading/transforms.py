"""Training augmentation: one affine warp an image, moving boxes with the pixels.

Legend: S stored side, B batch side, n boxes of an image; boxes are xyxy in pixels.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import PAD_VALUE, Letterbox, area, clip, resize
from frontier.data.loading.packing import PackedSplit
from frontier.params import Augment

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Bend = npt.NDArray[np.float64]
Rng = np.random.Generator

MIN_SIDE_PX = 2.0  # a box that is less wide or high, cut or scaled down, is no object to learn
MIN_VISIBLE = 0.25  # a box that shows less of its area is neither object nor background


class Sample(NamedTuple):
    """One image `[B, B, 3]` with boxes `[n, 4]`, labels `[n]` and ignore `[n]`."""

    image_HWC: Bytes
    boxes_xyxy: Floats
    labels: Ints
    ignore: Flags


class Tile(NamedTuple):
    """Where one stored image goes: a rectangle of the output, scale and shift of the pixels.

    `bend`, `[2, 2]`, turns and shears the outcome about the middle of the rectangle.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    scale: float
    shift_x: int
    shift_y: int
    flip: bool
    bend: Bend | None = None


def plain(split: PackedSplit, i: int, side: int) -> Sample:
    """Image i resized from S to `side`, nothing else."""
    boxes, labels, ignore = split.targets(i)
    ratio = np.float32(side / split.image_size)
    image = resize(split.images[i], (side, side))
    return Sample(image, boxes * ratio, labels, ignore.astype(bool))


def augmented(
    sources: list[tuple[PackedSplit, int]], side: int, augment: Augment, rng: Rng
) -> Sample:
    """One training image of one source, or a mosaic of four.

    Args:
        sources: (split, index) of one image or of four.
        side: B, pixels.
        rng: draws every random choice, so that equal generators give equal images.
    """
    image = np.full((side, side, 3), PAD_VALUE, np.uint8)
    tiles = _tiles(sources, side, augment, rng)
    parts = [_paste(image, s, i, tile) for (s, i), tile in zip(sources, tiles, strict=True)]
    boxes, labels, ignore = (np.concatenate(field) for field in zip(*parts, strict=True))
    top, bottom = _shown_rows(sources, tiles, side)
    _recolour(image, hsv_table(augment.hsv, rng), top, bottom)
    return Sample(image, boxes, labels, ignore)


def _tiles(
    sources: list[tuple[PackedSplit, int]], side: int, augment: Augment, rng: Rng
) -> list[Tile]:
    if len(sources) == 1:
        return [_tile(*sources[0], (0, 0, side, side), side, augment, rng)]
    x, y = (int(side * share) for share in rng.uniform(0.35, 0.65, 2))
    corners = [(0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)]
    pairs = zip(sources, corners, strict=True)
    return [_tile(s, i, corner, side, augment, rng) for (s, i), corner in pairs]


def _tile(
    split: PackedSplit,
    i: int,
    rectangle: tuple[int, int, int, int],
    side: int,
    augment: Augment,
    rng: Rng,
) -> Tile:
    """Scale about the batch side over S; a mosaic's tile is a random crop, a single is centred."""
    x1, y1, x2, y2 = rectangle
    scale = side / split.image_size * rng.uniform(*augment.scales)
    new_h, new_w = _content(split, i).new_hw
    # where in the rectangle the free (or, if negative, the overhanging) length goes
    place = rng.uniform(0, 1, 2) if (x2 - x1) < side else np.array([0.5, 0.5])
    move = rng.uniform(-augment.translate, augment.translate, 2) * side
    # by whole pixels: what is not scaled stays as sharp as inference will see it
    shift_x = round(x1 + place[0] * (x2 - x1 - new_w * scale) + move[0] * (x2 - x1 == side))
    shift_y = round(y1 + place[1] * (y2 - y1 - new_h * scale) + move[1] * (x2 - x1 == side))
    flip, bend = bool(rng.uniform() < augment.flip), None
    if augment.degrees or augment.shear:  # what is off draws nothing
        bend = _bend(augment, rng)
    return Tile(x1, y1, x2, y2, scale, shift_x, shift_y, flip, bend)


def _bend(augment: Augment, rng: Rng) -> Bend:
    turn = math.radians(rng.uniform(-augment.degrees, augment.degrees))
    slant_x, slant_y = np.tan(np.radians(rng.uniform(-augment.shear, augment.shear, 2)))
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    bend: Bend = turned @ np.array([[1.0, slant_x], [slant_y, 1.0]])
    return bend


def _content(split: PackedSplit, i: int) -> Letterbox:
    height, width = split.sizes_hw[i]
    return Letterbox((height, width), split.image_size)


def _paste(canvas: Bytes, split: PackedSplit, i: int, tile: Tile) -> tuple[Floats, Ints, Flags]:
    """Warp the content of stored image i (its grey border left out) into its rectangle."""
    inner = _content(split, i)
    new_h, new_w = inner.new_hw
    source = split.images[i][inner.top : inner.top + new_h, inner.left : inner.left + new_w]
    sign = -1.0 if tile.flip else 1.0
    shift_x = tile.shift_x + (new_w * tile.scale if tile.flip else 0.0)
    scale_x = sign * tile.scale
    window = canvas[tile.y1 : tile.y2, tile.x1 : tile.x2]
    boxes, labels, ignore = split.targets(i)
    if tile.bend is not None:
        straight = np.array([[scale_x, 0.0, shift_x], [0.0, tile.scale, tile.shift_y]])
        affine = _about_the_middle(tile.bend, straight, tile)
        _warp_affine(window, source, affine - [[0, 0, tile.x1], [0, 0, tile.y1]])
        return _crop(_bent(boxes - inner.pad_xyxy, affine), labels, ignore, tile)
    if tile.scale == 1:
        mirrored = source[:, ::-1] if tile.flip else source
        _copy(window, mirrored, tile.shift_x - tile.x1, tile.shift_y - tile.y1)
    else:
        _warp(window, source, scale_x, tile.scale, shift_x - tile.x1, tile.shift_y - tile.y1)
    moved = _move(boxes - inner.pad_xyxy, scale_x, tile.scale, shift_x, tile.shift_y)
    return _crop(moved, labels, ignore, tile)


def _warp(window: Bytes, source: Bytes, scale_x: float, scale_y: float, x: float, y: float) -> None:
    _warp_affine(window, source, np.array([[scale_x, 0.0, x], [0.0, scale_y, y]]))


def _warp_affine(window: Bytes, source: Bytes, affine: npt.NDArray[np.float64]) -> None:
    """`affine` `[2, 3]` maps points, whole numbers being the edges of pixels."""
    # OpenCV's matrix maps pixel *centres*, which lie half a pixel inside the edges
    matrix = affine.copy()
    matrix[:, 2] += (affine[:, :2].sum(axis=1) - 1) / 2
    cv2.warpAffine(
        source,
        matrix,
        window.shape[1::-1],
        dst=window,
        flags=cv2.INTER_CUBIC,  # linear blurs what inference will see sharp
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE,) * 3,
    )


def _about_the_middle(
    bend: Bend, straight: npt.NDArray[np.float64], tile: Tile
) -> npt.NDArray[np.float64]:
    """A map `[2, 3]` and then the bend, which leaves the middle of the tile where it is."""
    middle = np.array([tile.x1 + tile.x2, tile.y1 + tile.y2]) / 2
    affine = bend @ straight
    affine[:, 2] += middle - bend @ middle
    return affine


def _bent(boxes: Floats, affine: npt.NDArray[np.float64]) -> Floats:
    """Boxes around the ellipses that fill the given ones, mapped.

    A box around the four mapped corners is right for a thing that fills its box and too large, by
    up to 2 at 45 degrees, for the many that do not.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 @ affine[:, :2].T + affine[:, 2]
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = np.sqrt(halves**2 @ (affine[:, :2] ** 2).T)
    return np.concatenate([centres - reach, centres + reach], axis=1).astype(np.float32)


def _copy(window: Bytes, source: Bytes, x: int, y: int) -> None:
    """What `_warp` does where nothing is scaled, at a tenth of the cost."""
    (height, width), (rows, columns) = window.shape[:2], source.shape[:2]
    top, bottom, left, right = max(y, 0), min(y + rows, height), max(x, 0), min(x + columns, width)
    if top < bottom and left < right:
        window[top:bottom, left:right] = source[top - y : bottom - y, left - x : right - x]


def _move(boxes: Floats, scale_x: float, scale_y: float, x: float, y: float) -> Floats:
    moved = boxes * np.array([scale_x, scale_y] * 2, np.float32) + np.array([x, y] * 2, np.float32)
    return moved[:, [2, 1, 0, 3]] if scale_x < 0 else moved


def _crop(boxes: Floats, labels: Ints, ignore: Bytes, tile: Tile) -> tuple[Floats, Ints, Flags]:
    """Boxes cut to the tile; barely visible and tiny ones become ignore regions.

    What is left of a box must be both to go: a tiny object that is seen whole is no background.
    """
    corner = np.array([tile.x1, tile.y1] * 2, np.float32)
    cut = clip(boxes - corner, (tile.y2 - tile.y1, tile.x2 - tile.x1)) + corner
    tiny = ((cut[:, 2:] - cut[:, :2]) < MIN_SIDE_PX).any(axis=1)
    visible = area(cut)
    hidden = (visible < MIN_VISIBLE * area(boxes)) | (visible == 0)
    keep = ~(tiny & hidden)
    return cut[keep], labels[keep], (ignore.astype(bool) | hidden | tiny)[keep]


def mixed(one: Sample, other: Sample) -> Sample:
    """Both images half and half, with the boxes of both.

    Reference: Zhang et al. 2018, "mixup" (arXiv:1710.09412); even shares and boxes of full weight
    as in YOLOX (Ge et al. 2021, arXiv:2107.08430, section 2.1).
    """
    return Sample(
        np.asarray(cv2.addWeighted(one.image_HWC, 0.5, other.image_HWC, 0.5, 0), np.uint8),
        np.concatenate([one.boxes_xyxy, other.boxes_xyxy]),
        np.concatenate([one.labels, other.labels]),
        np.concatenate([one.ignore, other.ignore]),
    )


def jitter_hsv(image_HWC: Bytes, gains: tuple[float, float, float], rng: Rng) -> Bytes:
    """Scale hue, saturation and value by up to 1 +- gain each."""
    jittered = image_HWC.copy()
    _convert(jittered, hsv_table(gains, rng))
    return jittered


def hsv_table(gains: tuple[float, float, float], rng: Rng) -> Bytes:
    """What each level of hue, saturation and value becomes, `[1, 256, 3]`."""
    hue, saturation, value = 1 + rng.uniform(-1, 1, 3) * gains
    levels = np.arange(256)
    scaled = (levels * hue) % 180, levels * saturation, levels * value
    return np.stack(scaled, axis=-1).clip(0, 255).astype(np.uint8)[None]


def _convert(image_HWC: Bytes, table: Bytes) -> None:
    hsv = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2HSV)
    cv2.cvtColor(cv2.LUT(hsv, table, dst=hsv), cv2.COLOR_HSV2RGB, dst=image_HWC)


def _shown_rows(
    sources: list[tuple[PackedSplit, int]], tiles: list[Tile], side: int
) -> tuple[int, int]:
    """The rows of a canvas, at least one, outside of which all is grey."""
    if any(tile.bend is not None for tile in tiles):
        return 0, side
    ends = []
    for (split, i), tile in zip(sources, tiles, strict=True):
        reach = math.ceil(2 * tile.scale)  # of a cubic, 2 px of the source
        height = _content(split, i).new_hw[0] * tile.scale
        ends.append((tile.shift_y - reach, math.ceil(tile.shift_y + height) + reach))
    tops, bottoms = np.array(ends).T
    top = int(tops.min().clip(0, side - 1))
    return top, int(bottoms.max().clip(top + 1, side))


def _recolour(image_HWC: Bytes, table: Bytes, top: int, bottom: int) -> None:
    """Convert an image in place; above `top` and from `bottom` on all is grey."""
    grey = np.full_like(image_HWC[:1], PAD_VALUE)
    _convert(grey, table)
    _convert(image_HWC[top:bottom], table)
    image_HWC[:top], image_HWC[bottom:] = grey, grey
