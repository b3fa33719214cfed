"""Which label file belongs to which image, and the label files that belong to none.

The label file of an image has its path, with the last `images` in it turned to `labels`; or it
lies beside the image.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from frontier.data.formats import IMAGE_SUFFIXES
from frontier.data.formats.reading import Fault, Record, Refused, inside, is_file, lines

OTHER_TEXTS = ("classes.txt", "labels.txt", "readme.txt", "train.txt", "val.txt", "test.txt")


def label_name(image: str) -> str:
    """The label file of an image, both relative to the dataset's folder."""
    path = PurePosixPath(_text(image))
    folders = list(path.parent.parts)
    if "images" in folders:
        folders[-1 - folders[::-1].index("images")] = "labels"
    return str(PurePosixPath(*folders, f"{path.stem}.txt"))


def label_file(folder: Path, image: str) -> str:
    """The label file of an image as it is spelt; `label_name` where there is none."""
    names = dict.fromkeys([label_name(image), _beside(image)])
    spelt = (f"{name.removesuffix('.txt')}{end}" for name in names for end in (".txt", ".TXT"))
    return next((name for name in spelt if is_file(folder, name)), label_name(image))


def _beside(image: str) -> str:
    path = PurePosixPath(_text(image))
    return str(path.parent / f"{path.stem}.txt")


class Taken:
    """The label files of a folder's images, as hashes: there may be a million."""

    def __init__(self) -> None:
        self.folder = ""
        self.hashes: set[int] = set()

    def twice(self, label: str, image: str) -> Iterator[Record]:
        """The problem of an image whose label file is another's too."""
        folder = label.rpartition("/")[0]
        if folder != self.folder:
            self.folder, self.hashes = folder, set()
        if hash(label) in self.hashes:
            text = f"{label} is the label file of another image too; rename either with its labels"
            yield Fault("shared-label", text).at(image, "warning")
        self.hashes.add(hash(label))


def orphans(folder: Path, place: str) -> Iterator[str]:
    """Label files for images below a place that are not there, sorted."""
    labels = str(PurePosixPath(label_name(f"{place}/a")).parent)
    labels = labels if (folder / labels).is_dir() else place
    with contextlib.suppress(Fault):  # that they cannot be opened is said of each image's own
        for parent, folders, files in os.walk(inside(folder, labels)):
            folders.sort()
            texts = [file for file in sorted(files) if _is_label(file)]
            below = Path(parent).relative_to(folder / labels)
            stems = _stems(folder / place / below) if texts else set()
            own = (text for text in texts if PurePosixPath(text).stem not in stems)
            yield from ((PurePosixPath(labels) / below / text).as_posix() for text in own)


def _is_label(file: str) -> bool:
    name = file.lower()
    return name.endswith(".txt") and not name.startswith("readme.") and name not in OTHER_TEXTS


def _stems(folder: Path) -> set[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        return {PurePosixPath(_text(n)).stem for n in names if n.lower().endswith(IMAGE_SUFFIXES)}
    return set()


def _text(name: str) -> str:
    """Without bytes that are no UTF-8: an image with such is refused, but it has its label."""
    return name.encode(errors="ignore").decode()


def orphan(folder: Path, label: str) -> Iterator[Record]:
    """What is said of a label file without image, and how many boxes go with it."""
    boxes = count(folder, label)
    yield Refused(boxes)
    text = f"there is no image of this name; the {boxes} boxes in it are left out"
    yield Fault("orphan-label", text).at(label, "warning")


def count(folder: Path, label: str) -> int:
    """How many boxes a label file states, or its readable part."""
    boxes = 0
    with contextlib.suppress(Fault):
        for _ in lines(folder, label):
            boxes += 1
    return boxes
