"""COCO detection JSON, in the layouts it is handed around in.

Reference: the "Object Detection" section of the COCO data format.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from frontier.data.formats import SPLITS, Part
from frontier.data.formats.records import Records
from frontier.data.formats.whereabouts import Place, placing

OTHER_NAMES = {"val": ("valid", "validation"), "train": (), "test": ()}
YEARS = ("", "2017", "2014")
FILES = (  # of a split
    "annotations/instances_{name}.json",
    "annotations/{name}.json",
    "{name}/_annotations.coco.json",
    "{name}/labels.json",
    "{name}.json",
    "instances_{name}.json",
)
WHOLE = (  # where there are no splits: CVAT, Roboflow, FiftyOne, Label Studio
    "annotations/instances_default.json",
    "annotations/annotations.json",
    "instances_default.json",
    "annotations.json",
    "_annotations.coco.json",
    "labels.json",
    "result.json",
)
IMAGE_ROOTS = (("images", ""), ("data", "labels.json"))  # and what must lie beside the folder
FOLDERS = ("{name}", "{name}/data", "{name}/images")  # below the image root


class Coco:
    """`images/` and `annotations/instances_<split>.json`, with or without a year, and the like."""

    name = "coco"
    layout = "images/ and " + ", ".join((*FILES, *WHOLE)).replace("{name}", "{train,val,test}")
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        return [split for split in SPLITS if _file(folder, split)]

    def index(self, folder: Path) -> list[Path]:
        return [file for split in SPLITS for file in self.annotations(folder, split)]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        file = _file(folder, split)
        return [file] if file else []

    def image_root(self, folder: Path) -> Path:
        fitting = (
            folder / images
            for images, beside in IMAGE_ROOTS
            if (folder / images).is_dir() and (folder / beside).exists()
        )
        return next(fitting, folder)

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        (file,) = self.annotations(folder, split)
        root = self.image_root(folder)
        place = placing(root, _places(root, file, split))
        yield from Records(file, file.relative_to(folder).as_posix(), place).parts()


def _names(split: str) -> Iterator[str]:
    for name in (split, *OTHER_NAMES[split]):
        yield from (f"{name}{year}" for year in YEARS)


def _file(folder: Path, split: str) -> Path | None:
    names = [pattern.format(name=name) for pattern in FILES for name in _names(split)]
    names += WHOLE if split == "train" else ()
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _places(root: Path, file: Path, split: str) -> list[Place]:
    """First as the names say, then from the dataset's folder, then by split."""
    folders = [pattern.format(name=name) for pattern in FOLDERS for name in _names(split)]
    if file.parent.parent == root:
        folders.insert(0, file.parent.name)
    below = partial(_removed, f"{root.name}/")
    return [str, below, *(partial(_joined, folder) for folder in folders)]


def _removed(prefix: str, file_name: str) -> str:
    return file_name.removeprefix(prefix)


def _joined(folder: str, file_name: str) -> str:
    return f"{folder}/{file_name}"
