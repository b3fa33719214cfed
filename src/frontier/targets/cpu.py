"""What runtimes on an x86 CPU have in common: the artifact is the full ONNX model, as it is."""

import abc
import shutil
from pathlib import Path
from typing import ClassVar

from frontier import params
from frontier.errors import StageFailed, TargetUnavailable
from frontier.targets.base import Session, Spelling


class CpuTarget(abc.ABC):
    """Measured with ONNX Runtime: uint8 x int8 is 2.7x faster than float with VNNI, int8 x int8 no
    faster at all; OpenVINO takes either.

    Attributes:
        runtime: its name in messages.
    """

    runtime: ClassVar[str]
    int8_spelling: Spelling = "u8s8"
    artifact = "model.onnx"
    includes_postprocess = True

    def __init__(self, target: params.Target) -> None:
        self.params = target

    @property
    def timeable(self) -> bool:
        return not self.unavailable()

    def unavailable(self) -> str:
        return ""

    def build(self, model: Path, out: Path) -> Path:
        """Copy the model; loading it once proves that the runtime takes it."""
        try:
            self.load(model, threads=1)
        except TargetUnavailable:
            raise
        except Exception as error:  # the runtimes' own exceptions share no base class
            words = " ".join(str(error).split())[:400]
            raise StageFailed(f"{model.name}: {self.runtime} refuses it: {words}") from error
        path = out / self.artifact
        shutil.copyfile(model, path)
        return path

    @abc.abstractmethod
    def load(self, artifact: Path, threads: int) -> Session:
        """Load the model; see `base.Target`."""
