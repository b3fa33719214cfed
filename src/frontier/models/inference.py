"""Detections of a torch network on packed images, in the pixels of the stored square.

Boxes are kept by the rules and the graph that ship; only the network itself runs in torch here.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from frontier.boxes import resize
from frontier.data.loading.packing import PackedSplit
from frontier.metrics import Detections, Truth
from frontier.models.suppression import KeepBest, Kept
from frontier.params import Evaluate

BATCH = 16


def truth_of(split: PackedSplit) -> Truth:
    """Its boxes, in stored pixels."""
    return Truth(
        split.num_classes,
        split.image_ids,
        split.offsets,
        split.boxes_xyxy,
        split.labels,
        split.ignore,
    )


def image_batches(split: PackedSplit, side: int, device: torch.device) -> Iterator[torch.Tensor]:
    """Stored images resized to `side`, as `[B, 3, side, side]` in 0..1, channels last."""
    for start in range(0, len(split), BATCH):
        stored = split.images[slice(start, start + BATCH)]
        resized = np.stack([resize(image, (side, side)) for image in stored])
        images = torch.from_numpy(resized).to(device).permute(0, 3, 1, 2).float() / 255.0
        yield images.contiguous(memory_format=torch.channels_last)


def detect(
    deployed: nn.Module,
    split: PackedSplit,
    side: int,
    rules: Evaluate,
    report: Callable[[int, int], None] | None = None,
) -> Detections:
    """Run a deployed network over a split.

    Args:
        deployed: answers `boxes_xyxy [B, A, 4]` and `scores [B, A, K]` for images of `side`.
        side: input side of the network, pixels; boxes come back in stored pixels.
        rules: what is kept, as `evaluate` has it.
        report: called with images done and images in all.
    """
    device = next(deployed.parameters()).device
    keep_best, found = KeepBest(rules), list[Kept]()
    with torch.no_grad():
        for images_BCHW in image_batches(split, side, device):
            boxes, scores = deployed(images_BCHW)
            pairs = zip(boxes.cpu().numpy(), scores.cpu().numpy(), strict=True)
            found += [keep_best(*pair, side, split.image_size) for pair in pairs]
            if report:
                report(len(found), len(split))
    return Detections.gather(split.image_ids.tolist(), found)
