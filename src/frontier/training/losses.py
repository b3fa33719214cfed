"""The loss of the detector: varifocal + softmax + GIoU + distribution focal, by one assignment.

Reference: PP-YOLOE (arXiv:2203.16250); GFL (arXiv:2006.04388); VarifocalNet (arXiv:2008.13367);
GIoU (arXiv:1902.09630). B batch, A anchors, P positives, R bins, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from frontier.models.decoding import REG_MAX, decode_boxes, expected_distances
from frontier.models.detector import Outputs
from frontier.params import Assigner, LossWeights
from frontier.training.assigner import TINY, Assignment, assign
from frontier.training.ranks import total


class Losses(NamedTuple):
    """Weighted scalar terms; `total` is their sum."""

    total: Tensor
    class_loss: Tensor
    softmax_loss: Tensor
    box_loss: Tensor
    dfl_loss: Tensor


class Grid(NamedTuple):
    """Anchors of one input side: `centres [A, 2]` and `strides [A, 1]`, pixels."""

    centres: Tensor
    strides: Tensor


def predicted_boxes(outputs: Outputs, grid: Grid) -> Tensor:
    """`[B, A, 4]` boxes xyxy, pixels."""
    values = torch.arange(REG_MAX + 1, dtype=torch.float32, device=outputs.bins.device)
    distances = expected_distances(outputs.bins.float(), values) * grid.strides
    return decode_boxes(grid.centres, distances)


def assignment_of(
    outputs: Outputs,
    grid: Grid,
    boxes_xyxy: Tensor,
    labels: Tensor,
    ignore: Tensor,
    rules: Assigner,
) -> Assignment:
    scores = outputs.logits.detach().float().sigmoid()
    boxes = predicted_boxes(outputs, grid).detach()
    return assign(scores, boxes, grid.centres, boxes_xyxy, labels, ignore, rules)


def varifocal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Elementwise: positives weighted by their target, negatives by `alpha * p ** gamma`."""
    probabilities = logits.detach().sigmoid()
    weight = torch.where(targets > 0, targets, alpha * probabilities.pow(gamma))
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of paired boxes `[P, 4]`: in (-1, 1].

    Areas are products of two columns: the backward of `prod` asks the host whether a factor is 0.
    """
    left_top, right_bottom = first[:, :2], first[:, 2:]
    left_top2, right_bottom2 = second[:, :2], second[:, 2:]
    shared = torch.minimum(right_bottom, right_bottom2) - torch.maximum(left_top, left_top2)
    intersection = _product(shared.clamp_min(0))
    areas = [_product((b[:, 2:] - b[:, :2]).clamp_min(0)) for b in (first, second)]
    union = areas[0] + areas[1] - intersection
    hull = _product(torch.maximum(right_bottom, right_bottom2) - torch.minimum(left_top, left_top2))
    return intersection / union.clamp_min(TINY) - (hull - union) / hull.clamp_min(TINY)


def _product(size: Tensor) -> Tensor:
    return size[:, 0] * size[:, 1]


def distribution_focal(bins: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy on the two bins beside each distance; `[P, 4, R]`, `[P, 4]` in strides."""
    distances = distances.clamp(0, REG_MAX - 0.01)
    lower = distances.floor().long()
    share = distances - lower
    log_p = bins.log_softmax(-1)
    below = log_p.gather(-1, lower[..., None]).squeeze(-1)
    above = log_p.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -(below * (1 - share) + above * share)


def own_class(assignment: Assignment, num_classes: int) -> Tensor:
    """`[B, A, K]`: the assigned class. `one_hot` would ask the host how large the labels are."""
    classes = torch.arange(num_classes, device=assignment.labels.device)
    return assignment.labels[..., None] == classes


def class_weights(assignment: Assignment, num_classes: int, weights: LossWeights) -> Tensor:
    """`[B, A]`: the weight of each positive's class, 1 at an anchor that is not positive.

    A class that holds the share s of the batch's boxes weighs `(s * classes present)` to the power
    `-class_balance`, at most `max_class_weight`: rare classes are heard beside common ones.
    """
    boxes = assignment.shares.new_zeros(num_classes)
    boxes.index_add_(0, assignment.labels.flatten(), assignment.shares.flatten())
    boxes = total(boxes)
    present = (boxes > 0).sum()
    share = boxes / boxes.sum().clamp_min(TINY)
    rarity = (share * present).clamp_min(TINY).pow(-weights.class_balance)
    by_class = rarity.clamp_max(weights.max_class_weight)
    return torch.where(assignment.positive, by_class[assignment.labels], 1.0)


