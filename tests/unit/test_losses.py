"""Assigner and losses against slow, obvious second implementations."""

import math

import numpy as np
import pytest
import torch

from frontier.models.detector import REG_MAX, Outputs, anchor_points
from frontier.training.assigner import TOP_K, assign, pairwise_iou
from frontier.training.losses import (
    Grid,
    detection_losses,
    distribution_focal,
    giou,
    varifocal,
)


def boxes(count: int, generator: torch.Generator, side: float = 64) -> torch.Tensor:
    corners = torch.rand(count, 2, generator=generator) * side * 0.6
    return torch.cat([corners, corners + 4 + torch.rand(count, 2, generator=generator) * 24], 1)


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def slow_giou(a, b):
    iou = slow_iou(a, b)
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])  # noqa: E731
    inter = iou / (1 + iou) * (area(a) + area(b))
    union = area(a) + area(b) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return iou - (hull - union) / hull


def slow_assign(scores, predicted, centres, truth, labels, ignore):
    """One image, one box and one anchor at a time."""
    anchors = len(centres)
    wanted = {}  # anchor -> (iou, box)
    align = np.zeros((len(truth), anchors))
    overlap = np.zeros((len(truth), anchors))
    for m, box in enumerate(truth):
        for a, (x, y) in enumerate(centres):
            overlap[m, a] = slow_iou(box, predicted[a])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            if labels[m] >= 0 and not ignore[m] and inside:
                align[m, a] = scores[a][labels[m]] * overlap[m, a] ** 6
            else:
                align[m, a] = -1
        best = sorted(range(anchors), key=lambda a: -align[m, a])[:TOP_K]
        for a in best:
            if align[m, a] >= 0 and overlap[m, a] > wanted.get(a, (-1,))[0]:
                wanted[a] = (overlap[m, a], m)
    target = np.zeros(anchors)
    for m in range(len(truth)):
        own = [a for a, (_, box) in wanted.items() if box == m]
        if own:
            top, best_iou = max(align[m, a] for a in own), max(overlap[m, a] for a in own)
            for a in own:
                target[a] = align[m, a] * best_iou / max(top, 1e-9)
    return {a: m for a, (_, m) in wanted.items()}, target


@pytest.mark.parametrize("seed", range(6))
def test_assigner_equals_the_slow_one(seed):
    generator = torch.Generator().manual_seed(seed)
    centres, _ = anchor_points(64)
    anchors = len(centres)
    truth, labels = boxes(5, generator), torch.tensor([0, 1, 2, 1, -1])
    ignore = torch.tensor([False, False, False, True, False])
    predicted = torch.cat([centres - 8, centres + 8], 1) + torch.randn(
        anchors, 4, generator=generator
    )
    scores = torch.rand(anchors, 3, generator=generator)
    got = assign(scores[None], predicted[None], centres, truth[None], labels[None], ignore[None])
    owners, target = slow_assign(
        scores.tolist(), predicted.tolist(), centres.tolist(), truth.tolist(), labels.tolist(),
        ignore.tolist(),
    )  # fmt: skip
    assert set(got.positive[0].nonzero().flatten().tolist()) == set(owners)
    for anchor, box in owners.items():
        assert got.labels[0, anchor] == labels[box]
        assert torch.equal(got.boxes_xyxy[0, anchor], truth[box])
    assert np.allclose(got.scores[0].numpy(), target, atol=1e-5)
    for anchor, (x, y) in enumerate(centres.tolist()):
        box = truth[3].tolist()
        inside = box[0] < x < box[2] and box[1] < y < box[3]
        assert bool(got.ignored[0, anchor]) == (inside and anchor not in owners)


def test_iou_and_giou_equal_the_slow_ones():
    generator = torch.Generator().manual_seed(0)
    first, second = boxes(20, generator), boxes(20, generator)
    matrix = pairwise_iou(first, second)
    for i in range(20):
        assert matrix[i, i].item() == pytest.approx(slow_iou(first[i].tolist(), second[i].tolist()),
                                                    abs=1e-5)  # fmt: skip
        own = giou(first[i : i + 1], second[i : i + 1]).item()
        assert own == pytest.approx(slow_giou(first[i].tolist(), second[i].tolist()), abs=1e-4)


def test_dfl_is_cross_entropy_of_the_two_neighbours():
    bins = torch.randn(1, 4, REG_MAX + 1, generator=torch.Generator().manual_seed(0))
    distances = torch.tensor([[0.0, 3.25, 15.9, 99.0]])
    got = distribution_focal(bins, distances)[0]
    for side, distance in enumerate([0.0, 3.25, 15.9, REG_MAX - 0.01]):
        p = bins[0, side].softmax(0)
        low = math.floor(distance)
        expected = -(
            (low + 1 - distance) * math.log(p[low]) + (distance - low) * math.log(p[low + 1])
        )
        assert got[side].item() == pytest.approx(expected, abs=1e-4)


def test_varifocal_closed_form():
    logits, targets = torch.tensor([0.3, -1.2]), torch.tensor([0.7, 0.0])
    p = logits.sigmoid()
    positive = -0.7 * (0.7 * p[0].log() + 0.3 * (1 - p[0]).log())
    negative = -0.75 * p[1] ** 2 * (1 - p[1]).log()
    assert torch.allclose(varifocal(logits, targets), torch.stack([positive, negative]), atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_losses_and_gradients_are_finite(count):
    generator = torch.Generator().manual_seed(0)
    centres, strides = anchor_points(64)
    anchors = len(centres)
    logits = torch.randn(2, anchors, 3, generator=generator, requires_grad=True)
    bins = torch.randn(2, anchors, 4, REG_MAX + 1, generator=generator, requires_grad=True)
    outputs = Outputs(logits, bins, (logits, logits, logits))
    size = max(1, count)
    truth = boxes(size, generator).expand(2, -1, -1)
    labels = torch.full((2, size), 0 if count else -1)
    grid = Grid(centres, strides)
    predicted = torch.cat([centres - 8, centres + 8], 1).expand(2, -1, -1)
    assignment = assign(
        logits.detach().sigmoid(), predicted, centres, truth, labels,
        torch.zeros(2, size, dtype=torch.bool),
    )  # fmt: skip
    losses = detection_losses(outputs, assignment, grid)
    losses.total.backward()
    assert torch.isfinite(torch.stack([*losses])).all()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(bins.grad).all()
    if not count:
        assert losses.box_loss == 0
        assert losses.dfl_loss == 0


def test_box_loss_gradients_in_float64():
    generator = torch.Generator().manual_seed(0)
    first = boxes(6, generator).double().requires_grad_()
    second = boxes(6, generator).double()
    assert torch.autograd.gradcheck(lambda b: giou(b, second), (first,))
    bins = torch.randn(3, 4, REG_MAX + 1, dtype=torch.float64, requires_grad=True)
    distances = torch.rand(3, 4, dtype=torch.float64) * 15
    assert torch.autograd.gradcheck(lambda b: distribution_focal(b, distances), (bins,))
