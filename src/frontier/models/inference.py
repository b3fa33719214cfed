"""Detections of a torch network on packed images, in the pixels of the stored square.

For choices made while training and searching; what ships is judged in its own runtime.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from frontier.boxes import resize
from frontier.data.loading.packing import PackedSplit
from frontier.metrics import Detections, Truth

SCORE_THRESHOLD = 0.01
IOU_THRESHOLD = 0.7
MAX_DETECTIONS = 100
CANDIDATES = 400
BATCH = 16

Array = npt.NDArray[np.float32]


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


def suppress(boxes_xyxy: Array, scores: Array) -> tuple[Array, Array, npt.NDArray[np.int64]]:
    """Class-wise non-maximum suppression of one image: `[A, 4]`, `[A, K]` -> boxes, scores, labels.

    Every class of an anchor is a candidate, the best `CANDIDATES` pairs are compared.
    """
    anchor, label = np.nonzero(scores > SCORE_THRESHOLD)
    values = scores[anchor, label]
    best = np.argsort(-values, kind="stable")[:CANDIDATES]
    anchor, label, values = anchor[best], label[best], values[best]
    boxes = boxes_xyxy[anchor]
    if not len(boxes):
        return boxes, values, label
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    chosen = cv2.dnn.NMSBoxesBatched(
        xywh.tolist(), values.tolist(), label.tolist(), SCORE_THRESHOLD, IOU_THRESHOLD
    )
    kept = np.asarray(chosen, np.int64).reshape(-1)[:MAX_DETECTIONS]
    return boxes[kept], values[kept], label[kept]


def detect(
    deployed: nn.Module,
    split: PackedSplit,
    side: int,
    report: Callable[[int, int], None] | None = None,
) -> Detections:
    """Run a deployed network over a split.

    Args:
        deployed: answers `boxes_xyxy [B, A, 4]` and `scores [B, A, K]` for images of `side`.
        side: input side of the network, pixels; boxes come back in stored pixels.
        report: called with images done and images in all.
    """
    device = next(deployed.parameters()).device
    ratio = np.float32(split.image_size / side)
    found: list[tuple[Array, Array, npt.NDArray[np.int64]]] = []
    with torch.no_grad():
        for images_BCHW in image_batches(split, side, device):
            boxes, scores = deployed(images_BCHW)
            for own_boxes, own_scores in zip(
                boxes.cpu().numpy(), scores.cpu().numpy(), strict=True
            ):
                kept, values, labels = suppress(own_boxes, own_scores)
                found.append((kept * ratio, values, labels))
            if report:
                report(len(found), len(split))
    return Detections.gather(split.image_ids.tolist(), found)
