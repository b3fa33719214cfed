"""Networks of the space as ONNX graphs, composed from parts instead of exported one by one.

Exporting a network takes most of a second, putting its eight elastic stages into place a few
milliseconds. One donor network for each choice of a stage holds that choice in all eight stages;
one skeleton for each input side and head width holds everything around them.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from frontier.models.architecture import STAGE_NAMES, Architecture, SearchSpace, StageChoice
from frontier.models.detector import Detector
from frontier.targets.network import export_network

# Where the exporter names the nodes of each elastic stage.
PREFIXES = tuple(
    [f"/network/backbone/stages.{i}/stages.{i}.1/" for i in range(4)]
    + [f"/network/neck/{name}/csp/" for name in ("up1", "up2", "down1", "down2")]
)
assert len(PREFIXES) == len(STAGE_NAMES)


class Graphs:
    """Composes the networks of one space, with arbitrary weights: good for timing alone.

    Args:
        batch_size: images that the networks take at once.
    """

    def __init__(self, space: SearchSpace, num_classes: int, batch_size: int) -> None:
        self.space, self.num_classes, self.batch_size = space, num_classes, batch_size
        self._skeletons: dict[tuple[int, float], onnx.ModelProto] = {}
        self._donors: dict[int, dict[str, onnx.ModelProto]] = {i: {} for i in range(len(PREFIXES))}

    def compose(self, architecture: Architecture) -> onnx.ModelProto:
        """The fused network of an architecture."""
        model = onnx.ModelProto()
        model.CopyFrom(self._skeleton(architecture))
        for stage, choice in enumerate(architecture.stages):
            _transplant(self._donor(stage, choice), model, PREFIXES[stage], f"@{choice}")
        _drop_unused(model)
        return model

    def _skeleton(self, architecture: Architecture) -> onnx.ModelProto:
        key = architecture.image_side, architecture.head_width
        if key not in self._skeletons:
            stages = self.space.smallest.stages
            self._skeletons[key] = self._export(replace(architecture, stages=stages))
        return self._skeletons[key]

    def _donor(self, stage: int, choice: StageChoice) -> onnx.ModelProto:
        """A network with this choice in this stage, and one as high in the list in all others."""
        if str(choice) not in self._donors[stage]:
            stages = self.space.alike(stage, choice)
            side = min(self.space.image_sides)
            made = self._export(replace(self.space.smallest, stages=stages, image_side=side))
            for index, own in enumerate(stages):
                self._donors[index][str(own)] = made
        return self._donors[stage][str(choice)]

    def _export(self, architecture: Architecture) -> onnx.ModelProto:
        with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            detector = Detector(architecture, self.num_classes)
            path = Path(folder) / "network.onnx"
            export_network(detector.deploy(), architecture.image_side, path, self.batch_size)
            return onnx.load(path)


def _transplant(donor: onnx.ModelProto, model: onnx.ModelProto, prefix: str, mark: str) -> None:
    """Replace the stage below `prefix` by the donor's; its weights carry `mark` in their names.

    Both forms of a stage read one tensor and end in one, and those have the same names.
    """
    place = next(i for i, node in enumerate(model.graph.node) if node.name.startswith(prefix))
    source = _entrance(donor, prefix)
    target = _entrance(model, prefix)
    weights = {tensor.name: tensor for tensor in donor.graph.initializer}
    kept = [node for node in model.graph.node if not node.name.startswith(prefix)]
    made = []
    for node in donor.graph.node:
        if not node.name.startswith(prefix):
            continue
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        for index, name in enumerate(node.input):
            if name == source:
                copied.input[index] = target
            elif name in weights:
                copied.input[index] = name + prefix + mark
        made.append(copied)
    used = {name for node in made for name in node.input}
    for name, tensor in weights.items():
        if name + prefix + mark in used:
            copied_tensor = model.graph.initializer.add()
            copied_tensor.CopyFrom(tensor)
            copied_tensor.name = name + prefix + mark
    del model.graph.node[:]
    model.graph.node.extend([*kept[:place], *made, *kept[place:]])


def _entrance(model: onnx.ModelProto, prefix: str) -> str:
    """The tensor that the stage below `prefix` reads."""
    first = next(node for node in model.graph.node if node.name.startswith(prefix))
    return str(first.input[0])


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
