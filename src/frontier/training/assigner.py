"""Which anchor learns which box: the task-aligned assigner, over a whole batch at once.

B batch, A anchors, M boxes (padded), K classes.
Reference: TOOD, Feng et al. 2021 (arXiv:2108.07755), as used by PP-YOLOE (arXiv:2203.16250).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from frontier.params import Assigner

BOXES_AT_ONCE = 64  # of each image; as a rule all: it bounds what a thousand boxes take
TINY = 1e-9  # keeps a division by zero from being one


class Assignment(NamedTuple):
    """Targets of every anchor.

    Attributes:
        positive: `[B, A]` bool.
        labels: `[B, A]` class index, 0 where not positive.
        boxes_xyxy: `[B, A, 4]` pixels.
        scores: `[B, A]` normalised alignment in 0..1, 0 where not positive: relative alignment
            times the best IoU of the box, what its class score should become.
        shares: `[B, A]` relative alignment: 1 at the best anchor of each box, 0 where not positive.
        ignored: `[B, A]` bool: inside an ignore region and not positive; no class loss there.
        owner: `[B, A]` index of the assigned box, 0 where not positive.
        most: how many positives there can be, by the shapes alone.
    """

    positive: Tensor
    labels: Tensor
    boxes_xyxy: Tensor
    scores: Tensor
    shares: Tensor
    ignored: Tensor
    owner: Tensor
    most: int

    def positives(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image `[P]` and anchor `[P]` of the positives, and a mask of the rows that are any.

        P is `most` and not their number: a device would have to stop to tell the host that.
        """
        index = torch.nonzero_static(self.positive, size=self.most, fill_value=-1)
        image, anchor = index.clamp_min(0).unbind(1)
        return image, anchor, index[:, 0] >= 0


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of `[..., N, 4]` and `[..., M, 4]` boxes xyxy: `[..., N, M]`; empty boxes give 0.

    One tensor per edge: reductions over a last dimension of two or four are many times slower.
    """
    left, top, right, bottom = (edge[..., :, None] for edge in first.unbind(-1))
    left2, top2, right2, bottom2 = (edge[..., None, :].contiguous() for edge in second.unbind(-1))
    width = torch.minimum(right, right2).sub_(torch.maximum(left, left2)).clamp_min_(0)
    height = torch.minimum(bottom, bottom2).sub_(torch.maximum(top, top2)).clamp_min_(0)
    intersection = width.mul_(height)
    union = _area(right - left, bottom - top) + _area(right2 - left2, bottom2 - top2)
    return intersection / union.sub_(intersection).clamp_min_(TINY)


def _area(width: Tensor, height: Tensor) -> Tensor:
    return width.clamp_min(0) * height.clamp_min(0)


def _reach(boxes_xyxy: Tensor, least_px: float) -> Tensor:
    """The boxes, small ones grown around their middle: they may hold no centre at all."""
    left_top, right_bottom = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    middle = (left_top + right_bottom) / 2
    half = ((right_bottom - left_top) / 2).clamp_min(least_px / 2)
    return torch.cat([middle - half, middle + half], dim=-1)


def _inside(centres: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """`[B, M, A]`: centre strictly inside the box."""
    x, y = (c.contiguous() for c in centres.unbind(-1))
    left, top, right, bottom = (edge[..., None] for edge in boxes_xyxy.unbind(-1))
    return (x > left).logical_and_(x < right).logical_and_(y > top).logical_and_(y < bottom)


def power(base: Tensor, exponent: int) -> Tensor:
    """By squaring. Not `pow`: its last bit depends on where a thread's part, or a chunk, begins."""
    result = base
    for bit in f"{exponent:b}"[1:]:
        result = result * result
        result = result * base if bit == "1" else result
    return result


