"""ONNX files of others: what is refused before a runtime sees it.

A model may name files, operators of shared libraries and loops without end. The graph is read as
data, checked, and only then given to a runtime, as one whole without files beside it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frontier.errors import UsageError
from frontier.files import safe_join

DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}  # what ONNX Runtime brings itself
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
MOST_BYTES = 2**31 - 1  # of a model in one piece, as protobuf has it
MOST_PASSES = 100_000  # of a loop, loops within loops multiplied


def checked_model(path: Path) -> bytes:
    """The model in one piece, its external data included.

    Raises:
        UsageError: no model, or one that reaches outside; lists everything that is wrong with it.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except Exception as error:  # protobuf's own, which has no stable name
        raise UsageError(f"{path}: not an ONNX model ({type(error).__name__})") from None
    problems = _problems(model, path.parent)
    if problems:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in dict.fromkeys(problems)))
    onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    content: bytes = model.SerializeToString()
    return content


def _problems(model: Any, folder: Path) -> list[str]:
    own = {function.domain for function in model.functions}
    bodies = [model.graph, *model.functions]
    problems = [] if model.graph.node else ["holds no graph"]
    size = model.ByteSize()
    for body in bodies:
        for tensor in _tensors(body):
            found, length = _external(tensor, folder)
            problems += found
            size += length
        for domain in sorted({node.domain for node in _nodes(body)} - DOMAINS - own):
            problems.append(
                f"operators of domain {domain!r} need a library of their own; export without"
            )
        problems += _loops(body, _constants(model.graph), 1)
    if size > MOST_BYTES:
        problems.append(f"{size} bytes with its data; at most {MOST_BYTES}")
    return problems


def _external(tensor: Any, folder: Path) -> tuple[list[str], int]:
    """What is wrong with where a tensor's data lies, and how many bytes lie there."""
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return [], 0
    entries = {entry.key: entry.value for entry in tensor.external_data}
    told = f"external data of {tensor.name!r}"
    if unknown := sorted(entries.keys() - EXTERNAL_KEYS):
        return [f"{told}: unknown key {unknown[0]!r}"], 0
    try:
        place = safe_join(folder, entries.get("location", ""))
    except UsageError as error:
        return [f"{told}: {error}"], 0
    if not place.is_file():
        return [f"{told}: {entries['location']}: no such file"], 0
    numbers = [entries.get("offset", "0"), entries.get("length", "0")]
    if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
        return [f"{told}: offset and length must be whole numbers from 0 (found {numbers})"], 0
    offset, length = map(int, numbers)
    if offset + length > place.stat().st_size:
        return [f"{told}: ends beyond its file of {place.stat().st_size} bytes"], 0
    return [], length or place.stat().st_size - offset


def _graphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _nodes(body: Any) -> Iterator[Any]:
    for node in body.node:
        yield node
        for graph in _graphs(node):
            yield from _nodes(graph)


def _tensors(body: Any) -> Iterator[Any]:
    yield from getattr(body, "initializer", ())
    for sparse in getattr(body, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors
        for graph in _graphs(node):
            yield from _tensors(graph)


def _constants(graph: Any) -> dict[str, Any]:
    made = {tensor.name: tensor for tensor in graph.initializer}
    for node in _nodes(graph):
        if node.op_type == "Constant":
            made.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return made


def _loops(body: Any, constants: dict[str, Any], passes: int) -> Iterator[str]:
    """Loops whose number of passes is not written down, or is too large."""
    import onnx

    for node in body.node:
        inner = passes
        if node.op_type == "Loop":
            trips = constants.get(node.input[0])
            if trips is None or trips.data_location == onnx.TensorProto.EXTERNAL:
                yield f"loop {node.name!r}: its passes are not a constant; export it unrolled"
                continue
            inner *= max(1, int(onnx.numpy_helper.to_array(trips).reshape(-1)[0]))
            if inner > MOST_PASSES:
                yield f"loop {node.name!r}: {inner} passes; at most {MOST_PASSES}"
                continue
        for graph in _graphs(node):
            yield from _loops(graph, constants, inner)
