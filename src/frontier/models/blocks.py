"""Building blocks of the detector, each with a `fuse` that folds it for deployment.

B batch, C channels, H height, W width. Batch norm: eps 1e-3, momentum 0.03; ReLU everywhere.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


def fold(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `norm(conv(x))` in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    return weight * scale[:, None, None, None], shift


def plain(weight: Tensor, bias: Tensor, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that holds these values, padded to keep the size at stride 1."""
    out_channels, in_channels, kernel, _ = weight.shape
    conv = nn.Conv2d(
        *(in_channels * groups, out_channels, kernel, stride, kernel // 2),
        groups=groups,
        dtype=weight.dtype,
    )
    conv.weight.data.copy_(weight)
    assert conv.bias is not None
    conv.bias.data.copy_(bias)
    return conv


class ConvBNReLU(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = batch_norm(out_channels)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(features_BCHW)), inplace=True)

    def fuse(self) -> nn.Module:
        weight, bias = fold(self.conv.weight, self.norm)
        conv = plain(weight, bias, stride=self.conv.stride[0], groups=self.conv.groups)
        return nn.Sequential(conv, nn.ReLU())


class QARepVGG(nn.Module):
    """`relu(BN(conv3x3(x) + conv1x1(x) + x))`; identity only where shapes and stride allow.

    The branches are added as kernels, so that training, too, runs one convolution and one batch
    norm. QARepVGG has a second batch norm behind its 3x3 branch and so has to run each branch by
    itself, which takes 1.7 times as long here and learned no better (docs/ablations.md).

    Reference: QARepVGG, Chu et al., AAAI 2024 (arXiv:2212.01593); OREPA, Hu et al., CVPR 2022
    (arXiv:2204.00826).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv3 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = batch_norm(out_channels)
        self.identity = stride == 1 and in_channels == out_channels

    def forward(self, features_BCHW: Tensor) -> Tensor:
        total = F.conv2d(features_BCHW, self.kernel(), stride=self.stride, padding=1)
        return F.relu(self.norm(total), inplace=True)

    def kernel(self) -> Tensor:
        """`[out, in, 3, 3]`: the branches as one."""
        middle = self.conv1.weight
        if self.identity:
            eye = torch.eye(len(middle), device=middle.device, dtype=middle.dtype)
            middle = middle + eye[:, :, None, None]
        return self.conv3.weight + F.pad(middle, (1, 1, 1, 1))

    def fuse(self) -> nn.Module:
        weight, bias = fold(self.kernel(), self.norm)
        return nn.Sequential(plain(weight, bias, stride=self.stride), nn.ReLU())


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 then pointwise 1x1, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            ConvBNReLU(channels, channels, 3, groups=channels), ConvBNReLU(channels, channels)
        )


def block(kind: str, channels: int, *, reparameterised: bool) -> nn.Module:
    """The 3x3 unit named `q` (QARepVGG, or plain where not `reparameterised`) or `d`."""
    if kind == "d":
        return DepthwiseSeparable(channels)
    return QARepVGG(channels, channels) if reparameterised else ConvBNReLU(channels, channels, 3)


class Bottleneck(nn.Module):
    """`alpha * x + block(block(x))` with a learnable scalar alpha."""

    def __init__(self, kind: str, channels: int, *, reparameterised: bool) -> None:
        super().__init__()
        self.first = block(kind, channels, reparameterised=reparameterised)
        self.second = block(kind, channels, reparameterised=reparameterised)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, features_BCHW: Tensor) -> Tensor:
        transformed: Tensor = self.second(self.first(features_BCHW))
        return self.alpha * features_BCHW + transformed


class CSPLayer(nn.Module):
    """Two 1x1 branches, bottlenecks on the first, concatenation, 1x1.

    The concatenation is `[second branch, (first branch, intermediates,) last bottleneck]`, so that
    a deeper or wider layer's last 1x1 convolution can be sliced (see `supernet`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: int,
        depth: int,
        kind: str,
        *,
        concat: bool,
        reparameterised: bool = True,
    ) -> None:
        super().__init__()
        self.concat = concat
        self.first = ConvBNReLU(in_channels, hidden)
        self.second = ConvBNReLU(in_channels, hidden)
        self.bottlenecks = nn.ModuleDict(
            {
                f"{kind}{i}": Bottleneck(kind, hidden, reparameterised=reparameterised)
                for i in range(depth)
            }
        )
        self.last = ConvBNReLU(hidden * (2 + depth * concat), out_channels)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        features = self.first(features_BCHW)
        parts = [self.second(features_BCHW)]
        for bottleneck in self.bottlenecks.values():
            if self.concat:
                parts.append(features)
            features = bottleneck(features)
        joined: Tensor = self.last(torch.cat([*parts, features], dim=1))
        return joined


class SPP(nn.Module):
    """Spatial pyramid pooling with windows 5, 9 and 13 between two 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBNReLU(channels, channels // 2)
        self.last = ConvBNReLU(channels * 2, channels)

    def forward(self, features_BCHW: Tensor) -> Tensor:
        features = self.first(features_BCHW)
        # a 9-window maximum is two chained 5-windows, 13 is three: same values, fewer comparisons
        five = F.max_pool2d(features, 5, 1, 2)
        nine = F.max_pool2d(five, 5, 1, 2)
        thirteen = F.max_pool2d(nine, 5, 1, 2)
        joined: Tensor = self.last(torch.cat([features, five, nine, thirteen], dim=1))
        return joined


def fuse(module: nn.Module) -> nn.Module:
    """Replace every block that can be folded, in place, and return the module."""
    if isinstance(module, ConvBNReLU | QARepVGG):
        return module.fuse()
    for name, child in module.named_children():
        setattr(module, name, fuse(child))
    return module