def detection_losses(
    outputs: Outputs, assignment: Assignment, grid: Grid, weights: LossWeights
) -> Losses:
    """The four terms.

    Class: varifocal, divided by the sum of assigned scores. Softmax: cross-entropy of the classes
    at positives, because varifocal, which asks for each class by itself and hardly hears a low
    wrong score, is slow to tell look-alike classes apart. Boxes: GIoU and DFL. All but the first
    are weighted by each anchor's share in its box, not by its IoU, so that a box that is still
    badly placed is learned as hard as one that is not; divided by the sum of these weights.
    Divisors are at least 1.
    """
    logits = outputs.logits.float()
    by_class = class_weights(assignment, logits.shape[-1], weights)
    own = own_class(assignment, logits.shape[-1])
    # soft targets: the normalised alignment at the assigned class
    targets = torch.where(own, assignment.scores[..., None], 0.0)
    elementwise = varifocal(logits, targets, weights.background, weights.focus)
    counted = torch.where(assignment.ignored, 0.0, 1.0)[..., None]
    elementwise = elementwise * torch.where(own, by_class[..., None], 1.0) * counted
    class_loss = elementwise.sum() / total(assignment.scores.sum()).clamp_min(1.0)

    image, anchor, real = assignment.positives()
    weight = (assignment.shares * by_class)[image, anchor] * real
    normaliser = total(weight.sum()).clamp_min(1.0)
    true_boxes, labels = assignment.boxes_xyxy[image, anchor], assignment.labels[image, anchor]
    entropy = F.cross_entropy(logits[image, anchor], labels, reduction="none")
    softmax_loss = (entropy * weight).sum() / normaliser
    bins = outputs.bins[image, anchor].float()
    centres, strides = grid.centres[anchor], grid.strides[anchor]
    values = torch.arange(REG_MAX + 1, dtype=torch.float32, device=bins.device)
    boxes = decode_boxes(centres, expected_distances(bins, values) * strides)
    box_loss = ((1 - giou(boxes, true_boxes)) * weight).sum() / normaliser
    wanted = torch.cat([centres - true_boxes[:, :2], true_boxes[:, 2:] - centres], 1) / strides
    dfl_loss = (distribution_focal(bins, wanted).mean(1) * weight).sum() / normaliser

    terms = (
        class_loss,
        weights.softmax * softmax_loss,
        weights.box * box_loss,
        weights.dfl * dfl_loss,
    )
    return Losses(sum(terms[1:], terms[0]), *terms)


def taught_losses(
    outputs: Outputs,
    teacher: Outputs,
    assignment: Assignment,
    *,
    class_weight: float = 1.0,
    box_weight: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """What a student learns from a teacher's outputs on the same grid.

    Classes: quality focal to the teacher's soft scores. Boxes: KL between bin distributions, both
    softened by the temperature, at the positives, weighted by their scores; times the temperature
    squared, which keeps the gradient's size.

    Args:
        assignment: of the teacher's outputs, so that its own positives are learned.

    Reference: GFL (arXiv:2006.04388) equation 6; LD, Zheng et al. 2022 (arXiv:2102.12252).
    """
    normaliser = total(assignment.scores.sum()).clamp_min(1.0)
    soft = teacher.logits.detach().float().sigmoid()
    logits = outputs.logits.float()
    focus = (soft - logits.detach().sigmoid()).abs().pow(2)
    class_loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none") * focus
    image, anchor, real = assignment.positives()
    student_bins, teacher_bins = (
        (bins[image, anchor].float() / temperature).log_softmax(-1)
        for bins in (outputs.bins, teacher.bins.detach())
    )
    divergence = F.kl_div(student_bins, teacher_bins, reduction="none", log_target=True).sum(-1)
    box_loss = (divergence.mean(1) * assignment.scores[image, anchor] * real).sum()
    box_loss = box_loss * temperature**2
    return (class_weight * class_loss.sum() + box_weight * box_loss) / normaliser


def shown_losses(
    outputs: Outputs,
    assignment: Assignment,
    grid: Grid,
    shown: Tensor,
    *,
    class_weight: float,
    box_weight: float,
) -> Tensor:
    """What a student learns from boxes and scores that a teacher shows, and nothing else of it.

    Classes: quality focal, at the positives, to the teacher's score times the anchor's share in
    its box. Boxes: GIoU with the teacher's, weighted alike. Where it shows nothing it teaches
    nothing: what is left out of a list is not denied.

    Args:
        assignment: of the teacher's boxes, as if they were true.
        shown: `[B, M]` score of each of these boxes, 0..1.
    """
    image, anchor, real = assignment.positives()
    scores = shown.gather(1, assignment.owner)
    soft = (scores * assignment.shares)[image, anchor] * real
    normaliser = total(soft.sum()).clamp_min(1.0)
    labels = assignment.labels[image, anchor]
    logits = outputs.logits[image, anchor].float().gather(1, labels[:, None]).squeeze(1)
    focus = (soft - logits.detach().sigmoid()).abs().pow(2) * real
    class_loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none") * focus
    boxes = predicted_boxes(outputs, grid)[image, anchor]
    box_loss = (1 - giou(boxes, assignment.boxes_xyxy[image, anchor])) * soft
    return (class_weight * class_loss.sum() + box_weight * box_loss.sum()) / normaliser
