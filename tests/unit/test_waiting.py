"""The host never waits for the device inside the losses: nothing asks for the value of a tensor."""

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from frontier.models.decoding import REG_MAX, anchor_points
from frontier.models.detector import Outputs
from frontier.params import LossWeights
from frontier.training.losses import (
    Grid,
    assignment_of,
    detection_losses,
    distribution_focal,
    giou,
    taught_losses,
)
from frontier.training.recipes import feature_distance
from tests.oracles import ASSIGNER, VARIFOCAL

# what stops the host on a device; a CPU runs the same operators
WAITS = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero"}
WEIGHTS = LossWeights(softmax=1.0, box=2.5, dfl=0.5, class_balance=0.5, **VARIFOCAL)


def waits(work: Callable[[], object]) -> dict[str, int]:
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        work()
    return {event.key: event.count for event in recorded.key_averages() if event.key in WAITS}


def drawn(seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    anchors = len(anchor_points(64)[0])
    shapes = [(2, anchors, 3), (2, anchors, 4, REG_MAX + 1), (2, 8, 4, 4)]
    logits, bins, features = (
        torch.randn(shape, generator=generator).requires_grad_() for shape in shapes
    )
    return Outputs(logits, bins, (features,) * 3)


def test_the_losses_wait_for_nothing() -> None:
    student, teacher, grid = drawn(0), drawn(1), Grid(*anchor_points(64))
    truth = torch.tensor([[[4.0, 4, 40, 40], [30, 30, 60, 50]]]).expand(2, -1, -1)
    labels, ignore = torch.tensor([[0, 2], [1, -1]]), torch.zeros(2, 2, dtype=torch.bool)

    def learn() -> None:
        assignment = assignment_of(student, grid, truth, labels, ignore, ASSIGNER)
        losses = detection_losses(student, assignment, grid, WEIGHTS)
        taught = taught_losses(student, teacher, assignment)
        (losses.total + taught + feature_distance(student, teacher)).backward()

    assert waits(learn) == {}
    assert student.logits.grad is not None
    assert student.bins.grad is not None


@pytest.mark.parametrize("corners", [[0.0, 0, 10, 10], [0.0, 0, 0, 0]])
def test_the_box_losses_wait_for_nothing_even_at_an_empty_box(corners: list[float]) -> None:
    boxes = torch.tensor([corners]).expand(4, -1).clone().requires_grad_()
    truth, bins = torch.tensor([[2.0, 2, 12, 12]] * 4), torch.zeros(4, 4, REG_MAX + 1)

    def learn() -> None:
        near = distribution_focal(bins.requires_grad_(), (truth - boxes.detach()).abs())
        (giou(boxes, truth).sum() + near.sum()).backward()

    assert waits(learn) == {}


def test_a_wait_would_be_seen() -> None:
    factors = torch.ones(2, 2, requires_grad=True)
    assert "aten::item" in waits(lambda: factors.prod(1).sum().backward())
    assert "aten::item" in waits(lambda: float(factors.detach()[0, 0]))
