"""Images that show the same thing: pairs of look-alikes, groups of them, splits that keep groups whole."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow

from frontier.data.duplicates import groups, near_pairs, split_groups

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

PAIRS = pa.schema(
    [("first", pa.int64()), ("second", pa.int64()), ("distance", pa.int64()), ("exact", pa.bool_())]
)


class Digests(NamedTuple):
    """Of I images, in the order of the catalog: zero bytes where a file could not be used."""

    sha256: Bytes  # [I, 32]
    phash: Bytes  # [I, 32]
    known: npt.NDArray[np.bool_]  # [I]


def digests(tables: Iterator[Any]) -> Digests:
    """Collect the digests of probed images, hex in the columns `sha256` and `phash`."""
    parts = [(_bytes(table["sha256"]), _bytes(table["phash"])) for table in tables]
    empty = np.zeros((0, 32), np.uint8)
    sha, hashes = (np.concatenate([empty, *column]) for column in zip(*parts, strict=True))
    return Digests(sha, hashes, hashes.any(axis=1) | sha.any(axis=1))


def _bytes(column: Any) -> Bytes:
    texts = [text.ljust(64, "0") for text in column.to_pylist()]
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(-1, 32)


def look_alikes(found: Digests, radius: int) -> Any:
    """A table of `PAIRS`: places of images whose files are equal, or whose hashes differ by at most
    `radius` of 256 bits. k equal ones make k - 1 pairs."""
    usable = np.flatnonzero(found.known & found.phash.any(axis=1))
    pairs = usable[near_pairs(found.phash[usable], radius)].reshape(-1, 2)
    bits = np.unpackbits(found.phash[pairs[:, 0]] ^ found.phash[pairs[:, 1]], axis=1)
    exact = (found.sha256[pairs[:, 0]] == found.sha256[pairs[:, 1]]).all(axis=1)
    distance = bits.sum(axis=1).astype(np.int64)
    return pa.table([pairs[:, 0], pairs[:, 1], distance, exact], schema=PAIRS)


def scene_groups(file_names: list[str], pairs: Any, count: int, pattern: str | None) -> Ints:
    """The scene of each image: of look-alikes, and of names that give the pattern the same text.

    Args:
        pattern: a regular expression; its groups tell scenes apart, or its whole match.
    """
    links = [np.stack([pairs["first"].to_numpy(), pairs["second"].to_numpy()], axis=1)]
    if pattern is not None:
        links.append(_named_alike(file_names, re.compile(pattern)))
    return groups(count, np.concatenate(links))


def _named_alike(file_names: list[str], pattern: re.Pattern[str]) -> Ints:
    """A chain through the images of each scene."""
    last: dict[tuple[str, ...], int] = {}
    links = []
    for place, name in enumerate(file_names):
        if found := pattern.search(name):
            scene = found.groups() or (found.group(),)
            if scene in last:
                links.append((last[scene], place))
            last[scene] = place
    return np.array(links, np.int64).reshape(-1, 2)


def make_splits(
    splits: npt.NDArray[Any], scene: Ints, missing: list[str], share: float, seed: int
) -> npt.NDArray[Any]:
    """The split of each image once the missing ones took their share of train, scene by scene."""
    if not missing:
        return splits
    train = np.flatnonzero(splits == "train")
    shares = {"train": 1 - share * len(missing), **dict.fromkeys(missing, share)}
    made = splits.copy()
    made[train] = split_groups(scene[train], shares, seed)
    return made
