"""INT8 by QuantizeLinear / DequantizeLinear pairs: calibration, groups, and the two spellings.

A *group* is what is quantized or left float as a whole: one stage of the backbone or neck, one
branch of the head. The output region (the prediction convolutions, DFL, decoding and everything
after them) belongs to no group: its boxes and scores live on scales that 8 bits cannot hold.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from frontier.quantization import stem
from frontier.quantization.writer import Ranges, Writer
from frontier.targets.base import Spelling

__all__ = ["Ranges", "calibrate", "groups", "quantize", "random_ranges"]

# What runs on integers between two integer convolutions.
OPERATORS = ("Conv", "Relu", "Add", "Concat", "MaxPool", "DepthToSpace")
PERCENTILE = 99.99
CHUNK = 8  # images whose activations are held at once


def groups(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Group name -> names of its nodes, in graph order.

    A convolution belongs to the module that its weight is named after; any other operator
    belongs with the first of its inputs that comes from a convolution.
    """
    output_region = _output_region(model)
    inner = (node for node in _convolutions(model) if node.name not in output_region)
    weights = {node.name: node.input[1] for node in inner}
    paths = _without_common_prefix({n: w.split(".")[:-2] for n, w in weights.items()})
    group_of_tensor: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.name in output_region:
            continue
        inherited = next((group_of_tensor[n] for n in node.input if n in group_of_tensor), None)
        group = _group_name(paths[node.name]) if node.name in weights else inherited
        if group is None:
            continue
        group_of_tensor |= dict.fromkeys(node.output, group)
        if node.op_type in OPERATORS:
            found.setdefault(group, []).append(node.name)
    return found


def calibrate(model: onnx.ModelProto, images: Iterable[NDArray[np.float32]], method: str) -> Ranges:
    """The range of every activation that may be quantized.

    Args:
        images: each [1, 3, S, S] in 0..1, as the network takes them.
        method: minmax | percentile | entropy.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "percentile": (CalibrationMethod.Percentile, {"percentile": PERCENTILE}),
        "entropy": (CalibrationMethod.Entropy, {}),
    }
    kind, options = methods[method]
    talk = io.StringIO()  # the calibrators print
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(talk):
        path = Path(folder) / "network.onnx"
        onnx.save(model, path)
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator: Any = create_calibrator(
            path, [*OPERATORS], augmented, kind, extra_options=options
        )
        name = model.graph.input[0].name
        for chunk in _chunks(images, CHUNK):
            calibrator.collect_data(_Reader([{name: image} for image in chunk]))
        data = calibrator.compute_data().data
    return {
        tensor: (value.range_value[0].item(), value.range_value[1].item())
        for tensor, value in data.items()
    }


def random_ranges(model: onnx.ModelProto) -> Ranges:
    """Ranges that are good enough for timing: the time of an integer kernel ignores them."""
    rectified = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    tensors = {
        name
        for node in model.graph.node
        if node.op_type in OPERATORS
        for name in (*node.input, *node.output)
    }
    constants = {tensor.name for tensor in model.graph.initializer}
    return {name: (0.0 if name in rectified else -4.0, 4.0) for name in sorted(tensors - constants)}


def quantize(
    model: onnx.ModelProto, ranges: Ranges, float_groups: Set[str], spelling: Spelling
) -> onnx.ModelProto:
    """The model with every group but `float_groups` in INT8; the input model is left alone."""
    chosen = [n for name, nodes in groups(model).items() if name not in float_groups for n in nodes]
    if not chosen:
        return _copy(model)
    made = _copy(model)
    Writer(made, ranges, set(chosen), spelling).write()
    if spelling == "u8s8":
        stem.over_blocks(made)
    return made


def _convolutions(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.op_type == "Conv")


def _output_region(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that no convolution comes after, what leads to DFL's softmax included.

    DFL's own convolution comes after a softmax: no way is followed through one.
    """
    leads_to_convolution: set[str] = set()
    region: set[str] = set()
    for node in reversed(model.graph.node):
        feeds = any(name in leads_to_convolution for name in node.output)
        if not feeds:
            region.add(node.name)
        if (feeds or node.op_type == "Conv") and node.op_type != "Softmax":
            leads_to_convolution.update(node.input)
    return region


def _without_common_prefix(paths: dict[str, list[str]]) -> dict[str, list[str]]:
    while len({path[0] for path in paths.values()}) == 1 and min(map(len, paths.values())) > 1:
        paths = {name: path[1:] for name, path in paths.items()}
    return paths


def _group_name(path: list[str]) -> str:
    """Two words of the module path, each with the number after it: `backbone.stages.0`."""
    kept: list[str] = []
    words = 0
    for part in path:
        words += not part.isdigit()
        if words > 2:
            break
        kept.append(part)
    return ".".join(kept[:3])


class _Reader:
    """What ONNX Runtime's calibrators read from."""

    def __init__(self, feeds: list[dict[str, NDArray[np.float32]]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
