"""What the user's dataset consists of, cheaply: its format, and the manifest of `ingest`."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from frontier.data.formats import IMAGE_SUFFIXES, UNSUPPORTED, Format
from frontier.data.formats.coco import Coco
from frontier.data.formats.objects365 import Objects365
from frontier.data.formats.voc import Voc
from frontier.data.formats.yolo import Yolo
from frontier.errors import UsageError
from frontier.files import sha256

SYNTHETIC = "synthetic"
AUTO = "auto"
FORMATS: dict[str, Format] = {form.name: form for form in (Coco(), Objects365(), Voc(), Yolo())}


def find_format(folder: Path, wanted: str, shown: str) -> Format:
    """The format of a dataset's folder.

    Args:
        wanted: a name of `FORMATS`, or `auto`.
        shown: what to call the folder in messages.

    Raises:
        UsageError: no such folder, none or several formats fit it, or not the wanted one.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{shown}: no such folder; give `{SYNTHETIC}` or a folder holding {_all()}"
        )
    tried = FORMATS.values() if wanted == AUTO else [FORMATS[wanted]]
    fitting = [form for form in tried if form.splits(folder)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " and ".join(form.name for form in fitting)
        raise UsageError(f"{shown}: could be read as {names}; say which by ingest.format")
    raise UsageError(f"{shown}: no labels found in it; a dataset holds {_all(tried)}")


def dataset_folder(root: Path, path: str) -> str:
    """`path`; of a JSON or YAML file that a dataset is known by, the folder of that dataset.

    Raises:
        UsageError: a file that is none of those.
    """
    file = root / path
    if not file.is_file():
        return path
    for folder in reversed([*PurePosixPath(path).parents][:2]):
        if any(file in form.index(root / folder) for form in FORMATS.values()):
            return str(folder)
    raise UsageError(f"{path}: belongs to no dataset; give a folder that holds {_all()}")


def _all(formats: Any = None) -> str:
    return "; or ".join(f"{form.layout} ({form.name})" for form in formats or FORMATS.values())


def describe_source(
    path: str, unlabelled: str | None, root: Path = Path(), form: str = AUTO
) -> dict[str, Any]:
    """Annotation SHA-256, and path, size and mtime of each image; reads no image.

    Args:
        path: `synthetic`, a folder of one of `FORMATS` or its `index`, relative to `root`.
        unlabelled: a folder of images without labels, or None.
        form: the folder's format, or `auto`.

    Raises:
        UsageError: no dataset; names everything that is missing.
    """
    problems: list[str] = []
    described: dict[str, Any] = {"kind": SYNTHETIC, "path": path}
    if path != SYNTHETIC:
        try:
            described = _described(root / dataset_folder(root, path), path, form)
        except UsageError as error:
            problems.append(str(error))
    if unlabelled is not None and not any(_images(root / unlabelled)):
        problems.append(f"{unlabelled}: no such folder, or no image in it")
    if problems:
        raise UsageError("\n".join(problems))
    if unlabelled is not None:
        described["unlabelled"] = {"path": unlabelled, "images": list(_images(root / unlabelled))}
    return described


def _described(folder: Path, path: str, form: str) -> dict[str, Any]:
    found = find_format(folder, form, path)
    splits = found.splits(folder)
    images = list(_images(found.image_root(folder)))
    problems = [] if "train" in splits else [f"{path}: no train split; {found.layout}"]
    if all(name.lower().endswith(UNSUPPORTED) for name, _, _ in images):
        below = found.image_root(folder).relative_to(folder)
        kinds = f" that is read; {images[0][0]} should be JPEG or PNG" if images else ""
        problems.append(f"{path}: no image in {below}/{kinds}")
    if problems:
        raise UsageError("\n".join(problems))
    annotations = {split: _digest(folder, found.annotations(folder, split)) for split in splits}
    return {"kind": found.name, "path": path, "annotations": annotations, "images": images}


def _digest(folder: Path, files: list[Path]) -> str:
    """SHA-256 of a file, or of the names and SHA-256 of several."""
    if len(files) == 1:
        return sha256(files[0])
    listed = "".join(f"{sha256(file)}  {file.relative_to(folder)}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def image_names(folder: Path) -> list[str]:
    """Names of the image files below `folder`, relative, sorted."""
    return [str(name) for name, _, _ in _images(folder)]


def _images(folder: Path) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, mtime_ns) of each image file below `folder`, sorted by name."""
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(IMAGE_SUFFIXES):
                path = Path(parent, file)
                facts = path.lstat()
                yield path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns
