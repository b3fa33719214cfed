"""Muon against torch's own, and which parameter goes where."""

import pytest
import torch
from torch import nn

from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector
from frontier.training.optimizer import (
    ITERATIONS,
    NEWTON_SCHULZ,
    Muon,
    optimizers,
    orthogonalised,
)
from tests.tiny import RECIPE

CHOSEN = RECIPE.optimizer


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 64, 24), (1, 32, 32)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_sizes(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    got = orthogonalised(matrices)
    for before, after in zip(matrices, got, strict=True):
        u, _, v = torch.linalg.svd(before, full_matrices=False)
        sizes = (u.T @ after @ v.T).diagonal()
        assert sizes.min() > 0.3
        assert sizes.max() < 1.3
        assert torch.allclose(u @ torch.diag(sizes) @ v, after, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 144), (64, 24), (32, 32)])
@pytest.mark.parametrize("rank", [5, 16])
def test_singular_values_follow_the_scalar_iteration(shape, rank):
    """The same polynomial, number by number; also where singular values are tiny or zero."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(side, rank, generator=generator).double() for side in shape)
    matrix = left * torch.logspace(0, -6, rank) @ right.T
    u, sizes, v = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = NEWTON_SCHULZ
    values = sizes / sizes.norm()
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    expected = u @ torch.diag(values) @ v
    assert torch.allclose(orthogonalised(matrix[None])[0], expected, atol=1e-9)
    single = orthogonalised(matrix[None].float())[0]
    assert torch.allclose(single, expected.float(), atol=1e-3)


def test_three_steps_agree_with_torchs_muon():
    """torch's runs in bfloat16: directions agree, not digits."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(24, 72, generator=generator)
    ours, theirs = nn.Parameter(start.view(24, 8, 3, 3).clone()), nn.Parameter(start.clone())
    rate = 0.01
    muon = Muon([ours], rate, 0.1, CHOSEN)
    reference = torch.optim.Muon(
        [theirs],
        lr=rate,
        weight_decay=0.1,
        momentum=CHOSEN.momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    for _ in range(3):
        gradient = torch.randn(24, 72, generator=generator)
        ours.grad, theirs.grad = gradient.view_as(ours), gradient.clone()
        muon.step()
        reference.step()
    decayed = start * (1 - rate * 0.1) ** 3
    moved = ours.detach().view(24, 72) - decayed
    expected = (theirs.detach() - decayed) * CHOSEN.update_rms / 0.2
    assert torch.cosine_similarity(moved.flatten(), expected.flatten(), 0) > 0.999
    assert (moved.norm() / expected.norm()).item() == pytest.approx(1, abs=0.02)


def test_convolutions_of_equal_shape_do_not_hear_each_other():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(8, 8, 3, 3, generator=generator) for _ in range(3)]
    gradients = [torch.randn(8, 8, 3, 3, generator=generator) for _ in range(3)]
    together = [nn.Parameter(w.clone()) for w in weights]
    for parameter, gradient in zip(together, gradients, strict=True):
        parameter.grad = gradient.clone()
    together[1].grad = None  # a slice of the supernet that no subnet of this step used
    Muon(together, 0.1, 0.0, CHOSEN).step()
    assert torch.equal(together[1], weights[1])
    for i in (0, 2):
        alone = nn.Parameter(weights[i].clone())
        alone.grad = gradients[i].clone()
        Muon([alone], 0.1, 0.0, CHOSEN).step()
        assert torch.allclose(alone, together[i], atol=1e-6)


def test_every_parameter_has_one_optimizer_and_outputs_are_not_muons():
    detector = Detector(SearchSpace(0.25, (64,)).largest, 3)
    both = optimizers(detector, RECIPE)
    owner = {
        id(parameter): name
        for name, optimizer in both.items()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    names = {name: owner.pop(id(parameter)) for name, parameter in detector.named_parameters()}
    assert not owner
    assert names["backbone.stages.0.0.conv3.weight"] == "muon"
    assert names["head.0.class_conv.conv.weight"] == "muon"
    assert names["head.0.class_pred.weight"] == "adamw"
    assert names["backbone.stem.conv3.weight"] == "adamw"
    assert names["neck.up1.csp.last.norm.weight"] == "adamw"


def test_without_muon_the_other_moves_everything_and_only_biases_and_norms_do_not_decay():
    detector = Detector(SearchSpace(0.25, (64,)).largest, 3)
    chosen = CHOSEN.model_copy(update={"kind": "adamw"})
    alone = optimizers(detector, RECIPE.model_copy(update={"optimizer": chosen}))
    assert [*alone] == ["adamw"]
    decaying, plain = (group["params"] for group in alone["adamw"].param_groups)
    assert len(decaying) + len(plain) == len([*detector.parameters()])
    assert all(p.ndim > 1 for p in decaying)
    assert all(p.ndim <= 1 for p in plain)
