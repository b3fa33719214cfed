"""The three lists of a COCO-like JSON file, read tolerantly: one broken record hides no other.

Sound batches are turned into columns at once; a batch with a fault is gone through record by
record, so that every fault is named.

Reference: the "Object Detection" section of the COCO data format.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from frontier.data.formats import (
    BOXES,
    FARTHEST,
    IMAGES,
    BoxRecord,
    ImageRecord,
    Part,
    Problem,
    Severity,
    box_table,
    image_table,
    pa,
)
from frontier.data.formats.stream import BrokenFile, Doubled, Element, elements
from frontier.data.formats.whereabouts import Place

LISTS = ("categories", "images", "annotations")
BATCH = 8192  # records turned into columns at once
INT64_MAX = 2**63 - 1
DIGITS = re.compile("0|[1-9][0-9]{0,18}")


class Records:
    """One annotation file; `name` is used in messages and recorded as the source."""

    def __init__(self, path: Path, name: str, place: Place = str) -> None:
        self.path, self.name, self.place = path, name, place
        self.problems: list[Problem] = []
        self.refused: list[int] = []
        self.classes: dict[int, str] = {}
        self._class_names: set[str] = set()

    def parts(self) -> Iterator[Part]:
        """The file's records in its own order; its faults beside them."""
        absent = set(LISTS)
        for batch in self._batches():
            key = batch[0].key
            absent.discard(key)
            if key in LISTS:
                yield self._part(key, batch)
        if not any(p.code == "broken-file" for p in self.problems):
            for key in sorted(absent):
                self._fault("missing-field", "top level", f"has no {key!r} list")
        yield Part(problems=self._drained())

    def _batches(self) -> Iterator[list[Element]]:
        batch: list[Element] = []
        try:
            for element in elements(self.path):
                if batch and (not _in_one_list(batch[0], element) or len(batch) == BATCH):
                    yield batch
                    batch = []
                batch.append(element)
        except BrokenFile as error:
            self._fault(error.code, f"line {error.line}", error.message)
        if batch:
            yield batch

    def _drained(self) -> list[Problem]:
        problems, self.problems = self.problems, []
        return problems

    def _part(self, key: str, batch: list[Element]) -> Part:
        if batch[0].place is None:
            self._no_list(key, batch[0])
            return Part(problems=self._drained())
        if key == "images":
            images = self._quick_images(batch) or image_table(self._each(batch, self._image))
            refused, self.refused = self.refused, []
            left_out = len(batch) - images.num_rows
            problems = self._drained()
            return Part(images=images, problems=problems, refused=refused, refused_images=left_out)
        if key == "annotations":
            read = self._box if _have_ids(batch) else self._nameless_box
            boxes = _quick_boxes(batch) or box_table(self._each(batch, read))
            refused = len(batch) - boxes.num_rows
            return Part(boxes=boxes, problems=self._drained(), refused_boxes=refused)
        classes = dict(self._each(batch, self._category))
        return Part(classes=classes, problems=self._drained())

    def _no_list(self, key: str, element: Element) -> None:
        if isinstance(element.value, Doubled):
            self._fault("duplicate-key", f"line {element.line}", f"{key!r} is stated twice")
        elif element.value != []:
            self._fault("wrong-type", key, f"must be a list, found {show(element.value)}")

    def _each(self, batch: list[Element], read: Callable[..., Any]) -> Iterator[Any]:
        """What `read` makes of each record, those with a critical fault left out."""
        for key, place, line, record in batch:
            where = f"{key}[{place}] (line {line})"
            if not isinstance(record, dict):
                self._fault("wrong-type", where, f"must be an object: {show(record)}")
                continue
            before = len(self.problems)
            if isinstance(record, Doubled):
                self._fault("duplicate-key", where, "states a key twice")
            made = read(where, line, record)
            if all(problem.severity == "warning" for problem in self.problems[before:]):
                yield made

    def _fault(self, code: str, where: str, text: str, severity: Severity = "critical") -> None:
        self.problems.append(Problem(code, severity, f"{self.name} {where}", text))

    def _integer(self, where: str, record: dict[str, Any], key: str) -> int:
        value = record.get(key)
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # beyond, neighbours would become one
        if isinstance(value, str) and DIGITS.fullmatch(value):
            value = int(value)  # "01" is refused: it would become 1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
            self._wrong(where, record, key, "an integer")
            return 0
        return value

    def _text(self, where: str, record: dict[str, Any], key: str) -> str:
        value = record.get(key)
        if isinstance(value, str) and value:
            if is_text(value):
                return value
            self._fault("not-text", where, f"{key!r} is not UTF-8: {ascii(value)[:60]}")
        else:
            self._wrong(where, record, key, "a text")
        return ""

    def _wrong(self, where: str, record: dict[str, Any], key: str, wanted: str) -> None:
        if key not in record:
            self._fault("missing-field", where, f"has no {key!r}")
        else:
            text = f"{key!r} must be {wanted}, found {show(record[key])}"
            self._fault("wrong-type", where, text)

    def _category(self, where: str, line: int, record: dict[str, Any]) -> tuple[int, str]:
        category_id, name = self._integer(where, record, "id"), self._text(where, record, "name")
        if category_id in self.classes:
            self._fault("duplicate-id", where, f"category id {category_id} is used twice")
        elif name in self._class_names:
            self._fault("duplicate-class", where, f"class name {name!r} is used twice")
        elif name:
            self.classes[category_id] = name
            self._class_names.add(name)
        return category_id, name

    def _image(self, where: str, line: int, record: dict[str, Any]) -> ImageRecord:
        image_id = self._integer(where, record, "id")
        named = len(self.problems)
        file_name = self.place(self._text(where, record, "file_name"))
        if len(self.problems) > named:
            self.refused.append(image_id)
        width, height = self._side(where, record, "width"), self._side(where, record, "height")
        return ImageRecord(image_id, file_name, width, height, self.name, line)

    def _side(self, where: str, record: dict[str, Any], key: str) -> int:
        value = record.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
            return value
        code = "missing-size" if key not in record else "wrong-size"
        text = f"{key!r} should be pixels, found {show(value)}; the decoded size is used"
        self._fault(code, where, text, "warning")
        return 0

    def _quick_images(self, batch: list[Element]) -> Any:
        """The batch as a table, None unless every record is sound."""
        columns = _columns(batch, {"id": int, "file_name": str, "width": int, "height": int})
        if columns is None or not all(columns["file_name"]):
            return None
        if not is_text("".join(columns["file_name"])):
            return None
        sizes = np.array([columns["width"], columns["height"]])
        if sizes.dtype != np.int64 or not ((sizes > 0) & (sizes < 2**31)).all():
            return None
        ids = _ids(columns["id"])
        names = [self.place(name) for name in columns["file_name"]]
        source = pa.repeat(self.name, len(batch))
        lines = [line for _, _, line, _ in batch]
        return ids and pa.table([*ids, names, *sizes, source, lines], schema=IMAGES)

    def _box(self, where: str, line: int, record: dict[str, Any]) -> BoxRecord:
        source_id = self._integer(where, record, "id")
        return self._nameless_box(where, line, record)._replace(source_id=source_id)

    def _nameless_box(self, where: str, line: int, record: dict[str, Any]) -> BoxRecord:
        image_id = self._integer(where, record, "image_id")
        category_id = self._integer(where, record, "category_id")
        sides, is_crowd = self._bbox(where, record), self._crowd(where, record)
        return BoxRecord(image_id, category_id, *sides, is_crowd, line)

    def _bbox(self, where: str, record: dict[str, Any]) -> tuple[float, float, float, float]:
        value = record.get("bbox")
        if "bbox" not in record:
            self._fault("missing-field", where, "has no 'bbox'")
        elif not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
            text = f"'bbox' must be [x, y, width, height], found {show(value)}"
            self._fault("wrong-type", where, text)
        elif not all(map(_is_finite, value)):
            self._fault("not-finite", where, f"'bbox' holds NaN or infinity: {show(value)}")
        else:
            x, y, w, h = (float(v) for v in value)
            return x, y, w, h
        return 0.0, 0.0, 0.0, 0.0

    def _crowd(self, where: str, record: dict[str, Any]) -> bool:
        value = record.get("iscrowd")
        if value not in (0, 1, None):
            self._fault("wrong-type", where, f"'iscrowd' must be 0 or 1, found {show(value)}")
        return bool(value == 1)


