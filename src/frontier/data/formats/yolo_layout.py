"""Where the images of a YOLO dataset lie: what data.yaml says, else the usual folders."""

import contextlib
import re
import reprlib
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

from frontier.data.formats import Problem, Severity
from frontier.data.formats.reading import Fault, inside, regular_file
from frontier.data.formats.yolo_paths import Paths, posix
from frontier.errors import UsageError
from frontier.params import load_yaml

KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
UNSPLIT = ("images", "labels")
CONFIG = "data.yaml"
LARGEST_CONFIG = 64 << 10  # bytes; 2,500 classes
DEEPEST = 32  # brackets in brackets, which take the parser the square of their number
NUMBER = re.compile("[0-9]{1,9}|'[0-9]{1,9}'")
ENDLESS = "a number without end"
HOLDS_NAMES = re.compile(rb"^names\s*:", re.MULTILINE)


class Layout:
    """A dataset's YAML file and folders; what is wrong with the former is kept, never raised.

    Attributes:
        config: name of the YAML file.
        names: by class number; empty if they cannot be known.
        paths: how names in the YAML file and in lists are to be read.
        places: by split, folders and lists of images, relative to the dataset's folder.
        problems: of the YAML file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, _config(folder)
        self.problems: list[Problem] = []
        values = self._load()
        if "kpt_shape" in values:
            text = "'kpt_shape': labels with keypoints look like outlines; remove the keypoints"
            self._fault(Fault("wrong-type", text))
        self.names = self._names(values)
        self.paths = Paths(folder, *self._base(values))
        found = {split: self._places(values, split) for split in KEYS}
        self.places = {split: places for split, places in found.items() if places is not None}
        # COCO's folder may hold these two as well: only a data.yaml makes them such a dataset
        unsplit = all((folder / name).is_dir() for name in UNSPLIT) or _has_texts(folder / "images")
        if not self.places and self.names and unsplit:
            self.places = {"train": list(UNSPLIT[:1])}

    def _fault(self, fault: Fault, severity: Severity = "critical") -> None:
        self.problems.append(fault.at(self.config, severity))

    def _load(self) -> dict[str, Any]:
        try:
            path = regular_file(self.folder, self.config)
            if path.stat().st_size > LARGEST_CONFIG:
                raise Fault("too-large", f"has more than {LARGEST_CONFIG} bytes")
            if _depth(path.read_bytes()) > DEEPEST:
                raise Fault("broken-yaml", f"has more than {DEEPEST} brackets in brackets")
            return load_yaml(path)
        except Fault as fault:
            self._fault(fault)
        # the latter two: a date that is none, brackets without end
        except (UsageError, ValueError, RecursionError) as error:
            self._fault(Fault("broken-yaml", str(error)))
        return {}

    def _names(self, values: dict[str, Any]) -> dict[int, str]:
        given = values.get("names") or []
        if not given and values:
            self._fault(Fault("missing-field", "has no 'names', the list of class names"))
        if not isinstance(given, list | dict):
            self._fault(Fault("wrong-type", f"'names' must be a list, found {_shown(given)}"))
            return {}
        pairs = [*given.items()] if isinstance(given, dict) else [*enumerate(given)]
        wrong = [pair for pair in pairs if not _is_class(*pair)]
        for key, name in wrong:
            shown = f"names[{_shown(key)}] is {_shown(name)}"
            self._fault(Fault("wrong-type", f"{shown}; it must give a number a name"))
        if values.get("nc") not in (None, len(pairs)):
            text = f"'nc' is {_shown(values['nc'])}, but 'names' has {len(pairs)}; correct either"
            self._fault(Fault("class-conflict", text))
        return {} if wrong else {int(key): str(name) for key, name in pairs}

    def _base(self, values: dict[str, Any]) -> tuple[str, PurePosixPath]:
        """`path`, and what entries are relative to: it, unless it lies on another machine."""
        written = values.get("path") or ""
        if not isinstance(written, str):
            self._fault(Fault("wrong-type", "'path' must be a text"))
            return "", PurePosixPath()
        try:
            root = self.folder.resolve()
            place = (root / posix(written)).resolve()
            if place.is_relative_to(root) and place.is_dir():
                return written, PurePosixPath(place.relative_to(root))
            if place.is_dir():
                text = f"'path' leads to {place}, outside the dataset; remove it"
                self._fault(Fault("unsafe-path", text))
        except (OSError, ValueError):
            pass  # no path on any machine
        return written, PurePosixPath()

    def _places(self, values: dict[str, Any], split: str) -> list[str] | None:
        """None if there is no such split."""
        given = next((values[key] for key in KEYS[split] if values.get(key)), None)
        if given is None or not self.names:
            return self._usual(KEYS[split])
        entries = given if isinstance(given, list) else [given]
        if not all(isinstance(entry, str) for entry in entries):
            text = f"{split!r} must be a path or a list, found {_shown(given)}"
            self._fault(Fault("wrong-type", text))
            return []
        # exports name splits that were never made; without train there is no dataset
        if split != "train" and all(map(self.paths.is_nowhere, entries)):
            text = f"{split!r} is {_shown(given)}, where nothing is: there is no such split"
            self._fault(Fault("missing-split", text), "warning")
            return None
        return [self._place(entry) for entry in entries]

    def _place(self, entry: str) -> str:
        place, *others = self.paths.entry(entry)
        for other in others:
            with contextlib.suppress(Fault):
                inside(self.folder, other)
                text = f"{entry[:200]!r} leads out of the dataset; {other!r} is read instead"
                self._fault(Fault("moved-path", text), "warning")
                return other
        return place

    def _usual(self, keys: tuple[str, ...]) -> list[str] | None:
        pairs = [
            pair
            for key in keys
            for pair in ((f"images/{key}", f"labels/{key}"), (f"{key}/images", f"{key}/labels"))
        ]
        both = [
            images
            for images, labels in pairs
            if (self.folder / images).is_dir()
            and ((self.folder / labels).is_dir() or _has_texts(self.folder / images))
        ]
        return both[:1] or None


def _has_texts(folder: Path) -> bool:
    """Do labels lie beside the images."""
    return folder.is_dir() and next(folder.glob("*.txt"), None) is not None


def _depth(content: bytes) -> int:
    steps = dict.fromkeys(b"[{", 1) | dict.fromkeys(b"]}", -1)
    return max(accumulate(steps.get(byte, 0) for byte in content), default=0)


def _is_class(key: Any, name: Any) -> bool:
    is_name = type(name) in (str, int) and _shown(name) not in ("''", ENDLESS)
    return is_name and NUMBER.fullmatch(_shown(key)) is not None


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # of a hexadecimal number with thousands of digits
        return ENDLESS


def _config(folder: Path) -> str:
    """data.yaml, else the only other YAML file that has `names`."""
    files = [] if (folder / CONFIG).exists() else sorted(folder.glob("*.y*ml"))
    holding = [file.name for file in files if file.is_file() and _holds_names(file)]
    return holding[0] if len(holding) == 1 else CONFIG


def _holds_names(file: Path) -> bool:
    with file.open("rb") as content:
        return HOLDS_NAMES.search(content.read(LARGEST_CONFIG)) is not None
