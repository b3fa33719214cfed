"""The flow: dataset -> shipped detector. One Prefect task per stale stage of DVC's graph.

Import only after `environment.prepare_environment`: prefect reads its settings once.
"""

import contextlib
import importlib.metadata
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from prefect import flow, get_client, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import FlowRunFilter
from prefect.futures import wait
from prefect.states import Crashed

from frontier.errors import FrontierError, TransientFailure
from frontier.params import Params
from frontier.tracking import process_identity
from frontier.tracking.record import Tracker
from pipelines.graph import Graph, Node
from pipelines.progress import Display
from pipelines.repro import Cancelled, Event, Outcome, reproduce

RETRY_DELAYS_S: list[float] = [2, 10]
PROCESS_TAG = "process:"


@dataclass
class Production:
    """One run of the flow: what its tasks share.

    Attributes:
        timings: seconds that each stage took when it last ran.
        force: stages run although nothing of them changed.
        outcomes: of the stages that are done; `failures` of those that failed for good.
    """

    root: Path
    graph: Graph
    params: Params
    hardware: dict[str, Any]
    tracker: Tracker
    display: Display
    timings: dict[str, float]
    force: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failures: dict[str, FrontierError] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._locks = {"cpu": threading.Lock(), "gpu": threading.Lock()}

    def run_stage(self, name: str) -> str:
        """One stage, on its device; the body of each task."""
        with self._hold(occupied(self.graph[name], self.params, self.hardware)):
            if self.cancelled.is_set():
                raise Cancelled(f"{name}: not started")
            return self._run_stage(name)

    def _run_stage(self, name: str) -> str:
        self.display.started(name, self.timings.get(name))
        run_id = self.tracker.child(name)

        def on_event(event: Event) -> None:
            self.tracker.take(name, event)
            self.display.progressed(name, event)

        try:
            outcome = reproduce(
                self.root,
                name,
                run_id=run_id,
                on_event=on_event,
                cancelled=self.cancelled,
                force=self.force,
            )
        except FrontierError as error:
            killed = isinstance(error, TransientFailure | Cancelled)
            self.tracker.end_child(name, "killed" if killed else "failed")
            self.display.failed(name, str(error))
            self.failures[name] = error
            raise
        self.failures.pop(name, None)
        self.outcomes[name] = outcome
        self.tracker.end_child(name, outcome.outcome)
        self.display.finished(name, outcome.outcome, outcome.seconds)
        return outcome.outcome

    @contextlib.contextmanager
    def _hold(self, devices: Sequence[str]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for device in sorted(devices):
                stack.enter_context(self._locks[device])
            yield


def occupied(node: Node, params: Params, hardware: dict[str, Any]) -> list[str]:
    """The devices a stage needs for itself.

    One that measures on the CPU takes all: a training elsewhere still loads images on this CPU.
    """
    has_gpu = bool(hardware["gpus"]) and "+cpu" not in importlib.metadata.version("torch")
    if node.device == "training":
        return ["gpu" if params.run.device != "cpu" and has_gpu else "cpu"]
    if node.device == "target":
        own = node.name.partition("@")[2]
        kinds = {params.targets[name].kind for name in ([own] if own else params.searched)}
        return ["gpu"] if kinds == {"tensorrt"} and has_gpu else ["cpu", "gpu"]
    return ["cpu"]


def produce(production: Production, stages: Sequence[str]) -> None:
    """Bring `stages` up to date, each after what it reads.

    Raises:
        FrontierError: the first failure; stages that do not need the failed one are done first.
    """

    @flow(name="produce", validate_parameters=False)
    def run(stages: list[str]) -> None:
        futures: dict[str, Any] = {}
        for name in stages:
            upstream = [futures[key] for key in production.graph[name].upstream if key in futures]
            futures[name] = _task(production, name).submit(name, wait_for=upstream)
        wait(list(futures.values()))
        failure = stopped_by(production.failures, cancelled=production.cancelled.is_set())
        if failure:
            raise failure
        for future in futures.values():
            future.result()  # what went wrong outside of a stage, a mistake of ours, ends the run

    reconcile()
    with tags(f"{PROCESS_TAG}{process_identity(os.getpid())}"):
        run(list(stages))


def stopped_by(failures: Mapping[str, FrontierError], *, cancelled: bool) -> FrontierError | None:
    """What a run ends with: the user's own stop before all else, between two stages as well."""
    if cancelled:
        stopped = (error for error in failures.values() if isinstance(error, Cancelled))
        return next(stopped, Cancelled("stopped; the same command goes on where it was"))
    return next(iter(failures.values()), None)


def _task(production: Production, name: str) -> Any:
    return task(
        name=name,
        task_run_name=name,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(production.run_stage)


def _is_transient(_task: Any, _run: Any, state: Any) -> bool:
    try:
        state.result()
    except TransientFailure:
        return True
    except Exception:
        return False
    return False


def reconcile() -> None:
    """Tell Prefect of flow runs whose process was killed; they would look alive for ever."""
    with get_client(sync_client=True) as client:
        running = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state={"type": {"any_": ["RUNNING", "PENDING"]}})
        )
        for run in running:
            for tag in run.tags:
                identity = tag.removeprefix(PROCESS_TAG)
                if identity != tag and process_identity(int(identity.split(":")[0])) != identity:
                    client.set_flow_run_state(run.id, Crashed(message="killed"), force=True)


@contextlib.contextmanager
def stopped_by_signals(production: Production) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the running stages' process groups; a second one ends everything."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if production.cancelled.is_set():
            raise KeyboardInterrupt
        production.cancelled.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
