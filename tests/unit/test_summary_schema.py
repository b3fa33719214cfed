"""`docs/summary.schema.json` is valid, takes a good summary, and refuses what it must."""

import copy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from frontier.files import read_json
from tests.fake_run import write_run

PROJECT = Path(__file__).resolve().parents[2]
MEASURED: dict[str, Any] = {
    "status": "measured",
    "architecture": "w0.25-r192-h0.5-q2x32-q3x64-q5x96-q2x192-q2x64-q2x48-q2x64-q2x64",
    "AP": 0.441,
    "AP50": 0.62,
    "AP_float": 0.447,
    "AP_interval": [0.415, 0.468],
    "latency_p50_ms": 2.02,
    "latency_interval_ms": [1.96, 2.12],
    "latency_float_p50_ms": 3.71,
    "size_bytes": 1412345,
    "bundle": "data/export/onnxruntime-cpu/bundle",
}
BUILT = {
    **dict.fromkeys(MEASURED),
    "status": "built-not-run",
    "size_bytes": 1412345,
    "bundle": "data/export/tensorrt/bundle",
}
SUMMARY: dict[str, Any] = {
    "version": 1,
    "run_id": "3f2a",
    "dataset": {
        "images_in": 1056,
        "images_used": 1055,
        "images_quarantined": 1,
        "boxes_in": 5210,
        "boxes_used": 5201,
        "boxes_repaired": 3,
        "boxes_dropped": 2,
    },
    "targets": {"onnxruntime-cpu": MEASURED, "tensorrt": BUILT},
    "frontier": [
        {
            "target": "onnxruntime-cpu",
            "architecture": MEASURED["architecture"],
            "AP": 0.39,
            "latency_p50_ms": 2.0,
            "recommended": True,
        }
    ],
    "stages": {
        "ingest": {"seconds": 4.2, "outcome": "ran", "mlflow_run_id": "9c1d"},
        "search@onnxruntime-cpu": {"seconds": 0.0, "outcome": "unchanged", "mlflow_run_id": None},
    },
    "report": "data/report/page/index.html",
    "dashboard": "mlruns/mlflow.db",
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = read_json(PROJECT / "docs" / "summary.schema.json")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good summary with one value replaced, or removed where `value` is `...`."""
    summary = copy.deepcopy(SUMMARY)
    *parents, last = path.split("/")
    place: Any = summary
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return summary


def test_a_good_summary_is_valid(validator: Draft202012Validator) -> None:
    assert [error.message for error in validator.iter_errors(SUMMARY)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("frontier", []),
        ("dataset", {}),
        ("targets/tensorrt/status", "not-built"),
        ("targets/tensorrt/bundle", None),
        ("targets/onnxruntime-cpu/answer", "float"),
        ("run_id", None),
    ],
)
def test_an_unfinished_run_has_a_valid_summary(
    validator: Draft202012Validator, path: str, value: Any
) -> None:
    assert validator.is_valid(changed(path, value))


def test_the_flow_writes_what_the_schema_promises(
    validator: Draft202012Validator, tmp_path: Path
) -> None:
    """The flow's own builder, on made-up stage outputs."""
    from pipelines import summary

    params = write_run(tmp_path)
    stages = {"ingest": summary.StageResult("ran", 1.5, "9c1d")}
    written = summary.build(tmp_path, params, stages, "3f2a")
    assert [error.message for error in validator.iter_errors(written)] == []
    assert written["targets"]["onnxruntime-cpu"]["AP"] == 0.441
    assert {point["target"] for point in written["frontier"]} == {"onnxruntime-cpu"}


@pytest.mark.parametrize("key", sorted(MEASURED))
def test_every_promised_field_of_a_target_is_required(
    validator: Draft202012Validator, key: str
) -> None:
    assert not validator.is_valid(changed(f"targets/onnxruntime-cpu/{key}", ...))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("targets", {}),
        ("targets/onnxruntime-cpu/AP", None),
        ("targets/onnxruntime-cpu/AP", 44.1),
        ("targets/onnxruntime-cpu/status", "passed"),
        ("targets/onnxruntime-cpu/latency_interval_ms", [1.9]),
        ("targets/onnxruntime-cpu/fps", 500),
        ("targets/tensorrt/AP", 0.44),
        ("targets/tensorrt/latency_p50_ms", 1.1),
        ("frontier/0/target", ...),
        ("stages/ingest/outcome", "done"),
        ("stages/ingest/seconds", -1.0),
        ("stages/ingest/mlflow_run_id", ...),
        ("dataset/images_used", ...),
        ("report", ...),
    ],
)
def test_what_a_reader_must_not_meet_is_refused(
    validator: Draft202012Validator, path: str, value: Any
) -> None:
    assert not validator.is_valid(changed(path, value))
