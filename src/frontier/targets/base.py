"""What a target is: hardware, runtime and the precision spelling that the runtime fuses."""

from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Spelling = Literal["u8s8", "s8s8"]


class Session(Protocol):
    """A loaded artifact."""

    @property
    def inputs(self) -> dict[str, tuple[str, list[Any]]]:
        """Input name -> (type as ONNX Runtime spells it, shape with names for free sides)."""

    def run(self, feeds: Arrays) -> Arrays:
        """Named inputs to named outputs, batch 1.

        Raises:
            UsageError: an input is missing, unknown, or of a wrong shape or type.
        """


class Target(Protocol):
    """One runtime on one kind of hardware."""

    @property
    def int8_spelling(self) -> Spelling:
        """u8s8: uint8 activations with a zero point; s8s8: symmetric int8 both sides."""

    @property
    def artifact(self) -> str:
        """File name of the model in a bundle."""

    @property
    def includes_postprocess(self) -> bool:
        """Whether the artifact is the full model, with letterbox and suppression in its graph."""

    @property
    def timeable(self) -> bool:
        """Whether this machine can run, and so time, the artifact."""

    def unavailable(self) -> str:
        """Why not, with what to install; empty where `timeable`."""

    def build(self, model: Path, out: Path) -> Path:
        """Turn an ONNX file into the artifact in folder `out`.

        Raises:
            StageFailed: the runtime refuses the graph; carries its words.
            TargetUnavailable: the builder is not installed.
        """

    def load(self, artifact: Path, threads: int) -> Session:
        """Load an artifact for running.

        Raises:
            TargetUnavailable: this machine cannot run it.
        """
