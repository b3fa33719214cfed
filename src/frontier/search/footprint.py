"""Size of networks, exactly, and what steers a search towards limits on size and memory.

Legend: N architectures, G genes, L limits.
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from frontier.models.architecture import (
    BLOCKS,
    DEPTHS,
    HEAD_WIDTHS,
    HIDDENS,
    NECK_OUTPUTS,
    STAGE_NAMES,
    STAGE_OUTPUTS,
    Architecture,
    SearchSpace,
    scaled,
)
from frontier.models.blocks import fuse
from frontier.models.detector import Detector, count_parameters
from frontier.search.features import Genes, genes_of

Floats = npt.NDArray[np.float64]


class Footprint:
    """Fused parameters of any network of a space, without building it."""

    def __init__(self, space: SearchSpace, num_classes: int) -> None:
        self.space, self.num_classes = space, num_classes

    def parameters(self, genes_NG: Genes) -> Floats:
        """Weights and biases of the fused networks, `[N]`."""
        return self._stages(genes_NG) + self._around[genes_NG[:, -2]]

    def _stages(self, genes_NG: Genes) -> Floats:
        """Of the eight elastic stages, `[N]`."""
        total = np.zeros(len(genes_NG))
        for stage in range(len(STAGE_NAMES)):
            block, depth, hidden, concat = genes_NG[:, 4 * stage : 4 * stage + 4].T
            widths = [scaled(width, self.space.interface_width) for width in HIDDENS[stage]]
            total += self._stage(
                stage, block, np.array(DEPTHS[stage])[depth], np.array(widths)[hidden], concat
            )
        return total

    def _stage(
        self, stage: int, block: Genes, depth: Genes, hidden: Genes, concat: Genes
    ) -> Floats:
        inputs, outputs = self._channels[stage]
        full = 9 * hidden**2 + hidden
        depthwise = 10 * hidden + hidden**2 + hidden
        one = np.where(np.array(BLOCKS)[block] == "d", depthwise, full)
        branches = 2 * (inputs * hidden + hidden)
        last = hidden * (2 + depth * concat) * outputs + outputs
        found: Floats = branches + depth * (2 * one + 1) + last
        return found

    @property
    def _channels(self) -> list[tuple[int, int]]:
        """Into and out of each stage."""
        width = self.space.interface_width
        backbone = [scaled(c, width) for c in STAGE_OUTPUTS]
        up1, up2, down1, down2 = (scaled(c, width) for c in NECK_OUTPUTS)
        neck = [(up1, up1), (up2, up2), (down1 // 2 + up2, down1), (down2 // 2 + up1, down2)]
        return [*((c, c) for c in backbone), *neck]

    @cached_property
    def _around(self) -> Floats:
        """Of everything but the elastic stages, by head width."""
        found = []
        for head_width in HEAD_WIDTHS:
            stages = self.space.smallest.stages
            side = min(self.space.image_sides)
            network = Architecture(self.space.interface_width, side, head_width, stages)
            with torch.random.fork_rng(devices=[]):
                whole = count_parameters(fuse(Detector(network, self.num_classes).eval()))
            found.append(whole - self._stages(genes_of(self.space, [network]))[0])
        return np.array(found)
