"""Who is champion: scored outside of the tracking thread, and never lost where MLflow fails."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frontier.errors import TransientFailure
from frontier.files import read_json, write_json
from frontier.params import load_params
from frontier.tracking import registry
from frontier.tracking.record import Tracker
from pipelines import challenge, closing
from pipelines.promotion import Gain

PARAMS = load_params(Path(__file__).resolve().parents[2] / "params.yaml")
TARGET = "onnxruntime-cpu"
FACTS = {
    "status": "measured",
    "bundle": f"data/export/{TARGET}/bundle",
    "AP": 0.5,
    "latency_p50_ms": 2.0,
    "architecture": "code",
}
CLOSED: dict[str, Any] = {"targets": {TARGET: FACTS, "tensorrt": {"status": "built-not-run"}}}


class Registry:
    """One registered model: the challenger is version 2, the champion 1 or nobody."""

    def __init__(self, champion: str | None) -> None:
        self.champion = champion
        self.tags: dict[str, str] = {}
        self.inside = False

    def call(self, work: Callable[[Any, str], Any]) -> Any:
        self.inside = True
        try:
            return work(self, "run")
        finally:
            self.inside = False

    def log_artifact(self, run_id: str, path: str) -> None:
        assert read_json(Path(path))

    def set_tag(self, run_id: str, name: str, value: str) -> None:
        self.tags[name] = value


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    latency = {"latency": {"int8": {"stable": True}}}
    write_json(tmp_path / "data" / "export" / TARGET / "export.json", latency)
    write_json(tmp_path / "data" / "hardware.json", {})

    def by_alias(client: Registry, target: str, alias: str) -> Any:
        return client.champion and SimpleNamespace(version=client.champion, tags={})

    def promote(client: Registry, target: str, version: str) -> None:
        client.champion = version

    made = SimpleNamespace(version="2")
    monkeypatch.setattr(registry, "register", lambda *_: made)
    monkeypatch.setattr(registry, "by_alias", by_alias)
    monkeypatch.setattr(registry, "promote", promote)
    monkeypatch.setattr(registry, "download_bundle", lambda _, folder: folder)
    return tmp_path


def test_the_first_is_champion(root: Path) -> None:
    held = Registry(None)
    (decision,) = challenge.judge(root, PARAMS, CLOSED, held.call, compare=False)
    assert decision["promote"]
    assert held.champion == "2"
    assert held.tags == {f"decision.{TARGET}": decision["reason"]}


@pytest.mark.parametrize(("low", "champion"), [(0.02, "2"), (-0.02, "1")])
def test_the_comparison_runs_outside_of_the_call(
    root: Path, monkeypatch: pytest.MonkeyPatch, low: float, champion: str
) -> None:
    held = Registry("1")

    def compare(*_: Any) -> tuple[Gain, float]:
        assert not held.inside
        return Gain(0.05, low, 0.08), 0.45

    monkeypatch.setattr(challenge, "compare", compare)
    (decision,) = challenge.judge(root, PARAMS, CLOSED, held.call, compare=True)
    assert held.champion == champion
    assert read_json(root / challenge.DECISIONS) == [decision]


@pytest.mark.parametrize(("champion", "compare"), [("1", False), ("2", True)])
def test_a_champion_stays_where_nothing_is_to_be_compared(
    root: Path, champion: str, compare: bool
) -> None:
    held = Registry(champion)
    assert challenge.judge(root, PARAMS, CLOSED, held.call, compare=compare) == []
    assert held.champion == champion


@pytest.mark.parametrize("compare", [True, False])
def test_what_is_not_decided_is_told_and_owed(
    root: Path, compare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing.catalog, "keep_new", lambda _: None)
    told: list[str] = []

    def fail(_: Any) -> None:
        raise TransientFailure("mlflow: database is locked")

    tracker = SimpleNamespace(call=fail, log_parent=lambda *_: None)
    display = SimpleNamespace(say=told.append)
    production = SimpleNamespace(root=root, params=PARAMS, tracker=tracker, display=display)
    assert not closing.settle(production, CLOSED, compare=compare)
    assert len(told) == 1
    assert "not decided: mlflow: database is locked" in told[0]
    assert closing.owes_comparison(root) == compare

    tracker.call = Registry("2").call
    assert closing.settle(production, CLOSED, compare=True)
    assert not closing.owes_comparison(root)


def test_a_call_raises_what_mlflow_said(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, lambda _: None)
    with pytest.raises(TransientFailure, match="could not be recorded"):
        tracker.call(lambda _client, run_id: run_id)
    tracker.parent = "run"
    assert tracker.call(lambda _client, run_id: run_id) == "run"
    with pytest.raises(TransientFailure, match="ZeroDivisionError"):
        tracker.call(lambda _client, _run_id: 1 / 0)
