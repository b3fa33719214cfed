"""The relay: one pipeline run in MLflow, fed from the stages' journals while they run."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from frontier.errors import TransientFailure
from frontier.files import atomic_write
from frontier.tracking import read_events
from frontier.tracking.store import (
    connect,
    end_abandoned,
    lock_entries,
    metrics_at,
    process_tags,
    start_monitor,
)

PARENT_TAG = "mlflow.parentRunId"
WAIT_S = 60.0
CLOSE_S = 60.0
CALL_S = 300.0  # the queue before it may hold large uploads, and registering imports onnx
STUCK_S = 2.0  # once it has not answered in time, it gets little more
FLUSH_S = 2.0
MAX_BATCH = 900  # MLflow takes 1000 metrics and 100 params at a time
T = TypeVar("T")


@dataclass
class StageRecord:
    """What is known of one stage's run; `unsent` events stay until MLflow has taken them."""

    stage: str
    run_id: str | None = None
    unsent: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    last_step: int = 0
    flushed: float = 0.0
    live: bool = True
    monitor: Any = None


class Tracker:
    """One pipeline run in MLflow: a parent, and a child per stage that ran.

    Every call to mlflow happens on one daemon thread, so that a slow or broken store delays no
    stage and changes no result: the first trouble is told once, what could not be sent is spooled
    in `.work/journals/unsent/` and sent by the next run.
    """

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root = root
        self.parent: str | None = None
        self._warn = warn
        self.troubled = False
        self._stuck = False
        self._given_up = False
        self._client: Any = None
        self._experiment = ""
        self._records: dict[str, StageRecord] = {}
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="tracking").start()

    # ------------------------------------------------ called by the flow, from any thread

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the parent run, without waiting: mlflow takes seconds to import."""
        self._guard(self._collect_orphans)
        self._submit(lambda: self._start(name, params, tags))

    def child(self, stage: str) -> str | None:
        """A run for a stage that is about to start; None where tracking cannot give one."""
        record = StageRecord(stage)
        self._records[stage] = record
        self._wait(self._submit(lambda: self._open(record)), WAIT_S)
        return record.run_id

    def take(self, stage: str, event: dict[str, Any]) -> None:
        """Pass on one journal event."""
        record = self._records[stage]
        record.unsent.append(event)
        if time.monotonic() - record.flushed > FLUSH_S:
            record.flushed = time.monotonic()
            self._submit(lambda: self._flush(record))

    def end_child(self, stage: str, outcome: str) -> None:
        """Close a stage's run as FINISHED, FAILED or KILLED; forget one that was not needed."""
        record = self._records[stage]
        self._submit(lambda: self._flush(record))
        self._submit(lambda: self._close(record, outcome))

    def tag(self, tags: Mapping[str, str]) -> None:
        self._submit(lambda: self._tag(self.parent, tags))

    def log_parent(self, metrics: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        """The whole run's numbers, and files by the folder to put them in."""
        self._submit(lambda: self._log_parent(metrics, artifacts))

    def call(self, work: Callable[[Any, str], T]) -> T:
        """`work(client, parent run id)` on the tracking thread.

        Raises:
            TransientFailure: MLflow failed, or gave no answer in time.
        """

        def answer() -> tuple[Any, str]:
            if self.parent is None:
                return None, "this run could not be recorded"
            try:
                return work(self._client, self.parent), ""
            except Exception as error:
                return None, f"{type(error).__name__}: {error}"

        given = self._wait(self._submit(answer), CALL_S)
        fault = given[1] if given else "no answer"
        if fault:
            raise TransientFailure(f"mlflow: {fault.splitlines()[0][:300]}")
        value: T = given[0]
        return value

    def finish(self, status: str) -> None:
        """End the parent run and spool what could not be sent."""
        self._wait(self._submit(lambda: self._end(self.parent, status)), CLOSE_S)
        self._given_up = self._stuck  # what it may still do must not double what is spooled
        for record in self._records.values():
            if record.unsent:
                self._guard(partial(self._spool, record))

    # ------------------------------------------------ the tracking thread

    def _submit(self, work: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._queue.put((work, future))
        return future

    def _wait(self, future: "Future[Any]", seconds: float) -> Any:
        try:
            return future.result(min(seconds, STUCK_S) if self._stuck else seconds)
        except TimeoutError:
            self._stuck = True
            self._trouble(f"no answer within {seconds:.0f} s")
            return None

    def _work(self) -> None:
        while True:
            work, future = self._queue.get()
            try:
                future.set_result(None if self._given_up else work())
            except Exception as error:
                self._trouble(f"{type(error).__name__}: {error}")
                future.set_result(None)

    def _guard(self, work: Callable[[], None]) -> None:
        """For the little that is done on the caller's own thread."""
        try:
            work()
        except Exception as error:
            self._trouble(f"{type(error).__name__}: {error}")

    def _trouble(self, what: str) -> None:
        if not self.troubled:
            self.troubled = True
            self._warn(f"mlflow: {what.splitlines()[0][:300]}; the run goes on, its record waits")

    def _start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self._client, self._experiment = connect(self.root)
        if self._given_up:
            return
        end_abandoned(self._client, self._experiment)
        run = self._client.create_run(
            self._experiment, run_name=name, tags={**tags, **process_tags()}
        )
        self.parent = run.info.run_id
        self._log_params(self.parent, params)
        self._replay()

    def _open(self, record: StageRecord) -> None:
        tags = {PARENT_TAG: self.parent, "frontier.stage": record.stage, **process_tags()}
        assert self.parent, "the parent run could not be opened"
        run = self._client.create_run(self._experiment, run_name=record.stage, tags=tags)
        record.run_id = run.info.run_id

    def _flush(self, record: StageRecord) -> None:
        """Send what has gathered; only what MLflow took is forgotten."""
        events = list(record.unsent)
        if not events:
            return
        if record.run_id is None:
            self._open(record)
        metrics: list[Any] = []
        for event in events:
            metrics += self._send(record, event)
        for start in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(record.run_id, metrics=metrics[start : start + MAX_BATCH])
        del record.unsent[: len(events)]

    def _send(self, record: StageRecord, event: dict[str, Any]) -> list[Any]:
        """Everything but metrics at once; metrics are returned, to go in batches."""
        match event["event"]:
            case "start":
                self._adopt(record, event)
            case "params":
                self._log_params(record.run_id, event["params"])
            case "artifact" | "moved":
                record.artifacts.append(event)
            case "metrics":
                record.last_step = max(record.last_step, event["step"])
                return metrics_at(event["metrics"], event["step"], event["time"])
            case "end":
                self._tag(record.run_id, {"frontier.seconds": f"{event['seconds']:.3f}"})
                return metrics_at(event["metrics"], record.last_step, event["time"])
            case "failed":
                self._tag(record.run_id, {"frontier.failure": event["message"][:5000]})
        return []

    def _adopt(self, record: StageRecord, event: dict[str, Any]) -> None:
        """A resumed stage goes on in its own run, now under this parent."""
        older = event["run_id"]
        if older and older != record.run_id:
            self._client.delete_run(record.run_id)
            record.run_id = older
            self._client.update_run(older, status="RUNNING")
            self._tag(older, {PARENT_TAG: str(self.parent), **process_tags()})
        if record.live and record.monitor is None:
            record.monitor = start_monitor(record.run_id)

    def _close(self, record: StageRecord, outcome: str) -> None:
        if record.run_id is None:
            return
        if record.monitor is not None:
            record.monitor.finish()
        if outcome in {"cached", "unchanged"}:
            self._client.delete_run(record.run_id)
            return
        for name, value in lock_entries(self.root, record.stage, "outs").items():
            self._tag(record.run_id, {f"dvc.out.{name}": value})
        self._log_inputs(record)
        self._upload(record)
        status = {"ran": "FINISHED", "killed": "KILLED"}.get(outcome, "FAILED")
        self._end(record.run_id, status)
        if not record.unsent:
            self._journal(record.stage).unlink(missing_ok=True)

    def _log_inputs(self, record: StageRecord) -> None:
        """The stage's data as MLflow datasets, each with its DVC hash as digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(name, md5, "dvc", json.dumps({"path": name, "md5": md5})),
                [InputTag("mlflow.data.context", "input")],
            )
            for name, md5 in lock_entries(self.root, record.stage, "deps").items()
            if name.startswith("data/")
        ]
        if inputs:
            self._client.log_inputs(record.run_id, inputs)

    def _upload(self, record: StageRecord) -> None:
        moved = {e["source"]: e["destination"] for e in record.artifacts if e["event"] == "moved"}
        for event in record.artifacts:
            if event["event"] == "artifact":
                self._log_artifact(record.run_id, _moved(event["path"], moved), event["folder"])

    def _log_artifact(self, run_id: str | None, path: Path, folder: str) -> None:
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), folder or path.name)
        elif path.is_file():
            self._client.log_artifact(run_id, str(path), folder or None)

    def _log_parent(self, metrics: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
        self._client.log_batch(self.parent, metrics=metrics_at(metrics, 0, time.time()))
        for folder, path in artifacts.items():
            self._log_artifact(self.parent, path, folder)

    def _log_params(self, run_id: str | None, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, str(value)[:5000]) for name, value in params.items()]
        for start in range(0, len(entries), 100):
            self._client.log_batch(run_id, params=entries[start : start + 100])

    def _tag(self, run_id: str | None, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        # MLflow allows no @ in a name
        entries = [RunTag(name.replace("@", ":"), value) for name, value in tags.items()]
        self._client.log_batch(run_id, tags=entries)

    def _end(self, run_id: str | None, status: str) -> None:
        self._client.set_terminated(run_id, status)

    def _journal(self, stage: str) -> Path:
        return self.root / ".work" / "journals" / f"{stage}.jsonl"

    def _collect_orphans(self) -> None:
        """Spool the journals of a flow that was killed before it had sent them whole."""
        for path in [*(self.root / ".work" / "journals").glob("*.jsonl")]:
            events = [event for _, event in read_events(path)]
            run_id = next((e["run_id"] for e in events if e["event"] == "start"), None)
            if events:  # without a run, as where MLflow had failed, they get one when sent
                self._spool(StageRecord(path.stem, run_id, events))
            path.unlink(missing_ok=True)

    def _spool(self, record: StageRecord) -> None:
        folder = self.root / ".work" / "journals" / "unsent"
        lines = [{"event": "spooled", "stage": record.stage, "run_id": record.run_id}]
        lines += record.unsent
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        atomic_write(folder / f"{time.time_ns()}-{record.stage}.jsonl", text)
        self._journal(record.stage).unlink(missing_ok=True)

    def _replay(self) -> None:
        """Send what earlier runs could not; MLflow keeps equal metrics once."""
        for path in sorted((self.root / ".work" / "journals" / "unsent").glob("*.jsonl")):
            context, *events = [event for _, event in read_events(path)]
            record = StageRecord(context["stage"], context["run_id"], events, live=False)
            self._flush(record)
            self._upload(record)
            kinds = {event["event"] for event in events}
            status = "FINISHED" if "end" in kinds else "FAILED" if "failed" in kinds else "KILLED"
            self._end(record.run_id, status)
            path.unlink()


def _moved(path: str, moved: Mapping[str, str]) -> Path:
    for source, destination in moved.items():
        if Path(path).is_relative_to(source):
            return Path(destination) / Path(path).relative_to(source)
    return Path(path)
