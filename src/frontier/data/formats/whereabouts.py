"""Where the images of an annotation file lie: as its names say, or where the first is found."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from frontier.data.formats.reading import is_file, roots, within

TRIED = 10_000  # names looked for; there may be a million, and no image

Place = Callable[[str], str]  # a file name as stated, to one relative to the image root


def placing(root: Path, places: Sequence[Place]) -> Place:
    """The first of `places` that leads to a file, once one does; before, the first of all.

    Names that lead out of `root` stay as they are, to be refused.
    """
    known, chosen, missed = roots(root), list[Place](), itertools.count(1)

    def place(file_name: str) -> str:
        name = within(known, file_name)
        if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
            return file_name
        if not chosen:
            chosen.extend([place for place in places if is_file(root, place(name))][:1])
        if not chosen and next(missed) == TRIED:
            chosen.append(places[0])
        return chosen[0](name) if chosen else places[0](name)

    return place