def _in_one_list(a: Element, b: Element) -> bool:
    return a.key == b.key and a.place is not None and b.place is not None


def _have_ids(batch: list[Element]) -> bool:
    """Has any record one? Some tools give boxes none; else one without is a fault."""
    return any(isinstance(record, dict) and "id" in record for _, _, _, record in batch)


def _quick_boxes(batch: list[Element]) -> Any:
    """The batch as a table, None unless every record is sound."""
    named = {"id": int} if _have_ids(batch) else {}
    columns = _columns(batch, {"image_id": int, "category_id": int, "bbox": list, **named})
    if columns is None or set(map(len, columns["bbox"])) != {4}:
        return None
    crowds = [record.get("iscrowd") for _, _, _, record in batch]
    if not set(map(type, crowds)) <= {int, bool, type(None)} or not set(crowds) <= {0, 1, None}:
        return None
    numbers = list(chain.from_iterable(columns["bbox"]))
    ids = _ids(*(columns[key] for key in ("image_id", "category_id", *named)))
    if ids is None or not set(map(type, numbers)) <= {int, float}:
        return None
    try:
        xywh = np.array(numbers, np.float64).reshape(-1, 4)
    except OverflowError:
        return None
    if not (np.abs(xywh) < FARTHEST).all():  # nor is NaN
        return None
    image_id, category_id, *own = ids
    source_id = own[0] if own else pa.nulls(len(batch), pa.int64())
    lines = [line for _, _, line, _ in batch]
    crowd = np.array(crowds, bool)
    return pa.table([image_id, category_id, *xywh.T, crowd, lines, source_id], schema=BOXES)


def _columns(batch: list[Element], kinds: dict[str, type]) -> dict[str, list[Any]] | None:
    """The fields of every record, None unless each is there and of its very type."""
    values = [record for _, _, _, record in batch]
    if set(map(type, values)) != {dict}:
        return None
    try:
        columns = {key: list(map(itemgetter(key), values)) for key in kinds}
    except KeyError:
        return None
    sound = all(set(map(type, columns[key])) == {kind} for key, kind in kinds.items())
    return columns if sound else None


def _ids(*columns: list[int]) -> list[Any] | None:
    """Columns of ids as arrays, None if one is negative or too large."""
    if any(min(column) < 0 or max(column) > INT64_MAX for column in columns):
        return None
    return [np.array(column, np.int64) for column in columns]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: int | float) -> bool:
    return abs(value) < FARTHEST  # nor is NaN


def is_text(value: str) -> bool:
    """Half of a surrogate pair is no text: JSON can state one, and a stray byte is read as one."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def show(value: Any) -> str:
    """A value in at most 60 characters, however large it is."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:60]
