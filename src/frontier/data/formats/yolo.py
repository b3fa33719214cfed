"""YOLO text labels: a file per image, a line per object, in shares of the image's sides.

The label file of an image has its path, with the last `images` in it turned to `labels`.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from frontier.data.formats import SPLITS, SUFFIXES, BoxRecord, ImageRecord, Part, Problem
from frontier.data.formats.headers import upright_size
from frontier.data.formats.reading import (
    Fault,
    Record,
    Refused,
    inside,
    is_file,
    lines,
    parts,
    regular_file,
)
from frontier.data.formats.yolo_layout import Layout
from frontier.data.formats.yolo_line import parse


class Yolo:
    name = "yolo"
    layout = "data.yaml with names, images/{train,val,test}/ and labels/{train,val,test}/"
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        places = Layout(folder).places
        return [split for split in SPLITS if split in places]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        layout = Layout(folder)
        places = layout.places.get(split, [])
        images = (name for name in _images(layout, split) if isinstance(name, str))
        names = {layout.config, *places, *map(label_name, images)}
        return sorted(folder / name for name in names if is_file(folder, name))

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        layout = Layout(folder)
        return parts(_records(folder, split, layout), layout.names)


def label_name(image: str) -> str:
    """The label file of an image, both relative to the dataset's folder."""
    path = PurePosixPath(image)
    folders = list(path.parent.parts)
    if "images" in folders:
        folders[-1 - folders[::-1].index("images")] = "labels"
    return str(PurePosixPath(*folders, f"{path.stem}.txt"))


def _records(folder: Path, split: str, layout: Layout) -> Iterator[Record]:
    if split == next(iter(layout.places), None):
        yield from layout.problems
    if not layout.names:  # that is one of the problems; each box would be of an unknown class
        return
    names = (name for name in _images(layout, split) if isinstance(name, str))
    labelled = any(is_file(folder, label_name(name)) for name in names)
    image_id = 0
    for name in _images(layout, split):
        if isinstance(name, Problem):
            yield name
        else:
            image_id += 1
            yield from _image(folder, name, image_id, labelled)
    if image_id and not labelled:
        text = "no image has a label file: that of images/train/a.jpg is labels/train/a.txt"
        yield Problem("no-labels", "warning", split, text)


def _images(layout: Layout, split: str) -> Iterator[str | Problem]:
    """Names relative to the dataset's folder, and what is wrong with places."""
    folder = layout.folder
    for place in layout.places.get(split, []):
        try:
            path = inside(folder, place)
            if path.is_dir():
                yield from _below(folder, path)
            else:
                for _, text in lines(folder, place):
                    yield layout.paths.listed(place, text)
        except Fault as fault:
            yield fault.at(place)


def _below(folder: Path, place: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(place):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES):
                yield Path(parent, file).relative_to(folder).as_posix()


def _image(folder: Path, name: str, image_id: int, labelled: bool) -> Iterator[Record]:
    label, size = label_name(name), (0, 0)
    try:
        size = upright_size(inside(folder, name))
    except Fault as fault:
        if fault.code != "missing-file":  # `ingest` says so of every format
            yield fault.at(name)
            return
    try:
        regular_file(folder, label)
        yield ImageRecord(image_id, name, *size, label, 1)
        yield from _boxes(folder, label, image_id, size)
    except Fault as fault:
        yield ImageRecord(image_id, name, *size, name, 1)
        if fault.code != "missing-file":
            yield fault.at(label)
        elif labelled:
            text = f"there is no {label}; an image without objects has an empty one"
            yield Problem("no-label-file", "warning", name, text)


def _boxes(folder: Path, label: str, image_id: int, size: tuple[int, int]) -> Iterator[Record]:
    (width, height), dropped = size, 0
    try:
        for line, text in lines(folder, label):
            try:
                box = parse(text)
            except Fault as fault:
                yield fault.at(f"{label}:{line}")
                yield Refused()
                continue
            dropped += not width
            if width:
                x, y, w, h = box.x * width, box.y * height, box.w * width, box.h * height
                yield BoxRecord(image_id, box.category_id, x, y, w, h, False, line)
    except Fault as fault:
        yield fault.at(label)
    if dropped:
        text = f"{dropped} boxes are left out: the image's header does not tell its size"
        yield Problem("unreadable-size", "warning", label, text)
        yield Refused(dropped)
