"""The only caller of `dvc repro`: one stage, one subprocess, one outcome."""

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontier import tracking
from frontier.errors import (
    DataError,
    FrontierError,
    NonFiniteLoss,
    OutOfMemory,
    StageFailed,
    StorageError,
    TamperedError,
    TargetUnavailable,
    TransientFailure,
    UsageError,
)
from frontier.files import atomic_write
from frontier.params import load_yaml
from pipelines import processes

Event = dict[str, Any]

POLL_S = 0.2
KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
PASSING = KILLED | {-signal.SIGTERM, 128 + signal.SIGTERM}
KERNEL = Path("/proc/vmstat")  # counts, among others, whom the kernel killed for lack of memory
PEAK = "peak_memory_bytes"  # as a training tells it at each epoch's end
BY_NAME = {
    error.__name__: error
    for error in (
        UsageError, DataError, TamperedError, TargetUnavailable, NonFiniteLoss, OutOfMemory,
        StorageError, StageFailed, TransientFailure,
    )
}  # fmt: skip


class Cancelled(StageFailed):
    """The user pressed Ctrl-C; what is done stays, the same command goes on."""

    exit_code = 130


@dataclass(frozen=True)
class Outcome:
    """What DVC made of a stage: it ran, came from the run cache, or had nothing to do."""

    outcome: str
    seconds: float
    run_id: str | None


def reproduce(
    root: Path,
    stage: str,
    *,
    run_id: str | None,
    on_event: Callable[[Event], None],
    cancelled: threading.Event,
    force: bool = False,
) -> Outcome:
    """Bring one stage up to date.

    Args:
        run_id: the MLflow run prepared for it.
        on_event: called with each journal event while the stage runs.
        cancelled: once set, the stage's whole process group is ended.
        force: run it although nothing changed, neither from DVC's cache nor from what it kept.

    Raises:
        FrontierError: the stage's own error, with its exit code.
        OutOfMemory: the kernel killed it for memory; another try would end alike.
        TransientFailure: it was killed otherwise or a lock was held: try again.
    """
    started, starved = time.monotonic(), _starved()
    journal = journal_path(root, stage)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.unlink(missing_ok=True)
    log = root / ".work" / "logs" / f"{stage}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        on_event(event)

    if force:
        _forget_finished(root, stage)
    code = _run_dvc(root, stage, log, journal, run_id, take, cancelled, force)
    if cancelled.is_set():
        raise Cancelled(f"{stage}: stopped; the same command goes on where it was")
    text = log.read_text(errors="replace")
    if code and _starved() > starved and _exit_code(text) in KILLED:
        raise OutOfMemory(_starvation(stage, events))
    if code:
        raise _failure(stage, events, text, log)
    outcome = _outcome(text)
    if outcome == "ran" and not any(event["event"] == "end" for event in events):
        raise StageFailed(f"{stage}: ended without finishing; see {log}")
    keep_lock(root)
    owner = next((event["run_id"] for event in events if event["event"] == "start"), run_id)
    return Outcome(outcome, time.monotonic() - started, owner)


def _forget_finished(root: Path, stage: str) -> None:
    """Drop the checkpoints of what has ended; a stage that was killed still has its run.json."""
    for state in (root / ".work" / stage).glob("*/"):
        if not (state / "run.json").is_file():
            shutil.rmtree(state)


def journal_path(root: Path, stage: str) -> Path:
    return root / ".work" / "journals" / f"{stage}.jsonl"


def _run_dvc(
    root: Path,
    stage: str,
    log: Path,
    journal: Path,
    run_id: str | None,
    on_event: Callable[[Event], None],
    cancelled: threading.Event,
    force: bool,
) -> int:
    command = ["-m", "dvc", "--wait-for-lock", "repro", "-s", *(["-f"] if force else []), stage]
    with log.open("wb") as output:
        process = processes.spawn(
            command, cwd=root, output=output, environment=_environment(journal, run_id)
        )
    offset = 0
    try:
        while process.poll() is None and not cancelled.is_set():
            offset = _relay(journal, offset, on_event)
            time.sleep(POLL_S)
    finally:
        processes.end(process)
    _relay(journal, offset, on_event)
    return process.wait()


def _relay(journal: Path, offset: int, on_event: Callable[[Event], None]) -> int:
    for behind, event in tracking.read_events(journal, offset):
        offset = behind
        on_event(event)
    return offset


