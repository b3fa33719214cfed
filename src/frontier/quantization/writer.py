"""Writes QuantizeLinear / DequantizeLinear pairs into a graph, where integer kernels fuse them.

ONNX Runtime's own quantizer was the first choice and is not used, for three measured reasons: in
the symmetric spelling it puts a pair between each convolution and its ReLU (a bit of range lost
and no fusion), it multiplies by a scalar where a scale would do, and it takes 0.6 s per variant,
of which a sensitivity analysis needs forty.

Legend: O output channels. q = round(x / scale) + zero_point.
Reference: Jacob et al. 2018, arXiv:1712.05877, equation 1; Krishnamoorthi 2018, arXiv:1806.08342.
"""

from collections.abc import Set
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from frontier.targets.base import Spelling

Ranges = dict[str, tuple[float, float]]
Array = NDArray[Any]

SAME_VALUES = ("MaxPool", "DepthToSpace")  # their output keeps the scale of their input
INT32_MAX = 2.0**31 - 1


class Writer:
    """One quantization of one model; see `write`."""

    def __init__(
        self, model: onnx.ModelProto, ranges: Ranges, chosen: Set[str], spelling: Spelling
    ) -> None:
        self.graph, self.ranges, self.chosen, self.spelling = model.graph, ranges, chosen, spelling
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.folded = {n.output[0]: factor for n in model.graph.node if (factor := self._factor(n))}
        self.parameters = self._parameters()
        self.nodes: list[onnx.NodeProto] = []

    def write(self) -> None:
        """Replace the graph's nodes by the quantized ones, in topological order."""
        for entry in self.graph.input:
            self._pair(entry.name)
        for node in self.graph.node:
            if node.output[0] in self.folded:
                self._rescale(node)
                continue
            written = onnx.NodeProto()
            written.CopyFrom(node)
            written.input[:] = [self._read(name, node) for name in node.input]
            if node.op_type == "Conv" and node.name in self.chosen:
                self._constants_of(node, written)
            self.nodes.append(written)
            for name in node.output:
                self._pair(name)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self._drop_unused()

    def _parameters(self) -> dict[str, tuple[float, int]]:
        """Scale and zero point of every tensor that becomes integers, in graph order."""
        found: dict[str, tuple[float, int]] = {}
        for node in self.graph.node:
            if node.name not in self.chosen:
                continue
            for name in [*node.input, *node.output]:
                if name in self.constants or name in self.folded or self._is_inner(name):
                    continue
                source = node.input[0] if node.op_type in SAME_VALUES else name
                found.setdefault(name, found.get(source) or self._scale(self.ranges[name]))
        return found

    def _scale(self, value_range: tuple[float, float]) -> tuple[float, int]:
        low, high = min(value_range[0], 0.0), max(value_range[1], 0.0)
        if self.spelling == "s8s8":
            return (max(-low, high) / 127 or 1.0), 0
        scale = (high - low) / 255 or 1.0
        return scale, round(-low / scale)

    def _is_inner(self, name: str) -> bool:
        """Whether a tensor lives between an operator and its own ReLU, inside one kernel."""
        made, readers = self.producer.get(name), self.readers.get(name, [])
        return (
            made is not None
            and made.op_type == "Conv"
            and made.name in self.chosen
            and [reader.op_type for reader in readers] == ["Relu"]
            and readers[0].name in self.chosen
        )

    def _factor(self, node: onnx.NodeProto) -> float | None:
        """The scalar of a product that a scale can absorb: positive, between integer tensors."""
        if node.op_type != "Mul" or node.input[0] not in self.constants:
            return None
        value = numpy_helper.to_array(self.constants[node.input[0]])
        made = self.producer.get(node.input[1])
        inside = all(reader.name in self.chosen for reader in self.readers[node.output[0]])
        if value.size != 1 or value.item() <= 0 or made is None or not inside:
            return None
        return float(value.item()) if made.name in self.chosen else None

    def _read(self, name: str, reader: onnx.NodeProto) -> str:
        """The dequantized form of an input, unless float values pass from float to float."""
        made = self.producer.get(name)
        integer = reader.name in self.chosen or (made is not None and made.name in self.chosen)
        return f"{name}/float" if name in self.parameters and integer else name

    def _pair(self, name: str) -> None:
        if name not in self.parameters:
            return
        scale, zero_point = self.parameters[name]
        kind = np.int8 if self.spelling == "s8s8" else np.uint8
        names = [
            self._constant(f"{name}/scale", np.array(scale, np.float32)),
            self._constant(f"{name}/zero_point", np.array(zero_point, kind)),
        ]
        self._node("QuantizeLinear", [name, *names], f"{name}/integer")
        self._node("DequantizeLinear", [f"{name}/integer", *names], f"{name}/float")

    def _rescale(self, product: onnx.NodeProto) -> None:
        """A quantized tensor times a positive scalar: the same integers on another scale."""
        source, output = product.input[1], product.output[0]
        scale = self.parameters[source][0] * self.folded[output]
        name = self._constant(f"{output}/scale", np.array(scale, np.float32))
        inputs = [f"{source}/integer", name, f"{source}/zero_point"]
        self._node("DequantizeLinear", inputs, output)

    def _constants_of(self, node: onnx.NodeProto, written: onnx.NodeProto) -> None:
        """Weights per output channel in int8; the bias in int32 where the runtime takes it."""
        weight = numpy_helper.to_array(self.constants[node.input[1]])  # [O, I, K, K]
        scale = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float64) / 127
        scale[scale == 0] = 1.0
        has_bias = len(node.input) > 2 and self.spelling == "u8s8"
        input_scale = self.parameters[node.input[0]][0]
        if has_bias:
            bias = numpy_helper.to_array(self.constants[node.input[2]]).astype(np.float64)
            # where the weights of a channel are tiny, its bias must still fit into int32
            scale = np.maximum(scale, np.abs(bias) / (input_scale * INT32_MAX))
            written.input[2] = self._dequantized(f"{node.name}/bias", bias, scale * input_scale)
        written.input[1] = self._dequantized(f"{node.name}/weight", weight, scale)

    def _dequantized(self, name: str, values: Array, scale: Array) -> str:
        """Named after the operator: layers may share a float tensor, never its integers."""
        is_bias = values.ndim == 1
        limit, kind = (INT32_MAX, np.int32) if is_bias else (127, np.int8)
        integers = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1)))
        names = [
            self._constant(f"{name}/integer", integers.clip(-limit, limit).astype(kind)),
            self._constant(f"{name}/scale", scale.astype(np.float32)),
            self._constant(f"{name}/zero_point", np.zeros(len(scale), kind)),
        ]
        self._node("DequantizeLinear", names, f"{name}/float", axis=0)
        return f"{name}/float"

    def _constant(self, name: str, value: Array) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        name = f"{output}/{operator}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))

    def _drop_unused(self) -> None:
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
