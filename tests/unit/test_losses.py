"""Losses against slow, obvious second implementations."""

import math

import numpy as np
import pytest
import torch

from frontier.models.decoding import REG_MAX, anchor_points
from frontier.models.detector import Outputs
from frontier.params import LossWeights
from frontier.training.assigner import Assignment, assign, pairwise_iou
from frontier.training.losses import (
    Grid,
    class_weights,
    detection_losses,
    distribution_focal,
    giou,
    taught_losses,
    varifocal,
)
from tests.oracles import ASSIGNER, VARIFOCAL, assign_one, boxes, slow_giou, slow_iou

HALF = LossWeights(softmax=0, box=0, dfl=0, class_balance=0.5, **VARIFOCAL)
WEIGHTS = LossWeights(softmax=1.0, box=2.5, dfl=0.5, class_balance=0.5, **VARIFOCAL)


def slow_losses(outputs, assignment, centres, strides, weights):
    """One anchor and one class at a time, float64: class, softmax, box and DFL terms."""
    logits, bins = outputs.logits.double(), outputs.bins.double()
    positives = [tuple(p) for p in assignment.positive.nonzero().tolist()]
    by_class: dict[int, float] = {}
    for p in positives:
        label = int(assignment.labels[p])
        by_class[label] = by_class.get(label, 0.0) + float(assignment.shares[p])
    mean = sum(by_class.values()) / max(1, len(by_class))
    heard = {
        label: min(8.0, (mass / mean) ** -weights.class_balance) for label, mass in by_class.items()
    }

    class_loss = 0.0
    for p in np.ndindex(*logits.shape[:2]):
        for k in range(logits.shape[2]):
            prob = float(logits[p][k].sigmoid())
            own = bool(assignment.positive[p]) and k == int(assignment.labels[p])
            q = float(assignment.scores[p]) if own else 0.0
            weight = heard[k] * q if q > 0 else 0.75 * prob**2
            entropy = -(q * math.log(prob) + (1 - q) * math.log(1 - prob))
            class_loss += 0.0 if assignment.ignored[p] else weight * entropy
    softmax_loss = box_loss = dfl_loss = mass = 0.0
    for image, anchor in positives:
        weight = float(assignment.shares[image, anchor])
        label = int(assignment.labels[image, anchor])
        weight *= heard[label]
        powers = [math.exp(value) for value in logits[image, anchor].tolist()]
        softmax_loss -= weight * math.log(powers[label] / sum(powers))
        truth, stride = assignment.boxes_xyxy[image, anchor].tolist(), float(strides[anchor])
        x, y = centres[anchor].tolist()
        p = bins[image, anchor].softmax(-1)
        d = [sum(i * float(p[s, i]) for i in range(REG_MAX + 1)) * stride for s in range(4)]
        box_loss += weight * (1 - slow_giou([x - d[0], y - d[1], x + d[2], y + d[3]], truth))
        wanted = [x - truth[0], y - truth[1], truth[2] - x, truth[3] - y]
        for side, distance in enumerate(wanted):
            t = min(max(distance / stride, 0.0), REG_MAX - 0.01)
            low = int(t)
            one = (low + 1 - t) * math.log(p[side, low]) + (t - low) * math.log(p[side, low + 1])
            dfl_loss -= weight * one / 4
        mass += weight
    mass = max(1.0, mass)
    return (
        class_loss / max(1.0, float(assignment.scores.sum())),
        weights.softmax * softmax_loss / mass,
        weights.box * box_loss / mass,
        weights.dfl * dfl_loss / mass,
    )


@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_losses_equal_the_slow_ones(balance):
    generator = torch.Generator().manual_seed(3)
    centres, strides = anchor_points(64)
    logits = torch.randn(2, len(centres), 3, generator=generator) - 2
    bins = torch.randn(2, len(centres), 4, REG_MAX + 1, generator=generator)
    outputs = Outputs(logits, bins, (logits, logits, logits))
    truth = torch.stack([boxes(5, generator), boxes(5, generator)])
    labels = torch.tensor([[0, 0, 0, 1, -1], [0, 0, 0, 0, 2]])
    ignore = torch.tensor([[False] * 5, [False, True, False, False, False]])
    predicted = torch.cat([centres - 8, centres + 8], 1).expand(2, -1, -1)
    assignment = assign(logits.sigmoid(), predicted, centres, truth, labels, ignore, ASSIGNER)
    weights = LossWeights(softmax=1.5, box=2.5, dfl=0.5, class_balance=balance, **VARIFOCAL)
    got = detection_losses(outputs, assignment, Grid(centres, strides), weights)
    expected = slow_losses(outputs, assignment, centres, strides, weights)
    assert [t.item() for t in got[1:]] == pytest.approx(expected, rel=1e-4)
    assert got.total.item() == pytest.approx(sum(expected), rel=1e-4)


