"""The embedded dataset: shapes on textured grounds, overlapping, of all sizes and colours.

A class has a typical colour, as things have, that most of its objects show; texture and
position say nothing, so the outline decides. One seed gives
identical bytes: each image draws from its own generator, seeded by (seed, split, index).

Legend: n points of an outline in a unit circle; images are `[H, W, 3]` RGB.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.data.generated import shapes, textures
from frontier.files import write_json
from frontier.params import Synthetic, SyntheticPretrain

Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator

SIZES_HW = ((144, 192), (144, 192), (160, 192), (144, 208), (192, 144), (176, 176), (136, 200))
OBJECTS = (2, 4)  # per image, both included
DIAMETER_PX = (24.0, 112.0)
TYPICAL = 0.9  # share of objects that show the colour of their class
MIN_VISIBLE = 0.45  # an object that shows less is part of the clutter and gets no label
JPEG_QUALITY = 90
GRAIN_PX = 640  # side of the noise that images take their grain from
GRAIN_SIGMA = 32.0  # its standard deviation in grey levels
PATCH_IMAGES = 400  # images per patch folder of the Objects365 layout
SHIFT = 4  # fractional bits of the drawn points


class Scene(NamedTuple):
    """An image with its boxes `[n, 4]` (left, top, width, height) and class indices `[n]`."""

    image_HWC: Pixels
    boxes_xywh: list[list[float]]
    labels: list[int]


class Style(NamedTuple):
    """What sets one generated dataset apart from another."""

    classes: Sequence[str]
    grounds: Sequence[Callable[[Rng, tuple[int, int]], Pixels]]
    distractors: int  # at most, per image


MAIN = Style(tuple(shapes.MAIN), (textures.noise, textures.stripes, textures.gradient), 2)
PRETRAIN = Style(tuple(shapes.ALL), (textures.patches, textures.checks, textures.noise), 5)


def write_coco(folder: Path, params: Synthetic) -> None:
    """Write images/, annotations/instances_<split>.json and unlabelled/ into `folder`."""
    categories = _categories(MAIN)
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{split}_{i:05d}.jpg" for i in range(getattr(params, split))]
        paths = [folder / "images" / name for name in names]
        scenes = _write_scenes(paths, (params.seed, number), MAIN)
        content = {"categories": categories, **_records(names, scenes)}
        write_json(folder / "annotations" / f"instances_{split}.json", content)
    names = [f"unlabelled_{i:05d}.jpg" for i in range(params.unlabelled)]
    (folder / "unlabelled").mkdir(exist_ok=True)
    _write_scenes([folder / "unlabelled" / name for name in names], (params.seed, 3), MAIN)


def write_objects365(folder: Path, params: SyntheticPretrain) -> None:
    """Write zhiyuan_objv2_train.json and images/v2/patch<n>/ into `folder`."""
    names = [
        f"images/v2/patch{i // PATCH_IMAGES}/objects365_v2_{i + 1:08d}.jpg"
        for i in range(params.train)
    ]
    scenes = _write_scenes([folder / name for name in names], (params.seed, 0), PRETRAIN)
    records = _records(names, scenes)
    records["images"] = [{**r, "license": 5, "url": ""} for r in records["images"]]
    records["annotations"] = [{**r, "isfake": 0, "isreflected": 0} for r in records["annotations"]]
    content = {"categories": _categories(PRETRAIN), "licenses": [], **records}
    write_json(folder / "zhiyuan_objv2_train.json", content)


def scene(seed: Sequence[int], style: Style) -> Scene:
    """Draw one image; equal seeds give equal pixels."""
    rng = np.random.default_rng(list(seed))
    height, width = SIZES_HW[rng.integers(len(SIZES_HW))]
    ground = style.grounds[int(rng.integers(len(style.grounds)))]
    image = textures.muted(textures.clutter(rng, ground(rng, (height, width))))
    owner = np.zeros((height, width), np.uint8)  # which object is on top, 0 = none
    drawn = []
    for number in range(1, rng.integers(OBJECTS[0], OBJECTS[1] + 1) + 1):
        label = int(rng.integers(len(style.classes)))
        drawn.append((label, *_draw_object(rng, image, owner, style.classes[label], number)))
    for _ in range(rng.integers(style.distractors + 1)):
        _draw_distractor(rng, image, owner)
    seen = cv2.calcHist([owner], [0], None, [256], [0, 256]).ravel()
    labelled = [
        (label, box)
        for number, (label, box, pixels) in enumerate(drawn, start=1)
        if pixels and seen[number] >= MIN_VISIBLE * pixels
    ]
    return Scene(_photograph(rng, image), [box for _, box in labelled], [k for k, _ in labelled])


def _draw_object(
    rng: Rng, image: Pixels, owner: Pixels, name: str, number: int
) -> tuple[list[float], int]:
    """Draw one shape; returns its box as if nothing lay on it, and its count of pixels."""
    height, width = owner.shape
    low, high = DIAMETER_PX
    radius = low * (high / low) ** float(rng.beta(2.0, 1.0)) / 2  # small ones are the fewer
    contours = shapes.posed(rng, shapes.ALL[name], radius)
    points = np.concatenate(contours)
    margin = 0.5 * radius  # how far a centre may be from the border: some shapes are cut off
    centre = rng.uniform((margin, margin), (width - margin, height - margin))
    x1, y1 = np.maximum(np.floor(points.min(0) + centre), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(points.max(0) + centre), (width, height)).astype(int)
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    offset = centre - (x1, y1) - 0.5  # pixel centres lie half a pixel inside the edges
    fixed = [np.round((part + offset) * (1 << SHIFT)).astype(np.int32) for part in contours]
    cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, SHIFT)
    hue = _hue(name) if rng.uniform() < TYPICAL else None
    textures.paint(rng, image[y1:y2, x1:x2], mask, hue)
    solid = mask > 127
    owner[y1:y2, x1:x2][solid] = number
    corners = np.clip([points.min(0) + centre, points.max(0) + centre], 0, (width, height))
    box = [*corners[0], *(corners[1] - corners[0])]
    return [round(float(v), 2) for v in box], int(np.count_nonzero(solid))


def _hue(name: str) -> float:
    """Degrees; neighbours in the list of shapes lie far apart on the circle."""
    return [*shapes.ALL].index(name) * 135.0 % 360


def _draw_distractor(rng: Rng, image: Pixels, owner: Pixels) -> None:
    """A rod, a wire or a letter: covers objects, is none."""
    height, width = owner.shape
    mask = np.zeros((height, width), np.uint8)
    ends = rng.integers((0, 0), (width, height), (4, 2)).astype(np.int32)
    kind = rng.integers(3)
    if kind == 0:
        cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, int(rng.integers(4, 10)), 16)
    elif kind == 1:
        curve = shapes.bezier(ends.astype(np.float64)).astype(np.int32)
        cv2.polylines(mask, [curve], False, 255, int(rng.integers(2, 6)), cv2.LINE_AA)
    else:
        letter = chr(ord("A") + int(rng.integers(26)))
        size, weight = float(rng.uniform(0.8, 2.2)), int(rng.integers(2, 7))
        cv2.putText(mask, letter, ends[0].tolist(), cv2.FONT_HERSHEY_SIMPLEX, size, 255, weight, 16)
    x, y, w, h = cv2.boundingRect(mask)
    if w:  # a letter may fall outside the image
        textures.paint(rng, image[y : y + h, x : x + w], mask[y : y + h, x : x + w])
    owner[mask > 127] = 0


def _photograph(rng: Rng, image: Pixels) -> Pixels:
    """Exposure, a little blur now and then, sensor noise."""
    height, width = image.shape[:2]
    if rng.uniform() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.0))), np.uint8)
    y, x = rng.integers(0, (GRAIN_PX - height, GRAIN_PX - width))
    grain = _grain()[y : y + height, x : x + width]
    gain, lift = float(rng.uniform(0.75, 1.2)), float(rng.uniform(-20, 20))
    weight = float(rng.uniform(1.0, 9.0)) / GRAIN_SIGMA
    mixed = cv2.addWeighted(image, gain, grain, weight, lift - 128 * weight)
    return np.asarray(mixed, np.uint8)


@functools.cache
def _grain() -> Pixels:
    """Sensor noise around 128, made once: drawing it anew costs more than all the rest."""
    size = (GRAIN_PX, GRAIN_PX, 3)
    noise = np.random.default_rng(0).standard_normal(size, np.float32)
    return np.asarray(np.clip(128 + GRAIN_SIGMA * noise, 0, 255), np.uint8)


class _Written(NamedTuple):
    size_hw: tuple[int, int]
    boxes_xywh: list[list[float]]
    labels: list[int]


def _write_scenes(paths: list[Path], seed: tuple[int, int], style: Style) -> list[_Written]:
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)

    def write(i: int) -> _Written:
        image, boxes, labels = scene((*seed, i), style)
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, content = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
        paths[i].write_bytes(content.tobytes())
        return _Written((image.shape[0], image.shape[1]), boxes, labels)

    cv2.setNumThreads(1)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, range(len(paths))))


def _categories(style: Style) -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in enumerate(style.classes, start=1)]


def _records(names: list[str], scenes: list[_Written]) -> dict[str, list[dict[str, Any]]]:
    """The `images` and `annotations` of a COCO file; ids count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, made) in enumerate(zip(names, scenes, strict=True), start=1):
        height, width = made.size_hw
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for box, label in zip(made.boxes_xywh, made.labels, strict=True):
            record = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label + 1}
            annotations.append(
                {**record, "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0}
            )
    return {"images": images, "annotations": annotations}
