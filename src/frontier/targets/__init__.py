"""Targets: one file per runtime, one line here."""

import importlib

from frontier import params
from frontier.targets.base import Session, Target

TARGETS = {
    "onnxruntime-cpu": "frontier.targets.onnxruntime_cpu:OnnxRuntimeCpu",
    "openvino-cpu": "frontier.targets.openvino_cpu:OpenVinoCpu",
    "tensorrt": "frontier.targets.tensorrt:TensorRT",
}


def target(section: params.Target) -> Target:
    """The target of one entry of `targets` in params.yaml."""
    module, name = TARGETS[section.kind].split(":")
    made: Target = getattr(importlib.import_module(module), name)(section)
    return made


__all__ = ["TARGETS", "Session", "Target", "target"]
