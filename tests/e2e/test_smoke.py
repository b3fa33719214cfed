"""The whole recipe through DVC, Prefect and MLflow, every stage for real, on next to nothing."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from frontier.files import read_json, sha256, verify_manifest
from frontier.stages import declarations
from frontier.tracking.store import connect
from tests.e2e import checkout

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
TARGET = "onnxruntime-cpu"


def runs(root: Path) -> list[Any]:
    client, experiment = connect(root)
    return list(client.search_runs([experiment], order_by=["attributes.start_time ASC"]))


def summary(root: Path) -> Any:
    value = read_json(root / "data" / "report" / "summary.json")
    jsonschema.validate(value, read_json(checkout.CHECKOUT / "docs" / "summary.schema.json"))
    return value


def test_it_ends_with_a_whole_summary(project: Path) -> None:
    closed = summary(project)
    assert closed["targets"][TARGET]["status"] == "measured"
    assert closed["targets"]["tensorrt"]["status"] == "built-not-run"
    assert {stage["outcome"] for stage in closed["stages"].values()} == {"ran"}
    assert {*closed["stages"]} == {*declarations(project)}
    assert closed["frontier"]
    assert (project / closed["report"]).is_file()
    verify_manifest(project / closed["targets"][TARGET]["bundle"])


def test_mlflow_holds_a_parent_and_a_child_per_stage(project: Path) -> None:
    parent, *children = runs(project)[: 1 + len(declarations(project))]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert {run.data.tags["frontier.stage"] for run in children} == {*declarations(project)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert f"AP.{TARGET}" in parent.data.metrics
    by_stage = {run.data.tags["frontier.stage"]: run for run in children}
    teacher = by_stage["teacher"]
    assert teacher.data.params["teacher.steps"] == "12"
    assert {"loss", "AP"} <= {*teacher.data.metrics}
    digests = {entry.dataset.name: entry.dataset.digest for entry in teacher.inputs.dataset_inputs}
    assert len(digests["data/pack/main"]) >= 32
    for name, stage in summary(project)["stages"].items():
        assert stage["mlflow_run_id"] == by_stage[name].info.run_id


def test_the_champion_loads_as_an_mlflow_model(project: Path) -> None:
    import mlflow
    import numpy as np

    client, _ = connect(project)
    aliases = client.get_registered_model(f"frontier-{TARGET}").aliases
    assert {*aliases} == {"champion", "challenger"}
    model = mlflow.pyfunc.load_model(f"models:/frontier-{TARGET}@champion")
    found = model.predict({"image": np.zeros((70, 50, 3), np.uint8)})
    assert {*found} == {"boxes_xyxy", "scores", "labels"}


def test_the_frontier_is_in_the_catalog_and_can_be_taken(project: Path) -> None:
    listed = checkout.frontier(project, "catalog")
    assert listed.returncode == 0, listed.stderr
    assert "onnxruntime" in listed.stdout
    code = summary(project)["frontier"][0]["architecture"]
    entry = checkout.frontier(project, "catalog", "show", "1").stdout
    assert code.partition("-")[0] in entry
    taken = checkout.frontier(project, "run", "--architecture", "1:1", "--dry-run")
    assert taken.returncode == 0, taken.stderr
    assert f"architecture: null -> {code}" in taken.stdout
    seeded = checkout.frontier(project, "run", "--from-catalog", "--dry-run")
    assert f"search.seeds: [] -> ['{code}']" in seeded.stdout


def test_a_budget_is_planned_before_anything_starts(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    planned = checkout.frontier(project, "run", "--budget", "40m", "--dry-run")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    plan, _, started = planned.stdout.partition("stages to run")
    assert "Plan for 40m" in plan
    assert "an earlier run" in plan  # this very project's
    assert "supernet: 6 -> about" in plan
    assert "pretrain: train changed" in started
    refused = checkout.frontier(project, "run", "--budget", "10s", "--dry-run")
    assert refused.returncode == 2
    assert "the least is" in refused.stderr
    assert (project / "params.yaml").read_bytes() == before
    assert not (project / "data" / "budget.json").exists()


def test_predict_draws(project: Path, tmp_path: Path) -> None:
    images = sorted((project / "data/ingest/synthetic/images").iterdir())[:2]
    answer = checkout.frontier(
        project, "predict", *map(str, images), "--output", str(tmp_path), "--min-score", "0"
    )
    assert answer.returncode == 0, answer.stderr
    assert len([*tmp_path.glob("*.png")]) == 2


def test_a_second_run_does_nothing_and_does_it_quickly(project: Path) -> None:
    before = len(runs(project))
    started = time.monotonic()
    answer = checkout.frontier(project, "run")
    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - started < 15
    assert {stage["outcome"] for stage in summary(project)["stages"].values()} == {"unchanged"}
    assert len(runs(project)) == before


def test_a_run_with_nothing_to_do_loads_nothing_heavy(project: Path) -> None:
    program = (
        "import sys; from frontier.cli import app; app(['run'], standalone_mode=False)\n"
        "print('HEAVY', [name for name in ('prefect', 'mlflow', 'torch') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=checkout.environment(project),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "HEAVY []" in answer.stdout, answer.stderr


def test_one_changed_value_reruns_only_what_reads_it(project: Path) -> None:
    made = {stage["mlflow_run_id"] for stage in summary(project)["stages"].values()}
    answer = checkout.frontier(project, "run", "--set", "report.examples=3")
    assert answer.returncode == 0, answer.stderr
    stages = summary(project)["stages"]
    assert [name for name, stage in stages.items() if stage["outcome"] == "ran"] == ["report"]
    page = sha256(project / "data/report/page/index.html")
    answer = checkout.frontier(project, "run", "--set", "report.examples=4")
    assert answer.returncode == 0, answer.stderr
    restored = summary(project)["stages"]["report"]
    assert restored["outcome"] == "cached"
    assert restored["mlflow_run_id"] in made  # the run that truly made it
    assert sha256(project / "data/report/page/index.html") != page


def test_status_names_the_run_that_made_each_stage(project: Path) -> None:
    answer = checkout.frontier(project, "status")
    assert answer.returncode == 0
    for stage in summary(project)["stages"].values():
        assert stage["mlflow_run_id"] in answer.stdout


def test_a_dry_run_changes_nothing(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    answer = checkout.frontier(project, "run", "--set", "distill.steps=9", "--dry-run")
    assert answer.returncode == 0
    assert f"distill@{TARGET}" in answer.stdout
    assert "teacher" not in answer.stdout
    assert (project / "params.yaml").read_bytes() == before
