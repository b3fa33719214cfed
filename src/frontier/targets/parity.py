"""Does an exported float model compute what torch computes, on images of any shape?

Both get the same image and answer in its pixels: the model through the letterbox in its graph,
torch through `boxes.Letterbox`. AP is taken in pixels of the stored square, where the truth is.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frontier.boxes import Letterbox, Pixels, iou, resize
from frontier.data.loading.packing import PackedSplit
from frontier.metrics import Detections, coco_metrics
from frontier.models.suppression import KeepBest
from frontier.params import Evaluate
from frontier.runtime.predictor import Prediction

if TYPE_CHECKING:
    from torch import nn

SAME_BOX_IOU = 0.9
SEEN_SCORE = 0.05  # below it, detections are too many and too faint to pair

Predict = Callable[[Pixels], Prediction]


class Photo(NamedTuple):
    """The content of a stored square, and the letterbox that it was stored with."""

    image: Pixels  # [H, W, 3]
    stored: Letterbox


def photo(split: PackedSplit, index: int, longest: int | None = None) -> Photo:
    """A stored image without its grey border, in its own proportions.

    Args:
        longest: pixels of its longer side; as it was stored by default.
    """
    height, width = split.sizes_hw[index].tolist()
    stored = Letterbox((height, width), split.image_size)
    bottom, right = stored.top + stored.new_hw[0], stored.left + stored.new_hw[1]
    content = split.images[index][stored.top : bottom, stored.left : right]
    wanted = Letterbox(stored.new_hw, longest).new_hw if longest else stored.new_hw
    return Photo(np.ascontiguousarray(resize(content, wanted)), stored)


def compare(
    split: PackedSplit, photos: Sequence[Photo], expected: Predict, found: Predict
) -> dict[str, Any]:
    """AP of both on the photos of a split, and how the visible boxes of the first moved."""
    pairs = [(expected(each.image), found(each.image)) for each in photos]
    ap, ap_found = (_ap(split, photos, answers) for answers in zip(*pairs, strict=True))
    return {
        "images": len(photos),
        "shapes": len({each.image.shape for each in photos}),
        "AP_torch": ap,
        "AP_float": ap_found,
        "AP_gap": abs(ap - ap_found),
        **_shifts(pairs),
    }


def torch_predictor(network: "nn.Module", side: int, rules: Evaluate) -> Predict:
    """A deployed network behind `boxes.Letterbox`, with the suppression of the exported model."""
    import torch

    keep_best = KeepBest(rules)

    def predict(image_HWC: Pixels) -> Prediction:
        letterbox = Letterbox((image_HWC.shape[0], image_HWC.shape[1]), side)
        square = torch.from_numpy(letterbox.image(image_HWC))
        with torch.no_grad():
            boxes, scores = network(square.permute(2, 0, 1)[None].float() / 255)
        kept, values, labels = keep_best(boxes[0].numpy(), scores[0].numpy(), side, side)
        return Prediction(letterbox.from_square(kept), values, labels)

    return predict


def _ap(split: PackedSplit, photos: Sequence[Photo], predictions: Sequence[Prediction]) -> float:
    rows = [
        (_in_square(found.boxes_xyxy, each), found.scores, found.labels)
        for each, found in zip(photos, predictions, strict=True)
    ]
    return coco_metrics(split, Detections.gather(split.image_ids.tolist(), rows))["AP"]


def _in_square(boxes_xyxy: NDArray[np.float32], each: Photo) -> NDArray[np.float32]:
    """Boxes in pixels of a photo to pixels of its stored square."""
    (height, width), (new_h, new_w) = each.image.shape[:2], each.stored.new_hw
    scale = np.array([new_w / width, new_h / height] * 2, np.float32)
    return boxes_xyxy * scale + each.stored.pad_xyxy


def _shifts(pairs: Sequence[tuple[Prediction, Prediction]]) -> dict[str, float]:
    """The share of visible detections found again, and how far those moved."""
    seen, paired, moved = 0, 0, 0.0
    for expected, found in pairs:
        visible = expected.scores >= SEEN_SCORE
        seen += int(visible.sum())
        overlaps = iou(expected.boxes_xyxy[visible], found.boxes_xyxy)
        overlaps[expected.labels[visible][:, None] != found.labels[None]] = 0
        for row, box in zip(overlaps, expected.boxes_xyxy[visible], strict=True):
            if row.size and row.max() >= SAME_BOX_IOU:
                paired += 1
                moved = max(moved, float(np.abs(found.boxes_xyxy[row.argmax()] - box).max()))
    return {"matched_boxes": paired / seen if seen else 1.0, "max_box_px": moved}
