"""Which anchor learns which box: the task-aligned assigner, over a whole batch at once.

B batch, A anchors, M boxes (padded), K classes.
Reference: TOOD, Feng et al. 2021 (arXiv:2108.07755), as used by PP-YOLOE (arXiv:2203.16250).
"""

from typing import NamedTuple

import torch
from torch import Tensor

TOP_K = 13
ALPHA = 1.0
BETA = 6.0


class Assignment(NamedTuple):
    """Targets of every anchor.

    Attributes:
        positive: `[B, A]` bool.
        labels: `[B, A]` class index, 0 where not positive.
        boxes_xyxy: `[B, A, 4]` pixels.
        scores: `[B, A]` normalised alignment in 0..1, 0 where not positive.
        ignored: `[B, A]` bool: inside an ignore region and not positive; no class loss there.
    """

    positive: Tensor
    labels: Tensor
    boxes_xyxy: Tensor
    scores: Tensor
    ignored: Tensor


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of `[..., N, 4]` and `[..., M, 4]` boxes xyxy: `[..., N, M]`; empty boxes give 0."""
    top_left = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    bottom_right = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    intersection = (bottom_right - top_left).clamp_min(0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp_min(0).prod(-1) for b in (first, second)]
    union = areas[0][..., :, None] + areas[1][..., None, :] - intersection
    return intersection / union.clamp_min(1e-9)


def _inside(centres: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """`[B, M, A]`: centre strictly inside the box."""
    left_top = centres[None, None] - boxes_xyxy[:, :, None, :2]
    right_bottom = boxes_xyxy[:, :, None, 2:] - centres[None, None]
    return torch.cat([left_top, right_bottom], dim=-1).amin(-1) > 0


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes_xyxy: Tensor,
    centres: Tensor,
    true_boxes_xyxy: Tensor,
    true_labels: Tensor,
    ignore: Tensor,
) -> Assignment:
    """Assign the `TOP_K` best-aligned anchors inside each true box to it.

    Args:
        scores: predicted class probabilities `[B, A, K]`.
        boxes_xyxy: predicted boxes `[B, A, 4]`, pixels.
        centres: anchor centres `[A, 2]`, pixels.
        true_boxes_xyxy: `[B, M, 4]`.
        true_labels: `[B, M]`, -1 for padding.
        ignore: `[B, M]`, true for regions where nothing is to be learned.
    """
    inside = _inside(centres, true_boxes_xyxy)
    exists = true_labels >= 0
    real = (exists & ~ignore)[:, :, None]
    iou = pairwise_iou(true_boxes_xyxy, boxes_xyxy)
    class_index = true_labels.clamp_min(0)[:, None, :].expand(-1, scores.shape[1], -1)
    class_scores = scores.gather(2, class_index).transpose(1, 2)
    alignment = class_scores.pow(ALPHA) * iou.pow(BETA) * inside * real

    candidates = _top_candidates(alignment, inside & real)
    # an anchor wanted by several boxes goes to the one it overlaps most
    contested = torch.where(candidates, iou, iou.new_tensor(-1.0))
    owner = contested.argmax(dim=1)
    positive = candidates.any(dim=1)
    mine = torch.zeros_like(candidates).scatter_(1, owner[:, None], positive[:, None])

    per_box = (alignment * mine).amax(2, keepdim=True)
    best_iou = (iou * mine).amax(2, keepdim=True)
    normalised = alignment * mine * best_iou / per_box.clamp_min(1e-9)
    ignored = (inside & (exists & ignore)[:, :, None]).any(dim=1) & ~positive
    return Assignment(
        positive=positive,
        labels=true_labels.gather(1, owner).where(positive, 0),
        boxes_xyxy=true_boxes_xyxy.gather(1, owner[..., None].expand(-1, -1, 4)),
        scores=normalised.amax(1),
        ignored=ignored,
    )


def _top_candidates(alignment: Tensor, allowed: Tensor) -> Tensor:
    """`[B, M, A]`: among the `TOP_K` of its box, and allowed."""
    k = min(TOP_K, alignment.shape[2])
    chosen = alignment.topk(k, dim=2).indices
    return torch.zeros_like(allowed).scatter_(2, chosen, True) & allowed
