"""Images that show the same: look-alikes, scenes of them, splits that divide no scene."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow

from frontier.data.duplicates import groups, near_pairs, split_groups
from frontier.data.formats import Problem

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int8]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

PAIRS = pa.schema(
    [("first", pa.int64()), ("second", pa.int64()), ("distance", pa.int64()), ("exact", pa.bool_())]
)


class Digests(NamedTuple):
    """Of I images, in the order of the catalog: zero bytes where a file could not be used."""

    sha256: Bytes  # [I, 32]
    phash: Bytes  # [I, 32]


def digests(tables: Iterator[tuple[Path, Any]], count: int) -> Digests:
    """Collect the digests of probed images, hex in the columns `sha256` and `phash`.

    A usable file that was not opened has the digest of its path: one file listed twice is told.

    Args:
        tables: each with the folder of its files.
        count: of images in all.
    """
    found = Digests(*(np.zeros((count, 32), np.uint8) for _ in Digests._fields))
    start = 0
    for root, table in tables:
        rows = slice(start, start := start + table.num_rows)
        found.sha256[rows] = _contents(root, table)
        found.phash[rows] = _bytes(table["phash"].to_pylist())
    return found


def _contents(root: Path, table: Any) -> Bytes:
    columns = (table[name].to_pylist() for name in ("sha256", "status", "file_name"))
    return _bytes(
        hashlib.sha256(f"{root}/{name}".encode()).hexdigest()
        if status == "ok" and not digest
        else digest
        for digest, status, name in zip(*columns, strict=True)
    )


def _bytes(texts: Iterable[str]) -> Bytes:
    padded = "".join(text.ljust(64, "0") for text in texts)
    return np.frombuffer(bytes.fromhex(padded), np.uint8).reshape(-1, 32)


def look_alikes(found: Digests, radius: int) -> tuple[Any, list[Problem]]:
    """A table of `PAIRS`, images by place: equal files, and those whose hashes differ by at most
    `radius` of 256 bits; with remarks on what was too much to compare.

    Each of several equal files is paired with the first; of several equal hashes only one is
    compared with others.
    """
    usable = np.flatnonzero(found.phash.any(axis=1))
    near, remarks = near_pairs(found.phash[usable], radius)
    near = usable[near].reshape(-1, 2)
    differ = (found.sha256[near[:, 0]] != found.sha256[near[:, 1]]).any(axis=1)
    pairs = np.concatenate([_copies(found), near[differ]])
    bits = np.unpackbits(found.phash[pairs[:, 0]] ^ found.phash[pairs[:, 1]], axis=1)
    exact = np.arange(len(pairs)) < len(pairs) - int(differ.sum())
    distance = bits.sum(axis=1).astype(np.int64)
    return pa.table([pairs[:, 0], pairs[:, 1], distance, exact], schema=PAIRS), remarks


def _copies(found: Digests) -> Ints:
    """Each file that was there before, beside the first of its kind."""
    known = np.flatnonzero(_not_alone(found.sha256) & found.sha256.any(axis=1))
    rows = np.ascontiguousarray(found.sha256[known]).view("V32").ravel()
    _, first, kind = np.unique(rows, return_index=True, return_inverse=True)
    pairs = np.stack([known[first[kind]], known], axis=1)
    copies: Ints = pairs[pairs[:, 0] != pairs[:, 1]]
    return copies


def _not_alone(digests_I32: Bytes) -> npt.NDArray[np.bool_]:
    """Which share their first eight bytes with another: in a million, few that differ beyond."""
    keys = digests_I32[:, :8].copy().view(np.uint64).ravel()
    order = np.argsort(keys)
    equal = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    shared = np.zeros(len(keys), bool)
    shared[order[equal]] = shared[order[equal + 1]] = True
    return shared


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
    split: Places, names: list[str], scene: Ints, missing: list[str], share: float, seed: int
) -> Places:
    """The split of each image once the missing ones took their share of train, scene by scene.

    Scenes that another split or the unlabelled images show too stay where they are.

    Args:
        split: of each image, `[I]`, as its place in `names`, which has the missing ones too.
    """
    if not missing:
        return split
    own = split == names.index("train")
    train = np.flatnonzero(own & ~np.isin(scene, scene[~own]))
    shares = {"train": 1 - share * len(missing), **dict.fromkeys(missing, share)}
    chosen = split_groups(scene[train], shares, seed)
    made = split.copy()
    for name in missing:
        made[train[chosen == name]] = names.index(name)
    return made
