"""The flow as a user meets it, on three tiny stages: killed, interrupted, queued, refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frontier import tracking
from frontier.files import read_json
from frontier.tracking.store import connect
from pipelines import repro
from tests import fake_project
from tests.e2e import checkout

pytestmark = [pytest.mark.e2e, pytest.mark.fault, pytest.mark.timeout(600)]
STEPS = 30


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_project.make(tmp_path_factory.mktemp("flow") / "project", steps=STEPS)


def start(root: Path, *arguments: str, step_s: float = 0.0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "frontier.cli", "run", *arguments],
        cwd=root,
        env={**checkout.environment(root), "FAKE_STEP_S": str(step_s)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def until(condition: Callable[[], Any], seconds: float = 200.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return value


def training(root: Path) -> int:
    """The training stage's process id, once it has done a few steps."""
    journal = repro.journal_path(root, "train")

    def started() -> int:
        events = [event for _, event in tracking.read_events(journal)]
        moving = any(event["event"] == "progress" and event["done"] > 3 for event in events)
        return int(events[0]["pid"]) if moving else 0

    return int(until(started))


def statuses(root: Path) -> dict[str, list[str]]:
    client, experiment = connect(root)
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run.info.run_name, []).append(run.info.status)
    return found


def writers(root: Path) -> list[list[str]]:
    return [line.split() for line in (root / "writers.log").read_text().splitlines()]


def test_kill_the_flow_and_run_again(project: Path) -> None:
    flow = start(project, step_s=0.3)
    stage = training(project)
    identity = tracking.process_identity(stage)
    flow.kill()
    until(lambda: tracking.process_identity(stage) != identity, seconds=2.0)
    flow.communicate()

    again = start(project)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert [line[0] for line in writers(project)] == ["start", "start", "end"]
    assert int(writers(project)[1][2]) > 3
    found = statuses(project)
    assert found["produce"] == ["KILLED", "FINISHED"]
    assert found["train"] == ["FINISHED"]  # a resumed stage goes on in its own run
    client, experiment = connect(project)
    (run,) = client.search_runs([experiment], "attributes.run_name = 'train'")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {metric.step for metric in history} == {*range(STEPS)}
    made = read_json(project / "data/report/summary.json")["stages"]["train"]["mlflow_run_id"]
    assert made == run.info.run_id


def test_ctrl_c_ends_everything_in_one_line(project: Path) -> None:
    repro.journal_path(project, "train").unlink(missing_ok=True)
    flow = start(project, "--set", "teacher.steps=40", step_s=0.3)
    stage = training(project)
    os.killpg(flow.pid, signal.SIGINT)  # as a terminal does
    output, _ = flow.communicate(timeout=60)
    assert flow.returncode == 130
    assert "Traceback" not in output
    assert output.splitlines()[-1].startswith("frontier: train: stopped")
    assert not tracking.process_identity(stage)


def test_runs_in_one_checkout_queue(project: Path) -> None:
    first = start(project, "--set", "teacher.steps=40", step_s=0.1)
    until(lambda: (project / ".work/run.lock").read_text() == str(first.pid))
    second = start(project)
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert f"waiting for process {first.pid}" in outputs[1]
    assert "all 4 stages are up to date" in outputs[1]


def test_a_data_error_comes_out_with_its_code_and_all_problems(project: Path) -> None:
    (project / "bad").touch()
    flow = start(project, "--set", "run.seed=3")
    output, _ = flow.communicate(timeout=300)
    (project / "bad").unlink()
    assert flow.returncode == 65
    assert "image 1 is bad" in output
    assert "image 2 is bad" in output
    assert "Traceback" not in output
    stages = read_json(project / "data/report/summary.json")["stages"]
    assert stages["first"]["outcome"] == "failed"
    assert stages["train"]["outcome"] == "skipped"
    assert statuses(project)["produce"][-1] == "FAILED"
