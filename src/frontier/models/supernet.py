"""One set of weights that every architecture of a space slices: the supernet.

There is no second, elastic definition of the network. A subnet is the ordinary `Detector` of its
code, called on slices of the supernet's parameters; taking it out copies the same slices. So a
subnet that was trained and one that was extracted cannot differ.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from frontier.files import read_json, write_json
from frontier.models.architecture import DEPTHS, Architecture, SearchSpace
from frontier.models.blocks import CSPLayer
from frontier.models.detector import Detector, Outputs


class Supernet(nn.Module):
    """The parameters of the largest network, with both block types side by side.

    Batch norm keeps no running statistics here: a subnet is recalibrated once it is extracted
    (`recalibrate`), since statistics of other subnets' slices are wrong for it.
    """

    def __init__(self, space: SearchSpace, num_classes: int) -> None:
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        self.store = nn.ParameterDict()
        for block in ("d", "q"):  # what both have in common ends as the one of `q`
            largest = Detector(_all(space.largest, block), num_classes)
            for name, parameter in largest.named_parameters():
                self.store[_key(name)] = parameter

    def slices(self, architecture: Architecture) -> dict[str, Tensor]:
        """Parameters of `architecture`'s detector as views into the store (gradients flow)."""
        skeleton = _skeleton(architecture, self.num_classes)
        segments = _segments(architecture)
        sliced = {}
        for name, parameter in skeleton.named_parameters():
            whole = self.store[_key(name)]
            prefix = name.removesuffix(".last.conv.weight")
            if prefix in segments:
                sliced[name] = _take_segments(whole, *segments[prefix])[: parameter.shape[0]]
            else:
                sliced[name] = whole[tuple(slice(size) for size in parameter.shape)]
        return sliced

    def forward(self, images_BCHW: Tensor, architecture: Architecture) -> Outputs:
        """Training-mode pass of one subnet: batch statistics, whatever the images' side."""
        skeleton = _skeleton(architecture, self.num_classes)
        outputs: Outputs = functional_call(skeleton, self.slices(architecture), (images_BCHW,))
        return outputs

    def extract(self, architecture: Architecture) -> Detector:
        """A detector of its own with copies of the slices; recalibrate it before evaluating."""
        detector = Detector(architecture, self.num_classes)
        with torch.no_grad():
            for name, value in self.slices(architecture).items():
                detector.get_parameter(name).copy_(value)
        return detector.eval()

    def load_largest(self, detector: Detector) -> None:
        """Take over a trained largest network; depthwise blocks, unknown to it, stay."""
        with torch.no_grad():
            for name, value in detector.named_parameters():
                self.store[_key(name)].copy_(value)


def _key(name: str) -> str:
    return name.replace(".", "/")  # ParameterDict refuses dots


def _all(architecture: Architecture, block: str) -> Architecture:
    stages = tuple(replace(stage, block=block) for stage in architecture.stages)
    return replace(architecture, stages=stages)


@lru_cache(maxsize=256)
def _skeleton(architecture: Architecture, num_classes: int) -> Detector:
    """The detector's structure without memory, its batch norms without running statistics."""
    with torch.device("meta"):
        skeleton = Detector(architecture, num_classes)
    for module in skeleton.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return skeleton.train()


@lru_cache(maxsize=256)
def _segments(architecture: Architecture) -> dict[str, tuple[int, tuple[int, ...], int]]:
    """Per CSP layer: channels taken of each segment, which segments, how many the store has.

    The largest layer concatenates `[second, first, outputs 1..n-1, last output]`; a subnet's last
    bottleneck always meets the last segment, whatever its depth.
    """
    layers = [
        name
        for name, module in _skeleton(architecture, 1).named_modules()
        if isinstance(module, CSPLayer)
    ]
    chosen = {}
    for index, name in enumerate(layers):
        stage = architecture.stages[index]
        count = 2 + max(DEPTHS[index])
        inner = tuple(range(1, 1 + stage.depth)) if stage.concat else ()
        chosen[name] = (architecture.hidden(index), (0, *inner, count - 1), count)
    return chosen


def _take_segments(weight: Tensor, hidden: int, segments: tuple[int, ...], count: int) -> Tensor:
    size = weight.shape[1] // count
    return torch.cat([weight[:, s * size : s * size + hidden] for s in segments], dim=1)


def recalibrate(detector: Detector, batches: list[Tensor]) -> Detector:
    """Estimate batch-norm statistics anew as the plain mean over `batches`, in place.

    Args:
        batches: image batches `[B, 3, H, W]` in 0..1, from training data.

    Reference: BigNAS, Yu et al. 2020 (arXiv:2003.11142), section 3.5.
    """
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    detector.train()
    with torch.no_grad():
        for images_BCHW in batches:
            detector(images_BCHW)
    for norm in norms:
        norm.momentum = 0.03
    return detector.eval()


def save_supernet(supernet: Supernet, classes: list[dict[str, Any]], folder: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.detach().contiguous().cpu() for name, value in supernet.store.items()}
    save_file(state, folder / "supernet.safetensors")
    space = {
        "interface_width": supernet.space.interface_width,
        "image_sides": list(supernet.space.image_sides),
    }
    write_json(folder / "supernet.json", {"space": space, "classes": classes})


def load_supernet(folder: Path) -> tuple[Supernet, list[dict[str, Any]]]:
    from safetensors.torch import load_file

    description = read_json(folder / "supernet.json")
    space = description["space"]
    supernet = Supernet(
        SearchSpace(space["interface_width"], tuple(space["image_sides"])),
        len(description["classes"]),
    )
    state = load_file(folder / "supernet.safetensors")
    with torch.no_grad():
        for name, value in state.items():
            supernet.store[name].copy_(value)
    return supernet, description["classes"]
