"""Which stages may run side by side, and what a run ends with."""

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from frontier.errors import DataError
from frontier.params import load_params
from pipelines.environment import prepare_environment
from pipelines.graph import Node
from pipelines.repro import Cancelled

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


def test_a_stage_of_all_targets_holds_what_they_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock.patch.dict(os.environ):
        prepare_environment(tmp_path)
        from pipelines import produce

    monkeypatch.setattr(produce.importlib.metadata, "version", lambda _: "2.13.0+cpu")
    params = load_params(CHECKOUT / "params.yaml")
    assert set(produce.occupied(node("compare", "target"), params, {"gpus": []})) == {"cpu", "gpu"}


@pytest.mark.parametrize(
    ("failures", "cancelled", "expected"),
    [
        ([], False, None),
        (["bad"], False, "bad"),
        ([], True, "stopped; the same command"),
        (["bad", "cancelled"], True, "cancelled"),
    ],
)
def test_a_stop_between_two_stages_is_no_success(
    tmp_path: Path, failures: list[str], cancelled: bool, expected: str | None
) -> None:
    with mock.patch.dict(os.environ):
        prepare_environment(tmp_path)
        from pipelines import produce

    kinds = {"bad": DataError, "cancelled": Cancelled}
    found = produce.stopped_by({name: kinds[name](name) for name in failures}, cancelled=cancelled)
    assert str(found).startswith(str(expected))
    assert isinstance(found, Cancelled) == cancelled
