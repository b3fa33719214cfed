"""Paths as the files of a YOLO dataset write them, brought to its own folder; none is trusted."""

import os
import re
from itertools import dropwhile
from pathlib import Path, PurePosixPath

from frontier.data.formats.reading import is_file, roots, within

WHOLE = re.compile("/|[A-Za-z]:/")


class Paths:
    """What is returned is relative to the dataset's folder, or leads out of it, to be refused.

    Args:
        written: the folder as its data.yaml calls it by `path`, maybe on another machine.
        base: the folder that is meant, and that other paths are relative to.
    """

    def __init__(self, folder: Path, written: str, base: PurePosixPath) -> None:
        self.folder, self.base = folder, base
        self._roots = roots(folder)
        self._written = posix(written) if WHOLE.match(posix(written)) else None

    def entry(self, text: str) -> list[str]:
        """Where an entry of data.yaml may lie; first as it says."""
        name = posix(text)
        if WHOLE.match(name):
            return [self._own(name)]
        places = [str(self.base / name)]
        if name.startswith("../"):
            # Roboflow writes `../train/images` in a data.yaml that lies beside train/
            below = dropwhile("..".__eq__, PurePosixPath(name).parts)
            places.append(str(self.base.joinpath(*below)))
        return places

    def is_nowhere(self, text: str) -> bool:
        """Is there nothing where an entry may lie, neither to read nor to refuse."""
        return not any(os.path.lexists(self.folder / place) for place in self.entry(text))

    def listed(self, listing: str, text: str) -> str:
        """An image that a list names: relative to the list, or else to the dataset."""
        name = posix(text)
        if WHOLE.match(name):
            return self._own(name)
        bases = dict.fromkeys([PurePosixPath(listing).parent, self.base, PurePosixPath()])
        first, *others = (str(base / name) for base in bases)
        if others and not is_file(self.folder, first):
            return next((other for other in others if is_file(self.folder, other)), first)
        return first

    def _own(self, name: str) -> str:
        """A name that begins at `/` or at a drive, as one in the folder if it lies there."""
        path = PurePosixPath(name)
        if self._written and path.is_relative_to(self._written):
            return str(self.base / path.relative_to(self._written))
        return within(self._roots, name)


def posix(path: str) -> str:
    """A path with the slashes of this system."""
    return path.replace("\\", "/")
