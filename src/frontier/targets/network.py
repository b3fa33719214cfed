"""The ONNX graphs: the bare network, and the full model from image bytes to labelled boxes.

Legend: B batch, A anchors, C classes, H W pixels of the original image, S pixels of the square.
Everything written here is deterministic: equal weights give equal bytes.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from frontier.models.suppression import IR_VERSION, OPSET, parse_graph, postprocess_model
from frontier.params import Evaluate

if TYPE_CHECKING:
    from torch import nn

INPUT = "images_BCHW"
OUTPUTS = ("boxes_xyxy", "scores")


def export_network(module: "nn.Module", side: int, path: Path, batch_size: int = 1) -> Path:
    """Write a deployed detector as ONNX: images [B, 3, S, S] in 0..1 -> boxes and scores.

    Args:
        module: `forward(images_BCHW) -> (boxes_xyxy [B, A, 4] in input pixels, scores [B, A, C])`.
        side: S, pixels.
    """
    model = _simplify(_trace(module.eval(), side, batch_size))
    _widen_transposed_convolutions(model)
    _normalise(model)
    onnx.save(model, path)
    return path


def full_model(network: Path, side: int, params: Evaluate, path: Path) -> Path:
    """Wrap a network with its letterbox and its non-maximum suppression.

    The graph takes `image` uint8 [H, W, 3] RGB of any size and gives `boxes_xyxy` [N, 4] in
    pixels of that image, `scores` [N] (best first) and `labels` [N].
    """
    body = onnx.compose.add_prefix(onnx.load(network), "network/")
    opsets = {entry.domain: entry.version for entry in body.opset_import}
    before = parse_graph(_LETTERBOX, side=side, opset=opsets[""])
    after = postprocess_model(params, opset=opsets[""])
    body.ir_version = IR_VERSION
    joined = _merge(before, body, [("square", f"network/{INPUT}")])
    pairs = [(f"network/{name}", f"network_{name}") for name in OUTPUTS]
    joined = _merge(joined, after, [*pairs, *((name, name) for name in ("size", "scale", "pad"))])
    _normalise(joined)
    onnx.checker.check_model(joined)
    onnx.save(joined, path)
    return path


def _trace(module: "nn.Module", side: int, batch_size: int) -> onnx.ModelProto:
    import torch

    # The TorchScript exporter: 10x faster than the dynamo one on these networks (0.4 s against
    # 3.7 s for 60 convolutions), and it names every weight by its module path.
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        _quiet("torch.onnx"),
    ):
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module,
            (torch.zeros(batch_size, 3, side, side),),
            path,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(path)


def _simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and drop identities, by ONNX Runtime's rewrites that keep to standard ONNX.

    (`onnxscript.optimizer` gives the same graph in ten times the time.)
    """
    import onnxruntime

    ort: Any = onnxruntime  # its type hints hide what it exports
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simplified.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return onnx.load(path)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _widen_transposed_convolutions(model: onnx.ModelProto) -> None:
    """Spell each 2x2 stride-2 transposed convolution as a 1x1 convolution and DepthToSpace.

    The result is the same to rounding; runtimes have integer kernels for the second form only.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "ConvTranspose" or not _is_doubling(node):
            continue
        weight = numpy_helper.to_array(weights[node.input[1]])  # [in, out, 2, 2]
        bias = numpy_helper.to_array(weights[node.input[2]])
        wide = weight.transpose(1, 2, 3, 0).reshape(-1, weight.shape[0], 1, 1)
        # under names of their own: the exporter lets layers share equal tensors
        names = [f"{node.input[1]}/wide", f"{node.input[1]}/wide_bias"]
        for name, value in zip(names, (wide, np.repeat(bias, 4)), strict=True):
            tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
            model.graph.initializer.append(tensor)
        inner = f"{node.output[0]}_wide"
        conv = helper.make_node(
            "Conv", [node.input[0], *names], [inner], node.name, kernel_shape=[1, 1]
        )
        shuffle = helper.make_node(
            "DepthToSpace", [inner], node.output, f"{node.name}/shuffle", blocksize=2, mode="CRD"
        )
        del model.graph.node[index]
        model.graph.node.insert(index, shuffle)
        model.graph.node.insert(index, conv)


def _is_doubling(node: onnx.NodeProto) -> bool:
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        found.get("kernel_shape") == [2, 2]
        and found.get("strides") == [2, 2]
        and found.get("group", 1) == 1
        and not any(found.get("pads", []))
        and len(node.input) == 3
    )


def _normalise(model: onnx.ModelProto) -> None:
    """Drop what differs between machines or runs and says nothing about the function."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "frontier", "", ""
    model.graph.doc_string = ""
    domains = {node.domain for node in model.graph.node}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(
        helper.make_opsetid(*entry) for entry in opsets.items() if entry[0] in domains
    )
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _merge(first: onnx.ModelProto, second: onnx.ModelProto, pairs: Any) -> onnx.ModelProto:
    return onnx.compose.merge_models(first, second, io_map=pairs, name="detector")


# The same arithmetic as boxes.Letterbox; types are 1 float, 7 int64, 11 double.
_LETTERBOX = """
letterbox (uint8[height, width, 3] image)
    => (float[1, 3, $side, $side] square, double[2] size, double[2] scale, double[2] pad) {
  size_hw = Shape <start = 0, end = 2> (image)
  size = Cast <to = 11> (size_hw)
  longest = ReduceMax <keepdims = 1> (size)
  side = Constant <value = double[1] {$side.0}> ()
  wide = Mul (size, side)
  scaled = Div (wide, longest)
  half = Constant <value = double[1] {0.5}> ()
  raised = Add (scaled, half)
  floored = Floor (raised)
  one = Constant <value = double[1] {1.0}> ()
  rounded_size = Max (floored, one)
  scale = Div (rounded_size, size)
  new_hw = Cast <to = 7> (rounded_size)
  side_px = Constant <value = int64[1] {$side}> ()
  free_hw = Sub (side_px, new_hw)
  two = Constant <value = int64[1] {2}> ()
  before_hw = Div (free_hw, two)
  after_hw = Sub (free_hw, before_hw)
  pad = Cast <to = 11> (before_hw)
  image_CHW = Transpose <perm = [2, 0, 1]> (image)
  first_axis = Constant <value = int64[1] {0}> ()
  image_BCHW = Unsqueeze (image_CHW, first_axis)
  pixels = Cast <to = 1> (image_BCHW)
  planes = Constant <value = int64[2] {1, 3}> ()
  sizes = Concat <axis = 0> (planes, new_hw)
  resized = Resize <coordinate_transformation_mode = "half_pixel", mode = "linear">
      (pixels, , , sizes)
  grey_levels = Round (resized)
  no_pad = Constant <value = int64[2] {0, 0}> ()
  pads = Concat <axis = 0> (no_pad, before_hw, no_pad, after_hw)
  grey = Constant <value = float {114.0}> ()
  padded = Pad <mode = "constant"> (grey_levels, pads, grey)
  white = Constant <value = float {255.0}> ()
  square = Div (padded, white)
}
"""
