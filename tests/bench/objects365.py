"""An annotation file in the layout and at the size of Objects365 v2, without its images.

Faults are planted at the rate of the real file and counted, so that a reader can be held to them:
`planted.json` beside the annotations says how many. Equal seeds give equal bytes.

Legend: B images of a block, N boxes of it, in the order of their images.
"""

import argparse
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frontier.boxes import paired_iou, xywh_to_xyxy

ANNOTATIONS = "zhiyuan_objv2_train.json"
IMAGES, CLASSES, PATCHES = 1_742_292, 365, 51
OLD_PATCHES = 16  # their files still carry the name of the first version
MEAN_BOXES, MOST_BOXES = 14.6, 600  # of an image
SIZES_WH = np.array([(769, 512), (512, 683), (683, 512), (768, 1024), (1024, 768), (1920, 1080)])
DUPLICATED, OUTSIDE = 0.035, 0.045  # shares of the images with such a box
OVERHANG_PX = (1.0, 20.0)
CROWDED = 0.01  # share of the boxes
LEAST_SIDE_PX = 4.0
LIKE_IOU = 0.85  # above it, boxes of a class might be taken for duplicates that nobody planted
BLOCK = 2_000  # images; annotations are ordered by block, and shuffled within
AHEAD = 6  # blocks in memory


class Planted(NamedTuple):
    """What a file holds: boxes include the duplicates; `faulty_images` have one fault or both."""

    images: int
    boxes: int
    duplicate_boxes: int
    outside_boxes: int
    faulty_images: int


class Block(NamedTuple):
    """Images numbered from `first`, and their boxes."""

    first: int
    sizes_wh: np.ndarray  # [B, 2]
    image: np.ndarray  # [N], row of `sizes_wh`
    boxes_xywh: np.ndarray  # [N, 4]
    category: np.ndarray  # [N], from 1
    crowd: np.ndarray  # [N]
    outside: np.ndarray  # [N]
    duplicate: np.ndarray  # [N]

    def rows(self, chosen: np.ndarray) -> "Block":
        return Block(self.first, self.sizes_wh, *(column[chosen] for column in self[2:]))


def write(folder: Path, scale: float, seed: int, processes: int = 2) -> Planted:
    """Write `scale` times Objects365 into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    count = round(IMAGES * scale)
    tasks = [(seed, first, min(BLOCK, count - first), count) for first in range(0, count, BLOCK)]
    totals = np.zeros(5, np.int64)
    with (folder / ANNOTATIONS).open("wb") as file, ProcessPoolExecutor(processes) as pool:
        file.write(b'{"images": [')
        for number, text in enumerate(in_order(pool, images_text, tasks)):
            file.write(b", " * bool(number) + text)
        file.write(b'], "annotations": [')
        for number, (text, planted) in enumerate(in_order(pool, annotations_text, tasks)):
            file.write(b", " * bool(number) + text)
            totals += planted
        classes = [{"id": i, "name": f"Class {i}"} for i in range(1, CLASSES + 1)]
        licences = [{"id": i, "name": "", "url": ""} for i in range(1, 7)]
        tail = json.dumps({"categories": classes, "licenses": licences})
        file.write(b"], " + tail[1:].encode())
    planted = Planted(*totals.tolist())
    (folder / "planted.json").write_text(json.dumps(planted._asdict(), indent=2) + "\n")
    return planted


def in_order(pool: ProcessPoolExecutor, function: Callable, tasks: list[tuple]) -> Iterator:
    """Results as `map` gives them, but only a few ahead of the reader."""
    waiting = deque()
    for task in tasks:
        waiting.append(pool.submit(function, *task))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def images_text(seed: int, first: int, count: int, total: int) -> bytes:
    """The records of a block's images, shuffled."""
    rng = np.random.default_rng([seed, first])
    sizes = draw_sizes(rng, count).tolist()
    ids = image_ids(np.arange(first, first + count)).tolist()
    span = int(image_ids(np.array(total))) + 1
    records = []
    for i, (width, height) in zip(ids, sizes, strict=True):
        patch = i * PATCHES // span
        version = "v1" if patch < OLD_PATCHES else "v2"
        records.append(
            f'{{"height": {height}, "id": {i}, "license": {1 + i % 6}, "width": {width}, '
            f'"file_name": "images/{version}/patch{patch}/objects365_{version}_{i:08d}.jpg", '
            f'"url": ""}}'
        )
    return ", ".join(records[k] for k in rng.permutation(count)).encode()


