"""From what the head says to boxes: anchors, distance bins, and how sure they are.

B batch, A anchors (cells of all three levels), R bins.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from frontier.models.architecture import STRIDES

REG_MAX = 16
BINS = REG_MAX + 1
MEAN_DEVIATION = math.sqrt(2 / math.pi)  # of a normal variable, in standard deviations


def anchor_points(side: int) -> tuple[Tensor, Tensor]:
    """Cell centres in pixels `[A, 2]` (x, y) and strides `[A, 1]`, level by level, row-major."""
    centres, strides = [], []
    for stride in STRIDES:
        steps = (torch.arange(side // stride, dtype=torch.float32) + 0.5) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()], dim=1))
        strides.append(torch.full((len(steps) ** 2, 1), float(stride)))
    return torch.cat(centres), torch.cat(strides)


def expected_distances(bins: Tensor, values: Tensor) -> Tensor:
    """Mean of each bin distribution, in strides: `[..., 4, R]` -> `[..., 4]`.

    Reference: Generalized Focal Loss, Li et al. 2020 (arXiv:2006.04388), equation 4.
    """
    return bins.softmax(dim=-1) @ values


def powers(bins: int) -> Tensor:
    """Each bin's distance from the middle one and its square, as a kernel `[2, 1, 1, R]`.

    From the middle, so that the difference of squares in `moments` stays exact in few digits.
    """
    values = torch.arange(bins, dtype=torch.float32) - bins // 2
    return torch.stack([values, values**2]).view(2, 1, 1, bins)


def moments(bins: Tensor, powers: Tensor) -> tuple[Tensor, Tensor]:
    """`[B, A, 4, R]` -> mean and standard deviation of each bin distribution, `[B, A, 4]`, strides.

    As a convolution, which runtimes have a quick kernel for (ONNX Runtime multiplies by a vector
    anchor by anchor; TensorRT builds no float32 matrix product for a T4).
    """
    batch, anchors, sides, count = bins.shape
    probabilities = bins.softmax(dim=-1).reshape(batch, 1, anchors * sides, count)
    both = F.conv2d(probabilities, powers).reshape(batch, 2, anchors, sides)
    mean, square = both[:, 0], both[:, 1]
    return mean + count // 2, (square - mean * mean).clamp_min(0.0).sqrt()


def expected_overlap(distances: Tensor, deviations: Tensor) -> Tensor:
    """`[..., 4]`, `[..., 4]` -> `[..., 1]`: the IoU to be expected with the truth, in 0..1.

    A box whose sides are off by d has an IoU of about `1 - sum(|d| / extent)`, here
    `exp(-sum(|d| / extent))`, with what a normal variable of that deviation is off in the mean.
    The bins know what the class scores do not: which boxes are loose (as GFLv2, Li et al. 2020,
    arXiv:2011.12885, learns it; here nothing is learned). A side between two bins spreads over
    both however sure it is, so small boxes are taken for looser than they are; left out, that
    part made AP no better (docs/ablations.md).
    """
    extents = distances[..., :2] + distances[..., 2:]
    off = (deviations[..., :2] + deviations[..., 2:]) * MEAN_DEVIATION
    return (-(off / extents.clamp_min(1e-6)).sum(-1, keepdim=True)).exp()


def decode_boxes(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes xyxy from centres `[A, 2]` and distances left, top, right, bottom `[..., A, 4]`."""
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
