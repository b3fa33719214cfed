"""Any ONNX detector, run by its description: images in, boxes, scores and its own classes out.

Legend: N boxes or grid cells, K classes of the model; (h, w) its input in pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import clip, resize
from frontier.errors import UsageError
from frontier.labeling.description import Description, Output
from frontier.runtime.session import OnnxSession

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

MIN_SCORE = 0.001
MOST_CANDIDATES = 3000
MOST_BOXES = 100
SUPPRESS_IOU = 0.65  # of YOLOX's own evaluation


class Found(NamedTuple):
    """Boxes `[N, 4]` in pixels of the image, scores `[N]`, the model's classes `[N]`."""

    boxes_xyxy: Floats
    scores: Floats
    classes: Ints


class Placed(NamedTuple):
    """An image in the model's input: `pixels [h, w, 3]`, and how boxes come back."""

    pixels: Bytes
    scale_xyxy: Floats
    shift_xyxy: Floats


class OnnxDetector:
    """A loaded model; `detector(image)` finds what is in an image."""

    def __init__(self, model: bytes, description: Description, threads: int) -> None:
        """Load what `checked_model` gave.

        Raises:
            UsageError: the runtime refuses it, or its input or outputs are not as described.
        """
        self.description = description
        self.num_classes = len(description.classes)
        try:
            self._session = OnnxSession(model, threads)
        except Exception as error:
            raise UsageError(f"{description.model}: ONNX Runtime refuses it: {error}") from None
        self._input, self._channels_last = self._take_input()

    def _take_input(self) -> tuple[str, bool]:
        name, (kind, shape) = next(iter(self._session.inputs.items()))
        height, width = self.description.image_size
        fits = [
            len(shape) == 4
            and all(isinstance(s, str | None) or s == w for s, w in zip(shape, wanted, strict=True))
            for wanted in ((1, 3, height, width), (1, height, width, 3))
        ]
        if kind not in ("tensor(float)", "tensor(uint8)") or not any(fits):
            raise UsageError(
                f"{self.description.model}: input {name} is {kind} {shape}; image_size says "
                f"[{height}, {width}], of one image and three channels"
            )
        return name, not fits[0]

    def __call__(self, image_HWC: Bytes) -> Found:
        """Detect in one RGB image of any size; best first."""
        placed = place(image_HWC, self.description)
        answer = self._session.run({self._input: self._as_input(placed.pixels)})
        boxes, scores = self._decoded([*answer.values()])
        suppressed = self.description.output.layout == "detections"
        found = best(boxes, scores) if suppressed else suppress(boxes, scores)
        inside = clip(
            (found.boxes_xyxy - placed.shift_xyxy) / placed.scale_xyxy, image_HWC.shape[:2]
        )
        solid = (inside[:, 2:] > inside[:, :2]).all(axis=1)
        return Found(inside[solid], found.scores[solid], found.classes[solid])

    def _as_input(self, pixels_HWC: Bytes) -> npt.NDArray[Any]:
        given = self.description
        kind = self._session.inputs[self._input][0]
        ordered = pixels_HWC[..., ::-1] if given.colour == "bgr" else pixels_HWC
        if kind == "tensor(uint8)":
            values: npt.NDArray[Any] = ordered
        else:
            scaled = ordered.astype(np.float32) / (255 if given.range == "0-1" else 1)
            values = (scaled - np.array(given.mean, np.float32)) / np.array(given.std, np.float32)
        return np.ascontiguousarray(
            values[None] if self._channels_last else values.transpose(2, 0, 1)[None]
        )

    def _decoded(self, answer: Sequence[npt.NDArray[Any]]) -> tuple[Floats, Floats]:
        """Boxes `[N, 4]` in pixels of the input, and scores `[N, K]`."""
        output, size_hw = self.description.output, self.description.image_size
        try:
            return LAYOUTS[output.layout](answer, output, size_hw, self.num_classes)
        except _Unfitting as error:
            shapes = ", ".join(str([*part.shape]) for part in answer)
            raise UsageError(
                f"{self.description.model}: outputs {shapes} are not of layout {output.layout} "
                f"with {self.num_classes} classes: {error}"
            ) from None


class _Unfitting(ValueError):
    """Shapes that a layout cannot have."""


