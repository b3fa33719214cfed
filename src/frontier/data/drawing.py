"""Boxes drawn on pictures, pictures laid out on a sheet, a sheet as JPEG.

Legend: H, W height and width of a picture in pixels; pictures are RGB.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from frontier.boxes import PAD_VALUE
from frontier.data.loading.loader import Batch

Bytes = npt.NDArray[np.uint8]

TILE_PX = 224  # side of a picture on a sheet
GAP_PX = 4
LINE_PX = 2
FONT_PX = 12
DASH_PX, HATCH_PX = 6, 9
JPEG_QUALITY = 82
# outline and text; equal to those of the page's examples
COLORS = {
    "solid": ((61, 139, 253), (156, 197, 255)),
    "dashed": ((255, 122, 47), (255, 181, 138)),
    "hatched": ((192, 196, 202), (223, 226, 230)),
}


class Mark(NamedTuple):
    """A box in pixels of its picture; `style` is solid, dashed (wrong) or hatched (ignored)."""

    box_xyxy: Sequence[float]
    text: str
    style: str


def marked(image_HWC: Bytes, marks: Sequence[Mark], caption: str = "") -> Bytes:
    """A copy of the picture with the boxes, their texts, and a caption at its lower edge."""
    drawn = image_HWC.copy()
    for mark in marks:
        _outline(drawn, mark)
    image = Image.fromarray(drawn)
    pencil = ImageDraw.Draw(image)
    for mark in marks:
        x, y = float(mark.box_xyxy[0]), float(mark.box_xyxy[1])
        place = (max(x, 0.0) + 1, max(y - FONT_PX - 2, 0.0))
        _write(pencil, place, mark.text, COLORS[mark.style][1])
    if caption:
        _write(pencil, (3, drawn.shape[0] - FONT_PX - 5), caption, (255, 255, 255))
    return np.asarray(image)


def _write(
    pencil: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    color: tuple[int, int, int],
) -> None:
    """Begin at `place`, or as far left of it as the text needs to stay in the picture."""
    room = pencil.im.size[0] - pencil.textbbox((0, 0), text, _font(), stroke_width=2)[2]
    where = (max(min(place[0], room), 2.0), place[1])
    pencil.text(where, text, color, _font(), stroke_width=2, stroke_fill=(0, 0, 0))


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """The one that comes with matplotlib: it knows more scripts than Pillow's own."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, FONT_PX)


def _outline(image_HWC: Bytes, mark: Mark) -> None:
    """Patterns run along the diagonal, so that one rule serves all four sides and the inside."""
    height, width = image_HWC.shape[:2]
    x1, y1, x2, y2 = np.clip(np.round(mark.box_xyxy), 0, [width, height] * 2).astype(int)
    region = image_HWC[y1:y2, x1:x2]
    diagonal = np.add.outer(np.arange(y2 - y1), np.arange(x2 - x1))
    border = np.ones(region.shape[:2], bool)
    border[LINE_PX:-LINE_PX, LINE_PX:-LINE_PX] = False
    dashes = border & (diagonal // DASH_PX % 2 == 0)
    ink = {"solid": border, "dashed": dashes, "hatched": dashes | (diagonal % HATCH_PX == 0)}
    region[ink[mark.style]] = COLORS[mark.style][0]


def sheet(pictures: Sequence[Bytes], columns: int) -> Bytes:
    """Pictures of one size `[H, W, 3]` in rows, in reading order."""
    height, width = pictures[0].shape[:2]
    rows = math.ceil(len(pictures) / columns)
    shape = (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3)
    paper = np.full(shape, PAD_VALUE, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * (height + GAP_PX), column * (width + GAP_PX)
        paper[top : top + height, left : left + width] = picture
    return paper


def jpeg(image_HWC: Bytes) -> bytes:
    """The picture's file; equal pixels give equal bytes."""
    bgr = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def batch_sheet(batches: Sequence[Batch], names: Sequence[str], amount: int, columns: int) -> Bytes:
    """The first `amount` pictures of training batches, as the network sees them.

    Args:
        names: of the classes, by label.
    """
    pictures = [
        _batch_picture(batch, index, names)
        for batch in batches
        for index in range(len(batch.image_ids))
    ]
    return sheet(pictures[:amount], columns)


def _batch_picture(batch: Batch, index: int, names: Sequence[str]) -> Bytes:
    """One picture at `TILE_PX`; enlarging repeats pixels, so that none is seen that is not."""
    image = batch.images_BHWC[index]
    scale = TILE_PX / image.shape[0]
    method = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    large = np.asarray(cv2.resize(image, (TILE_PX, TILE_PX), interpolation=method), np.uint8)
    rows = zip(batch.boxes_xyxy[index], batch.labels[index], batch.ignore[index], strict=True)
    marks = [
        Mark((box * scale).tolist(), "", "hatched")
        if ignore
        else Mark((box * scale).tolist(), names[label], "solid")
        for box, label, ignore in rows
        if label >= 0
    ]
    return marked(large, marks)
