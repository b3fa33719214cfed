"""The detector of an architecture: backbone, neck, head, decoding, and its form on disk.

B batch, C channels, H height, W width, A anchors (cells of all three levels), K classes, R bins.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from frontier.files import read_json, write_json
from frontier.models.architecture import (
    HEAD_CHANNELS,
    NECK_OUTPUTS,
    STAGE_OUTPUTS,
    STEM,
    Architecture,
    scaled,
)
from frontier.models.blocks import SPP, ConvBNReLU, CSPLayer, QARepVGG, fuse
from frontier.models.decoding import (
    BINS,
    anchor_points,
    decode_boxes,
    expected_overlap,
    moments,
    powers,
)

CLASS_PRIOR = 0.01


class Outputs(NamedTuple):
    """What training needs of a forward pass.

    Attributes:
        logits: class logits, `[B, A, K]`.
        bins: logits of the distance bins left, top, right, bottom, `[B, A, 4, R]`.
        features: the three neck outputs, strides 8, 16, 32.
    """

    logits: Tensor
    bins: Tensor
    features: tuple[Tensor, Tensor, Tensor]


class Backbone(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.interface_width
        channels = scaled(STEM, width)
        self.stem = QARepVGG(3, channels, stride=2)
        self.stages = nn.ModuleList()
        for index, nominal in enumerate(STAGE_OUTPUTS):
            out_channels = scaled(nominal, width)
            self.stages.append(_stage(architecture, index, channels, out_channels))
            channels = out_channels
        self.spp = SPP(channels)

    def forward(self, images_BCHW: Tensor) -> list[Tensor]:
        features = [self.stem(images_BCHW)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return [*features[1:4], self.spp(features[4])]


def _csp(architecture: Architecture, index: int, in_channels: int, out_channels: int) -> CSPLayer:
    choice = architecture.stages[index]
    return CSPLayer(
        in_channels,
        out_channels,
        architecture.hidden(index),
        choice.depth,
        choice.block,
        concat=choice.concat,
        reparameterised=index < 6,
    )


def _stage(
    architecture: Architecture, index: int, in_channels: int, out_channels: int
) -> nn.Module:
    down = QARepVGG(in_channels, out_channels, stride=2)
    return nn.Sequential(down, _csp(architecture, index, out_channels, out_channels))


class UpStage(nn.Module):
    """Fuses a deep map with the map of its own scale and the one a scale higher."""

    def __init__(
        self,
        architecture: Architecture,
        index: int,
        in_channels: tuple[int, int, int],
        out_channels: int,
    ) -> None:
        super().__init__()
        deep, same, higher = in_channels
        self.reduce_deep = ConvBNReLU(deep, out_channels)
        self.reduce_same = ConvBNReLU(same, out_channels)
        self.reduce_higher = ConvBNReLU(higher, out_channels)
        self.up = nn.ConvTranspose2d(out_channels, out_channels, 2, 2)
        self.down = ConvBNReLU(out_channels, out_channels, 3, 2)
        self.reduce = ConvBNReLU(3 * out_channels, out_channels)
        self.csp = _csp(architecture, index, out_channels, out_channels)

    def forward(self, deep: Tensor, same: Tensor, higher: Tensor) -> tuple[Tensor, Tensor]:
        """The reduced deep map (reused on the way down) and the fused one."""
        reduced = self.reduce_deep(deep)
        parts = [
            self.up(reduced),
            self.reduce_same(same),
            self.down(self.reduce_higher(higher)),
        ]
        return reduced, self.csp(self.reduce(torch.cat(parts, dim=1)))


class DownStage(nn.Module):
    def __init__(
        self, architecture: Architecture, index: int, in_channels: int, skip: int, out_channels: int
    ) -> None:
        super().__init__()
        self.down = ConvBNReLU(in_channels, out_channels // 2, 3, 2)
        self.csp = _csp(architecture, index, out_channels // 2 + skip, out_channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.csp(torch.cat([self.down(features), skip], dim=1))
        return joined


class Neck(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.interface_width
        c2, c3, c4, c5 = (scaled(c, width) for c in STAGE_OUTPUTS)
        n1, n2, n3, n4 = (scaled(c, width) for c in NECK_OUTPUTS)
        self.up1 = UpStage(architecture, 4, (c5, c4, c3), n1)
        self.up2 = UpStage(architecture, 5, (n1, c3, c2), n2)
        self.down1 = DownStage(architecture, 6, n2, n2, n3)
        self.down2 = DownStage(architecture, 7, n3, n1, n4)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        c2, c3, c4, c5 = maps
        skip1, up1 = self.up1(c5, c4, c3)
        skip2, up2 = self.up2(up1, c3, c2)
        down1 = self.down1(up2, skip2)
        return up2, down1, self.down2(down1, skip1)


class HeadLevel(nn.Module):
    """Class logits and distance bins of one level."""

    def __init__(self, in_channels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.stem = ConvBNReLU(in_channels, hidden)
        self.class_conv = ConvBNReLU(hidden, hidden, 3)
        self.box_conv = ConvBNReLU(hidden, hidden, 3)
        self.class_pred = nn.Conv2d(hidden, num_classes, 1)
        self.box_pred = nn.Conv2d(hidden, 4 * BINS, 1)
        nn.init.constant_(_bias(self.class_pred), -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))
        # first boxes of about 2.5 strides to each side, not 8: they overlap objects from the start
        decay = torch.arange(BINS, dtype=torch.float32) * -0.33
        _bias(self.box_pred).data.copy_(decay.repeat(4))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        stem = self.stem(features)
        logits = self.class_pred(self.class_conv(stem)).flatten(2).transpose(1, 2)
        bins = self.box_pred(self.box_conv(stem)).flatten(2).transpose(1, 2)
        return logits, bins


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


class Detector(nn.Module):
    """YOLO-NAS-style detector of an architecture code, with `num_classes` outputs."""

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        width = architecture.interface_width
        self.backbone = Backbone(architecture)
        self.neck = Neck(architecture)
        self.head = nn.ModuleList(
            HeadLevel(
                scaled(inputs, width), scaled(hidden * architecture.head_width, width), num_classes
            )
            for inputs, hidden in zip(NECK_OUTPUTS[1:], HEAD_CHANNELS, strict=True)
        )

    def forward(self, images_BCHW: Tensor) -> Outputs:
        """Images float32 in 0..1; any side that is a multiple of 32."""
        features = self.neck(self.backbone(images_BCHW))
        levels = [level(f) for level, f in zip(self.head, features, strict=True)]
        bins = torch.cat([bins for _, bins in levels], dim=1)
        return Outputs(
            torch.cat([logits for logits, _ in levels], dim=1),
            bins.view(*bins.shape[:2], 4, BINS),
            features,
        )

    def deploy(self) -> nn.Module:
        """A fused copy that answers boxes and scores; this module is left as it is."""
        return Deployed(fuse(copy.deepcopy(self).eval()), self.architecture.image_side)


class Deployed(nn.Module):
    """Fused network of a fixed input side: `boxes_xyxy [B, A, 4]` in pixels, `scores [B, A, K]`.

    A score is the class probability times the root of the overlap to be expected of so uncertain a
    box: the root, because the probability was trained towards the overlap too.
    """

    centres: Tensor
    strides: Tensor
    powers: Tensor

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        centres, strides = anchor_points(side)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("powers", powers(BINS), persistent=False)
        self.requires_grad_(False)

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.network(images_BCHW)
        distances, deviations = moments(outputs.bins, self.powers)
        scores = outputs.logits.sigmoid() * expected_overlap(distances, deviations).sqrt()
        return decode_boxes(self.centres, distances * self.strides), scores


@dataclass(frozen=True)
class LoadedDetector:
    module: Detector
    classes: list[dict[str, Any]]
    architecture: Architecture


def save_detector(module: Detector, classes: list[dict[str, Any]], folder: Path) -> None:
    """Write `model.safetensors` and `detector.json` (architecture code and classes)."""
    from safetensors.torch import save_file

    state = {name: value.contiguous().cpu() for name, value in module.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    description = {"architecture": module.architecture.code, "classes": classes}
    write_json(folder / "detector.json", description)


def holds_detector(folder: Path) -> bool:
    """Whether `save_detector` wrote there; a user's own teacher is none."""
    return (folder / "detector.json").is_file()


def load_detector(folder: Path) -> LoadedDetector:
    """The detector that `save_detector` wrote, in evaluation mode."""
    from safetensors.torch import load_file

    description = read_json(folder / "detector.json")
    architecture = Architecture.parse(description["architecture"])
    module = Detector(architecture, len(description["classes"]))
    module.load_state_dict(load_file(folder / "model.safetensors"))
    return LoadedDetector(module.eval(), description["classes"], architecture)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def cost(fused: nn.Module, side: int) -> tuple[int, float]:
    """Parameters and GMAC of a fused network at one input side, batch 1.

    A MAC is one multiply-add of a convolution, as the YOLO-NAS table counts them.
    """
    macs = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            per_output = module.weight[0].numel()
            macs += output.numel() * per_output
        elif isinstance(module, nn.ConvTranspose2d):
            macs += output.numel() * module.in_channels  # kernel 2, stride 2: one tap per output

    handles = [module.register_forward_hook(count) for module in fused.modules()]
    parameter = next(fused.parameters())
    with torch.no_grad():
        fused(parameter.new_empty(1, 3, side, side))
    for handle in handles:
        handle.remove()
    return count_parameters(fused), macs / 1e9