def _environment(journal: Path, run_id: str | None) -> dict[str, str]:
    """`python` in `dvc.yaml` must mean the interpreter that runs this."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "SHELL": "/bin/sh",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
        "FRONTIER_FLOW_PID": str(os.getpid()),
        "FRONTIER_JOURNAL": str(journal),
        "FRONTIER_RUN_ID": run_id or "",
    }


def _outcome(text: str) -> str:
    if "is cached - skipping run" in text:
        return "cached"
    return "ran" if "Running stage '" in text else "unchanged"


def _failure(stage: str, events: list[Event], text: str, log: Path) -> FrontierError:
    """The stage's own error where it told one, else what DVC's log shows."""
    failed = next((event for event in events if event["event"] == "failed"), None)
    if failed:
        return BY_NAME.get(failed["type"], StageFailed)(f"{stage}: {failed['message']}")
    if _exit_code(text) in KILLED:
        return TransientFailure(
            f"{stage}: was killed; if the machine was short of memory, lower train.batch_size or "
            f"set it to auto; see {log}"
        )
    if _exit_code(text) in PASSING or "Unable to acquire lock" in text:
        return TransientFailure(f"{stage}: was killed or found a lock held; see {log}")
    lines = [line for line in text.splitlines() if line.startswith("ERROR:")]
    return StageFailed(f"{stage}: {lines[-1] if lines else 'dvc failed'}; see {log}")


def _exit_code(text: str) -> int | None:
    """The stage's own, as DVC's log tells it."""
    ended = re.search(r"exited with (-?\d+)", text)
    return int(ended[1]) if ended else None


def _starved() -> int:
    """How many processes the kernel has killed for lack of memory since it started."""
    with contextlib.suppress(OSError):
        counted = dict(line.split() for line in KERNEL.read_text().splitlines())
        return int(counted.get("oom_kill", 0))
    return 0


def _starvation(stage: str, events: list[Event]) -> str:
    told = {
        n: v for e in events for n, v in {**e.get("params", {}), **e.get("metrics", {})}.items()
    }
    peak = f" at a peak of {told[PEAK] / 1e9:.2f} GB or more" if PEAK in told else ""
    batch = told.get("plan.batch_size", 0)
    advice = (
        f"set train.batch_size={batch // 2}, or auto"
        if batch > 1
        else "end other programs, or use a machine with more memory"
    )
    return f"{stage}: out of memory{peak}: killed by the kernel; {advice}; checkpoints are whole"


# ---------------------------------------------------------------- repairs before a run


def prepare(root: Path) -> None:
    """Make DVC usable: no Git where there is none, no lock of a dead process, a whole dvc.lock."""
    if not (root / ".git").exists() and not (root / ".dvc" / "config.local").exists():
        atomic_write(root / ".dvc" / "config.local", "[core]\n    no_scm = true\n")
    _repair_rwlock(root / ".dvc" / "tmp" / "rwlock")
    _repair_lock(root)


def keep_lock(root: Path) -> None:
    """Remember the last good dvc.lock: DVC writes it in place, a kill can tear it."""
    path = root / "dvc.lock"
    if path.is_file() and _is_whole(path):
        atomic_write(_kept(root), path.read_bytes())


def _kept(root: Path) -> Path:
    return root / ".work" / "dvc.lock.good"


def _repair_rwlock(path: Path) -> None:
    """A torn file blocks every command, and so does the id of a dead process, once reused."""
    try:
        held = json.loads(path.read_text())
        entries = [*held["write"].values(), *(e for es in held["read"].values() for e in es)]
        alive = any(_is_dvc(entry["pid"]) for entry in entries)
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError):
        alive = False
    if not alive:
        path.unlink()


def _is_dvc(process: int) -> bool:
    return any("dvc" in part for part in processes.command_line(process))


def _repair_lock(root: Path) -> None:
    path = root / "dvc.lock"
    if not path.exists() or _is_whole(path):
        return
    if _kept(root).is_file():
        atomic_write(path, _kept(root).read_bytes())
    else:
        path.unlink()  # the run cache gives the results back


def _is_whole(path: Path) -> bool:
    """Whether every entry has what DVC needs to compare it."""
    try:
        lock = load_yaml(path)
        stages = lock["stages"].values()
        entries = [e for stage in stages for e in [*stage.get("deps", []), *stage.get("outs", [])]]
        digests = [entry["md5"].removesuffix(".dir") for entry in entries]
    except (UsageError, KeyError, TypeError, AttributeError):
        return False
    return lock["schema"] == "2.0" and all(len(digest) == 32 for digest in digests)
