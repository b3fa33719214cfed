"""ONNX Runtime on the CPU, set up once for everything that runs or times a model."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frontier.errors import UsageError

Arrays = dict[str, NDArray[Any]]


class OnnxSession:
    """A loaded model; `run` may be called from several threads at once."""

    def __init__(self, model: Path | bytes, threads: int) -> None:
        """Load a model from a file or from its bytes; `threads` CPU threads for each operator."""
        import onnxruntime

        ort: Any = onnxruntime  # its type hints hide what it exports
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads spin within a run (small operators need it) and never between two runs, where
        # they would take the processor from whatever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        source = model if isinstance(model, bytes) else str(model)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs: dict[str, tuple[str, list[Any]]] = {
            entry.name: (entry.type, entry.shape) for entry in self._session.get_inputs()
        }
        self.outputs: list[str] = [entry.name for entry in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        """Named inputs to named outputs.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong shape or type; names it.
        """
        check_feeds(self.inputs, feeds)
        return dict(zip(self.outputs, self._session.run(self.outputs, feeds), strict=True))


def check_feeds(inputs: dict[str, tuple[str, list[Any]]], feeds: Arrays) -> None:
    """Refuse what a model does not take.

    Args:
        inputs: name -> (type as ONNX Runtime spells it, shape with names for free sides).

    Raises:
        UsageError: an input is missing, unknown, or of a wrong shape or type; names it.
    """
    if feeds.keys() != inputs.keys():
        raise UsageError(f"model inputs are {[*inputs]}, not {[*feeds]}")
    for name, (kind, shape) in inputs.items():
        found = feeds[name]
        wanted = _DTYPES[kind]
        fits = len(shape) == found.ndim and all(
            size == side or not isinstance(side, int)
            for size, side in zip(found.shape, shape, strict=True)
        )
        if found.dtype != wanted or not fits:
            raise UsageError(
                f"{name}: must be {np.dtype(wanted)} {shape}, not {found.dtype} {found.shape}"
            )


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}
