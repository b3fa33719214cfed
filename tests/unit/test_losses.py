"""Assigner and losses against slow, obvious second implementations."""

import math

import numpy as np
import pytest
import torch

from frontier.models.decoding import REG_MAX, anchor_points
from frontier.models.detector import Outputs
from frontier.params import LossWeights
from frontier.training.assigner import TOP_K, assign, pairwise_iou
from frontier.training.losses import (
    Grid,
    class_weights,
    detection_losses,
    distribution_focal,
    giou,
    taught_losses,
    varifocal,
)

WEIGHTS = LossWeights(softmax=1.0, box=2.5, dfl=0.5, class_balance=0.5)


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


def slow_reach(box):
    """Is a point within the box, or within 6 px of its middle where the box is smaller?"""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = max(box[2] - box[0], 12), max(box[3] - box[1], 12)
    return lambda a, b: abs(a - x) < width / 2 and abs(b - y) < height / 2


def slow_assign(scores, predicted, centres, truth, labels, ignore):
    """One image, one box and one anchor at a time: owners, target scores and shares."""
    anchors = len(centres)
    wanted = {}  # anchor -> (iou, box)
    align = np.zeros((len(truth), anchors))
    overlap = np.zeros((len(truth), anchors))
    for m, box in enumerate(truth):
        overlap[m] = [slow_iou(box, p) for p in predicted]
        learns = labels[m] >= 0 and not ignore[m]
        inside = [a for a in range(anchors) if learns and slow_reach(box)(*centres[a])]
        align[m] = -1
        for a in inside:
            relative = overlap[m, a] / max(overlap[m, i] for i in inside)
            align[m, a] = scores[a][labels[m]] * relative**6
        best = sorted(range(anchors), key=lambda a: -align[m, a])[:TOP_K]
        for a in best:
            if align[m, a] >= 0 and overlap[m, a] > wanted.get(a, (-1,))[0]:
                wanted[a] = (overlap[m, a], m)
    target, share = np.zeros(anchors), np.zeros(anchors)
    for m in range(len(truth)):
        own = [a for a, (_, box) in wanted.items() if box == m]
        if own:
            top, best_iou = max(align[m, a] for a in own), max(overlap[m, a] for a in own)
            for a in own:
                share[a] = align[m, a] / top
                target[a] = share[a] * best_iou
    return {a: m for a, (_, m) in wanted.items()}, target, share


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
    owners, target, share = slow_assign(
        scores.tolist(), predicted.tolist(), centres.tolist(), truth.tolist(), labels.tolist(),
        ignore.tolist(),
    )  # fmt: skip
    assert set(got.positive[0].nonzero().flatten().tolist()) == set(owners)
    for anchor, box in owners.items():
        assert got.labels[0, anchor] == labels[box]
        assert torch.equal(got.boxes_xyxy[0, anchor], truth[box])
    assert np.allclose(got.scores[0].numpy(), target, atol=1e-5)
    assert np.allclose(got.shares[0].numpy(), share, atol=1e-5)
    inside = slow_reach(truth[3].tolist())
    for anchor, (x, y) in enumerate(centres.tolist()):
        assert bool(got.ignored[0, anchor]) == (inside(x, y) and anchor not in owners)


@pytest.mark.parametrize("count", [1, 40])
def test_positives_are_those_of_the_mask_in_a_table_of_fixed_length(count):
    generator = torch.Generator().manual_seed(count)
    centres, _ = anchor_points(64)
    predicted = torch.cat([centres - 8, centres + 8], 1).expand(2, -1, -1)
    truth = boxes(count, generator).expand(2, -1, -1)
    labels = torch.zeros(2, count, dtype=torch.int64)
    scores = torch.rand(2, len(centres), 1, generator=generator)
    got = assign(scores, predicted, centres, truth, labels, labels.bool())
    image, anchor, real = got.positives()
    assert len(real) == min(2 * len(centres), 2 * count * TOP_K)
    assert torch.equal(torch.stack([image, anchor], 1)[real], got.positive.nonzero())


def assign_one(box, predicted, score=0.01):
    """The assignment of one box of one class among the anchors of a 64 px input."""
    centres, _ = anchor_points(64)
    return assign(
        torch.full((1, len(centres), 1), score), predicted[None], centres,
        torch.tensor([[box]]), torch.tensor([[0]]), torch.tensor([[False]]),
    )  # fmt: skip


def test_a_box_that_holds_no_cell_centre_is_learned_all_the_same():
    centres, _ = anchor_points(64)
    got = assign_one([29.0, 29.0, 34.0, 34.0], torch.cat([centres - 8, centres + 8], 1))
    assert got.positive.any()
    assert got.shares.max() == 1


def test_a_small_box_under_a_wide_first_guess_keeps_its_target():
    centres, _ = anchor_points(64)
    predicted = torch.cat([centres - 40, centres + 40], 1)  # IoU of 100 / 6400
    got = assign_one([27.0, 27.0, 37.0, 37.0], predicted)
    assert got.scores.max().item() == pytest.approx(100 / 6400, rel=1e-3)


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
    assignment = assign(logits.sigmoid(), predicted, centres, truth, labels, ignore)
    weights = LossWeights(softmax=1.5, box=2.5, dfl=0.5, class_balance=balance)
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
    mixed = assign(scores, predicted, centres, truth, torch.tensor([[0, 0, 0, 1]]), ignore)
    weights = class_weights(mixed, 2, 0.5)[mixed.positive]
    rare = mixed.labels[mixed.positive] == 1
    assert weights[rare].min() > 1 > weights[~rare].max()
    alone = assign(scores, predicted, centres, truth, torch.zeros(1, 4, dtype=torch.int64), ignore)
    assert torch.allclose(class_weights(alone, 2, 0.5), torch.ones(()))


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
    losses = detection_losses(outputs, assignment, grid, WEIGHTS)
    losses.total.backward()
    assert torch.isfinite(torch.stack([*losses])).all()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(bins.grad).all()
    if not count:
        assert losses.softmax_loss == losses.box_loss == losses.dfl_loss == 0


def test_box_loss_gradients_in_float64():
    generator = torch.Generator().manual_seed(0)
    first = boxes(6, generator).double().requires_grad_()
    second = boxes(6, generator).double()
    assert torch.autograd.gradcheck(lambda b: giou(b, second), (first,))
    bins = torch.randn(3, 4, REG_MAX + 1, dtype=torch.float64, requires_grad=True)
    distances = torch.rand(3, 4, dtype=torch.float64) * 15
    assert torch.autograd.gradcheck(lambda b: distribution_focal(b, distances), (bins,))


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
    assignment = assign(logits.sigmoid(), predicted, centres, truth, labels, ignore)
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
