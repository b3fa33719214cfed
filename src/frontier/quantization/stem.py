"""The first convolution, written so that an integer kernel has channels enough to work on.

ONNX Runtime's integer convolution reads the channels of one pixel at a time, and an image has
three. A 3x3 convolution of stride 2 is also a 2x2 convolution of stride 1 over the image's 2x2
blocks of pixels, each with twelve channels: the same sums, in about half the time.

Legend: O output channels, C channels of the image.
"""

from collections.abc import Iterator, Set

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from frontier.quantization.writer import Ranges

BLOCK = 2


def by_blocks(model: onnx.ModelProto, ranges: Ranges, chosen: Set[str]) -> Ranges:
    """Rewrite in place each chosen 3x3, stride-2 convolution of an input; ranges of the result."""
    found = dict(ranges)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in [*_of_images(model, chosen)][::-1]:
        image, name = node.input[0], f"{node.input[0]}/blocks"
        kernel = _over_blocks(numpy_helper.to_array(weights[node.input[1]]))
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(kernel, node.input[1]))
        space = helper.make_node("SpaceToDepth", [image], [name], name, blocksize=BLOCK)
        node.input[0] = name
        del node.attribute[:]
        attributes = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 0, 0]}
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        model.graph.node.insert(index, space)
        found[name] = ranges[image]
    return found


def _of_images(model: onnx.ModelProto, chosen: Set[str]) -> Iterator[tuple[int, onnx.NodeProto]]:
    images = {entry.name for entry in model.graph.input}
    wanted = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Conv" or node.input[0] not in images or node.name not in chosen:
            continue
        has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if all(has.get(name) == value for name, value in wanted.items()):
            yield index, node


def _over_blocks(kernel_OCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[O, C, 3, 3]` to `[O, 4 C, 2, 2]`: tap t is pixel (t + 1) % 2 of block (t + 1) // 2."""
    outputs, channels = kernel_OCHW.shape[:2]
    padded = np.zeros((outputs, channels, 4, 4), np.float32)
    padded[:, :, 1:, 1:] = kernel_OCHW
    split = padded.reshape(outputs, channels, 2, BLOCK, 2, BLOCK)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(outputs, BLOCK**2 * channels, 2, 2)
