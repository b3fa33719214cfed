"""What can be learned from an image file by opening it: size, digests, whether it decodes."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.images import ImageError, decode, read_bytes

HASH_SIDE = 16


class Probe(NamedTuple):
    """Decoded size in pixels (0 if it does not decode); `status` is "ok" or a stable code."""

    width: int
    height: int
    sha256: str
    phash: str
    status: str
    message: str


def probe(path: Path) -> Probe:
    """Open one image file; a bad one is reported, never raised."""
    digest = ""
    try:
        content = read_bytes(path)
        digest = hashlib.sha256(content).hexdigest()
        image = decode(content, path.name)
    except ImageError as error:
        return Probe(0, 0, digest, "", error.code, error.summary)
    return Probe(image.shape[1], image.shape[0], digest, difference_hash(image), "ok", "")


def probe_all(paths: Iterable[Path]) -> Iterator[Probe]:
    """`probe` of each, in order, two at a time (decoding frees the interpreter lock)."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(probe, paths)


def difference_hash(image_HWC: npt.NDArray[np.uint8]) -> str:
    """256 bits in hex: is each cell of a 16 x 17 thumbnail brighter than its left neighbour."""
    grey = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()
