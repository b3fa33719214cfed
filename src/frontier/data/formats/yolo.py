"""YOLO text labels: a file per image, a line per object, in shares of the image's sides."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from frontier.data.formats import (
    IMAGE_SUFFIXES,
    SPLITS,
    BoxRecord,
    ImageRecord,
    Part,
    Problem,
    unsupported,
)
from frontier.data.formats.headers import upright_size
from frontier.data.formats.reading import (
    Fault,
    Record,
    Refused,
    files_below,
    inside,
    is_file,
    lines,
    parts,
    regular_file,
)
from frontier.data.formats.yolo_labels import Taken, count, label_file, orphan, orphans
from frontier.data.formats.yolo_layout import Layout
from frontier.data.formats.yolo_line import parse


class Yolo:
    name = "yolo"
    layout = (
        "data.yaml with names, and images/{train,val,test}/ with labels/{train,val,test}/, "
        "{train,val,test}/images/ with {train,val,test}/labels/, or images/ with labels/"
    )
    ids_given = True

    def splits(self, folder: Path) -> list[str]:
        places = Layout(folder).places
        return [split for split in SPLITS if split in places]

    def index(self, folder: Path) -> list[Path]:
        layout = Layout(folder)
        return [folder / layout.config] if layout.places else []

    def annotations(self, folder: Path, split: str) -> list[Path]:
        layout = Layout(folder)
        places = layout.places.get(split, [])
        images = (name for name in _images(layout, split) if isinstance(name, str))
        labels = (label_file(folder, name) for name in images)
        names = {layout.config, *places, *labels, *_orphans(layout, split)}
        return sorted(folder / name for name in names if is_file(folder, name))

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        layout = Layout(folder)
        return parts(_records(folder, split, layout), layout.names)


def _records(folder: Path, split: str, layout: Layout) -> Iterator[Record]:
    if split == next(iter(layout.places), None):
        yield from layout.problems
    if not layout.names:  # that is one of the problems; each box would be of an unknown class
        return
    names = (name for name in _images(layout, split) if isinstance(name, str))
    labelled = any(is_file(folder, label_file(folder, name)) for name in names)
    image_id, taken = 0, Taken()
    for name in _images(layout, split):
        if isinstance(name, Problem):
            yield name
        else:
            image_id += 1
            yield from taken.twice(label_file(folder, name), name)
            yield from _image(folder, name, image_id, labelled)
    if image_id and not labelled:
        text = "no image has a label file: that of images/train/a.jpg is labels/train/a.txt"
        yield Problem("no-labels", "warning", split, text)
    for label in _orphans(layout, split):
        yield from orphan(folder, label)


def _images(layout: Layout, split: str) -> Iterator[str | Problem]:
    """Names relative to the dataset's folder, and what is wrong with places."""
    folder = layout.folder
    for place in layout.places.get(split, []):
        try:
            if inside(folder, place).is_dir():
                yield from files_below(folder, place, IMAGE_SUFFIXES)
            else:
                for _, text in lines(folder, place):
                    yield layout.paths.listed(place, text)
        except Fault as fault:
            yield fault.at(place)


def _orphans(layout: Layout, split: str) -> Iterator[str]:
    """Of folders; what a list does not name is left out on purpose."""
    for place in layout.places.get(split, []):
        with contextlib.suppress(Fault):  # told with the images
            if inside(layout.folder, place).is_dir():
                yield from orphans(layout.folder, place)


def _image(folder: Path, name: str, image_id: int, labelled: bool) -> Iterator[Record]:
    label, size = label_file(folder, name), (0, 0)
    yield from unsupported(name)
    try:
        size = upright_size(inside(folder, name))
    except Fault as fault:
        if fault.code != "missing-file":  # `ingest` says so of every format
            yield fault.at(name)
            yield Refused(count(folder, label), images=1)
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
