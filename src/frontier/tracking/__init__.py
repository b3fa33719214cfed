"""The record of what happened: a journal that stages append to, relayed to MLflow by the flow.

A stage pays no import of mlflow and cannot be hurt by it: it appends JSON lines to the file named
by `FRONTIER_JOURNAL` and nothing happens where that is unset. This package alone imports mlflow.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_paths: dict[Path, Path] = {}


def log_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Numbers of one training step; log every few steps, the relay sends them in batches."""
    log_event("metrics", step=step, metrics={name: float(value) for name, value in metrics.items()})


def log_params(params: Mapping[str, Any]) -> None:
    log_event("params", params=dict(params))


def log_artifact(path: Path, folder: str = "") -> None:
    """A file or folder below the stage's `out` or `work`, copied once the stage has ended."""
    log_event("artifact", path=str(_final(path)), folder=folder)


def log_progress(done: int, total: int, text: str = "") -> None:
    """How far a long stage is, for the progress line and its ETA."""
    log_event("progress", done=done, total=total, text=text)


def log_warning(text: str) -> None:
    """What does not stop a stage, but its user should know: told by the flow, kept in the log."""
    log_event("warning", text=text)
    print(f"warning: {text}", file=sys.stderr, flush=True)


def log_event(event: str, **fields: Any) -> None:
    """Append one line. Never raises into the stage: tracking trouble changes no result."""
    journal = os.environ.get("FRONTIER_JOURNAL")
    if not journal:
        return
    line = json.dumps({"event": event, "time": time.time(), **fields}, default=str)
    with contextlib.suppress(OSError):
        _append(Path(journal), line)


def map_path(temporary: Path, final: Path) -> None:
    """Artifacts logged below `temporary` will lie below `final` when they are copied."""
    if temporary in _paths:
        log_event("moved", source=str(_paths[temporary]), destination=str(final))
    _paths[temporary] = final


def _final(path: Path) -> Path:
    path = path.absolute()
    for temporary, final in _paths.items():
        if path.is_relative_to(temporary):
            return final / path.relative_to(temporary)
    return path


def _append(journal: Path, line: str) -> None:
    """One `write` per line; a torn last line of a killed writer is closed first."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode() + b"\n")


def read_events(journal: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines from byte `start` on, each with the offset behind it; torn lines are skipped."""
    with contextlib.suppress(FileNotFoundError), journal.open("rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            with contextlib.suppress(ValueError):
                yield start, json.loads(line)


def process_identity(process: int) -> str:
    """Process id and start time, since ids are used again; empty once the process has ended."""
    fields = _process_fields(process)
    return f"{process}:{fields[19]}" if fields and fields[0] != "Z" else ""


def parent_of(process: int) -> int:
    """The parent's process id, 0 where there is none any more."""
    fields = _process_fields(process)
    return int(fields[1]) if fields else 0


def _process_fields(process: int) -> list[str]:
    """/proc/<pid>/stat from the state on: 0 state, 1 parent, 19 start time."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