def place(image_HWC: Bytes, given: Description) -> Placed:
    """Scale an RGB image into the input of a model, as its description says."""
    height, width = given.image_size
    rows, columns = image_HWC.shape[:2]
    if given.place == "stretch":
        scale = np.array([width / columns, height / rows] * 2, np.float32)
        return Placed(resize(image_HWC, (height, width)), scale, np.zeros(4, np.float32))
    ratio = min(height / rows, width / columns)
    # YOLOX cuts off, and its boxes come back by the exact ratio
    size = max(1, int(rows * ratio)), max(1, int(columns * ratio))
    pixels = np.full((height, width, 3), round(given.border), np.uint8)
    top, left = (
        ((height - size[0]) // 2, (width - size[1]) // 2) if given.place == "centre" else (0, 0)
    )
    pixels[top : top + size[0], left : left + size[1]] = resize(image_HWC, size)
    scale = np.array([size[1] / columns, size[0] / rows] * 2, np.float32)
    return Placed(pixels, scale, np.array([left, top] * 2, np.float32))


def _yolox(
    answer: Sequence[Any], output: Output, size_hw: tuple[int, int], num_classes: int
) -> tuple[Floats, Floats]:
    """Rows of centre offset, logarithm of the size, objectness, classes: cell by cell, row-major.

    Reference: YOLOX, Ge et al. 2021 (arXiv:2107.08430), section 2.1.
    """
    rows = _rows(answer[0], 5 + num_classes)
    cells = []
    for stride in output.strides or ():
        y, x = np.mgrid[: size_hw[0] // stride, : size_hw[1] // stride]
        cells.append(np.stack([x, y, np.full_like(x, stride)], -1).reshape(-1, 3))
    grid = np.concatenate(cells).astype(np.float32)
    if len(grid) != len(rows):
        raise _Unfitting(f"strides {output.strides} make {len(grid)} cells, not {len(rows)}")
    centre = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
    half = np.exp(np.minimum(rows[:, 2:4], 20)) * grid[:, 2:] / 2
    scores = rows[:, 5:] * rows[:, 4:5]
    # as its own evaluation has it, a cell says one class, its best
    only = np.where(scores == scores.max(axis=1, keepdims=True), scores, 0)
    return np.concatenate([centre - half, centre + half], 1), only


def _boxes_and_scores(
    answer: Sequence[Any], output: Output, size_hw: tuple[int, int], num_classes: int
) -> tuple[Floats, Floats]:
    """Two outputs, or one of 4 + K columns, or with objectness of 5 + K."""
    if len(answer) == 1:
        whole = np.squeeze(answer[0])
        objectness = 5 + num_classes in whole.shape and 4 + num_classes not in whole.shape
        rows = _rows(whole, (5 if objectness else 4) + num_classes)
        boxes, scores = rows[:, :4], rows[:, -num_classes:]
        return _corners(boxes, output, size_hw), scores * rows[:, 4:5] if objectness else scores
    table = _boxes_of(answer)
    others = [part for part in answer if part is not table and num_classes in part.shape]
    if not others:
        raise _Unfitting(f"no output beside the boxes has {num_classes} columns")
    boxes, scores = _rows(table, 4), _rows(others[0], num_classes)
    if len(boxes) != len(scores):
        raise _Unfitting(f"{len(boxes)} boxes and {len(scores)} rows of scores")
    return _corners(boxes, output, size_hw), scores


def _detections(
    answer: Sequence[Any], output: Output, size_hw: tuple[int, int], num_classes: int
) -> tuple[Floats, Floats]:
    """One output of box, score and class, or three."""
    if len(answer) == 1:
        rows = _rows(answer[0], 6)
        boxes, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5]
    else:
        boxes = _rows(_boxes_of(answer), 4)
        flat = [part.reshape(-1) for part in answer if part.size == len(boxes)]
        whole = [np.issubdtype(part.dtype, np.integer) for part in flat]
        if len(flat) != 2 or sum(whole) != 1:
            raise _Unfitting("beside the boxes it needs float scores and integer classes")
        scores, classes = flat[whole.index(False)], flat[whole.index(True)]
    known = np.atleast_1d(np.isfinite(scores) & np.isin(classes, np.arange(num_classes)))
    spread = np.zeros((int(known.sum()), num_classes), np.float32)
    spread[np.arange(len(spread)), classes[known].astype(np.int64)] = scores[known]
    return _corners(boxes[known].astype(np.float32), output, size_hw), spread


LAYOUTS = {"yolox": _yolox, "decoded": _boxes_and_scores, "detections": _detections}


def _boxes_of(answer: Sequence[Any]) -> Any:
    found = [part for part in answer if part.ndim >= 2 and part.shape[-1] == 4]
    if not found:
        raise _Unfitting("no output has four columns")
    return found[0]


def _rows(part: Any, columns: int) -> Floats:
    """`[1, N, columns]`, `[1, columns, N]`, or without the first, as `[N, columns]`."""
    table = part.reshape(part.shape[-2:]) if part.ndim > 2 and part.size else part
    if table.ndim != 2 or columns not in table.shape:
        raise _Unfitting(f"a table of {columns} columns is needed")
    rows: Floats = (table if table.shape[1] == columns else table.T).astype(np.float32)
    return rows


def _corners(boxes: Floats, output: Output, size_hw: tuple[int, int]) -> Floats:
    """Boxes as described, as xyxy in pixels of the input."""
    if output.units == "normalised":
        boxes = boxes * np.array([size_hw[1], size_hw[0]] * 2, np.float32)
    if output.format == "xyxy":
        return boxes
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def best(boxes_xyxy: Floats, scores: Floats, most: int = MOST_BOXES) -> Found:
    """The best pairs of box and class; finite boxes above `MIN_SCORE`."""
    solid = np.isfinite(boxes_xyxy.sum(axis=1, dtype=np.float64, keepdims=True))
    box, label = np.nonzero((scores > MIN_SCORE) & solid)
    values = scores[box, label]
    order = np.argsort(-values, kind="stable")[:most]
    return Found(boxes_xyxy[box[order]], values[order], label[order].astype(np.int64))


def suppress(boxes_xyxy: Floats, scores: Floats) -> Found:
    """Class-wise non-maximum suppression of boxes `[N, 4]` with scores `[N, K]`."""
    some = best(boxes_xyxy, scores, MOST_CANDIDATES)
    if not len(some.scores):
        return some
    corners = some.boxes_xyxy.astype(np.float64)
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    chosen = cv2.dnn.NMSBoxesBatched(
        xywh.tolist(), some.scores.tolist(), some.classes.tolist(), MIN_SCORE, SUPPRESS_IOU
    )
    kept = np.asarray(chosen, np.int64).reshape(-1)[:MOST_BOXES]
    return Found(some.boxes_xyxy[kept], some.scores[kept], some.classes[kept])
