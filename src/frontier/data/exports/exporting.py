"""A catalog as a folder that other tools read: COCO, YOLO or Pascal VOC.

What leaves is what a training would see: the usable images, and boxes clipped to them. Images keep
their names without folders, and are hard links where the file system has them.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from frontier.data.catalog import Catalog
from frontier.data.exports import writers
from frontier.data.exports.writers import Leaving
from frontier.data.formats import SPLITS
from frontier.errors import UsageError
from frontier.files import safe_join

Form = Literal["coco", "yolo", "voc"]

FORMS: dict[Form, tuple[str, Callable[[Path, list[dict[str, Any]], Leaving], int]]] = {
    "coco": ("images", writers.coco),
    "yolo": ("images/{split}", writers.yolo),
    "voc": ("JPEGImages", writers.voc),
}


def export(
    catalog: Catalog, folder: Path, form: Form, splits: Sequence[str] | None = None
) -> dict[str, int]:
    """Write `folder`, which is complete or absent.

    Args:
        splits: which to write; None for all that have labels.

    Returns:
        Counts: images, boxes, and left_out, the boxes that the form cannot say are to be ignored.

    Raises:
        UsageError: the folder holds something, a split has no labels, or an image is gone.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is not empty; give the name of a new folder")
    chosen = _chosen(catalog, splits)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        counts = _write(catalog, temporary, form, chosen)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _chosen(catalog: Catalog, splits: Sequence[str] | None) -> list[str]:
    labelled = [split for split in SPLITS if split in catalog.splits]
    for split in splits or ():
        if split not in labelled:
            known = ", ".join(labelled)
            raise UsageError(f"{split!r}: no split with labels; this catalog has {known}")
    return [split for split in labelled if splits is None or split in splits]


def _write(catalog: Catalog, folder: Path, form: Form, splits: list[str]) -> dict[str, int]:
    place, write = FORMS[form]
    counts = dict.fromkeys(("images", "boxes", "left_out"), 0)
    namer = _Namer()
    for split in splits:
        content = catalog.split(split)
        leaving = Leaving(split, content, [namer.name(file) for file in content.file_names])
        _link(leaving, folder / place.format(split=split))
        left_out = write(folder, catalog.classes, leaving)
        counts["images"] += len(content)
        counts["boxes"] += len(content.labels) - left_out
        counts["left_out"] += left_out
    if form == "yolo":
        writers.data_yaml(folder, catalog.classes, splits)
    return counts


class _Namer:
    """Names without folders, spaces or repeats: the stem of each names its labels as well."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.repeats: dict[str, int] = {}

    def name(self, file: str) -> str:
        path = PurePosixPath(file.replace("\\", "/"))
        plain = "".join(c if c.isprintable() and not c.isspace() else "_" for c in path.stem)
        stem, number = plain, self.repeats.get(plain, 1)
        while stem in self.taken:
            number += 1
            stem = f"{plain}_{number}"
        self.repeats[plain] = number
        self.taken.add(stem)
        return stem + path.suffix


def _link(leaving: Leaving, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in zip(leaving.content.file_names, leaving.names, strict=True):
        source = safe_join(leaving.content.folder, file).resolve()
        if not source.is_file():
            raise UsageError(f"{source}: gone since `ingest` saw it; bring it back or run again")
        try:
            os.link(source, folder / name)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, folder / name)
