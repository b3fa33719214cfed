"""Muon for the matrices of a network, AdamW for everything else.

torch.optim.Muon takes 2-D parameters only, works in bfloat16 (slow on a CPU without it) and runs
its iteration one matrix at a time; a detector has a hundred small convolutions, many of equal
shape, so here they are orthogonalised in float32 and in stacks.

Reference: Muon, Jordan et al. 2024 (kellerjordan.github.io/posts/muon); scaling to AdamW's update
size, Liu et al. 2025 (arXiv:2502.16982), section 2.2.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from frontier.params import Optimizer as Chosen
from frontier.params import Train

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
MIN_INPUTS = 8  # depthwise kernels and the image's three channels are no matrices worth the name


def optimizers(module: nn.Module, recipe: Train) -> dict[str, Any]:
    """`muon` for hidden convolutions, `adamw` for the rest; biases and norms do not decay.

    `optimizer.kind: adamw` leaves everything to that. Both follow one learning rate. Parameters are
    told apart by shape and name: the last convolutions of the head (`class_pred`, `box_pred`) are
    outputs, which Muon is not for.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        hidden = parameter.ndim == 4 and parameter.shape[1] >= MIN_INPUTS and "_pred" not in name
        (matrices if hidden else others if parameter.ndim > 1 else plain).append(parameter)
    lr, weight_decay, chosen = recipe.learning_rate, recipe.weight_decay, recipe.optimizer
    if chosen.kind == "adamw":
        others, matrices = others + matrices, []
    groups = [
        {"params": others, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    adamw = {"adamw": torch.optim.AdamW(groups, lr=lr, fused=True)}
    return {"muon": Muon(matrices, lr, weight_decay, chosen), **adamw} if matrices else adamw


class Muon(torch.optim.Optimizer):
    """Momentum whose update is the nearest orthogonal matrix, per `[out, in * kernel]` weight.

    Its size is `update_rms` learning rates (root mean square): 0.2 would match AdamW's, three times
    that learned most in short trainings.
    """

    def __init__(
        self, params: list[nn.Parameter], lr: float, weight_decay: float, chosen: Chosen
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.momentum, self.update_rms = chosen.momentum, chosen.update_rms

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(_shape(parameter), []).append(parameter)
            for shape, parameters in by_shape.items():
                self._update(shape, parameters, group["lr"], group["weight_decay"])

    def _update(
        self, shape: tuple[int, int], parameters: list[Tensor], lr: float, weight_decay: float
    ) -> None:
        gradients = [_of(parameter.grad) for parameter in parameters]
        momenta = []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradient)
            momenta.append(state["momentum"])
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        looked_ahead = torch._foreach_lerp(gradients, momenta, self.momentum)  # Nesterov
        directions = orthogonalised(torch.stack([g.reshape(shape) for g in looked_ahead]))
        updates = [d.reshape(p.shape) for d, p in zip(directions, parameters, strict=True)]
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        size = self.update_rms * math.sqrt(max(shape))
        torch._foreach_add_(parameters, updates, alpha=-lr * size)


def _shape(parameter: Tensor) -> tuple[int, int]:
    return parameter.shape[0], parameter[0].numel()


def _of(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.float()


def orthogonalised(matrices_NAB: Tensor) -> Tensor:
    """Each matrix with its singular values near 1 (between about 0.7 and 1.2), by Newton-Schulz.

    Every factor is a polynomial in `X X^T`, so the iteration runs on that smaller square and
    meets the matrix only at both ends: less work where it is wide, the same result to rounding.
    """
    tall = matrices_NAB.shape[1] > matrices_NAB.shape[2]
    x = matrices_NAB.transpose(1, 2) if tall else matrices_NAB
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    gram = x @ x.transpose(1, 2)
    product = _polynomial(gram)
    factor = product
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    orthogonal: Tensor = product @ x
    return orthogonal.transpose(1, 2) if tall else orthogonal


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = NEWTON_SCHULZ
    value: Tensor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    value.diagonal(dim1=1, dim2=2).add_(a)
    return value
