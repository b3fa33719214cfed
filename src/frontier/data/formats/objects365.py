"""Objects365 v2: COCO-like JSON whose images lie in patch folders.

`file_name` reads `images/v2/patch8/objects365_v2_00420917.jpg`; the downloads unpack to that very
path, to `train/patch8/...` or to `patch8/...`.

Reference: Shao et al. 2019, "Objects365: A Large-Scale, High-Quality Dataset for Object Detection".
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from frontier.data.formats import SPLITS, Part
from frontier.data.formats.records import Records
from frontier.data.formats.whereabouts import placing

FILES = (
    "zhiyuan_objv2_{split}.json",
    "annotations/zhiyuan_objv2_{split}.json",
    "{split}/zhiyuan_objv2_{split}.json",
)
IMAGES = (  # {name} as the file has it, {patch} its last folder and itself
    "{name}",
    "{split}/{patch}",
    "{split}/{name}",
    "images/{split}/{patch}",
    "images/{patch}",
    "{patch}",
)


class Objects365:
    """Patch folders, 365 categories, ids as in the file."""

    name = "objects365"
    layout = (
        ", ".join(FILES).replace("{split}", "{train,val}")
        + " and images/v2/, {train,val}/, images/{train,val}/ or patch folders"
    )
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        return [split for split in SPLITS if self.annotations(folder, split)]

    def index(self, folder: Path) -> list[Path]:
        return [file for split in SPLITS for file in self.annotations(folder, split)]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        files = (folder / pattern.format(split=split) for pattern in FILES)
        return [file for file in files if file.is_file()][:1]

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        (file,) = self.annotations(folder, split)
        place = placing(folder, [partial(_placed, pattern, split) for pattern in IMAGES])
        yield from Records(file, file.relative_to(folder).as_posix(), place).parts()


def _placed(pattern: str, split: str, file_name: str) -> str:
    patch = "/".join(file_name.split("/")[-2:])
    return pattern.format(split=split, name=file_name, patch=patch)
