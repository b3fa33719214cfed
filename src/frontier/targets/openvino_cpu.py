"""OpenVINO on an x86 CPU."""

from pathlib import Path

from frontier.runtime.openvino import OpenVinoSession
from frontier.targets.cpu import CpuTarget


class OpenVinoCpu(CpuTarget):
    """Float is float32 here: by default OpenVINO takes bfloat16 where the CPU has it."""

    runtime = "OpenVINO"

    def unavailable(self) -> str:
        try:
            import openvino  # noqa: F401
        except ImportError:
            return "OpenVINO is not installed; run `pip install openvino`"
        return ""

    def load(self, artifact: Path, threads: int) -> OpenVinoSession:
        return OpenVinoSession(artifact, threads)
