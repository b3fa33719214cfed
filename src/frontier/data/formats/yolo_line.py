"""One line of a YOLO label file: class, centre and size, or class and the points of an outline."""

from typing import NamedTuple

from frontier.data.formats.reading import Fault, number

FARTHEST = 2.0  # a share beyond is a pixel; less is a box that leaves its image


class Line(NamedTuple):
    """Class, left, top, width and height, the latter four in shares of the image's sides."""

    category_id: int
    x: float
    y: float
    w: float
    h: float


def parse(text: str) -> Line:
    """Read one line of a label file.

    Raises:
        Fault: missing-field, wrong-type, not-finite, not-normalised.
    """
    words = text.split()
    if len(words) < 5:
        raise Fault("missing-field", f"a line has at least 5 numbers, found {len(words)}")
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        counts = "class, centre and size, or class and three points or more"
        raise Fault("wrong-type", f"{len(words)} numbers are neither {counts}")
    category = number(words[0], "the class")
    if category < 0 or not category.is_integer():
        raise Fault("wrong-type", f"the class must be a whole number, found {words[0][:40]!r}")
    shares = [number(word, "a coordinate") for word in words[1:]]
    farthest = max(shares, key=abs)
    if abs(farthest) > FARTHEST:
        text = f"{farthest:g} is no share of the image; divide x by its width, y by its height"
        raise Fault("not-normalised", text)
    return Line(int(category), *(_centred(*shares) if len(shares) == 4 else _outlined(shares)))


def _centred(cx: float, cy: float, w: float, h: float) -> tuple[float, float, float, float]:
    return cx - w / 2, cy - h / 2, w, h


def _outlined(points: list[float]) -> tuple[float, float, float, float]:
    left, top = min(points[::2]), min(points[1::2])
    return left, top, max(points[::2]) - left, max(points[1::2]) - top
