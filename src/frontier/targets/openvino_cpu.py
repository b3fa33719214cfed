"""OpenVINO on a CPU: the artifact is the full ONNX model, which it reads as it is."""

import shutil
from pathlib import Path

from frontier import params
from frontier.errors import StageFailed, TargetUnavailable
from frontier.runtime.openvino import OpenVinoSession
from frontier.targets.base import Spelling


class OpenVinoCpu:
    """Float is float32 here: by default OpenVINO takes bfloat16 where the CPU has it."""

    int8_spelling: Spelling = "u8s8"
    artifact = "model.onnx"
    includes_postprocess = True

    def __init__(self, target: params.Target) -> None:
        self.params = target

    @property
    def timeable(self) -> bool:
        return not self.unavailable()

    def unavailable(self) -> str:
        try:
            import openvino  # noqa: F401
        except ImportError:
            return "OpenVINO is not installed; run `pip install openvino`"
        return ""

    def build(self, model: Path, out: Path) -> Path:
        """The ONNX file is the artifact; loading it once proves that the runtime takes it."""
        try:
            OpenVinoSession(model, threads=1)
        except TargetUnavailable:
            raise
        except Exception as error:  # the runtime's own exceptions share no base class
            words = " ".join(str(error).split())[:400]
            raise StageFailed(f"{model.name}: OpenVINO refuses it: {words}") from error
        path = out / self.artifact
        shutil.copyfile(model, path)
        return path

    def load(self, artifact: Path, threads: int) -> OpenVinoSession:
        return OpenVinoSession(artifact, threads)
