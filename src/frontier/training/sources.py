"""From a packed dataset to the batches of a training."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from frontier.data.loader import Batch, batches
from frontier.data.packing import PackedSplit, load_split
from frontier.params import Recipe, Run

Source = Callable[[int, int], Iterator[Batch]]


def batch_source(
    splits: Sequence[PackedSplit], recipe: Recipe, run: Run, side: int | Callable[[int], int]
) -> Source:
    """`source(start, stop)` yields the batches of those steps; equal seeds, equal batches."""
    side_of = side if callable(side) else lambda step: side
    return partial(_between, splits=splits, recipe=recipe, seed=run.seed, side_of=side_of)


def _between(
    start: int,
    stop: int,
    *,
    splits: Sequence[PackedSplit],
    recipe: Recipe,
    seed: int,
    side_of: Callable[[int], int],
) -> Iterator[Batch]:
    return batches(
        splits,
        batch_size=recipe.batch_size,
        image_size=side_of,
        augment=recipe.augment,
        seed=seed,
        start=start,
        steps=stop,
    )


def random_side(sides: Sequence[int], seed: int) -> Callable[[int], int]:
    """The input side of each step, drawn from (seed, step)."""

    def side_of(step: int) -> int:
        return int(np.random.default_rng((seed, step, 1)).choice(sides))

    return side_of


def labelled_splits(pack: Path, pseudo_label: Path) -> list[PackedSplit]:
    """The training split, and the pseudo-labelled images where there are any."""
    splits = [load_split(pack, "train")]
    pseudo = pseudo_label / "pseudo.safetensors"
    if pseudo.is_file():
        splits.append(load_split(pack, "unlabelled").load_targets(pseudo))
    return splits
