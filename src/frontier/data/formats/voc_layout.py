"""Where a Pascal VOC dataset keeps its XML files, images and lists."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from frontier.data.formats import IMAGE_SUFFIXES, SPLITS, Problem
from frontier.data.formats.reading import files_below, is_file, lines

FOLDERS = (  # of XML files and of images; in VOC's own layout, Kaggle's, Roboflow's
    ("Annotations", "JPEGImages"),
    ("Annotations", "images"),
    ("annotations", "JPEGImages"),
    ("annotations", "images"),
    ("", ""),
)
YEARS = ("VOC*", "VOCdevkit/VOC*")
OF_SPLIT = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # by folder
GLANCED = 1000  # entries of a folder in which an XML file is to be found
FLAGGED = re.compile(r"(.+?)\s+(?:-1|0|1)")  # is the class in the image: -1 is no, 0 is difficult


class Kit(NamedTuple):
    """What lies together; folders are relative to the dataset's.

    Attributes:
        place: of the kit itself.
        sheets, images: folders of XML files and of images.
        split: the only one that it belongs to, None where lists tell.
    """

    place: PurePosixPath
    sheets: PurePosixPath
    images: PurePosixPath
    split: str | None = None

    def lists(self, folder: Path) -> dict[str, str]:
        """The list of names of each split; a kit without lists is all one split, without one."""
        if self.split:
            return {self.split: ""}
        place = self.place / "ImageSets" / "Main"
        names = {split: f"{place / split}.txt" for split in (*SPLITS, "trainval")}
        found = {split: name for split, name in names.items() if (folder / name).is_file()}
        both = found.pop("trainval", "")
        return ({"train": both} if both else {}) | found or {"train": ""}

    def files(self, folder: Path, split: str) -> Iterator[tuple[str, str] | Problem]:
        """Each XML file of a split and where it is listed; folders that cannot be entered.

        Raises:
            Fault: of `lines`, for the list.
        """
        listing = self.lists(folder).get(split)
        if listing:
            for number, text in lines(folder, listing):
                yield self._listed(folder, text), f"{listing}:{number}"
        elif listing is not None:
            for name in self.all(folder):
                yield (name, name) if isinstance(name, str) else name

    def all(self, folder: Path) -> Iterator[str | Problem]:
        """Every XML file, sorted, and folders that cannot be entered."""
        return files_below(folder, str(self.sheets), (".xml",), deep=self.sheets != self.images)

    def _listed(self, folder: Path, text: str) -> str:
        """The XML file of a line: a name, maybe with an image's suffix, maybe with a flag."""
        flagged = FLAGGED.fullmatch(text)
        stems = [text, *(flagged.groups() if flagged else ())]
        stems += [stem[: stem.rindex(".")] for stem in stems if _is_image(stem)]
        names = [f"{self.sheets / stem}{suffix}" for stem in stems for suffix in (".xml", ".XML")]
        usual = names[2 if flagged else 0]
        return next((name for name in names if is_file(folder, name)), usual)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def kits(folder: Path) -> list[Kit]:
    """The kits of a dataset: years of VOC, or splits."""
    years = (place for pattern in YEARS for place in sorted(folder.glob(pattern)))
    places = [folder, *years, *(folder / name for name in OF_SPLIT)]
    return [kit for place in places for kit in _kit(folder, place)]


def _kit(folder: Path, place: Path) -> list[Kit]:
    """The first of `FOLDERS` that a place has, with images if there are any."""
    sheeted = [pair for pair in FOLDERS if _has_sheets(place / pair[0], bool(pair[0]))]
    both = [pair for pair in sheeted if (place / pair[1]).is_dir()]
    below = PurePosixPath(place.relative_to(folder))
    split = OF_SPLIT.get(str(below))
    return [Kit(below, below / s, below / i, split) for s, i in (both or sheeted)[:1]]


def _has_sheets(folder: Path, deep: bool) -> bool:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        some = list(itertools.islice(entries, GLANCED))
        if any(entry.name.lower().endswith(".xml") for entry in some):
            return True
        below = (Path(entry) for entry in some if deep and entry.is_dir(follow_symlinks=False))
        return any(_has_sheets(inner, deep) for inner in below)
    return False
