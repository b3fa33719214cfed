"""Annotation formats: each module turns a folder of its kind into `Part`s, a stream of tables.

A format states what lies in its files and lists every fault of a single record; what needs the
whole dataset to be known (ids used twice, unknown images and classes) is found by `ingest`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pyarrow

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

Severity = Literal["critical", "warning"]

FARTHEST = 1e9  # pixels; what lies beyond is no coordinate
SPLITS = ("train", "val", "test")
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".dib",
)  # of image files, in lower case
UNSUPPORTED = (
    *(".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".mpo", ".ppm", ".pgm"),
    *(".tga", ".dng"),
)  # of images that are not read, but not passed over either
IMAGE_SUFFIXES = (*SUFFIXES, *UNSUPPORTED)


class Problem(NamedTuple):
    """A fault in a dataset: a stable code, where it is, and what to do, in words."""

    code: str
    severity: Severity
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} ({self.code})"


def unsupported(name: str) -> Iterator[Problem]:
    """The problem of an image file of a kind that is not read."""
    if name.lower().endswith(UNSUPPORTED):
        text = "images of this kind are not read; save it as JPEG or PNG"
        yield Problem("unsupported-image", "warning", ascii(name)[1:-1][:200], text)


class ImageRecord(NamedTuple):
    """`width` and `height` as declared in pixels, 0 if not stated; `line` of `source`, from 1."""

    image_id: int
    file_name: str
    width: int
    height: int
    source: str
    line: int


class BoxRecord(NamedTuple):
    """COCO box: left, top, width, height in pixels; `line` of its image's `source`, from 1.

    `source_id` is the id that the file gives it, None in formats without.
    """

    image_id: int
    category_id: int
    x: float
    y: float
    w: float
    h: float
    is_crowd: bool
    line: int
    source_id: int | None = None


IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("source", pa.string()),
        ("line", pa.int64()),
    ]
)
BOXES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("category_id", pa.int64()),
        *((name, pa.float64()) for name in "xywh"),
        ("is_crowd", pa.bool_()),
        ("line", pa.int64()),
        ("source_id", pa.int64()),
    ]
)


def image_table(records: Iterable[ImageRecord] = ()) -> Any:
    """Records as a table of `IMAGES`."""
    return _table(records, IMAGES)


def box_table(records: Iterable[BoxRecord] = ()) -> Any:
    """Records as a table of `BOXES`."""
    return _table(records, BOXES)


def _table(records: Iterable[tuple[Any, ...]], schema: Any) -> Any:
    columns = [*zip(*records, strict=True)] or [()] * len(schema)
    return pa.Table.from_arrays(list(map(pa.array, columns, schema.types)), schema=schema)


@dataclass
class Part:
    """Some consecutive records of a split: what was sound, and everything that was not.

    Attributes:
        classes: names by category id, of this part alone.
        images: a table of `IMAGES`.
        boxes: a table of `BOXES`; their images may come in another part.
        refused: ids of images left out for a fault of their own; their boxes go with them.
        refused_images, refused_boxes: how many records are left out for a fault of their own.
    """

    classes: dict[int, str] = field(default_factory=dict)
    images: Any = field(default_factory=image_table)
    boxes: Any = field(default_factory=box_table)
    problems: list[Problem] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    refused_images: int = 0
    refused_boxes: int = 0


class Format(Protocol):
    """One way of storing a labelled dataset in a folder.

    Attributes:
        name: as `ingest.format` spells it.
        layout: what such a folder holds, for messages.
        ids_given: do the files name categories by id; if not, the ids of a split's parts mean
            nothing beyond that split, and `ingest` numbers the class names of all splits.
    """

    name: str
    layout: str
    ids_given: bool

    def splits(self, folder: Path) -> list[str]:
        """Which of `SPLITS` the folder holds in this format; none: it is in another one.

        Cheap, and never raises for what the folder holds.
        """
        ...

    def index(self, folder: Path) -> list[Path]:
        """The files by which the dataset may be given instead of by its folder."""
        ...

    def annotations(self, folder: Path, split: str) -> list[Path]:
        """Every file that the labels of a split depend on, sorted."""
        ...

    def image_root(self, folder: Path) -> Path:
        """The folder that file names are relative to."""
        ...

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        """Parts of bounded size. A file that breaks in the middle is a critical problem, and what
        stood before the break is still given."""
        ...
