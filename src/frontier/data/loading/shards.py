"""Large data: pixels as JPEG in Arrow files, a few of which are in use at a time.

Legend: N images, S the stored side, K images a shard. Row r is image `r % K` of shard `r // K`.
An image is stored as its content alone, the grey border is put around it again when it is read.
"""

import functools
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow

from frontier.boxes import PAD_VALUE

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

COLUMN = "image"
SHARD_BYTES = 192 * 2**20  # long enough to be read in one go, short enough to hold several
# Shards that an epoch mixes at a time. With images in random order in them, eight give batches as
# varied as any, and 1.5 GB of them fit into the page cache of whatever trains on so much data.
WINDOW = 8


class ShardedPixels:
    """`[N, S, S, 3]` RGB like an array; indexed by rows, each image is decoded when asked for.

    At most `WINDOW` shards and the next two stay open: whoever reads on lets go of the first.
    """

    def __init__(self, paths: Sequence[Path], images_per_shard: int, count: int, side: int) -> None:
        self.paths, self.images_per_shard = paths, images_per_shard
        self.shape = (count, side, side, 3)
        self._opened = functools.lru_cache(WINDOW + 2)(open_shard)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Bytes:
        """`[S, S, 3]` of one row, `[K, S, S, 3]` of an array of rows."""
        if np.ndim(rows) == 0:
            return self._image(int(rows))
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            images[place] = self._image(int(row))
        return images

    def shard_of(self, rows: Ints) -> Ints:
        """The number of the shard that holds each row."""
        return rows // self.images_per_shard

    def _image(self, row: int) -> Bytes:
        shard, place = divmod(row, self.images_per_shard)
        return bordered(decoded(self._opened(self.paths[shard])[place].as_buffer()), self.shape[1])


def open_shard(path: Path) -> Any:
    """The encoded images of a shard, as a column over the mapped file."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_WILLNEED)  # from end to end, instead of here and there by faults
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()[COLUMN]


def decoded(content: Any) -> Bytes:
    """The bytes of a stored image as `[h, w, 3]` RGB."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))


def bordered(content_HWC: Bytes, side: int) -> Bytes:
    """The content in the middle of its square, where `Letterbox` put it."""
    height, width = content_HWC.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square = np.full((side, side, 3), PAD_VALUE, np.uint8)
    square[top : top + height, left : left + width] = content_HWC
    return square
