"""Image files that no record names, found in one pass over their folders that opens none."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from frontier.data.formats import IMAGE_SUFFIXES
from frontier.data.formats.reading import Fault, inside

Ints = npt.NDArray[np.int64]


def unlisted(root: Path, names: Iterable[list[str]], other: Path | None) -> Iterator[str]:
    """Image files below the folders of the named ones, relative to `root`, sorted within each.

    Of the names only hashes of 64 bits are kept: there may be millions.

    Args:
        names: of the images that records name, relative to `root`, some at a time.
        other: a folder that is none of theirs, even if it lies among them.
    """
    folders: set[str] = set()
    hashes = [np.zeros(0, np.int64)]
    for some in names:
        plain = [_plain(name) for name in some]
        folders.update(name.rpartition("/")[0] for name in plain)
        hashes.append(_hashes(plain))
    known = np.unique(np.concatenate(hashes))
    for folder in _topmost(folders):
        yield from _unknown(root, folder, known, other)


def _plain(name: str) -> str:
    name = name.replace("\\", "/")
    return str(PurePosixPath(name)) if "./" in name or "//" in name else name


def _hashes(names: list[str]) -> Ints:
    return np.fromiter(map(hash, names), np.int64, len(names))


def _topmost(folders: set[str]) -> Iterator[str]:
    """Those that lie in no other of them."""
    for folder in sorted(folders):
        above = map(str, PurePosixPath(folder).parents)
        if not folders.intersection("" if path == "." else path for path in above if folder):
            yield folder


def _unknown(root: Path, folder: str, known: Ints, other: Path | None) -> Iterator[str]:
    try:
        start = inside(root, folder) if folder else root
    except Fault:  # nothing of it was opened either
        return
    for parent, folders, files in os.walk(start):
        folders[:] = sorted(name for name in folders if Path(parent, name) != other)
        below = Path(parent).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        images = [prefix + file for file in sorted(files) if file.lower().endswith(IMAGE_SUFFIXES)]
        found = _hashes(images)
        place = np.searchsorted(known, found).clip(max=len(known) - 1)
        for i in np.flatnonzero(known[place] != found):
            yield images[i]
