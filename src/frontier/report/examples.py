"""Test images with truth and detections, from the worst to the best, as data for the page."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import Letterbox
from frontier.data.catalog import CatalogSplit
from frontier.data.drawing import TILE_PX, Mark, jpeg, marked, sheet
from frontier.images import read_image
from frontier.matching import Judgement, Scene, judge, match, scenes
from frontier.metrics import Detections

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

JPEG_SIDE = 480  # longest side of an inlined example, pixels
STYLES = {"right": "solid", "ignored": "hatched"}  # of a drawn box; any error is dashed


@dataclass(frozen=True)
class Box:
    """A drawn box in original pixels; `state` is that of its `Judgement`."""

    x: float
    y: float
    width: float
    height: float
    name: str
    state: str
    score: float | None = None

    @property
    def style(self) -> str:
        """solid | dashed | hatched"""
        return STYLES.get(self.state, "dashed")


@dataclass(frozen=True)
class Example:
    """One image ready for the page.

    Attributes:
        width, height: of the original, pixels.
        pixels: RGB, its longer side at most `JPEG_SIDE`.
    """

    file_name: str
    width: int
    height: int
    pixels: Bytes = field(repr=False)
    judged: Judgement
    truth: list[Box]
    detections: list[Box]

    @property
    def jpeg(self) -> str:
        """The picture's file in base64."""
        return base64.b64encode(jpeg(self.pixels)).decode()

    @property
    def errors(self) -> list[str]:
        """What went wrong, in words, the kinds that occur."""
        kinds = ("missed", "misplaced", "mislabelled", "false")
        amounts = ((self.judged.amount(kind), kind) for kind in kinds)
        return [f"{amount} {kind}" for amount, kind in amounts if amount]


def examples(
    split: CatalogSplit,
    detections: Detections,
    names: Sequence[str],
    threshold: float,
    amount: int,
) -> list[Example]:
    """`amount` images of a split, the worst first.

    Args:
        names: of the classes, by label.
        threshold: the score from which detections are shown.
    """
    pictures = scenes(split, detections)
    judged = [judge(scene, match(scene), threshold) for scene in pictures]
    return [
        _example(split, index, pictures[index], judged[index], names)
        for index in pick(judged, amount)
    ]


def pick(judged: Sequence[Judgement], amount: int) -> list[int]:
    """`amount` indices spread evenly over the ranking from worst to best.

    The lowest F1 is worst; of equals the one with more errors, then with fewer boxes found, then
    the first.
    """

    def badness(index: int) -> tuple[float, int, int]:
        return judged[index].f1, -judged[index].wrong, judged[index].amount("right")

    ranking = sorted(range(len(judged)), key=badness)
    places = np.unique(np.linspace(0, len(ranking) - 1, min(amount, len(ranking))).astype(int))
    return [ranking[place] for place in places]


def example_sheet(shown: Sequence[Example]) -> Bytes:
    """The examples as one picture, three a row: each truth on the left, detections on the right."""
    return sheet([picture for example in shown for picture in _pair(example)], columns=6)


def _pair(example: Example) -> Iterator[Bytes]:
    letterbox = Letterbox((example.height, example.width), TILE_PX)
    picture = letterbox.image(example.pixels)
    captions = (example.file_name[-26:], f"F1 {example.judged.f1:.2f}")
    for boxes, caption in zip((example.truth, example.detections), captions, strict=True):
        corners = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes]
        placed = letterbox.to_square(np.array(corners, np.float32).reshape(-1, 4))
        marks = [
            Mark(box_xyxy.tolist(), box.name, box.style)
            for box_xyxy, box in zip(placed, boxes, strict=True)
        ]
        yield marked(picture, marks, caption)


def read_detections(path: Path) -> Detections:
    """`detections.parquet` of `evaluate`."""
    import pandas as pd

    sides = ["x1", "y1", "x2", "y2"]
    table = pd.read_parquet(path, columns=["image_id", *sides, "score", "label"])
    return Detections(
        table["image_id"].to_numpy(np.int64),
        table[sides].to_numpy(np.float32),
        table["score"].to_numpy(np.float32),
        table["label"].to_numpy(np.int64),
    )


def _example(
    split: CatalogSplit, index: int, scene: Scene, judged: Judgement, names: Sequence[str]
) -> Example:
    height, width = split.sizes_hw[index].tolist()
    truth = zip(scene.truth_xyxy, scene.truth_labels, judged.truth, strict=True)
    found = zip(scene.boxes_xyxy, scene.labels, judged.states, scene.scores, strict=True)
    return Example(
        split.file_names[index],
        width,
        height,
        _small(read_image(split.image_path(index))),
        judged,
        [_box(corners, names[label], str(state)) for corners, label, state in truth],
        [
            _box(corners, names[label], str(state), float(score))
            for corners, label, state, score in found
            if state != "hidden"
        ],
    )


def _box(corners: Floats, name: str, state: str, score: float | None = None) -> Box:
    left, top, right, bottom = (round(float(value), 1) for value in corners)
    return Box(left, top, round(right - left, 1), round(bottom - top, 1), name, state, score)


def _small(pixels_rgb: Bytes) -> Bytes:
    scale = min(1.0, JPEG_SIDE / max(pixels_rgb.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in pixels_rgb.shape[1::-1])
    return np.asarray(cv2.resize(pixels_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
