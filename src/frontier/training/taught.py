"""Detections of a teacher, found once an image and seen each epoch: they travel with true boxes.

Augmentation moves and cuts them like those. They stand among the boxes of an image as ignored
ones, which nothing is pasted from, with a label beyond the classes that names their row in a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from frontier.data.loading.packing import PackedSplit, stack_targets
from frontier.metrics import Detections


class Part(NamedTuple):
    """Of each box in a batch, `[B, M]`: its class as the teacher sees it, -1 for all others, and
    its score, 0 for all others."""

    labels: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Shown:
    """The table: `labels [R]` and `scores [R]` of every detection, for `num_classes` classes."""

    num_classes: int
    labels: Tensor
    scores: Tensor

    @classmethod
    def of(cls, num_classes: int, found: Sequence[Detections], device: torch.device) -> Self:
        labels = np.concatenate([np.zeros(0, np.int64), *(part.labels for part in found)])
        scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in found)])
        # one row more, so that an empty table can be read as well
        labels, scores = np.append(labels, 0), np.append(scores, 0).astype(np.float32)
        return cls(
            num_classes, torch.from_numpy(labels).to(device), torch.from_numpy(scores).to(device)
        )

    def parted(self, labels: Tensor) -> tuple[Tensor, Part]:
        """Labels of a batch `[B, M]`: those of true boxes, -1 elsewhere, and the teacher's."""
        taught = labels >= self.num_classes
        row = (labels - self.num_classes).clamp_min(0)
        theirs = Part(
            self.labels[row].where(taught, torch.full_like(labels, -1)),
            self.scores[row].where(taught, self.scores.new_zeros(())),
        )
        return labels.where(~taught, torch.full_like(labels, -1)), theirs


def with_detections(
    splits: Sequence[PackedSplit], found: Sequence[Detections]
) -> list[PackedSplit]:
    """The splits with a teacher's detections among their boxes; rows count on over all splits.

    Args:
        found: of each split, in stored pixels.
    """
    firsts = np.cumsum([0, *(len(part.scores) for part in found)])
    return [_joined(*each) for each in zip(splits, found, firsts.tolist(), strict=False)]


def _joined(split: PackedSplit, found: Detections, first: int) -> PackedSplit:
    order = np.argsort(found.image_id, kind="stable")
    ids = found.image_id[order]
    starts, ends = (np.searchsorted(ids, split.image_ids, side) for side in ("left", "right"))
    parts = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        boxes, labels, ignore = split.targets(i)
        rows = order[start:end]
        parts.append(
            (
                np.concatenate([boxes, found.boxes_xyxy[rows]]),
                np.concatenate([labels, split.num_classes + first + rows]),
                np.concatenate([ignore, np.ones(len(rows), np.uint8)]),
            )
        )
    return split.with_targets(np.arange(len(split)), *stack_targets(parts))