def annotations_text(seed: int, first: int, count: int, total: int) -> tuple[bytes, Planted]:
    """The records of a block's boxes, shuffled."""
    block = draw(np.random.default_rng([seed, first]), first, count)
    image_id = image_ids(first + block.image)
    # numbers that no other block can give: its k-th box of an image, at most twice MOST_BOXES
    start = np.searchsorted(block.image, np.arange(count))
    ids = image_id * 2 * MOST_BOXES + np.arange(len(image_id)) - start[block.image]
    order = np.random.default_rng([seed, first, 1]).permutation(len(ids))
    area = np.round(block.boxes_xywh[:, 2] * block.boxes_xywh[:, 3], 10)
    columns = [ids, block.crowd.astype(int), area, *block.boxes_xywh.T, image_id, block.category]
    lists = [column[order].tolist() for column in columns]
    text = ", ".join(
        [
            f'{{"id": {i}, "iscrowd": {crowd}, "isfake": 0, "area": {area}, "isreflected": 0, '
            f'"bbox": [{x}, {y}, {w}, {h}], "image_id": {image}, "category_id": {category}}}'
            for i, crowd, area, x, y, w, h, image, category in zip(*lists, strict=True)
        ]
    )
    faulty = len(np.unique(block.image[block.duplicate | block.outside]))
    faults = int(block.duplicate.sum()), int(block.outside.sum()), faulty
    return text.encode(), Planted(count, len(ids), *faults)


def image_ids(number: np.ndarray) -> np.ndarray:
    """With gaps, as in the real file."""
    return number + number // 5 + 1


def draw_sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    return SIZES_WH[rng.integers(len(SIZES_WH), size=count)]


def draw(rng: np.random.Generator, first: int, count: int) -> Block:
    """A block with its faults, boxes in the order of their images."""
    sizes = draw_sizes(rng, count)
    shape = 1.3  # most images have few boxes, some have hundreds
    more = rng.negative_binomial(shape, shape / (shape + MEAN_BOXES - 1), count)
    image = np.repeat(np.arange(count), np.minimum(1 + more, MOST_BOXES))
    total, own = len(image), sizes[image]
    extent = np.sqrt(own.prod(axis=1)) * rng.beta(0.7, 4.0, total)
    stretch = np.exp(rng.normal(0, 0.35, total))
    sides = np.stack([extent * stretch, extent / stretch], axis=1)
    sides = np.clip(sides, LEAST_SIDE_PX, 0.95 * own)
    corners = (own - sides) * rng.uniform(0, 0.999, (total, 2))
    weight = 1.0 / np.arange(2, CLASSES + 2)
    category = 1 + rng.choice(CLASSES, total, p=weight / weight.sum())
    crowd = rng.uniform(size=total) < CROWDED
    outside = chosen_boxes(rng, image, OUTSIDE)
    over = np.minimum(rng.uniform(*OVERHANG_PX, total), sides[:, 0] / 2)
    corners[outside, 0] = (own - sides)[outside, 0] + np.maximum(over, 1)[outside]
    boxes = np.round(np.concatenate([corners, sides], axis=1), 10)
    none = np.zeros(total, bool)
    block = Block(first, sizes, image, boxes, category, crowd, outside, none)
    return with_duplicates(rng, block.rows(~alike(block)))


def chosen_boxes(rng: np.random.Generator, image: np.ndarray, share: float) -> np.ndarray:
    """One box `[N]` of a share of the images: any of theirs, as `image` is sorted."""
    _, start, count = np.unique(image, return_index=True, return_counts=True)
    place = start + (rng.uniform(size=len(start)) * count).astype(int)
    chosen = np.zeros(len(image), bool)
    chosen[place[rng.uniform(size=len(start)) < share]] = True
    return chosen


def alike(block: Block) -> np.ndarray:
    """Boxes `[N]` that chance made like another of their class and image."""
    order = np.lexsort((block.category, block.image))
    corners = xywh_to_xyxy(block.boxes_xywh)[order]
    group = (block.image * (CLASSES + 1) + block.category)[order]
    repeats = np.zeros(len(order), bool)
    for lag in range(1, len(order)):
        near = np.flatnonzero(group[:-lag] == group[lag:])
        if not len(near):
            break
        like = paired_iou(corners[near], corners[near + lag]) > LIKE_IOU
        repeats[order[near[like] + lag]] = True
    return repeats


def with_duplicates(rng: np.random.Generator, block: Block) -> Block:
    """Some sound boxes a second time, under another id."""
    copied = chosen_boxes(rng, block.image, DUPLICATED) & ~block.outside & ~block.crowd
    total = len(copied)
    twice = np.sort(np.concatenate([np.arange(total), np.flatnonzero(copied)]))
    second = np.append(False, twice[1:] == twice[:-1])
    return block.rows(twice)._replace(duplicate=second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.01, help="1 is 1.74 million images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    planted = write(given.out, given.scale, given.seed)
    size = (given.out / ANNOTATIONS).stat().st_size
    print(json.dumps(planted._asdict()))
    print(f"{size / 1e9:.2f} GB in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
