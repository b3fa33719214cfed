"""Decode and letterbox every usable image once, into what training reads as it lies."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from frontier.boxes import Letterbox
from frontier.data.catalog import Catalog, CatalogSplit
from frontier.data.duplicates import split_groups
from frontier.data.loading.packing import (
    Bytes,
    Floats,
    Ints,
    PackedMeta,
    pixels_path,
    save_meta,
    targets_path,
)
from frontier.data.loading.storing import (
    Portion,
    images_per_shard,
    needs_shards,
    portions,
    write_rows,
    write_shard,
)
from frontier.data.workers import run as work
from frontier.files import atomic_write
from frontier.params import Pack, Run, Section, Workers
from frontier.stages import Inputs


class Params(Section):
    run: Run
    pack: Pack
    workers: Workers


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `main/` (train, holdout, val, test, unlabelled) and `pretrain/` (train, holdout)."""
    ingested, verdict = inputs.path("ingest"), inputs.path("validate/judged")
    catalog = Catalog.load(ingested / "catalog", verdict)
    splits = {name: catalog.split(name) for name in catalog.splits}
    train, held = hold_out(catalog.scenes("train"), params.pack.holdout, params.run.seed)
    chosen = {name: np.arange(len(split)) for name, split in splits.items()}
    chosen |= {"train": train, "holdout": held}
    splits["holdout"] = splits["train"]
    counts = pack(out / "main", catalog, splits, chosen, params)
    pretrain = Catalog.load(ingested / "pretrain", verdict / "pretrain")
    only = pretrain.split("train")
    train, held = hold_out(pretrain.scenes("train"), params.pack.holdout, params.run.seed)
    chosen = {"train": train, "holdout": held}
    pack(out / "pretrain", pretrain, dict.fromkeys(chosen, only), chosen, params)
    return {**counts, "pretrain": len(only)}


def hold_out(scene: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Indices of the images that stay in train, and of a seeded `share` kept out, by whole scenes.

    Args:
        scene: of each image, `[N]`.
    """
    _, group = np.unique(scene, return_inverse=True)
    name = split_groups(group, {"train": 1 - share, "held": share}, seed)
    return np.flatnonzero(name == "train"), np.flatnonzero(name == "held")


def pack(
    folder: Path,
    catalog: Catalog,
    splits: dict[str, CatalogSplit],
    chosen: dict[str, Ints],
    params: Params,
) -> dict[str, float]:
    """Write the chosen images of each split; returns images per split."""
    folder.mkdir(parents=True)
    side, counts = params.pack.image_size, {name: len(rows) for name, rows in chosen.items()}
    sharded = needs_shards(params.pack.store, sum(counts.values()), side)
    per_shard = images_per_shard(side) if sharded else None
    for name, indices in chosen.items():
        rows = mixed_up(indices, params.run.seed) if sharded else indices
        _write_pixels(folder, name, splits[name], rows, params, per_shard)
        _write_targets(folder, name, splits[name], rows, side)
    save_meta(folder, PackedMeta(side, catalog.classes, counts, per_shard))
    return {name: float(count) for name, count in counts.items()}


def mixed_up(indices: Ints, seed: int) -> Ints:
    """In an order of chance: images of one scene or class, often listed together, get apart.

    An epoch mixes neighbouring shards only.
    """
    return np.random.default_rng([seed, 2]).permutation(indices)


def _write_pixels(
    folder: Path,
    name: str,
    split: CatalogSplit,
    indices: Ints,
    params: Params,
    per_shard: int | None,
) -> None:
    side, workers = params.pack.image_size, params.workers
    images = [str(split.image_path(int(i))) for i in indices]
    if per_shard:
        _run(write_shard, portions(images, side, folder / name, per_shard), workers)
        return
    out, shape = pixels_path(folder, name), (len(images), side, side, 3)
    np.lib.format.open_memmap(out, "w+", np.uint8, shape).flush()
    _run(write_rows, portions(images, side, out, None), workers)


def _run(
    function: Callable[[Portion], None], portions: Iterable[Portion], workers: Workers
) -> None:
    for _ in work(function, ((portion,) for portion in portions), workers):
        pass


def _write_targets(folder: Path, name: str, split: CatalogSplit, indices: Ints, side: int) -> None:
    offsets = np.append(0, np.cumsum(np.diff(split.offsets)[indices])).astype(np.int64)
    # made at their size: as a list of each image's own they would take four times as much
    boxes_xyxy = np.empty((offsets[-1], 4), np.float32)
    labels, ignore = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.uint8)
    for row, i in enumerate(indices):
        own = slice(offsets[row], offsets[row + 1])
        boxes_xyxy[own], labels[own], ignore[own] = _in_square(split, int(i), side)
    arrays = {
        "image_ids": split.image_ids[indices],
        "sizes_hw": split.sizes_hw[indices],
        "offsets": offsets,
        "boxes_xyxy": boxes_xyxy,
        "labels": labels,
        "ignore": ignore,
    }
    atomic_write(targets_path(folder, name), save(arrays))


def _in_square(split: CatalogSplit, i: int, side: int) -> tuple[Floats, Ints, Bytes]:
    """The targets of image i, in pixels of its stored square."""
    boxes, labels, ignore = split.targets(i)
    letterbox = Letterbox((split.sizes_hw[i][0], split.sizes_hw[i][1]), side)
    return letterbox.to_square(boxes), labels, ignore
