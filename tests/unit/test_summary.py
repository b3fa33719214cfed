"""What the closing table and summary.json say beside the numbers."""

import io
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from frontier.files import read_json, write_json
from pipelines import summary
from pipelines.graph import Node
from tests.fake_run import write_run

TARGET = "onnxruntime-cpu"
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"


def build(root: Path, **variant: Any) -> summary.Summary:
    """The summary of a made-up run, found valid."""
    params = write_run(root, **variant)
    stages = {"ingest": summary.StageResult("ran", 1.5, "9c1d")}
    built = summary.build(root, params, stages, "3f2a77")
    Draft202012Validator(read_json(SCHEMA)).validate(built)
    return built


def shown(closed: summary.Summary) -> str:
    text = io.StringIO()
    summary.show(Console(file=text, width=200), closed)
    return text.getvalue()


@pytest.mark.parametrize(
    ("audit", "outcome", "expected"),
    [
        ({"status": "skipped"}, "ran", "skipped"),
        ({"status": "skipped"}, "unchanged", "skipped"),
        ({"status": "skipped"}, "failed", "failed"),
        ({"status": "done"}, "ran", "ran"),
    ],
)
def test_labelling_without_images_is_recorded_as_skipped(
    tmp_path: Path, audit: dict[str, str], outcome: str, expected: str
) -> None:
    write_json(tmp_path / "data" / "pseudo_label" / "audit.json", audit)
    graph = {"pseudo_label": Node("pseudo_label", (), "training", ())}
    results = summary.stage_results(tmp_path, graph, {"pseudo_label": outcome}, {})
    assert results["pseudo_label"].outcome == expected


def test_a_missed_limit_is_prominent(tmp_path: Path) -> None:
    closed = build(tmp_path, feasible=False, max_latency_ms=0.1)
    facts = closed["targets"][TARGET]
    assert facts["feasible"] is False
    assert facts["recommended_reason"].startswith("No architecture")
    text = shown(closed)
    assert f"LIMIT MISSED: {facts['recommended_reason']}" in text
    assert "limit missed" in text.partition("LIMIT MISSED")[0]


def test_a_met_limit_gives_the_reason_once(tmp_path: Path) -> None:
    closed = build(tmp_path)
    facts = closed["targets"][TARGET]
    assert facts["feasible"] is True
    text = shown(closed)
    assert text.count(facts["recommended_reason"]) == 1
    assert "limit missed" not in text.lower()


def test_an_unstable_latency_is_marked(tmp_path: Path) -> None:
    closed = build(tmp_path)
    assert closed["targets"][TARGET]["latency_stable"] is True
    assert closed["targets"][TARGET]["latency_pipeline_p50_ms"] == 2.9
    assert "unstable, something else" not in shown(closed)
    assert shown(closed).count("unstable") == 1  # a point of the frontier
    closed["targets"][TARGET]["latency_stable"] = False
    assert "2.12] unstable" in shown(closed)
    assert "unstable, something else" in shown(closed)


def test_it_ends_with_where_to_look(tmp_path: Path) -> None:
    closed = build(tmp_path)
    closed["report"] = summary.PAGE
    assert all(word in shown(closed) for word in (summary.PAGE, "frontier ui", "3f2a77"))


def test_what_was_timed_and_not_scored_is_no_measurement(tmp_path: Path) -> None:
    params = write_run(tmp_path)
    (tmp_path / "data" / "evaluate" / TARGET / "evaluate.json").unlink()
    built = summary.build(tmp_path, params, {"a": summary.StageResult("ran", 1.0, None)}, None)
    Draft202012Validator(read_json(SCHEMA)).validate(built)
    assert built["targets"][TARGET]["latency_p50_ms"] is None
