"""Files that nobody vouches for, read inside their folder and a piece at a time."""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from frontier.data.formats import (
    FARTHEST,
    BoxRecord,
    ImageRecord,
    Part,
    Problem,
    Severity,
    box_table,
    image_table,
)
from frontier.errors import UsageError
from frontier.files import safe_join


class Refused(NamedTuple):
    """So many records are left out; problems beside it say why."""

    boxes: int = 1
    images: int = 0


Record = ImageRecord | BoxRecord | Problem | Refused

PART_IMAGES = 4_000
PART_RECORDS = 50_000  # boxes and problems: some images have a million
LONGEST_LINE = 1 << 20  # bytes


class Fault(Exception):
    """Why a file or record cannot be used; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def at(self, where: str, severity: Severity = "critical") -> Problem:
        shown = where[:200].encode(errors="backslashreplace").decode()
        return Problem(self.code, severity, shown, str(self))


def parts(records: Iterable[Record], classes: Mapping[int, str]) -> Iterator[Part]:
    """Group records into parts; each has the classes that are known by then."""
    images: list[ImageRecord] = []
    boxes: list[BoxRecord] = []
    problems: list[Problem] = []
    refused = Refused(0)
    for record in records:
        if isinstance(record, BoxRecord):
            boxes.append(record)
        elif isinstance(record, ImageRecord):
            images.append(record)
        elif isinstance(record, Refused):
            refused = Refused(refused.boxes + record.boxes, refused.images + record.images)
        else:
            problems.append(record)
        if len(images) == PART_IMAGES or len(boxes) + len(problems) == PART_RECORDS:
            yield _part(classes, images, boxes, problems, refused)
            images, boxes, problems, refused = [], [], [], Refused(0)
    yield _part(classes, images, boxes, problems, refused)


def _part(
    classes: Mapping[int, str],
    images: list[ImageRecord],
    boxes: list[BoxRecord],
    problems: list[Problem],
    refused: Refused,
) -> Part:
    return Part(
        dict(classes),
        image_table(images),
        box_table(boxes),
        problems,
        refused_images=refused.images,
        refused_boxes=refused.boxes,
    )


def inside(root: Path, name: str) -> Path:
    """`root / name`, if that is something inside `root`.

    Raises:
        Fault: unsafe-path, not-text, missing-file.
    """
    return _found(root, name)[0]


def _found(root: Path, name: str) -> tuple[Path, os.stat_result]:
    try:
        name.encode()
        path = safe_join(root, name)
        return path, path.stat()
    except UnicodeEncodeError:
        raise Fault("not-text", f"{name[:200]!r}: the file's name is not UTF-8") from None
    except UsageError as error:
        raise Fault("unsafe-path", str(error)) from None
    except OSError as error:
        raise Fault("missing-file", f"{name[:200]!r}: {error.strerror}") from None


def roots(folder: Path) -> list[PurePosixPath]:
    """How names of files in a folder may begin that are spelt out from `/`; the last is real."""
    return [PurePosixPath(path) for path in (folder.absolute(), folder.resolve())]


def within(known: list[PurePosixPath], name: str) -> str:
    """A name that is spelt out, relative to the folder with these `roots` if it lies there."""
    if not name.startswith("/"):
        return name
    path = PurePosixPath(name)
    spelt = [path]
    with contextlib.suppress(OSError, ValueError):  # too long, or with a NUL: refused later
        # through links, but not through the file's own: its name is what labels go by
        spelt.append(PurePosixPath(os.path.realpath(path.parent), path.name))
    inner = (p.relative_to(root) for p in spelt for root in known if p.is_relative_to(root))
    return str(next(inner, name))


def regular_file(root: Path, name: str) -> Path:
    """`root / name`, if that is a file inside `root`, no pipe and no device.

    Raises:
        Fault: of `inside`; missing-file.
    """
    path, facts = _found(root, name)
    if not stat.S_ISREG(facts.st_mode):
        raise Fault("missing-file", f"{name[:200]!r} is no regular file")
    return path


def is_file(root: Path, name: str) -> bool:
    """Is there such a file inside `root`."""
    with contextlib.suppress(Fault):
        regular_file(root, name)
        return True
    return False


def files_below(
    root: Path, place: str, suffixes: tuple[str, ...], deep: bool = True
) -> Iterator[str | Problem]:
    """Files in a folder whose names end so, in either case, relative to `root`, sorted; and
    folders that cannot be entered, or are not because they are links.

    Args:
        deep: those in folders below it too.
    """
    errors: list[OSError] = []
    for parent, folders, files in os.walk(root / place, onerror=errors.append):
        below = PurePosixPath(Path(parent).relative_to(root))
        every = sorted([*files, *folders])  # a folder that is named as a file is told as such
        folders[:] = sorted(folders) if deep else []
        for name in every:
            if name.lower().endswith(suffixes):
                yield str(below / name)
        for name in folders:
            if Path(parent, name).is_symlink():
                text = "a folder behind a link is not entered; put the folder itself there"
                yield Fault("unsafe-path", text).at(str(below / name))
    for error in errors:
        where = str(PurePosixPath(error.filename).relative_to(root))
        yield Fault("missing-file", f"cannot be entered: {error.strerror}").at(where)


def lines(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Raises:
        Fault: of `regular_file`; too-large, not-text, once the lines before were given.
    """
    with regular_file(root, name).open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            if text := _decoded(line, number).strip():
                yield number, text


def _decoded(line: bytes, number: int) -> str:
    if len(line) > LONGEST_LINE:
        raise Fault("too-large", f"line {number} is longer than {LONGEST_LINE} bytes")
    if b"\0" in line:
        raise Fault("not-text", f"line {number} holds a NUL byte; save the file as UTF-8 text")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise Fault("not-text", f"line {number} is not UTF-8; save the file as UTF-8") from None


def number(text: str, what: str) -> float:
    """A finite number; `what` it is, for messages.

    Raises:
        Fault: wrong-type, not-finite.
    """
    try:
        value = float(text)
    except ValueError:
        raise Fault("wrong-type", f"{what} must be a number, found {text[:40]!r}") from None
    if not abs(value) < FARTHEST:
        raise Fault("not-finite", f"{what} must be finite, found {text[:40]!r}")
    return value
