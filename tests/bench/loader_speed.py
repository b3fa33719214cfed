"""Samples a second of the loader with augmentation, beside a plain one: `make bench-loader`.

The peer does what datasets on torchvision or albumentations do, image by image: decode the file
with OpenCV, letterbox, RandomAffine (linear) with boxes by their corners, HSV jitter, flip, stack;
in two threads, as ours, and in two worker processes of torch's `DataLoader`. Ours warps by cubic,
at three times the cost, so a third peer does too. All take turns on the same two cores, so that a
drift of the machine meets all alike.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from photos import coco_folder
from plain_loader import PlainDataset, plain_collate
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from frontier.boxes import Letterbox, xywh_to_xyxy
from frontier.data.generated import synthetic
from frontier.data.loading import storing
from frontier.data.loading.loader import batches
from frontier.data.loading.packing import PackedSplit, StoredImages, shard_paths, stack_targets
from frontier.data.loading.shards import ShardedPixels
from frontier.images import read_image
from frontier.params import Augment, load_params

ROOT = Path(__file__).parents[2]
CORES, BATCH = 2, 16
STEPS = 8  # batches of each loader in a block
PEERS = ("peer, 2 processes", "peer, 2 threads")

Loader = Callable[[int], Iterator[Any]]  # its batches of a block


class Photos(NamedTuple):
    """A COCO split: image files, boxes `[n, 4]` (xyxy) and labels `[n]` of each."""

    paths: list[str]
    boxes_xyxy: list[np.ndarray]
    labels: list[np.ndarray]


def photos_of(folder: Path) -> Photos:
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    label = {c["id"]: i for i, c in enumerate(content["categories"])}
    own: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for box in content["annotations"]:
        own[box["image_id"]].append((box["bbox"], label[box["category_id"]]))
    return Photos(
        [str(folder / "images" / image["file_name"]) for image in content["images"]],
        [xywh_to_xyxy([bbox for bbox, _ in boxes]) for boxes in own.values()],
        [np.array([k for _, k in boxes], np.int64) for boxes in own.values()],
    )


def packed(photos: Photos, side: int, folder: Path) -> dict[str, PackedSplit]:
    """The photos in both stores."""
    count = len(photos.paths)
    array, per_shard = folder / "train.npy", storing.images_per_shard(side)
    np.lib.format.open_memmap(array, "w+", np.uint8, (count, side, side, 3)).flush()
    for portion in storing.portions(photos.paths, side, array, None):
        storing.write_rows(portion)
    for portion in storing.portions(photos.paths, side, folder / "train", per_shard):
        storing.write_shard(portion)
    sizes = np.array([read_image(Path(path)).shape[:2] for path in photos.paths])
    parts = [
        (Letterbox(size, side).to_square(boxes), labels, np.zeros(len(labels)))
        for size, boxes, labels in zip(sizes, photos.boxes_xyxy, photos.labels, strict=True)
    ]
    pixels = {
        "array": np.load(array, mmap_mode="r"),
        "shards": ShardedPixels(shard_paths(folder, "train"), per_shard, count, side),
    }
    rows = np.arange(count)
    return {
        name: PackedSplit(
            StoredImages(stored, rows), 1000, rows, sizes, *stack_targets(parts), f"made/{name}"
        )
        for name, stored in pixels.items()
    }


def ours(split: PackedSplit, side: int, augment: Augment) -> Loader:
    def block(number: int) -> Iterator[Any]:
        start = number * STEPS
        return batches(
            [split], batch_size=BATCH, image_size=lambda _: side, augment=augment, seed=0,
            workers=CORES, start=start, steps=start + STEPS,
        )  # fmt: skip

    return block


def peers(photos: Photos, side: int, augment: Augment) -> dict[str, Loader]:
    linear, cubic = (
        PlainDataset(photos, side, augment, flag) for flag in (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
    )
    indices = np.random.default_rng(0).integers(0, len(linear), STEPS * BATCH).tolist()
    chunks = [indices[i : i + BATCH] for i in range(0, len(indices), BATCH)]
    processes = DataLoader(
        linear, batch_sampler=chunks, num_workers=CORES, persistent_workers=True,
        collate_fn=plain_collate,
    )  # fmt: skip

    def threads(dataset: PlainDataset) -> Iterator[Any]:
        with ThreadPoolExecutor(CORES) as pool:
            yield from pool.map(lambda chunk: plain_collate([dataset[i] for i in chunk]), chunks)

    loaders = lambda _: iter(processes), lambda _: threads(linear), lambda _: threads(cubic)
    return dict(zip((*PEERS, "peer, 2 threads, cubic"), loaders, strict=True))


def measure(loaders: dict[str, Loader], blocks: int) -> dict[str, np.ndarray]:
    """Samples a second of each loader in each block."""
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(-1, blocks):  # the first one warms up
        for name, loader in loaders.items():
            start = time.perf_counter()
            count = sum(1 for _ in loader(max(number, 0)))
            if number >= 0:
                rates[name].append(count * BATCH / (time.perf_counter() - start))
    return {name: np.array(values) for name, values in rates.items()}


def show(side: int, rates: dict[str, np.ndarray]) -> Table:
    table = Table("loader", "samples/s", "of the faster peer's", title=f"{side} px, {CORES} cores")
    peer = max((rates[name] for name in PEERS), key=np.median)
    for name, values in rates.items():
        ratio = values / peer
        draws = np.random.default_rng(0).choice(ratio, (2000, len(ratio)))
        low, high = np.percentile(np.median(draws, 1), [2.5, 97.5])
        middle = f"{np.median(ratio):.2f} [{low:.2f}, {high:.2f}]"
        table.add_row(name, f"{np.median(values):.0f}", middle)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=coco_folder, help="a folder in COCO layout; default: generated"
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[320, 640], help="pixels")
    parser.add_argument("--blocks", type=int, default=12)
    given = parser.parse_args()

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    cv2.setNumThreads(1)
    params = load_params(ROOT / "params.yaml")
    augment = params.train.augment.model_copy(update={"scale": (0.8, 1.2)})
    with tempfile.TemporaryDirectory() as work:
        data = given.data or Path(work, "generated")
        if given.data is None:
            synthetic.write_coco(data, params.ingest.synthetic)
        photos = photos_of(data)
        for side in given.sides:
            folder = Path(work, str(side))
            folder.mkdir()
            stores = packed(photos, side, folder)
            loaders = {name: ours(split, side, augment) for name, split in stores.items()}
            loaders = peers(photos, side, augment) | loaders
            Console().print(show(side, measure(loaders, given.blocks)))


if __name__ == "__main__":
    main()
