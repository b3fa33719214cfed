"""Which stages may run side by side."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from frontier.params import load_params
from pipelines.environment import prepare_environment
from pipelines.graph import Node

CHECKOUT = Path(__file__).resolve().parents[2]
NOTHING: dict[str, Any] = {"gpus": []}
GPU: dict[str, Any] = {"gpus": ["0000:01:00.0"]}


def node(name: str, device: str) -> Node:
    return Node(name, (), device, ())


@pytest.mark.parametrize(
    ("name", "device", "hardware", "torch", "expected"),
    [
        ("pack", "cpu", NOTHING, "2.13.0+cpu", {"cpu"}),
        ("teacher", "training", NOTHING, "2.13.0+cpu", {"cpu"}),
        ("teacher", "training", GPU, "2.13.0+cpu", {"cpu"}),
        ("teacher", "training", GPU, "2.13.0", {"gpu"}),
        ("pack", "cpu", GPU, "2.13.0", {"cpu"}),
        ("search@onnxruntime-cpu", "target", NOTHING, "2.13.0+cpu", {"cpu", "gpu"}),
        ("export@onnxruntime-cpu", "target", GPU, "2.13.0", {"cpu", "gpu"}),
        ("export@tensorrt", "target", GPU, "2.13.0", {"gpu"}),
        ("export@tensorrt", "target", NOTHING, "2.13.0+cpu", {"cpu", "gpu"}),
    ],
)
def test_devices(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    device: str,
    hardware: dict[str, Any],
    torch: str,
    expected: set[str],
) -> None:
    with mock.patch.dict(os.environ):
        prepare_environment(tmp_path)
        from pipelines import produce

    monkeypatch.setattr(produce.importlib.metadata, "version", lambda _: torch)
    params = load_params(CHECKOUT / "params.yaml")
    assert set(produce.occupied(node(name, device), params, hardware)) == expected
