"""COCO detection JSON, read tolerantly: one broken record never hides another.

Reference: the "Object Detection" section of the COCO data format.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frontier.data.formats import (
    BoxRecord,
    ImageRecord,
    Parsed,
    Problem,
    Severity,
    read_annotations,
)

INT64_MAX = 2**63 - 1


def read(path: Path) -> Parsed:
    """Read one annotation file.

    Raises:
        DataError: it is not JSON at all.
    """
    return parse(read_annotations(path), path.name)


def parse(content: Any, name: str) -> Parsed:
    """Sort the records of one file into sound ones and faults; `name` is used in messages."""
    return _Reader(name).read(content)


class _Reader:
    def __init__(self, name: str) -> None:
        self.name, self.parsed = name, Parsed()
        # records that are named by others but were themselves refused
        self.known_images: set[int] = set()

    def read(self, content: Any) -> Parsed:
        if not isinstance(content, dict):
            self._fault("wrong-type", "top level", "must be an object with images, annotations")
            return self.parsed
        for where, record in self._records(content, "categories"):
            self._category(where, record)
        for where, record in self._records(content, "images"):
            self._image(where, record)
        self._annotations(content)
        return self.parsed

    def _fault(self, code: str, where: str, text: str, severity: Severity = "critical") -> None:
        self.parsed.problems.append(Problem(code, severity, f"{self.name} {where}", text))

    def _records(self, content: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        records = content.get(key)
        if records is None:
            self._fault("missing-field", "top level", f"has no {key!r} list")
        elif not isinstance(records, list):
            self._fault("wrong-type", key, f"must be a list, found {_show(records)}")
        else:
            for i, record in enumerate(records):
                if isinstance(record, dict):
                    yield f"{key}[{i}]", record
                else:
                    self._fault("wrong-type", f"{key}[{i}]", f"must be an object: {_show(record)}")

    def _integer(self, where: str, record: dict[str, Any], key: str) -> int | None:
        if key not in record:
            self._fault("missing-field", where, f"has no {key!r}")
            return None
        value = record[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
            self._fault("wrong-type", where, f"{key!r} must be an integer, found {_show(value)}")
            return None
        return value

    def _text(self, where: str, record: dict[str, Any], key: str) -> str | None:
        value = record.get(key)
        if isinstance(value, str) and value:
            return value
        if key not in record:
            self._fault("missing-field", where, f"has no {key!r}")
        else:
            self._fault("wrong-type", where, f"{key!r} must be a text, found {_show(value)}")
        return None

    def _category(self, where: str, record: dict[str, Any]) -> None:
        category_id, name = self._integer(where, record, "id"), self._text(where, record, "name")
        if category_id is None or name is None:
            return
        if category_id in self.parsed.classes:
            self._fault("duplicate-id", where, f"category id {category_id} is used twice")
        elif name in self.parsed.classes.values():
            self._fault("duplicate-class", where, f"class name {name!r} is used twice")
        else:
            self.parsed.classes[category_id] = name

    def _image(self, where: str, record: dict[str, Any]) -> None:
        image_id = self._integer(where, record, "id")
        file_name = self._text(where, record, "file_name")
        width, height = self._side(where, record, "width"), self._side(where, record, "height")
        if image_id in self.known_images:
            self._fault("duplicate-id", where, f"image id {image_id} is used twice")
        elif image_id is not None:
            self.known_images.add(image_id)
            if file_name is not None:
                self.parsed.images.append(ImageRecord(image_id, file_name, width, height))

    def _side(self, where: str, record: dict[str, Any], key: str) -> int:
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
            return value
        code = "missing-field" if key not in record else "wrong-type"
        text = f"{key!r} should be pixels, found {_show(value)}; the decoded size is used"
        self._fault(code, where, text, "warning")
        return 0

    def _annotations(self, content: dict[str, Any]) -> None:
        usable = {image.image_id for image in self.parsed.images}
        seen: set[int] = set()
        for where, record in self._records(content, "annotations"):
            before = len(self.parsed.problems)
            self._annotation_id(where, record, seen)
            image_id = self._integer(where, record, "image_id")
            category_id = self._integer(where, record, "category_id")
            if image_id is not None and image_id not in self.known_images:
                self._fault("unknown-image", where, f"image_id {image_id} is no image of this file")
            if category_id is not None and category_id not in self.parsed.classes:
                known = ", ".join(map(str, sorted(self.parsed.classes)[:20])) or "none"
                text = f"category_id {category_id} is not in categories; known ids: {known}"
                self._fault("unknown-category", where, text)
            sides, is_crowd = self._bbox(where, record), self._crowd(where, record)
            sound = len(self.parsed.problems) == before
            if sound and image_id is not None and category_id is not None and image_id in usable:
                self.parsed.boxes.append(BoxRecord(image_id, category_id, *sides, is_crowd))

    def _annotation_id(self, where: str, record: dict[str, Any], seen: set[int]) -> None:
        annotation_id = self._integer(where, record, "id")
        if annotation_id in seen:
            self._fault("duplicate-id", where, f"annotation id {annotation_id} is used twice")
        elif annotation_id is not None:
            seen.add(annotation_id)

    def _bbox(self, where: str, record: dict[str, Any]) -> tuple[float, float, float, float]:
        value = record.get("bbox")
        if "bbox" not in record:
            self._fault("missing-field", where, "has no 'bbox'")
        elif not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
            text = f"'bbox' must be [x, y, width, height], found {_show(value)}"
            self._fault("wrong-type", where, text)
        elif not all(_is_finite(v) for v in value):
            self._fault("not-finite", where, f"'bbox' holds NaN or infinity: {_show(value)}")
        else:
            x, y, w, h = (float(v) for v in value)
            return x, y, w, h
        return 0.0, 0.0, 0.0, 0.0

    def _crowd(self, where: str, record: dict[str, Any]) -> bool:
        value = record.get("iscrowd", 0)
        if value not in (0, 1):
            self._fault("wrong-type", where, f"'iscrowd' must be 0 or 1, found {_show(value)}")
        return bool(value == 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value) and abs(float(value)) < 1e9
    except OverflowError:
        return False


def _show(value: Any) -> str:
    """A value in at most 60 characters, however large it is."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:60]
