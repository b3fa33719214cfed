"""ONNX Runtime on an x86 CPU."""

from pathlib import Path

from frontier.runtime.session import OnnxSession
from frontier.targets.cpu import CpuTarget


class OnnxRuntimeCpu(CpuTarget):
    runtime = "ONNX Runtime"

    def load(self, artifact: Path, threads: int) -> OnnxSession:
        return OnnxSession(artifact, threads)
