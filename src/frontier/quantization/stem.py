"""The first convolution, written so that an integer kernel has channels enough to work on.

ONNX Runtime's integer convolution reads the channels of one pixel at a time, and an image has
three. A 3x3 convolution of stride 2 is also a 2x2 convolution of stride 1 over the image's 2x2
blocks of pixels, each with twelve channels: the same sums in less time.

Legend: O output channels, C channels of the image.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BLOCK = 2
PIXELS = {
    "kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1
}  # fmt: skip
BLOCKS = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 0, 0]}


def over_blocks(model: onnx.ModelProto) -> None:
    """Rewrite in place each integer 3x3 convolution of stride 2 that reads an input."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    for convolution, floats in list(_of_images(graph, made)):
        weight = weights[made[convolution.input[1]].input[0]]
        weight.CopyFrom(numpy_helper.from_array(_kernel(weight), weight.name))
        del convolution.attribute[:]
        convolution.attribute.extend(helper.make_attribute(k, v) for k, v in BLOCKS.items())
        integers = floats.input[0]
        floats.input[0] = f"{integers}/blocks"
        arrange = helper.make_node(
            "SpaceToDepth", [integers], [floats.input[0]], floats.input[0], blocksize=BLOCK
        )
        graph.node.insert([*graph.node].index(floats), arrange)


def _of_images(
    graph: onnx.GraphProto, made: dict[str, onnx.NodeProto]
) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Such convolutions, each with the node that dequantizes its image."""
    images = {entry.name for entry in graph.input}
    reads = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Conv" or any(has.get(k) != value for k, value in PIXELS.items()):
            continue
        floats = made.get(node.input[0])
        if floats is None or floats.op_type != "DequantizeLinear":
            continue
        # whoever else read these pixels would be given blocks
        alone = reads[node.input[0]] == 1
        if alone and made[floats.input[0]].input[0] in images:
            yield node, floats


def _kernel(weight: onnx.TensorProto) -> NDArray[np.int8]:
    """`[O, C, 3, 3]` to `[O, 4 C, 2, 2]`: tap t is pixel (t + 1) % 2 of block (t + 1) // 2."""
    kernel = numpy_helper.to_array(weight)
    outputs, channels = kernel.shape[:2]
    padded = np.zeros((outputs, channels, 4, 4), kernel.dtype)
    padded[:, :, 1:, 1:] = kernel
    split = padded.reshape(outputs, channels, 2, BLOCK, 2, BLOCK)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, BLOCK**2 * channels, 2, 2)