class Wanted(NamedTuple):
    """Of each anchor, `[B, A]`: the box that it goes to, among the boxes looked at.

    Attributes:
        box: its index, 0 where no box wants the anchor.
        iou: with it; -1 where no box wants the anchor.
        alignment: with it; 0 where no box wants the anchor.
        positive: whether a box wants the anchor.
        ignored: inside an ignore region.
    """

    box: Tensor
    iou: Tensor
    alignment: Tensor
    positive: Tensor
    ignored: Tensor

    def or_of(self, later: "Wanted", start: int) -> "Wanted":
        """The better of both at each anchor, the first of equals; `later` begins at box `start`."""
        better = later.iou > self.iou
        return Wanted(
            (later.box + start).where(better, self.box),
            later.iou.where(better, self.iou),
            later.alignment.where(better, self.alignment),
            self.positive | later.positive,
            self.ignored | later.ignored,
        )


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes_xyxy: Tensor,
    centres: Tensor,
    true_boxes_xyxy: Tensor,
    true_labels: Tensor,
    ignore: Tensor,
    rules: Assigner,
) -> Assignment:
    """Assign the `rules.top_k` best-aligned anchors inside each true box to it.

    Alignment is a power of the class score times one of the IoU, that relative to the best one of
    its box. That changes no order within a box, but keeps the power of a small box's first IoUs
    (.06 ** 6 = 5e-8) from vanishing.

    Args:
        scores: predicted class probabilities `[B, A, K]`.
        boxes_xyxy: predicted boxes `[B, A, 4]`, pixels.
        centres: anchor centres `[A, 2]`, pixels.
        true_boxes_xyxy: `[B, M, 4]`.
        true_labels: `[B, M]`, -1 for padding.
        ignore: `[B, M]`, true for regions where nothing is to be learned.
    """
    truth = (true_boxes_xyxy, true_labels, ignore)
    chunks = zip(*(part.split(BOXES_AT_ONCE, 1) for part in truth), strict=True)
    wanted, *later = (_wanted(rules, scores, boxes_xyxy, centres, *chunk) for chunk in chunks)
    for number, chunk_wanted in enumerate(later, 1):
        wanted = wanted.or_of(chunk_wanted, number * BOXES_AT_ONCE)

    owner, positive = wanted.box, wanted.positive
    shares = wanted.alignment / _best(wanted.alignment, owner, true_labels).clamp_min(TINY)
    best_iou = _best(wanted.iou.clamp_min(0), owner, true_labels)
    return Assignment(
        positive=positive,
        labels=true_labels.gather(1, owner).where(positive, 0),
        boxes_xyxy=true_boxes_xyxy.gather(1, owner[..., None].expand(-1, -1, 4)),
        scores=shares * best_iou,
        shares=shares,
        ignored=wanted.ignored & ~positive,
        owner=owner,
        most=min(positive.numel(), true_labels.numel() * rules.top_k),
    )


def _wanted(
    rules: Assigner,
    scores: Tensor,
    boxes_xyxy: Tensor,
    centres: Tensor,
    true_boxes_xyxy: Tensor,
    true_labels: Tensor,
    ignore: Tensor,
) -> Wanted:
    """Here, where every box meets every anchor, lies the memory of the assigner."""
    inside = _inside(centres, _reach(true_boxes_xyxy, rules.min_reach_px))
    exists = true_labels >= 0
    real = (exists & ~ignore)[:, :, None]
    iou = pairwise_iou(true_boxes_xyxy, boxes_xyxy)
    class_index = true_labels.clamp_min(0)[:, None, :].expand(-1, scores.shape[1], -1)
    class_scores = scores.gather(2, class_index).transpose(1, 2)
    reachable = iou * (inside & real)
    relative = reachable / reachable.amax(2, keepdim=True).clamp_min(TINY)
    alignment = power(class_scores, rules.score_power) * power(relative, rules.iou_power)

    candidates = _top_candidates(alignment, inside & real, rules.top_k)
    # an anchor wanted by several boxes goes to the one it overlaps most
    contested = torch.where(candidates, iou, iou.new_tensor(-1.0))
    owner = contested.argmax(dim=1, keepdim=True)
    return Wanted(
        box=owner.squeeze(1),
        iou=contested.gather(1, owner).squeeze(1),
        alignment=(alignment * candidates).gather(1, owner).squeeze(1),
        positive=candidates.any(dim=1),
        ignored=(inside & (exists & ignore)[:, :, None]).any(dim=1),
    )


def _best(values: Tensor, owner: Tensor, true_labels: Tensor) -> Tensor:
    """`[B, A]`: the largest of `values` among the anchors that have the same owner."""
    of_box = values.new_zeros(true_labels.shape).scatter_reduce_(1, owner, values, "amax")
    return of_box.gather(1, owner)


def _top_candidates(alignment: Tensor, allowed: Tensor, most: int) -> Tensor:
    """`[B, M, A]`: among the `most` best of its box, and allowed."""
    k = min(most, alignment.shape[2])
    chosen = alignment.topk(k, dim=2).indices
    return torch.zeros_like(allowed).scatter_(2, chosen, True) & allowed
