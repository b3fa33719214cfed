"""Writing the pixels of packed data: as decoded arrays while they are small, else as shards.

A `Portion` is what one worker writes. It and its two writers are plain, so that they travel to
another process or machine, and the bytes depend on nothing but the portion.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow

from frontier.boxes import Letterbox, resize
from frontier.data.loading.shards import COLUMN, SHARD_BYTES
from frontier.images import read_image

Bytes = npt.NDArray[np.uint8]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

# What an epoch over arrays reads. Up to here it stays in the page cache of a common machine; beyond
# it, reading a fifth of the bytes is worth decoding them.
ARRAY_BYTES = 16 * 2**30
ARRAY_ROWS = 64  # a portion of an array: enough portions for all workers also where data is small
BATCH_ROWS = 32  # images in memory while a shard is written
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    # small objects live on colour too: no subsampling
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
FLAT = 0.9  # share of pixels that equal their neighbour, from which PNG may be the smaller


class Portion(NamedTuple):
    """Image files to be written at `side` pixels into `out`: one shard, or rows of an array.

    `first` is the row of the split that the first image is.
    """

    images: list[str]
    side: int
    out: str
    first: int


def needs_shards(store: Literal["auto", "array", "shards"], images: int, side: int) -> bool:
    """What `pack.store` means for so many images; depends on the data alone, on no machine."""
    return store == "shards" or (store == "auto" and images * side * side * 3 > ARRAY_BYTES)


def images_per_shard(side: int) -> int:
    """Photos in JPEG at this quality take about half a byte for each pixel of their square."""
    return max(1, 2 * SHARD_BYTES // side**2)


def portions(images: list[str], side: int, out: Path, per_shard: int | None) -> list[Portion]:
    """The portions of a split.

    Args:
        images: paths of the files.
        out: the array; of shards, their path up to `-00000.arrow`.
        per_shard: images in each shard; None for an array.
    """
    step = per_shard or ARRAY_ROWS
    return [
        Portion(
            images[first : first + step],
            side,
            f"{out}-{first // step:05d}.arrow" if per_shard else str(out),
            first,
        )
        for first in range(0, len(images), step)
    ]


def write_rows(portion: Portion) -> None:
    """Write a portion into the array that is there already."""
    pixels = np.lib.format.open_memmap(portion.out, "r+")
    for row, image in enumerate(_images(portion), portion.first):
        pixels[row] = Letterbox((image.shape[0], image.shape[1]), portion.side).image(image)
    pixels.flush()


def write_shard(portion: Portion) -> None:
    """Write a portion as an Arrow file with one column of encoded images."""
    schema = pa.schema([(COLUMN, pa.binary())])
    waiting: list[bytes] = []
    with pa.ipc.new_file(portion.out, schema) as file:
        for count, image in enumerate(_images(portion), 1):
            inner = Letterbox((image.shape[0], image.shape[1]), portion.side)
            waiting.append(encoded(resize(image, inner.new_hw)))
            if len(waiting) == BATCH_ROWS or count == len(portion.images):
                file.write_batch(pa.record_batch([waiting], schema=schema))
                waiting.clear()


def encoded(content_HWC: Bytes) -> bytes:
    """JPEG that looks like the original; PNG where the picture is drawn and PNG is smaller."""
    bgr = cv2.cvtColor(content_HWC, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, JPEG)[1].tobytes()
    some = content_HWC[::8]  # rows tell enough, and PNG costs more than all the rest of packing
    if (some[:, 1:] == some[:, :-1]).all(axis=2).mean() < FLAT:
        return jpeg
    return min(jpeg, cv2.imencode(".png", bgr)[1].tobytes(), key=len)


def _images(portion: Portion) -> Iterator[Bytes]:
    cv2.setNumThreads(1)
    return (read_image(Path(image)) for image in portion.images)
