"""Gradients of every loss in float64: by finite differences, or by closed forms where a weight that
depends on the prediction is held fixed on purpose."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from frontier.models.decoding import REG_MAX, anchor_points
from frontier.models.detector import Outputs
from frontier.params import LossWeights
from frontier.training import losses
from frontier.training.assigner import Assignment, assign
from frontier.training.losses import Grid, detection_losses, distribution_focal, giou, taught_losses
from frontier.training.recipes import feature_distance
from tests.oracles import ASSIGNER, VARIFOCAL, boxes

WEIGHTS = LossWeights(softmax=1.5, box=2.5, dfl=0.5, class_balance=0.5, **VARIFOCAL)
SIDE = 64


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses compute in float32 whatever they are given; here in float64."""
    expected = losses.expected_distances
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(
        losses, "expected_distances", lambda bins, values: expected(bins, values.to(bins.dtype))
    )


def drawn(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def outputs(logits: torch.Tensor, bins: torch.Tensor) -> Outputs:
    return Outputs(logits, bins, (logits,) * 3)


class Scene:
    """Two images with boxes of three unevenly common classes; one box is ignored."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        self.grid = Grid(*(part.double() for part in anchor_points(SIDE)))
        anchors = len(self.grid.centres)
        self.logits = drawn(1, 2, anchors, 3) - 1
        self.bins = drawn(2, 2, anchors, 4, REG_MAX + 1)
        truth = torch.stack([boxes(5, generator), boxes(5, generator)]).double()
        labels = torch.tensor([[0, 0, 0, 1, -1], [0, 0, 0, 0, 2]])
        ignore = torch.zeros(2, 5, dtype=torch.bool)
        ignore[1, 1] = True
        around = torch.cat([self.grid.centres - 8, self.grid.centres + 8], 1).expand(2, -1, -1)
        self.assignment: Assignment = assign(
            self.logits.sigmoid(), around, self.grid.centres, truth, labels, ignore, ASSIGNER
        )
        assert self.assignment.positive.sum() > 20
        assert self.assignment.ignored.any()

    def losses(self, logits: torch.Tensor, bins: torch.Tensor) -> losses.Losses:
        return detection_losses(outputs(logits, bins), self.assignment, self.grid, WEIGHTS)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_box_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    first = boxes(6, generator).double().requires_grad_()
    second = boxes(6, generator).double()
    assert gradcheck(lambda b: giou(b, second), (first,))
    bins = drawn(0, 3, 4, REG_MAX + 1).requires_grad_()
    distances = torch.rand(3, 4, dtype=torch.float64) * 15
    assert gradcheck(lambda b: distribution_focal(b, distances), (bins,))


def test_the_total_through_the_decoding_of_boxes(scene: Scene) -> None:
    bins = scene.bins.clone().requires_grad_()
    assert gradcheck(lambda b: scene.losses(scene.logits, b).total, (bins,), fast_mode=True)
    scene.losses(scene.logits, bins).total.backward()
    learned = bins.grad.abs().sum((2, 3)) > 0
    assert torch.equal(learned, scene.assignment.positive)


def test_softmax_with_balanced_classes(scene: Scene) -> None:
    logits = scene.logits.clone().requires_grad_()
    assert gradcheck(
        lambda given: scene.losses(given, scene.bins).softmax_loss, (logits,), fast_mode=True
    )


def class_weight(scene: Scene, label: int) -> float:
    """By hand: (share of the class times classes present) ** -0.5."""
    mass = [float(scene.assignment.shares[scene.assignment.labels == k].sum()) for k in range(3)]
    return min(8.0, (mass[label] / sum(mass) * 3) ** -0.5)


def test_varifocal_with_balanced_classes_has_its_weight_held_fixed(scene: Scene) -> None:
    logits = scene.logits.clone().requires_grad_()
    scene.losses(logits, scene.bins).class_loss.backward()
    found, assignment = logits.grad, scene.assignment
    divisor = max(1.0, float(assignment.scores.sum()))
    expected = np.zeros(found.shape)
    for image, anchor, label in np.ndindex(*found.shape):
        p = float(scene.logits[image, anchor, label].sigmoid())
        own = assignment.positive[image, anchor] and label == int(assignment.labels[image, anchor])
        if own and assignment.scores[image, anchor] > 0:
            target = float(assignment.scores[image, anchor])
            weight = target * class_weight(scene, label)
        else:
            target, weight = 0.0, 0.75 * p**2
        if not assignment.ignored[image, anchor]:
            expected[image, anchor, label] = weight * (p - target) / divisor
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_total_is_the_sum_of_its_terms_in_gradient_too(scene: Scene) -> None:
    gradients = []
    for pick in ([0], [1, 2, 3, 4]):
        logits, bins = (part.clone().requires_grad_() for part in (scene.logits, scene.bins))
        found = scene.losses(logits, bins)
        sum(found[term] for term in pick).backward()
        gradients.append((logits.grad, bins.grad))
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-12, atol=1e-14)


def test_what_a_teacher_teaches(scene: Scene) -> None:
    taught_by = outputs(drawn(5, *scene.logits.shape), drawn(6, *scene.bins.shape))
    bins = scene.bins.clone().requires_grad_()
    assert gradcheck(
        lambda b: taught_losses(outputs(scene.logits, b), taught_by, scene.assignment),
        (bins,),
        fast_mode=True,
    )
    logits = scene.logits.clone().requires_grad_()
    taught_losses(outputs(logits, scene.bins), taught_by, scene.assignment).backward()
    p, q = scene.logits.sigmoid(), taught_by.logits.sigmoid()  # |q - p| ** 2 is held fixed
    expected = (q - p) ** 2 * (p - q) / max(1.0, float(scene.assignment.scores.sum()))
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-12)


SIZES = ((2, 3, 4, 4), (2, 5, 2, 2), (2, 2, 1, 3))  # neck maps of three levels


def maps(seed: int) -> list[torch.Tensor]:
    return [drawn(seed + i, *size) * (1 + i) + i for i, size in enumerate(SIZES)]


def with_features(*features: torch.Tensor) -> Outputs:
    return Outputs(features[0], features[0], features)


def test_feature_distance_equals_the_slow_sum() -> None:
    student, teacher = maps(10), maps(20)
    levels = []
    for own, other in zip(student, teacher, strict=True):
        squares = []
        for channel in range(own.shape[1]):
            a, b = (m[:, channel].flatten().tolist() for m in (own, other))
            standard = []
            for values in (a, b):
                mean = sum(values) / len(values)
                variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
                standard.append([(v - mean) / (variance + 1e-4) ** 0.5 for v in values])
            squares += [(x - y) ** 2 for x, y in zip(*standard, strict=True)]
        levels.append(sum(squares) / len(squares))
    found = feature_distance(with_features(*student), with_features(*teacher))
    assert found.item() == pytest.approx(sum(levels) / 3, rel=1e-12)


def test_feature_distance_knows_neither_scale_nor_shift_of_a_channel() -> None:
    student, teacher = maps(10), maps(20)
    moved = [m * 300 + 7 for m in teacher]
    plain = feature_distance(with_features(*student), with_features(*teacher))
    assert feature_distance(with_features(*student), with_features(*moved)).item() == pytest.approx(
        plain.item(), rel=1e-3
    )


def test_feature_distance_by_finite_differences() -> None:
    student = [m.requires_grad_() for m in maps(10)]
    teacher = with_features(*maps(20))
    assert gradcheck(lambda *own: feature_distance(with_features(*own), teacher), student)
