"""Sound, plain VOC sheets, read as a tree: a third of the time that a stream of elements takes.

Plain is what `markup`, the stream over the same parser, reads to the same texts: small, UTF-8, no
DOCTYPE, comment or CDATA section. All else is None and left to the stream, which says what is
wrong; so nothing that could be expanded or fetched is ever parsed here.
"""

import os
import re
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from frontier.data.formats import FARTHEST
from frontier.data.formats.markup import DEEPEST

LARGEST = 1 << 20  # bytes; a tree takes some fifty times as many
HEAD = re.compile(rb"""(?:<\?xml version=["']1\.0["'](?: encoding=["']utf-8["'])?\s*\?>)?""", re.I)
SPECIAL = re.compile(rb"<[!?]")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
THING = re.compile(rb"<object[\s/>]")


class Thing(NamedTuple):
    """An object: its corners as stated, and its line, from 1."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    is_crowd: bool
    line: int


class Sheet(NamedTuple):
    filename: str
    width: str
    height: str
    things: list[Thing]


class Odd(Exception):
    """Something that the stream has to look at."""


def plain_sheet(path: Path) -> Sheet | None:
    """All of a sheet; None if any of it is out of the ordinary."""
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            return None
        content = file.readall()  # not read(LARGEST), which makes room for as much
    head = HEAD.match(content)
    assert head  # if an empty one
    if SPECIAL.search(content, head.end()):
        return None
    try:
        return _sheet(ElementTree.fromstring(content), _lines(content))
    except (Odd, ElementTree.ParseError, KeyError, ValueError):
        return None


def _sheet(root: Element, lines: list[int]) -> Sheet:
    things = root.findall("object")
    if root.tag != "annotation" or len(things) != len(lines) or _is_deep(root):
        raise Odd
    (size,) = root.findall("size")
    sides = _text(size, "width"), _text(size, "height")
    return Sheet(_text(root, "filename"), *sides, list(map(_thing, things, lines)))


def _thing(thing: Element, line: int) -> Thing:
    own = {element.tag: element for element in thing}
    box, name, difficult = own["bndbox"], own["name"], own.get("difficult")
    sides = {element.tag: element.text or "" for element in box}
    if len(own) < len(thing) or len(sides) < len(box) or any(map(len, box)) or len(name):
        raise Odd
    left, top, right, bottom = (float(sides[key]) for key in CORNERS)
    text = (name.text or "").strip()
    if not text or not _near(left, top, right, bottom):
        raise Odd
    is_crowd = difficult is not None and _flag(difficult)
    return Thing(text, left, top, right, bottom, is_crowd, line)


def _near(*corners: float) -> bool:
    return all(map(FARTHEST.__gt__, map(abs, corners)))  # false of NaN


def _flag(difficult: Element) -> bool:
    flags = {"0": False, "1": True}
    return flags["" if len(difficult) else (difficult.text or "").strip()]


def _text(parent: Element, tag: str) -> str:
    (element,) = parent.findall(tag)
    if len(element):
        raise Odd
    return (element.text or "").strip()


def _lines(content: bytes) -> list[int]:
    """Of every object, at any depth, in order."""
    found, line, last = [], 1, 0
    for match in THING.finditer(content):
        line += content.count(b"\n", last, last := match.start())
        found.append(line)
    return found


def _is_deep(root: Element) -> bool:
    level = [root]
    for _ in range(DEEPEST):
        level = [*chain.from_iterable(level)]
        if not level:
            return False
    return True
