"""What a measured latency depends on: the device, its cores, the runtimes and their versions."""

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

RUNTIMES = ("onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")
# The instructions that decide how fast int8 and bf16 are.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")


def hardware_fingerprint() -> dict[str, Any]:
    """The content of data/hardware.json; the same dict as long as a latency stays comparable."""
    cpu = _cpuinfo()
    return {
        "device": cpu.get("model name", platform.processor() or platform.machine()),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in cpu.get("flags", "").split()],
        "gpus": sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*")),
        "runtimes": {name: version for name in RUNTIMES if (version := _version(name))},
    }


def fingerprint_id(hardware: dict[str, Any]) -> str:
    """A short name for the fingerprint, fit for a file name."""
    text = json.dumps(hardware, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
