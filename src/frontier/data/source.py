"""What the user's dataset consists of, cheaply: the manifest that `ingest` depends on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frontier.errors import UsageError
from frontier.files import sha256

SYNTHETIC = "synthetic"
SPLITS = ("train", "val", "test")
LAYOUT = "images/ and annotations/instances_{train,val,test}.json"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def describe_source(path: str, unlabelled: str | None, root: Path = Path()) -> dict[str, Any]:
    """Annotation SHA-256, and path, size and mtime of each image; reads no image.

    Args:
        path: `synthetic` or a folder in COCO layout, relative to `root`.
        unlabelled: a folder of images without labels, or None.

    Raises:
        UsageError: no dataset; names everything that is missing.
    """
    problems = [] if path == SYNTHETIC else _missing(root / path, path)
    if unlabelled is not None and not any(_images(root / unlabelled)):
        problems.append(f"{unlabelled}: no such folder, or no image in it")
    if problems:
        raise UsageError("\n".join(problems))
    described: dict[str, Any] = {"kind": SYNTHETIC if path == SYNTHETIC else "coco", "path": path}
    if path != SYNTHETIC:
        described["annotations"] = {
            split: sha256(file) for split, file in annotation_files(root / path).items()
        }
        described["images"] = list(_images(root / path / "images"))
    if unlabelled is not None:
        described["unlabelled"] = {"path": unlabelled, "images": list(_images(root / unlabelled))}
    return described


def annotation_files(folder: Path) -> dict[str, Path]:
    """The annotation files of the splits that a COCO folder has."""
    files = {split: folder / "annotations" / f"instances_{split}.json" for split in SPLITS}
    return {split: file for split, file in files.items() if file.is_file()}


def image_names(folder: Path) -> list[str]:
    """Names of the image files below `folder`, relative, sorted."""
    return [str(name) for name, _, _ in _images(folder)]


def _missing(folder: Path, shown: str) -> list[str]:
    if not folder.is_dir():
        return [f"{shown}: no such folder; give `{SYNTHETIC}` or a folder holding {LAYOUT}"]
    problems = []
    if "train" not in annotation_files(folder):
        problems.append(f"{shown}: no annotations/instances_train.json; a dataset holds {LAYOUT}")
    if not any(_images(folder / "images")):
        problems.append(f"{shown}: no image in images/; a dataset holds {LAYOUT}")
    return problems


def _images(folder: Path) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, mtime_ns) of each image file below `folder`, sorted by name."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES):
                path = Path(parent, file)
                facts = path.lstat()
                yield path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns
