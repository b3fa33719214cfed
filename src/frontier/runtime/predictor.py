"""The detector as its user runs it: a bundle folder and NumPy, without torch."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frontier.errors import TargetUnavailable
from frontier.files import read_json, verify_manifest

SESSIONS = {
    "onnxruntime-cpu": "frontier.runtime.session:OnnxSession",
    "openvino-cpu": "frontier.runtime.openvino:OpenVinoSession",
}
MODEL, DESCRIPTION = "model.onnx", "detector.json"


class Prediction(NamedTuple):
    """Detections of one image, best first: pixels of that image, scores 0..1, 0-based labels.

    A score is no probability: it also falls with the uncertainty of its box.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


class Predictor:
    """A detector loaded from an exported bundle; may be called from several threads."""

    def __init__(self, bundle: Path, threads: int = 1) -> None:
        """Check every file of the bundle against its manifest, then load it.

        Raises:
            TamperedError: a file of the bundle is missing, altered or foreign.
            TargetUnavailable: the bundle holds an engine that this predictor cannot run.
        """
        verify_manifest(bundle)
        self.description: dict[str, Any] = read_json(bundle / DESCRIPTION)
        self.classes: list[str] = [entry["name"] for entry in self.description["classes"]]
        if not (bundle / MODEL).is_file():
            raise TargetUnavailable(
                f"{bundle}: holds a {self.description['kind']} engine of the bare network, which "
                "runs through that runtime; predict with the onnxruntime-cpu bundle instead"
            )
        self._session = _session(self.description["kind"])(bundle / MODEL, threads)

    def __call__(self, image_HWC: NDArray[np.uint8]) -> Prediction:
        """Detect in one RGB image, uint8 [H, W, 3] of any size.

        Raises:
            UsageError: not such an array.
        """
        found = self._session.run({"image": image_HWC})
        return Prediction(found["boxes_xyxy"], found["scores"], found["labels"])


def _session(kind: str) -> Any:
    module, name = SESSIONS[kind].split(":")
    return getattr(importlib.import_module(module), name)
