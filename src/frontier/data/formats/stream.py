"""The records of a JSON file's top-level lists, one at a time, in bounded memory.

The standard library's scanner decodes each record from a window that slides over the file. The
streaming parsers at hand were tried first: ijson takes twice the memory of the file on deep
nesting and refuses NaN, infinity and a byte order mark, which annotation files do contain.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

WINDOW = 1 << 20  # characters read at a time
LARGEST = 1 << 24  # characters of one record; polygons of a crowd take some 10,000
NEAR = 16  # a fault this close to the window's end may be a token cut in two
BLANK = " \t\n\r"


class Element(NamedTuple):
    """`place` within the list called `key`; None where that holds no list, or an empty one."""

    key: str
    place: int | None
    line: int  # from 1
    value: Any


class BrokenFile(Exception):
    """The file cannot be read beyond `line`; what stood before was given."""

    def __init__(self, code: str, line: int, message: str) -> None:
        super().__init__(message)
        self.code, self.line, self.message = code, line, message


class Doubled(dict[str, Any]):
    """An object that states a key twice; an empty one stands for the file itself."""


def elements(path: Path) -> Iterator[Element]:
    """Every element of every top-level list, and every other top-level value, in file order.

    Raises:
        BrokenFile: not JSON, not text, no object at the top level, or a record above `LARGEST`.
    """
    with path.open("rb") as start:
        encoding = json.detect_encoding(start.read(4))
    # a stray byte spoils the one text that holds it, not the file
    with path.open(encoding=encoding, newline="", errors="surrogateescape") as file:
        yield from _Window(file).elements()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else Doubled(value)


def _integer(digits: str) -> int | float:
    """Python refuses integers of thousands of digits, and nothing here is that large."""
    return int(digits) if len(digits) < 400 else float("inf")


class _Window:
    def __init__(self, file: TextIO) -> None:
        self.file, self.text, self.at = file, "", 0
        self.line, self.counted = 1, 0  # line breaks are counted up to `counted`
        decoder: Any = json.JSONDecoder  # its scanner is no part of its declared face
        self.scan = decoder(object_pairs_hook=_object).scan_once
        self.careful = decoder(object_pairs_hook=_object, parse_int=_integer).scan_once

    def elements(self) -> Iterator[Element]:
        if self._next() != "{":
            raise self._broken("wrong-type", "the top level must be an object")
        self.at += 1
        if self._next() == "}":
            self.at += 1
        else:
            yield from self._members()
        if self._next():
            raise self._broken("broken-file", "there is more after the end of the object")

    def _members(self) -> Iterator[Element]:
        seen: set[str] = set()
        while True:
            key = self._value() if self._next() == '"' else None
            if not isinstance(key, str) or self._next() != ":":
                raise self._broken("broken-file", "expected a key and a colon")
            self.at += 1
            if key in seen:
                yield Element(key, None, self._here(), Doubled())
            seen.add(key)
            if self._next() == "[":
                yield from self._list(key)
            else:
                yield Element(key, None, self._here(), self._value())
            if self._separator("}"):
                return

    def _list(self, key: str) -> Iterator[Element]:
        self.at += 1
        if self._next() == "]":
            yield Element(key, None, self._here(), [])
            self.at += 1
            return
        index = 0
        while True:
            self._next()
            yield Element(key, index, self._here(), self._value())
            index += 1
            if self._separator("]"):
                return

    def _separator(self, end: str) -> bool:
        """Step over a comma, or over `end`, which is told by True."""
        found = self._next()
        if found != "," and found != end:
            raise self._broken("broken-file", f"expected ',' or {end!r}, found {found!r}")
        self.at += 1
        return found == end

    def _next(self) -> str:
        """The next character that is not blank, without taking it; none at the end."""
        while True:
            text, at = self.text, self.at
            while at < len(text) and text[at] in BLANK:
                at += 1
            self.at = at
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def _value(self) -> Any:
        scan = self.scan
        while True:
            try:
                value, end = scan(self.text, self.at)
                if end < len(self.text) or not self._more():
                    self.at = end
                    return value
            except StopIteration as stop:
                self._extend(stop.value, "expected a value")
            except json.JSONDecodeError as error:
                unended = error.msg.startswith("Unterminated string")
                self._extend(len(self.text) if unended else error.pos, error.msg)
            except RecursionError:
                raise self._broken("broken-file", "nested too deeply") from None
            except ValueError:
                scan = self.careful

    def _extend(self, fault_at: int, message: str) -> None:
        """Read on if the fault may be the window's end; else it is the file's."""
        if fault_at < len(self.text) - NEAR or not self._more():
            self.at = fault_at  # the line that is told
            raise self._broken("broken-file", f"not valid JSON: {message}") from None

    def _more(self) -> bool:
        kept = len(self.text) - self.at
        if kept > LARGEST:
            raise self._broken("too-large", f"one record is longer than {LARGEST:,} characters")
        try:
            piece = self.file.read(max(WINDOW, kept))
        except UnicodeDecodeError as error:
            raise self._broken("not-text", f"not {error.encoding} text: {error.reason}") from None
        if not piece:
            return False
        self._here()
        self.text = self.text[self.at :] + piece
        self.at = self.counted = 0
        return True

    def _here(self) -> int:
        """The line of the next character, from 1."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line

    def _broken(self, code: str, message: str) -> BrokenFile:
        return BrokenFile(code, self._here(), message)