def test_a_rare_class_weighs_more_and_a_lone_one_weighs_one():
    centres, _ = anchor_points(64)
    scores = torch.full((1, len(centres), 2), 0.1)
    predicted = torch.cat([centres - 8, centres + 8], 1)[None]
    corners = torch.tensor([[0.0, 0], [20, 0], [40, 0], [0, 40]])
    truth = torch.cat([corners, corners + 18], 1)[None]
    ignore = torch.zeros(1, 4, dtype=torch.bool)
    mixed = assign(
        scores, predicted, centres, truth, torch.tensor([[0, 0, 0, 1]]), ignore, ASSIGNER
    )
    weights = class_weights(mixed, 2, HALF)[mixed.positive]
    rare = mixed.labels[mixed.positive] == 1
    assert weights[rare].min() > 1 > weights[~rare].max()
    alone = assign(
        scores, predicted, centres, truth, torch.zeros(1, 4, dtype=torch.int64), ignore, ASSIGNER
    )
    assert torch.allclose(class_weights(alone, 2, HALF), torch.ones(()))


@pytest.mark.parametrize(("common", "expected"), [(9, 5.0), (15, 8.0), (39, 8.0)])
def test_a_class_weighs_at_most_eight(common, expected):
    anchors = common + 3  # the last two belong to no box
    positive = torch.arange(anchors)[None] <= common
    labels = (torch.arange(anchors)[None] == common).long()
    shares = positive.float()
    assignment = Assignment(
        positive, labels, torch.zeros(1, anchors, 4), shares, shares, ~positive, labels, anchors
    )
    balanced = HALF.model_copy(update={"class_balance": 1.0})
    weights = class_weights(assignment, 3, balanced)[0]
    assert weights[common].item() == pytest.approx(expected)
    assert torch.allclose(weights[:common], torch.tensor((common + 1) / common / 2))
    assert weights[common + 1 :].tolist() == [1, 1]


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
    assert torch.allclose(
        varifocal(logits, targets, 0.75, 2.0), torch.stack([positive, negative]), atol=1e-6
    )


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
        torch.zeros(2, size, dtype=torch.bool), ASSIGNER,
    )  # fmt: skip
    losses = detection_losses(outputs, assignment, grid, WEIGHTS)
    losses.total.backward()
    assert torch.isfinite(torch.stack([*losses])).all()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(bins.grad).all()
    if not count:
        assert losses.softmax_loss == losses.box_loss == losses.dfl_loss == 0


def test_one_class_has_nothing_to_tell_apart():
    centres, strides = anchor_points(64)
    logits = torch.randn(1, len(centres), 1, generator=torch.Generator().manual_seed(0))
    outputs = Outputs(logits, torch.zeros(1, len(centres), 4, REG_MAX + 1), (logits,) * 3)
    predicted = torch.cat([centres - 8, centres + 8], 1)
    got = detection_losses(
        outputs, assign_one([8.0, 8.0, 40.0, 40.0], predicted), Grid(centres, strides), WEIGHTS
    )
    assert got.softmax_loss == 0
    assert got.box_loss > 0


@pytest.mark.parametrize("empty", [False, True])
def test_what_a_teacher_teaches_equals_the_slow_sum(empty):
    generator = torch.Generator().manual_seed(5)
    centres, _ = anchor_points(64)
    shapes = [(2, len(centres), 3), (2, len(centres), 4, REG_MAX + 1)]
    draw = lambda: [torch.randn(shape, generator=generator) for shape in shapes]  # noqa: E731
    (logits, bins), (soft_logits, soft_bins) = draw(), draw()
    truth = torch.stack([boxes(4, generator), boxes(4, generator)])
    labels = torch.tensor([[0, 1, 2, -1], [2, 2, -1, -1]])
    labels = torch.full_like(labels, -1) if empty else labels
    predicted = torch.cat([centres - 8, centres + 8], 1).expand(2, -1, -1)
    ignore = torch.zeros(2, 4, dtype=torch.bool)
    assignment = assign(logits.sigmoid(), predicted, centres, truth, labels, ignore, ASSIGNER)
    got = taught_losses(
        Outputs(logits, bins, (logits,) * 3), Outputs(soft_logits, soft_bins, (logits,) * 3),
        assignment, class_weight=0.7, box_weight=0.3,
    )  # fmt: skip

    classes = boxes_apart = 0.0
    for own, taught in zip(logits.double().flatten(), soft_logits.double().flatten(), strict=True):
        p, q = float(own.sigmoid()), float(taught.sigmoid())
        classes -= abs(q - p) ** 2 * (q * math.log(p) + (1 - q) * math.log(1 - p))
    for image, anchor in assignment.positive.nonzero().tolist():
        p, q = (b[image, anchor].double().softmax(-1) for b in (bins, soft_bins))
        divergence = float((q * (q.log() - p.log())).sum()) / 4
        boxes_apart += divergence * float(assignment.scores[image, anchor])
    expected = (0.7 * classes + 0.3 * boxes_apart) / max(1.0, float(assignment.scores.sum()))
    assert got.item() == pytest.approx(expected, rel=1e-4)
    assert (boxes_apart == 0) == empty
