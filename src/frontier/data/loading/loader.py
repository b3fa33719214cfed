"""Batches whose content depends on (seed, step) alone, so that a resume at any step is exact."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.data.loading.order import Block, Order
from frontier.data.loading.packing import PackedSplit
from frontier.data.loading.pasting import Cutouts, pasted
from frontier.data.loading.transforms import Bytes, Rng, Sample, augmented, mixed, plain
from frontier.params import Augment

AHEAD = 2  # batches prepared beyond those that the threads are at


class Batch(NamedTuple):
    """B images of one side; image b has its boxes first in `boxes_xyxy[b]`, then padding."""

    images_BHWC: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float32]  # [B, M, 4], pixels of this batch's side
    labels: npt.NDArray[np.int64]  # [B, M], -1 = padding
    ignore: npt.NDArray[np.bool_]  # [B, M]
    image_ids: npt.NDArray[np.int64]  # [B]
    origins: Sequence[str]  # [B], the split of each, as dataset/split


def batches(
    splits: Sequence[PackedSplit],
    *,
    batch_size: int,
    image_size: Callable[[int], int],
    augment: Augment | None,
    seed: int,
    workers: int,
    start: int,
    steps: int,
    rows: range | None = None,
) -> Iterator[Batch]:
    """Batches `start`..`steps - 1`, the same whatever the number of `workers`.

    Args:
        splits: seen as one list of images.
        image_size: side in pixels of the batch of a step.
        augment: None gives the stored images, resized.
        workers: threads that prepare batches ahead of their use; 0 prepares each when asked for.
        steps: the total, counted from 0 also when `start` is later.
        rows: which of a batch's images to prepare; None means all.
    """
    cv2.setNumThreads(1)
    source = _Source(splits, batch_size, rows or range(batch_size), augment, seed)
    if not workers:
        yield from (source.batch(step, image_size(step)) for step in range(start, steps))
        return
    pending: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, "loader") as threads:
        try:
            for step in range(start, steps):
                pending.append(threads.submit(source.batch, step, image_size(step)))
                if len(pending) > workers + AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def collate(
    images_BHWC: Bytes, samples: Sequence[Sample], image_ids: Sequence[int], origins: Sequence[str]
) -> Batch:
    """Pad the targets of each sample; M is the largest number of boxes, at least 1."""
    count, most = len(samples), max(1, *(len(s.labels) for s in samples))
    boxes = np.zeros((count, most, 4), np.float32)
    labels = np.full((count, most), -1, np.int64)
    ignore = np.zeros((count, most), bool)
    for row, sample in enumerate(samples):
        n = len(sample.labels)
        boxes[row, :n], labels[row, :n] = sample.boxes_xyxy, sample.labels
        ignore[row, :n] = sample.ignore
    return Batch(images_BHWC, boxes, labels, ignore, np.asarray(image_ids, np.int64), origins)


class _Source:
    def __init__(
        self,
        splits: Sequence[PackedSplit],
        batch_size: int,
        rows: range,
        augment: Augment | None,
        seed: int,
    ) -> None:
        self.splits, self.batch_size, self.rows = splits, batch_size, rows
        self.augment, self.seed = augment, seed
        self.ends = np.cumsum([len(split) for split in splits])
        self.order = Order(splits, seed)
        self._near = functools.lru_cache(maxsize=4)(self.order.near)
        self._cutouts = functools.lru_cache(maxsize=4)(self._cutouts_of)

    def _locate(self, place: int) -> tuple[PackedSplit, int]:
        which = int(np.searchsorted(self.ends, place, side="right"))
        before = int(self.ends[which - 1]) if which else 0
        return self.splits[which], place - before

    def batch(self, step: int, side: int) -> Batch:
        """The batch of one step; epochs follow each other without dropping an image."""
        images = np.empty((len(self.rows), side, side, 3), np.uint8)
        samples, image_ids, origins = [], [], []
        for image, row in zip(images, self.rows, strict=True):
            position = step * self.batch_size + row
            split, i = self._locate(self.order.place(position))
            sample = self._sample(split, i, side, position)
            image[:] = sample.image_HWC  # at once: together they take the memory of a batch more
            samples.append(sample._replace(image_HWC=image))
            image_ids.append(int(split.image_ids[i]))
            origins.append(split.name)
        return collate(images, samples, image_ids, origins)

    def _sample(self, split: PackedSplit, i: int, side: int, position: int) -> Sample:
        augment = self.augment
        if augment is None:
            return plain(split, i, side)
        rng = np.random.default_rng([self.seed, 1, position])
        block = self.order.block(position)
        sources = [(split, i)]
        if rng.uniform() < augment.mosaic:
            sources += self._others(block, 3, rng)
        sample = augmented(sources, side, augment, rng)
        # what is off draws nothing: it leaves the batches of all else as they are
        if augment.mixup and rng.uniform() < augment.mixup:
            other = augmented(self._others(block, 1, rng), side, augment, rng)
            sample = mixed(sample, other)
        if augment.paste:
            count = int(rng.integers(augment.paste + 1))
            sample = pasted(sample, self._cutouts(block), count, side, augment, rng)
        return sample

    def _others(self, block: Block, count: int, rng: Rng) -> list[tuple[PackedSplit, int]]:
        near = self._near(block)
        return [self._locate(int(near[n])) for n in rng.integers(0, len(near), count)]

    def _cutouts_of(self, block: Block) -> Cutouts:
        return Cutouts([self._locate(int(place)) for place in self._near(block)])
