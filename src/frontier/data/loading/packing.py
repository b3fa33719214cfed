"""The training form: every image letterboxed once, read as a memory map or from shards.

Legend: N images, M boxes, S the stored side. The boxes of image i are rows
`offsets[i]:offsets[i + 1]`, in pixels of the S x S square.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from frontier.data.loading.shards import ShardedPixels
from frontier.files import atomic_write, read_json, write_json

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

ARRAYS = ("image_ids", "sizes_hw", "offsets", "boxes_xyxy", "labels", "ignore")


class PackedMeta(NamedTuple):
    """Side in pixels; classes [{category_id, name}] in label order; images per split.

    `images_per_shard` is None where each split is one array.
    """

    image_size: int
    classes: list[dict[str, Any]]
    splits: dict[str, int]
    images_per_shard: int | None


class StoredImages:
    """Images `[N, S, S, 3]` RGB: chosen rows of what is stored, read only when indexed."""

    def __init__(self, pixels: Bytes | ShardedPixels, rows: Ints) -> None:
        self.pixels, self.rows = pixels, rows
        self.shape = (len(rows), *pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Bytes:
        """`[S, S, 3]` for an integer (of an array a view), `[K, S, S, 3]` for a slice or array."""
        chosen: Bytes = self.pixels[self.rows[index]]
        return chosen


@dataclass(frozen=True)
class PackedSplit:
    """One split, or some of its images with other boxes."""

    images: StoredImages
    num_classes: int
    image_ids: Ints  # [N]
    sizes_hw: Ints  # [N, 2], of the original
    offsets: Ints  # [N + 1]
    boxes_xyxy: Floats  # [M, 4]
    labels: Ints  # [M], 0-based
    ignore: Bytes  # [M], 1 for crowds and for boxes nobody is sure of
    name: str  # dataset/split, to tell people where an image is

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """The stored side S in pixels."""
        return int(self.images.shape[1])

    def targets(self, i: int) -> tuple[Floats, Ints, Bytes]:
        """Boxes `[n, 4]`, labels `[n]` and ignore `[n]` of image i."""
        own = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.boxes_xyxy[own], self.labels[own], self.ignore[own]

    def subset(self, indices: npt.ArrayLike) -> Self:
        """These images in this order, with their own boxes."""
        chosen = np.asarray(indices, np.int64)
        parts = [self.targets(int(i)) for i in chosen]
        return self.with_targets(chosen, *stack_targets(parts))

    def with_targets(
        self,
        indices: npt.ArrayLike,
        offsets: npt.ArrayLike,
        boxes_xyxy: npt.ArrayLike,
        labels: npt.ArrayLike,
        ignore: npt.ArrayLike,
    ) -> Self:
        """The images at `indices` `[K]` with other boxes; `offsets` is `[K + 1]`."""
        chosen = np.asarray(indices, np.int64)
        return replace(
            self,
            images=StoredImages(self.images.pixels, self.images.rows[chosen]),
            image_ids=self.image_ids[chosen],
            sizes_hw=self.sizes_hw[chosen],
            offsets=np.asarray(offsets, np.int64),
            boxes_xyxy=np.asarray(boxes_xyxy, np.float32).reshape(-1, 4),
            labels=np.asarray(labels, np.int64),
            ignore=np.asarray(ignore, np.uint8),
        )

    def save_targets(self, path: Path) -> None:
        """Write everything but the pixels; `load_targets` of the same split reads it."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
        atomic_write(path, save({"rows": self.images.rows, **arrays}))

    def load_targets(self, path: Path) -> Self:
        """This split's pixels with the images and boxes that `save_targets` wrote."""
        arrays: dict[str, Any] = load_file(path)
        return replace(self, images=StoredImages(self.images.pixels, arrays.pop("rows")), **arrays)


def stack_targets(
    parts: Iterable[tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]],
) -> tuple[Ints, Floats, Ints, Bytes]:
    """Per-image (boxes, labels, ignore) to offsets, boxes `[M, 4]`, labels and ignore `[M]`."""
    boxes: list[Floats] = [np.zeros((0, 4), np.float32)]
    labels: list[Ints] = [np.zeros(0, np.int64)]
    ignore: list[Bytes] = [np.zeros(0, np.uint8)]
    for own_boxes, own_labels, own_ignore in parts:
        boxes.append(np.asarray(own_boxes, np.float32).reshape(-1, 4))
        labels.append(np.asarray(own_labels, np.int64))
        ignore.append(np.asarray(own_ignore, np.uint8))
    offsets = np.cumsum([len(own) for own in boxes], dtype=np.int64)
    return offsets, np.concatenate(boxes), np.concatenate(labels), np.concatenate(ignore)


def save_meta(folder: Path, meta: PackedMeta) -> None:
    write_json(folder / "meta.json", meta._asdict())


def load_meta(folder: Path) -> PackedMeta:
    return PackedMeta(**read_json(folder / "meta.json"))


def pixels_path(folder: Path, name: str) -> Path:
    """The array of a split."""
    return folder / f"{name}.npy"


def shard_paths(folder: Path, name: str) -> list[Path]:
    """The shards of a split, in order."""
    return sorted(folder.glob(f"{name}-*.arrow"))


def targets_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def load_split(folder: Path, name: str) -> PackedSplit:
    """Open a packed split; its pixels stay on disk until they are read."""
    arrays: dict[str, Any] = load_file(targets_path(folder, name))
    meta, count = load_meta(folder), len(arrays["image_ids"])
    images = StoredImages(_pixels(folder, name, meta, count), np.arange(count, dtype=np.int64))
    told = f"{folder.name}/{name}"
    return PackedSplit(images=images, num_classes=len(meta.classes), name=told, **arrays)


def _pixels(folder: Path, name: str, meta: PackedMeta, count: int) -> Bytes | ShardedPixels:
    if meta.images_per_shard is None:
        mapped: Bytes = np.load(pixels_path(folder, name), mmap_mode="r")
        return mapped
    paths = shard_paths(folder, name)
    return ShardedPixels(paths, meta.images_per_shard, count, meta.image_size)
