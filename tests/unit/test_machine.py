"""Settings that this machine cannot do are refused before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from frontier.errors import UsageError
from frontier.params import Params, load_params
from pipelines import machine

CHECKOUT = Path(__file__).resolve().parents[2]


def params(device: str = "auto", searched: str = "onnxruntime-cpu") -> Params:
    values: dict[str, Any] = load_params(CHECKOUT / "params.yaml").model_dump(by_alias=True)
    values["run"]["device"] = device
    values["searched"] = [searched]
    for target in values["targets"].values():
        target["like"] = searched
    return Params.model_validate(values)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_runs_anywhere(device: str) -> None:
    machine.check(params(device))


def test_cuda_with_a_cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda _: "2.13.0+cpu")
    with pytest.raises(UsageError, match=r"run\.device: cuda.* CPU build") as refused:
        machine.check(params("cuda"))
    assert refused.value.exit_code == 2


def test_every_problem_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_no_cuda", lambda: "there is no GPU")
    with pytest.raises(UsageError) as refused:
        machine.check(params("cuda", searched="tensorrt"))
    assert "searched: tensorrt cannot be timed" in str(refused.value)
    assert "there is no GPU" in str(refused.value)
