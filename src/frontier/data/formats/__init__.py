"""Annotation formats: each module turns its files into `Parsed` records and a list of faults."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from frontier.errors import DataError

Severity = Literal["critical", "warning"]


class Problem(NamedTuple):
    """A fault in a dataset: a stable code, where it is, and what to do, in words."""

    code: str
    severity: Severity
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} ({self.code})"


class ImageRecord(NamedTuple):
    """`width` and `height` as declared in pixels, 0 if not stated."""

    image_id: int
    file_name: str
    width: int
    height: int


class BoxRecord(NamedTuple):
    """COCO box: left, top, width, height in pixels."""

    image_id: int
    category_id: int
    x: float
    y: float
    w: float
    h: float
    is_crowd: bool


@dataclass
class Parsed:
    """What was sound in one annotation file, and everything that was not."""

    classes: dict[int, str] = field(default_factory=dict)
    images: list[ImageRecord] = field(default_factory=list)
    boxes: list[BoxRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_annotations(path: Path) -> Any:
    """Parse a JSON file of any encoding that JSON allows.

    Raises:
        DataError: it is not JSON; says where it breaks.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise DataError(f"{path.name}: nested too deeply to be an annotation file") from None
    except ValueError as error:
        raise DataError(f"{path.name}: not valid JSON: {error}") from None
