"""OpenVINO on the CPU: the same model and the same promises as `OnnxSession`."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from frontier.errors import TargetUnavailable
from frontier.runtime.session import Arrays, check_feeds


class OpenVinoSession:
    """A loaded model; `run` may be called from several threads at once."""

    def __init__(self, model: Path | bytes, threads: int) -> None:
        """Load a model from a file or from its bytes; `threads` CPU threads in all.

        Raises:
            TargetUnavailable: OpenVINO is not installed.
        """
        try:
            from openvino import Core  # type: ignore[attr-defined]
        except ImportError:
            raise TargetUnavailable(
                "openvino-cpu: OpenVINO is not installed; run `pip install openvino`"
            ) from None
        core: Any = Core()
        source = model if isinstance(model, bytes) else str(model)
        # left to itself it would compute in bfloat16 where the CPU can
        exact = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = core.compile_model(
            core.read_model(source), "CPU", {**exact, "INFERENCE_NUM_THREADS": threads}
        )
        self.inputs: dict[str, tuple[str, list[Any]]] = {
            entry.any_name: (_spelled(entry.element_type), _shape(entry))
            for entry in self._compiled.inputs
        }
        # a compiled output may go by the name of any operator that was folded into it
        self.outputs: list[str] = [
            entry.node.friendly_name.removesuffix("/sink_port_0")
            for entry in self._compiled.outputs
        ]
        self._own = threading.local()  # a request serves one thread at a time

    def run(self, feeds: Arrays) -> Arrays:
        """Named inputs to named outputs.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong shape or type; names it.
        """
        check_feeds(self.inputs, feeds)
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer(feeds)
        return {name: np.array(found[place]) for place, name in enumerate(self.outputs)}


def _spelled(element_type: Any) -> str:
    """As ONNX Runtime spells a type."""
    names = {"float32": "float", "float64": "double"}
    kind = np.dtype(element_type.to_dtype()).name
    return f"tensor({names.get(kind, kind)})"


def _shape(entry: Any) -> list[Any]:
    sides = entry.partial_shape
    return [s.get_length() if s.is_static else f"side{i}" for i, s in enumerate(sides)]
