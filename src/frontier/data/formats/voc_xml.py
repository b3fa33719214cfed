"""What one XML file of a Pascal VOC dataset says of its image."""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import basename, dirname, join

from frontier.data.formats import IMAGE_SUFFIXES, SUFFIXES, BoxRecord, ImageRecord, Problem
from frontier.data.formats.markup import elements
from frontier.data.formats.reading import Fault, Record, Refused, is_file, number, regular_file
from frontier.data.formats.voc_layout import Kit
from frontier.data.formats.voc_plain import Thing, plain_sheet

LARGEST_FILE = 16 << 20  # bytes
LARGEST_SIDE = 2**31 - 1  # px
ROOT, OBJECT = "annotation", "annotation/object"
CORNERS = ("bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
OBJECT_FIELDS = {f"{OBJECT}/{key}": key for key in ("name", "difficult", *CORNERS)}
IMAGE_FIELDS = {f"{ROOT}/{key}": key for key in ("filename", "size/width", "size/height")}
WANTED = {ROOT, OBJECT, *OBJECT_FIELDS, *IMAGE_FIELDS}

ZERO = re.compile(rb"<[xy]min>\s*0+(?:\.0*)?\s*<")

Fields = dict[str, list[str]]  # every text found, by field


class Vocabulary:
    """Numbers for class names, in order of appearance."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._ids: dict[str, int] = {}

    def number(self, name: str) -> int:
        category_id = self._ids.setdefault(name, len(self._ids))
        self.names[category_id] = name
        return category_id


class Annotation:
    """The XML file `source` of a kit and the image that it describes.

    Args:
        first: the number of the first pixel. From 1 a box includes the last pixel that it names,
            from 0 it ends there.
    """

    def __init__(
        self,
        folder: Path,
        kit: Kit,
        source: str,
        image_id: int,
        vocabulary: Vocabulary,
        first: int,
    ) -> None:
        self.folder, self.images, self.source, self.first = folder, kit.images, source, first
        self.image_id, self.vocabulary = image_id, vocabulary
        below = source.removeprefix(f"{kit.sheets}/").rpartition(".")[0]
        images = str(kit.images) if kit.images.parts else ""
        self.own = join(images, below)  # the image that is named alike, but its suffix
        self.places = dict.fromkeys([images, dirname(self.own)])

    def records(self) -> Iterator[Record]:
        """Boxes, image and faults; of a file that breaks, those of its sound part.

        Raises:
            Fault: the file cannot be opened at all.
        """
        path = regular_file(self.folder, self.source)
        if path.stat().st_size > LARGEST_FILE:
            raise Fault("too-large", f"{self.source[:200]!r} has more than {LARGEST_FILE} bytes")
        if sheet := plain_sheet(path):
            yield from map(self._box, sheet.things)
            texts = {"filename": sheet.filename, "size/width": sheet.width}
            yield from self._image(texts | {"size/height": sheet.height})
        else:
            yield from self._streamed(path)

    def _streamed(self, path: Path) -> Iterator[Record]:
        """The same, an element at a time."""
        image, owned = Fields(), Fields()
        key = ""
        try:
            for key, line, text in elements(path, WANTED):
                if key == OBJECT:
                    yield from self._object(owned, line)
                    owned = Fields()
                elif key in OBJECT_FIELDS:
                    owned.setdefault(OBJECT_FIELDS[key], []).append(text)
                elif key in IMAGE_FIELDS:
                    image.setdefault(IMAGE_FIELDS[key], []).append(text)
            if key != ROOT:
                raise Fault("wrong-type", f"the outermost element must be <{ROOT}>")
        except Fault as fault:
            yield fault.at(self.source)
        yield from self._image({key: texts[0] for key, texts in image.items()})

    def _object(self, fields: Fields, line: int) -> Iterator[Record]:
        faults: list[Fault] = [*_structure(fields)]
        corners = [_number(fields, key, faults) for key in CORNERS]
        if faults:
            yield from (fault.at(f"{self.source}:{line}") for fault in faults)
            yield Refused()
            return
        left, top, right, bottom = corners
        is_crowd = fields.get("difficult") == ["1"]
        yield self._box(Thing(fields["name"][0], left, top, right, bottom, is_crowd, line))

    def _box(self, thing: Thing) -> BoxRecord:
        name, left, top, right, bottom, is_crowd, line = thing
        first, category_id = self.first, self.vocabulary.number(name)
        sides = right - left + first, bottom - top + first
        start = left - first, top - first
        return BoxRecord(self.image_id, category_id, *start, *sides, is_crowd, line)

    def _image(self, fields: dict[str, str]) -> Iterator[Record]:
        faults: list[Fault] = []
        width, height = (_side(fields, key, faults) for key in ("size/width", "size/height"))
        yield from (fault.at(self.source, "warning") for fault in faults)
        given = fields.get("filename", "").replace("\\", "/")
        names = [
            join(place, given or f"{basename(self.own)}{SUFFIXES[0]}") for place in self.places
        ]
        name = next((name for name in names if is_file(self.folder, name)), "")
        for own in self._own_images() if not name else ():
            text = f"<filename> {given[:200]!r} is not in {self.images}; {own} is used"
            yield Problem("file-name", "warning", self.source, text)
            name = own
        yield ImageRecord(self.image_id, name or names[0], width, height, self.source, 1)

    def _own_images(self) -> list[str]:
        """The first image that is named as the XML file is, if there is one."""
        suffixes = [spelt for suffix in IMAGE_SUFFIXES for spelt in (suffix, suffix.upper())]
        names = (f"{self.own}{suffix}" for suffix in suffixes)
        return [name for name in names if is_file(self.folder, name)][:1]


def begins_at_zero(folder: Path, source: str) -> bool:
    """Does a box of an XML file begin at 0, where VOC's own begin at 1."""
    try:
        path = regular_file(folder, source)
        if path.stat().st_size > LARGEST_FILE or not ZERO.search(path.read_bytes()):
            return False
        keys = [f"{OBJECT}/{key}" for key in CORNERS[:2]]  # ZERO finds those of <part>s too
        return any(number(text, key) == 0 for key, _, text in elements(path, keys))
    except (Fault, OSError):
        return False


def _structure(fields: Fields) -> Iterator[Fault]:
    missing = [f"<{key}>" for key in ("name", *CORNERS) if key not in fields]
    if missing:
        yield Fault("missing-field", f"the object has no {', '.join(missing)}")
    twice = [f"<{key}>" for key, texts in fields.items() if len(texts) > 1]
    if twice:
        yield Fault("wrong-type", f"the object has more than one {', '.join(twice)}")
    if fields.get("name") == [""]:
        yield Fault("wrong-type", "<name> is empty")
    if fields.get("difficult", ["0"])[0] not in ("0", "1"):
        text = fields["difficult"][0]
        yield Fault("wrong-type", f"<difficult> must be 0 or 1, found {text[:40]!r}")


def _number(fields: Fields, key: str, faults: list[Fault]) -> float:
    """0 where it is missing or none."""
    try:
        return number(fields[key][0], f"<{key}>") if key in fields else 0.0
    except Fault as fault:
        faults.append(fault)
        return 0.0


def _side(fields: dict[str, str], key: str, faults: list[Fault]) -> int:
    """Pixels, 0 where it is missing or none."""
    text = fields.get(key, "")
    if len(text) <= 10 and text.isdecimal() and 0 < int(text) <= LARGEST_SIDE:
        return int(text)
    code = "wrong-size" if key in fields else "missing-size"
    message = f"<{key}> should be pixels, found {text[:40]!r}; the decoded size is used"
    faults.append(Fault(code, message))
    return 0
