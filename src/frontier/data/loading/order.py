"""Which image comes when: every one once an epoch, the same for equal (seed, position).

Arrays are read in any order. Shards are read one after the other: each epoch takes them in an order
of its own and mixes the images of a few that follow each other, a new one coming in as the oldest
is used up. The whole order of an epoch follows from (seed, epoch), so that a training that resumes
in the middle of one skips nothing and repeats nothing.

Legend: N images of all splits together; a *place* is a number among them, a *position* counts the
images that a training has seen.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.data.loading import shards
from frontier.data.loading.packing import PackedSplit

Ints = npt.NDArray[np.int64]


class Block(NamedTuple):
    """A stretch of the order of an epoch, about as long as a shard."""

    epoch: int
    first: int


class Order:
    """The order of the images of some splits, seen as one list."""

    def __init__(self, splits: Sequence[PackedSplit], seed: int) -> None:
        self.seed = seed
        self.total = sum(len(split) for split in splits)
        self.shard_of = _shards(splits)
        self.shards = 1 if self.shard_of is None else int(self.shard_of.max()) + 1
        self.block_length = math.ceil(self.total / self.shards)
        self._epoch = functools.lru_cache(maxsize=2)(self._order_of_epoch)

    def place(self, position: int) -> int:
        epoch, within = divmod(position, self.total)
        return int(self._epoch(epoch)[within])

    def block(self, position: int) -> Block:
        """Where a position lies; arrays are one block, since all in them is equally near."""
        if self.shard_of is None:
            return Block(0, 0)
        epoch, within = divmod(position, self.total)
        first = within // self.block_length * self.block_length
        return Block(epoch, min(first, self.total - self.block_length))

    def near(self, block: Block) -> Ints:
        """The places of a block: what can be mixed into its images without further shards."""
        if self.shard_of is None:
            return np.arange(self.total)
        return self._epoch(block.epoch)[block.first :][: self.block_length]

    def _order_of_epoch(self, epoch: int) -> Ints:
        rng = np.random.default_rng([self.seed, 0, epoch])
        if self.shard_of is None:
            return rng.permutation(self.total)
        turn = rng.permutation(self.shards)[self.shard_of]
        # an image of the shard whose turn is t comes at a moment between t and t + WINDOW
        return np.argsort(turn + shards.WINDOW * rng.random(self.total), kind="stable")


def _shards(splits: Sequence[PackedSplit]) -> Ints | None:
    """The shard of each place, `[N]`, counted over all splits; None if arrays are among them."""
    found, first = [], 0
    for split in splits:
        pixels, rows = split.images.pixels, split.images.rows
        if not isinstance(pixels, shards.ShardedPixels):
            return None
        found.append(first + pixels.shard_of(rows))
        first += len(pixels.paths)
    return np.concatenate(found)
