"""Unlabelled images that must not be learned from: they look like those that measure.

A label of such an image, even a wrong one, lets a network see what it is later judged by.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from frontier.boxes import Letterbox
from frontier.data.duplicates import near_pairs
from frontier.data.intake.probing import perceptual_hash
from frontier.data.loading.packing import PackedSplit

Hashes = npt.NDArray[np.uint8]

EQUAL, NEAR = "no-leak", "no-near-leak"  # as `validate` calls these rules


def hashes(split: PackedSplit) -> Hashes:
    """The perceptual hash `[N, 32]` of what is stored of each image."""
    found = [np.frombuffer(bytes.fromhex(_hash(split, i)), np.uint8) for i in range(len(split))]
    return np.array(found, np.uint8).reshape(-1, 32)


def _hash(split: PackedSplit, i: int) -> str:
    height, width = split.sizes_hw[i].tolist()
    inner = Letterbox((height, width), split.image_size)
    rows, columns = inner.new_hw
    content = split.images[i][inner.top : inner.top + rows, inner.left : inner.left + columns]
    return perceptual_hash(Image.fromarray(np.ascontiguousarray(content)).convert("L"))


def leaks(unlabelled: Hashes, measuring: Sequence[Hashes], radius: int) -> dict[int, str]:
    """The code of each unlabelled image, by place, that looks like one of the measuring ones.

    Args:
        radius: bits by which hashes of look-alikes may differ; equal hashes are `EQUAL`.
    """
    # the measuring ones first: each of several equal hashes is paired with the first alone
    everything = np.concatenate([*measuring, unlabelled])
    first = len(everything) - len(unlabelled)
    pairs, _ = near_pairs(everything, radius)
    across = pairs[(pairs[:, 0] < first) & (pairs[:, 1] >= first)]
    same = (everything[across[:, 0]] == everything[across[:, 1]]).all(axis=1)
    places = across[:, 1] - first
    return dict.fromkeys(places.tolist(), NEAR) | dict.fromkeys(places[same].tolist(), EQUAL)
