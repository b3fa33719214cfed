"""The smallest network, dataset and recipe that a training runs on: 64 px, two images a step."""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from frontier.data.loading.packing import (
    PackedMeta,
    PackedSplit,
    StoredImages,
    pixels_path,
    save_meta,
    stack_targets,
    targets_path,
)
from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector, save_detector
from frontier.params import load_params
from frontier.training.plan import Task
from frontier.training.recipes import supervised
from frontier.training.sources import Sides, batch_source

SIDE = 128
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
RUN = PARAMS.run.model_copy(update={"device": "cpu"})
RECIPE = PARAMS.train.model_copy(update={"batch_size": 2, "checkpoint_every": 4, "warmup_steps": 2})
CLASSES = [{"category_id": i * 7 + 3, "name": name} for i, name in enumerate("abc")]
SPACE = SearchSpace(0.25, (64, 96))


def split_of(count: int, first_id: int = 0) -> PackedSplit:
    """Dark 3:4 images with one bright rectangle each, which is their one box."""
    rng = np.random.default_rng(first_id)
    pixels = np.full((count, SIDE, SIDE, 3), 114, np.uint8)
    parts = []
    for i in range(count):
        pixels[i, 16:112] = 0
        x, y = rng.integers((4, 20), (60, 60))
        w, h = rng.integers(20, 44, 2)
        pixels[i, y : y + h, x : x + w] = 255
        parts.append(([[x, y, x + w, y + h]], [i % 3], [0]))
    ids = np.arange(first_id, first_id + count)
    sizes = np.tile([240, 320], (count, 1))
    images = StoredImages(pixels, np.arange(count))
    return PackedSplit(images, 3, ids, sizes, *stack_targets(parts), "tiny/train")


def detector(classes: int = 3) -> Detector:
    torch.manual_seed(0)
    return Detector(SPACE.smallest.at(64), classes)


def task(
    work: Path,
    *,
    images: int = 6,
    sides: tuple[int, ...] = (64,),
    loader_workers: int = 1,
    **recipe: object,
) -> Task:
    """A supervised training of the smallest detector."""
    changed = RECIPE.model_copy(update=recipe)
    run = RUN.model_copy(update={"loader_workers": loader_workers})
    module = detector()
    source = batch_source([split_of(images)], changed, run, Sides(sides, seed=5))
    return Task(module, supervised(module, changed), source, changed, run, work)


def write_pack(folder: Path, **counts: int) -> None:
    """A packed dataset of so many images in each split."""
    folder.mkdir(parents=True)
    for name, count in counts.items():
        split = split_of(count)
        np.save(pixels_path(folder, name), split.images[:])
        split.save_targets(targets_path(folder, name))
        arrays = load_file(targets_path(folder, name))
        del arrays["rows"]
        save_file(arrays, targets_path(folder, name))
    save_meta(folder, PackedMeta(SIDE, CLASSES, counts, None))


def write_teacher(folder: Path, **counts: int) -> Path:
    """An untrained detector that sees much everywhere, and beside it a `pack` of so many images."""
    sees = detector().eval()
    with torch.no_grad():
        for level in sees.head:
            level.class_pred.bias.zero_()
    folder.mkdir(exist_ok=True, parents=True)
    save_detector(sees, CLASSES, folder)
    write_pack(folder / "pack", **counts)
    return folder
