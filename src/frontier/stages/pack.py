"""Decode and letterbox every usable image once, into arrays that training reads as they lie."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from frontier.boxes import Letterbox
from frontier.data.catalog import Catalog, CatalogSplit
from frontier.data.packing import (
    PackedMeta,
    pixels_path,
    save_meta,
    stack_targets,
    targets_path,
)
from frontier.files import atomic_write
from frontier.images import read_image
from frontier.params import Pack, Run, Section
from frontier.stages import Inputs


class Params(Section):
    run: Run
    pack: Pack


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `main/` (train, holdout, val, test, unlabelled) and `pretrain/` (train)."""
    ingested, verdict = inputs.path("ingest"), inputs.path("validate/judged")
    side = params.pack.image_size
    catalog = Catalog.load(ingested / "catalog", verdict)
    splits = {name: catalog.split(name) for name in catalog.splits}
    train, held = hold_out(len(splits["train"]), params.pack.holdout, params.run.seed)
    chosen = {name: np.arange(len(split)) for name, split in splits.items()}
    chosen |= {"train": train, "holdout": held}
    splits["holdout"] = splits["train"]
    counts = pack(out / "main", catalog, splits, chosen, side)
    pretrain = Catalog.load(ingested / "pretrain")
    only = pretrain.split("train")
    everything = np.arange(len(only))
    pack(out / "pretrain", pretrain, {"train": only}, {"train": everything}, side)
    return {**counts, "pretrain": len(only)}


def hold_out(
    count: int, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the images that stay in train, and of a seeded `share` kept out; both sorted."""
    order = np.random.default_rng([seed, 1]).permutation(count)
    held = max(1, round(count * share))
    return np.sort(order[held:]), np.sort(order[:held])


def pack(
    folder: Path,
    catalog: Catalog,
    splits: dict[str, CatalogSplit],
    chosen: dict[str, npt.NDArray[np.int64]],
    side: int,
) -> dict[str, float]:
    """Write the chosen images of each split at `side` pixels; returns images per split."""
    folder.mkdir(parents=True)
    for name, indices in chosen.items():
        _pack_split(folder, name, splits[name], indices, side)
    counts = {name: len(indices) for name, indices in chosen.items()}
    save_meta(folder, PackedMeta(side, catalog.classes, counts))
    return {name: float(count) for name, count in counts.items()}


def _pack_split(
    folder: Path, name: str, split: CatalogSplit, indices: npt.NDArray[np.int64], side: int
) -> None:
    shape = (len(indices), side, side, 3)
    pixels = np.lib.format.open_memmap(pixels_path(folder, name), "w+", np.uint8, shape)
    cv2.setNumThreads(1)

    def place(row: int) -> None:
        image = read_image(split.image_path(int(indices[row])))
        pixels[row] = Letterbox((image.shape[0], image.shape[1]), side).image(image)

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(place, range(len(indices))):
            pass
    pixels.flush()
    parts = []
    for i in indices:
        height, width = split.sizes_hw[i]
        boxes, labels, ignore = split.targets(int(i))
        parts.append((Letterbox((height, width), side).to_square(boxes), labels, ignore))
    offsets, boxes_xyxy, labels, ignore = stack_targets(parts)
    arrays = {
        "image_ids": split.image_ids[indices],
        "sizes_hw": split.sizes_hw[indices],
        "offsets": offsets,
        "boxes_xyxy": boxes_xyxy,
        "labels": labels,
        "ignore": ignore,
    }
    atomic_write(targets_path(folder, name), save(arrays))
