"""From a packed dataset to the batches of a training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from frontier.data.loading.loader import Batch, batches
from frontier.data.loading.packing import PackedSplit, load_split
from frontier.data.loading.sizes import scale_range
from frontier.models.detector import Detector
from frontier.models.supernet import recalibrate
from frontier.params import Augment, Run, Train
from frontier.training import ranks

RECALIBRATION_BATCHES = 16
RECALIBRATION_BATCH = 16


@dataclass(frozen=True)
class Sides:
    """The input side of each step, pixels: drawn from (seed, step), or in turn without a seed."""

    choices: tuple[int, ...]
    seed: int | None = None

    def __call__(self, step: int) -> int:
        if self.seed is None:
            return self.choices[step % len(self.choices)]
        return int(np.random.default_rng((self.seed, step, 1)).choice(self.choices))


@dataclass(frozen=True)
class BatchSource:
    """`source(start, stop)` yields the batches of those steps; equal seeds, equal batches.

    Of several ranks each gets its rows of them. A `batch_size` of 0 is still to be found.
    """

    splits: Sequence[PackedSplit]
    sides: Sides
    batch_size: int
    augment: Augment
    seed: int
    workers: int

    def __call__(self, start: int, stop: int) -> Iterator[Batch]:
        return batches(
            self.splits,
            batch_size=self.batch_size,
            image_size=self.sides,
            augment=self.augment,
            seed=self.seed,
            workers=self.workers,
            start=start,
            steps=stop,
            rows=ranks.own_rows(self.batch_size),
        )

    @property
    def images(self) -> int:
        return sum(len(split) for split in self.splits)

    @property
    def epoch_steps(self) -> int:
        return math.ceil(self.images / self.batch_size)


def batch_source(
    splits: Sequence[PackedSplit], recipe: Train, run: Run, sides: Sides
) -> BatchSource:
    size = 0 if recipe.batch_size == "auto" else recipe.batch_size
    augment = recipe.augment
    if augment.scale == "auto":
        augment = augment.model_copy(update={"scale": scale_range(splits)})
    return BatchSource(splits, sides, size, augment, run.seed, run.loader_workers)


def labelled_splits(pack: Path, pseudo_label: Path) -> list[PackedSplit]:
    """The training split, and the pseudo-labelled images where there are any."""
    splits = [load_split(pack, "train")]
    pseudo = pseudo_label / "pseudo.safetensors"
    if pseudo.is_file():
        splits.append(load_split(pack, "unlabelled").load_targets(pseudo))
    return splits


def plain_images(
    split: PackedSplit, side: int, count: int, device: torch.device
) -> list[torch.Tensor]:
    """`count` batches of unaugmented training images, `[B, 3, side, side]` in 0..1."""
    source = batches(
        [split],
        batch_size=RECALIBRATION_BATCH,
        image_size=lambda _: side,
        augment=None,
        seed=0,
        workers=0,
        start=0,
        steps=count,
    )
    images = (torch.from_numpy(batch.images_BHWC).to(device) for batch in source)
    return [i.permute(0, 3, 1, 2).float() / 255.0 for i in images]


def settle(detector: Detector, split: PackedSplit, side: int) -> None:
    """Estimate batch-norm statistics for the final weights.

    The running ones lag behind: after a short training they can cost all of the AP (measured:
    .00 against .87 on the training images after 120 steps).
    """
    device = next(detector.parameters()).device
    recalibrate(detector, plain_images(split, side, RECALIBRATION_BATCHES, device))
