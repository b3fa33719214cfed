"""Test images with truth and predictions, from the worst to the best, as data for the page."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frontier.boxes import iou

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MATCH_IOU = 0.5
JPEG_SIDE = 480  # longest side of an inlined example, pixels
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Scene:
    """One test image's truth and detections; boxes in original pixels, labels 0-based."""

    file_name: str
    path: Path
    size_hw: tuple[int, int]
    truth_xyxy: Floats
    truth_labels: Ints
    crowd: Flags
    boxes_xyxy: Floats
    scores: Floats
    labels: Ints


@dataclass(frozen=True)
class Match:
    """Of one scene: which detections are right, which count at all, which truth each one found.

    Attributes:
        right: `[N]` detection matches a truth box of its label.
        counts: `[N]` false for detections over a crowd region, which are neither right nor wrong.
        found: `[N]` index of the truth box, -1 where none.
    """

    right: Flags
    counts: Flags
    found: Ints


def match(scene: Scene) -> Match:
    """Greedy by score, one truth box at most once, IoU at least 0.5, labels equal."""
    overlap = iou(scene.boxes_xyxy, scene.truth_xyxy)
    overlap[scene.labels[:, None] != scene.truth_labels[None, :]] = 0
    found = np.full(len(scene.scores), -1, np.int64)
    free = ~scene.crowd
    for index in np.argsort(-scene.scores, kind="stable"):
        candidates = np.where(free, overlap[index], 0)
        if candidates.size and candidates.max() >= MATCH_IOU:
            found[index] = candidates.argmax()
            free[found[index]] = False
    over_crowd = (overlap[:, scene.crowd] >= MATCH_IOU).any(axis=1)
    return Match(found >= 0, (found >= 0) | ~over_crowd, found)


def best_threshold(scenes: Sequence[Scene], matches: Sequence[Match]) -> float:
    """The score at which F1 over all scenes is highest: what counts as a shown detection."""
    counts = np.concatenate([m.counts for m in matches])
    scores = np.concatenate([s.scores for s in scenes])[counts]
    right = np.concatenate([m.right for m in matches])[counts]
    if not right.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    truths = sum(int((~scene.crowd).sum()) for scene in scenes)
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + truths)
    return float(scores[order][f1.argmax()])


@dataclass(frozen=True)
class Box:
    """A drawn box; `state` is right, wrong, missed or ignored."""

    x: float
    y: float
    width: float
    height: float
    name: str
    state: str
    score: float | None = None


@dataclass(frozen=True)
class Example:
    """One image ready for the page; `f1` in 0..1 at the shown threshold."""

    file_name: str
    width: int
    height: int
    jpeg: str
    f1: float
    truth: list[Box]
    detections: list[Box]

    def amount(self, state: str) -> int:
        return sum(box.state == state for box in [*self.truth, *self.detections])


def score(scene: Scene, matched: Match, threshold: float) -> float:
    """F1 of one scene at a score threshold; 1 where there is nothing to find and nothing found."""
    shown = (scene.scores >= threshold) & matched.counts
    right = int((matched.right & shown).sum())
    total = int(shown.sum()) + int((~scene.crowd).sum())
    return 2 * right / total if total else 1.0


def pick(f1: Sequence[float], amount: int) -> list[int]:
    """`amount` indices spread evenly over the ranking from worst to best, ties in file order."""
    ranking = np.argsort(f1, kind="stable")
    places = np.unique(np.linspace(0, len(ranking) - 1, min(amount, len(ranking))).astype(int))
    return [int(ranking[place]) for place in places]


def _truth_boxes(scene: Scene, matched: Match, shown: Flags, names: Sequence[str]) -> Iterator[Box]:
    found = set(matched.found[shown & matched.right].tolist())
    for index, (corners, label) in enumerate(
        zip(scene.truth_xyxy, scene.truth_labels, strict=True)
    ):
        state = "ignored" if scene.crowd[index] else "right" if index in found else "missed"
        yield _box(corners, names[label], state)


def _detection_boxes(
    scene: Scene, matched: Match, shown: Flags, names: Sequence[str]
) -> Iterator[Box]:
    for index in np.flatnonzero(shown):
        counted = "right" if matched.right[index] else "wrong"
        state = counted if matched.counts[index] else "ignored"
        yield _box(
            scene.boxes_xyxy[index], names[scene.labels[index]], state, float(scene.scores[index])
        )


def _box(corners: Floats, name: str, state: str, confidence: float | None = None) -> Box:
    left, top, right, bottom = (round(float(value), 1) for value in corners)
    return Box(left, top, round(right - left, 1), round(bottom - top, 1), name, state, confidence)


def _jpeg(pixels_rgb: npt.NDArray[np.uint8]) -> str:
    import cv2

    ratio = min(1.0, JPEG_SIDE / max(pixels_rgb.shape[:2]))
    size = tuple(max(1, round(side * ratio)) for side in pixels_rgb.shape[1::-1])
    small = cv2.resize(pixels_rgb, size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(encoded.tobytes()).decode()


def examples(
    scenes: Sequence[Scene], names: Sequence[str], amount: int
) -> tuple[list[Example], float]:
    """The shown examples, worst first, and the score threshold that they are shown at."""
    from frontier.images import read_image

    matches = [match(scene) for scene in scenes]
    threshold = best_threshold(scenes, matches)
    f1 = [score(scene, found, threshold) for scene, found in zip(scenes, matches, strict=True)]
    chosen = []
    for index in pick(f1, amount):
        scene, matched = scenes[index], matches[index]
        shown = scene.scores >= threshold
        chosen.append(
            Example(
                scene.file_name,
                scene.size_hw[1],
                scene.size_hw[0],
                _jpeg(read_image(scene.path)),
                f1[index],
                list(_truth_boxes(scene, matched, shown, names)),
                list(_detection_boxes(scene, matched, shown, names)),
            )
        )
    return chosen, threshold


def test_scenes(catalog: Path, verdict: Path, detections: Path) -> list[Scene]:
    """The test split with the detections that an exported model made on it.

    Args:
        catalog, verdict: `data/ingest/catalog` and `data/validate/verdict.json`.
        detections: `detections.parquet` of `evaluate`.
    """
    import pandas as pd

    from frontier.data.catalog import Catalog

    split = Catalog.load(catalog, verdict).split("test")
    columns = ["image_id", "x1", "y1", "x2", "y2", "score", "label"]
    table = pd.read_parquet(detections, columns=columns)
    rows = dict(list(table.groupby("image_id", sort=False)))
    scenes = []
    for index, image_id in enumerate(split.image_ids.tolist()):
        truth_xyxy, truth_labels, crowd = split.targets(index)
        found = rows.get(image_id, table.iloc[:0])
        height, width = split.sizes_hw[index].tolist()
        scenes.append(
            Scene(
                split.file_names[index],
                split.image_path(index),
                (height, width),
                truth_xyxy,
                truth_labels,
                crowd,
                found[["x1", "y1", "x2", "y2"]].to_numpy(np.float32),
                found["score"].to_numpy(np.float32),
                found["label"].to_numpy(np.int64),
            )
        )
    return scenes
