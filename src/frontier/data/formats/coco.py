"""COCO detection JSON, in the layouts it is handed around in.

Reference: the "Object Detection" section of the COCO data format.
"""

from collections.abc import Iterator
from pathlib import Path

from frontier.data.formats import SPLITS, Part
from frontier.data.formats.reading import roots, within
from frontier.data.formats.records import Place, Records

OTHER_NAMES = {"val": ("valid",), "train": (), "test": ()}
YEARS = ("", "2017", "2014")


class Coco:
    """`images/` and `annotations/instances_<split>.json`, with or without a year.

    Also `annotations/<split>.json`, and `<split>/_annotations.coco.json` beside its images.
    """

    name = "coco"
    layout = "images/ and annotations/instances_{train,val,test}.json"
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        return [split for split in SPLITS if _file(folder, split)]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        file = _file(folder, split)
        return [file] if file else []

    def image_root(self, folder: Path) -> Path:
        images = folder / "images"
        return images if images.is_dir() else folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        (file,) = self.annotations(folder, split)
        place = _placing(self.image_root(folder), _folders(file, split))
        yield from Records(file, file.relative_to(folder).as_posix(), place).parts()


def _names(split: str) -> Iterator[str]:
    for name in (split, *OTHER_NAMES[split]):
        yield from (f"{name}{year}" for year in YEARS)


def _file(folder: Path, split: str) -> Path | None:
    stems = [prefix + name for prefix in ("instances_", "") for name in _names(split)]
    candidates = [folder / "annotations" / f"{stem}.json" for stem in stems]
    candidates += [folder / name / "_annotations.coco.json" for name in _names(split)]
    return next((file for file in candidates if file.is_file()), None)


def _folders(file: Path, split: str) -> list[str]:
    """Where a split's images may lie below the image root; first as their names say."""
    beside = [file.parent.name] if file.name == "_annotations.coco.json" else []
    return ["", *beside, *_names(split)]


def _placing(root: Path, folders: list[str]) -> Place:
    """Put file names into the folder where the first that exists is found."""
    chosen: list[str] = []
    known = roots(root)

    def place(file_name: str) -> str:
        file_name = within(known, file_name)
        if not chosen:
            chosen[:] = [folder for folder in folders if _lies(root, folder, file_name)][:1]
        return f"{chosen[0]}/{file_name}" if chosen and chosen[0] else file_name

    return place


def _lies(root: Path, folder: str, file_name: str) -> bool:
    try:
        return (root / folder / file_name).is_file()
    except (OSError, ValueError):  # too long, or with a NUL: refused later, by name
        return False
