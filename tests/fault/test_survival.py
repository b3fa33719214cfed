"""Killed stages, killed parents, torn files, a broken record: rerun and nothing is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frontier import tracking
from frontier.errors import Busy, OutOfMemory, StageFailed, TransientFailure
from frontier.files import lock, verify_manifest
from frontier.tracking import process_identity
from pipelines import graph, repro
from tests import fake_project

pytestmark = pytest.mark.fault

STEPS = 24
FLOW = """\
import sys, threading
from pathlib import Path
from pipelines import repro
root = Path.cwd()
repro.prepare(root)
for name in ("first", "train"):
    repro.reproduce(root, name, run_id=None, on_event=lambda _: None, cancelled=threading.Event())
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = fake_project.make(tmp_path / "project", steps=STEPS)
    for name, value in fake_project.environment(root, FAKE_STEP_S="0.1").items():
        monkeypatch.setenv(name, value)
    repro.prepare(root)
    return root


def start_flow(root: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", FLOW], cwd=root, stderr=subprocess.DEVNULL)


def events(root: Path, kind: str) -> list[dict[str, Any]]:
    journal = repro.journal_path(root, "train")
    return [event for _, event in tracking.read_events(journal) if event["event"] == kind]


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value


def training_process(root: Path, after: int) -> int:
    """The id of the training stage, once it has done some steps."""
    until(lambda: any(e["done"] >= after for e in events(root, "progress")))
    return int(events(root, "start")[-1]["pid"])


def finish(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again: it ends, the result is whole, and no two ever wrote at once."""
    monkeypatch.setenv("FAKE_STEP_S", "0")
    flow = start_flow(root)
    assert flow.wait(60) == 0
    verify_manifest(root / "data" / "train")
    steps = (root / "data/train/model.txt").read_text()
    assert steps == "0" + "".join(f"{step}\n" for step in range(STEPS))


def writers(root: Path) -> list[list[str]]:
    return [line.split() for line in (root / "writers.log").read_text().splitlines()]


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_stage_goes_on_where_it_was(
    project: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    flow = start_flow(project)
    stage = training_process(project, after=random.Random(seed).randrange(2, STEPS - 6))
    os.kill(stage, signal.SIGKILL)
    assert flow.wait(30) != 0
    finish(project, monkeypatch)
    assert int(writers(project)[1][2]) > 0  # the second start found steps of the first


@pytest.mark.parametrize("who", ["flow", "dvc"])
def test_a_killed_parent_takes_the_stage_along(
    project: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    flow = start_flow(project)
    stage = training_process(project, after=3)
    identity = process_identity(stage)
    parent = flow.pid if who == "flow" else tracking.parent_of(stage)
    os.kill(parent, signal.SIGKILL)
    until(lambda: process_identity(stage) != identity, seconds=2.0)
    flow.wait(30)
    finish(project, monkeypatch)
    assert int(writers(project)[1][2]) > 0


def test_a_kill_is_transient_and_an_error_is_not(project: Path) -> None:
    def reproduce(name: str, on_event: Callable[[repro.Event], None]) -> repro.Outcome:
        return repro.reproduce(
            project, name, run_id=None, on_event=on_event, cancelled=threading.Event()
        )

    def kill(event: repro.Event) -> None:
        if event["event"] == "progress" and event["done"] > 2:
            os.kill(int(events(project, "start")[-1]["pid"]), signal.SIGKILL)

    reproduce("first", lambda _: None)
    with pytest.raises(TransientFailure):
        reproduce("train", kill)
    code = project / "src/frontier/stages/train.py"
    code.write_text(code.read_text().replace("    state =", "    1 / 0\n    state ="))
    with pytest.raises(StageFailed, match="ZeroDivisionError") as failed:
        reproduce("train", lambda _: None)
    assert not isinstance(failed.value, TransientFailure)


def test_a_kill_for_memory_is_told_and_not_tried_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "vmstat"
    kernel.write_text("pgfault 12\noom_kill 4\n")
    monkeypatch.setattr(repro, "KERNEL", kernel)

    def reproduce(name: str, on_event: Callable[[repro.Event], None]) -> repro.Outcome:
        return repro.reproduce(
            project, name, run_id=None, on_event=on_event, cancelled=threading.Event()
        )

    def kill(event: repro.Event) -> None:
        if event["event"] == "progress" and event["done"] > 2:
            if kernel.exists():
                kernel.write_text("pgfault 15\noom_kill 5\n")
            os.kill(int(events(project, "start")[-1]["pid"]), signal.SIGKILL)

    reproduce("first", lambda _: None)
    with pytest.raises(OutOfMemory, match="train: out of memory") as told:
        reproduce("train", kill)
    assert not isinstance(told.value, TransientFailure)
    kernel.unlink()  # a kernel that does not count
    with pytest.raises(TransientFailure, match=r"was killed; if .* short of memory"):
        reproduce("train", kill)


def test_cancelling_ends_the_whole_group(project: Path) -> None:
    cancelled = threading.Event()

    def stop(event: repro.Event) -> None:
        if event["event"] == "progress":
            cancelled.set()

    quiet: dict[str, Any] = {"run_id": None, "cancelled": cancelled}
    repro.reproduce(project, "first", on_event=lambda _: None, **quiet)
    with pytest.raises(repro.Cancelled):
        repro.reproduce(project, "train", on_event=stop, **quiet)
    assert not process_identity(int(events(project, "start")[-1]["pid"]))  # at once


def test_never_two_writers_of_one_stage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.02")
    command = [sys.executable, "-m", "frontier.stages"]
    subprocess.run([*command, "first"], cwd=project, check=True)
    both = [subprocess.Popen([*command, "train"], cwd=project) for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    assert [line[0] for line in writers(project)] == ["start", "end"] * 3


def test_a_second_run_finds_the_checkout_held(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    started = time.monotonic()
    with lock(path), pytest.raises(Busy, match=str(os.getpid())), lock(path, wait_s=0.0):
        pass
    assert time.monotonic() - started < 1.0
    with lock(path, wait_s=0.0):
        pass


def finished(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0")
    assert start_flow(project).wait(60) == 0


def test_a_torn_dvc_lock_is_repaired(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(project, monkeypatch)
    whole = (project / "dvc.lock").read_bytes()
    for size in range(0, len(whole), 20):
        (project / "dvc.lock").write_bytes(whole[:size])
        repro.prepare(project)
        repaired = (project / "dvc.lock").read_bytes()
        assert repaired == whole or whole.startswith(repaired)
    for size in (0, len(whole) // 3, len(whole) // 2):
        (project / "dvc.lock").write_bytes(whole[:size])
        repro.prepare(project)
        read = graph.read_graph(project)
        for name in [name for name in ("first", "train") if name in graph.stale(read)]:
            outcome = repro.reproduce(
                project,
                name,
                run_id=None,
                on_event=lambda _: None,
                cancelled=threading.Event(),
            )
            assert outcome.outcome != "ran"
    assert [line[0] for line in writers(project)].count("start") == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"write": {',
        "[]",
        "null",
        '{"write": 3, "read": {}}',
        '{"write": {"data": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}',
        '{"write": {}, "read": {"data": [{"pid": 999999999, "cmd": "dvc repro"}]}}',
    ],
)
def test_a_dead_or_torn_rwlock_blocks_nothing(project: Path, content: str) -> None:
    path = project / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    repro.prepare(project)
    assert not path.exists()


def test_a_living_dvc_keeps_its_rwlock(project: Path) -> None:
    path = project / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE) as other:
        entry = {"data": {"pid": other.pid, "cmd": "dvc"}}
        path.write_text(json.dumps({"write": entry, "read": {}}))
        until(lambda: "dvc" in Path(f"/proc/{other.pid}/cmdline").read_text())
        repro.prepare(project)
        assert path.exists()
        other.kill()


def test_a_broken_record_changes_nothing_and_is_made_up_for(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frontier.tracking import record
    from frontier.tracking.record import Tracker
    from frontier.tracking.store import connect

    monkeypatch.setattr(record, "WAIT_S", 5.0)
    monkeypatch.setenv("FAKE_STEP_S", "0")
    database = project / "mlruns" / "mlflow.db"
    database.mkdir(parents=True)  # no file can be opened there
    told: list[str] = []

    def produce(tracker: Tracker) -> repro.Outcome:
        tracker.start("produce", {"run.seed": 0}, {})
        repro.prepare(project)
        for name in ("first", "train"):
            outcome = repro.reproduce(
                project,
                name,
                run_id=tracker.child(name),
                on_event=lambda event, stage=name: tracker.take(stage, event),  # type: ignore[misc]
                cancelled=threading.Event(),
            )
            tracker.end_child(name, outcome.outcome)
        tracker.finish("FINISHED")
        return outcome

    assert produce(Tracker(project, told.append)).outcome == "ran"
    verify_manifest(project / "data" / "train")
    assert len(told) == 1
    assert "mlflow" in told[0]
    spooled = sorted((project / ".work/journals/unsent").glob("*.jsonl"))
    assert len(spooled) == 2

    database.rmdir()
    monkeypatch.setattr(record, "CLOSE_S", 120.0)
    for _ in range(2):
        tracker = Tracker(project, told.append)
        tracker.start("produce", {}, {})
        tracker.finish("FINISHED")
    assert len(told) == 1
    assert not [*(project / ".work/journals/unsent").glob("*.jsonl")]
    client, experiment = connect(project)
    runs = client.search_runs([experiment], "tags.`frontier.stage` = 'train'")
    assert len(runs) == 1
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [metric.step for metric in history] == [*range(STEPS)]
