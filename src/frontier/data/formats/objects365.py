"""Objects365 v2: COCO-like JSON whose images lie in patch folders.

`file_name` reads `images/v2/patch8/objects365_v2_00420917.jpg`; the downloads unpack to that very
path, to `train/patch8/...` or to `patch8/...`.

Reference: Shao et al. 2019, "Objects365: A Large-Scale, High-Quality Dataset for Object Detection".
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from frontier.data.formats import SPLITS, Part
from frontier.data.formats.records import Place, Records


class Objects365:
    """Patch folders, 365 categories, ids as in the file."""

    name = "objects365"
    layout = "zhiyuan_objv2_{train,val}.json and images/v2/, {train,val}/ or patch folders"
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        return [split for split in SPLITS if _file(folder, split).is_file()]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        return [_file(folder, split)]

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        file = _file(folder, split)
        yield from Records(file, file.name, _placing(folder, split)).parts()


def _file(folder: Path, split: str) -> Path:
    return folder / f"zhiyuan_objv2_{split}.json"


def _placing(folder: Path, split: str) -> Place:
    if (folder / "images").is_dir():
        return str
    prefix = split if (folder / split).is_dir() else ""
    return lambda name: _below(prefix, name)


def _below(prefix: str, file_name: str) -> str:
    """`<patch folder>/<file>` below `prefix`; what may lead outside stays, to be refused."""
    parts = PurePosixPath(file_name).parts
    if ".." in parts or file_name.startswith("/"):
        return file_name
    return PurePosixPath(prefix, *parts[-2:]).as_posix()
