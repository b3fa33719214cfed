"""The way into a run: queue, merge settings, ask what is stale, run it, write down what came out.

A run with nothing to do imports neither prefect nor mlflow.
"""

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from frontier.data.source import describe_source
from frontier.errors import Busy, FrontierError
from frontier.files import lock, read_json, sha256, write_json
from frontier.params import Params
from frontier.targets.hardware import hardware_fingerprint
from pipelines import repro, settings, summary
from pipelines.environment import prepare_environment
from pipelines.graph import Graph, downstream, read_graph, resolve, stale


@dataclass(frozen=True)
class Selection:
    """Which stages may run: all stale ones, those from `start` on, or `only` one."""

    only: str | None = None
    start: str | None = None

    def choose(self, graph: Graph) -> list[str]:
        """The stages to bring up to date, in order.

        Raises:
            UsageError: no such stage.
        """
        chosen = stale(graph)
        if self.start:
            chosen &= downstream(graph, set(resolve(graph, self.start)))
        if self.only:
            chosen &= set(resolve(graph, self.only))
        return [name for name in graph if name in chosen]


def run(
    root: Path,
    request: settings.Request,
    console: Console,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    *,
    dry_run: bool = False,
    compare: bool = False,
) -> summary.Summary:
    """One pipeline run, from the command line's wishes to summary.json.

    Args:
        compare: put the challenger to the champion even where there is one.

    Raises:
        FrontierError: what stopped it; nothing is written before `request` was found valid.
    """
    prepare_environment(root)
    with checkout(root, console):
        merged = settings.merge(root, request)
        source = merged.params.ingest
        described = describe_source(source.source, source.unlabelled, root)
        for line in merged.diff:
            console.print(f"params.yaml  {line}", markup=False, highlight=False, soft_wrap=True)
        with _kept(root) if dry_run else contextlib.nullcontext():
            merged.write()
            _write_changed(root / "data" / "source.json", described)
            _write_changed(root / "data" / "hardware.json", hardware_fingerprint())
            repro.prepare(root)
            graph = read_graph(root)
            chosen = selection.choose(graph)
            _show_plan(console, graph, chosen, _timings(root))
        if dry_run:
            return {}
        if not chosen and not compare and _is_finished(root):
            return _close_unchanged(root, merged.params, graph, console)
        return _produce(root, merged.params, graph, chosen, console, compare=compare)


@contextlib.contextmanager
def checkout(root: Path, console: Console) -> Iterator[None]:
    """Runs in one checkout queue here."""
    path = root / ".work" / "run.lock"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait_s=0.0))
        except Busy:
            console.print(f"waiting for {_holder(path)}", markup=False, highlight=False)
            stack.enter_context(lock(path))
        yield


def _holder(path: Path) -> str:
    """The process that holds a lock, in words."""
    try:
        process = psutil.Process(int(path.read_text()))
        return f"process {process.pid}: {' '.join(process.cmdline()[1:])}"
    except (psutil.Error, ValueError):
        return "another run in this checkout"


@contextlib.contextmanager
def _kept(root: Path) -> Iterator[None]:
    """DVC answers only about files as they are: a dry run puts them back."""
    names = ("params.yaml", "data/source.json", "data/hardware.json")
    before = {path: path.read_bytes() for name in names if (path := root / name).is_file()}
    try:
        yield
    finally:
        for path, content in before.items():
            if path.read_bytes() != content:
                path.write_bytes(content)


def _write_changed(path: Path, value: Any) -> None:
    """DVC compares by content; an untouched file spares it the reading."""
    if not path.is_file() or _as_json(read_json(path)) != _as_json(value):
        write_json(path, value)


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _show_plan(
    console: Console, graph: Graph, chosen: list[str], timings: Mapping[str, float]
) -> None:
    if not chosen:
        console.print(f"all {len(graph)} stages are up to date", highlight=False)
        return
    console.print(f"{len(chosen)} of {len(graph)} stages to run:", highlight=False)
    for name in chosen:
        reasons = graph[name].reasons
        why = ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if reasons[3:] else "")
        why = why or f"after {', '.join(key for key in graph[name].upstream if key in chosen)}"
        last = f"  ({timings[name]:.0f} s last time)" if name in timings else ""
        console.print(f"  {name}: {why}{last}", markup=False, highlight=False, soft_wrap=True)


def _produce(
    root: Path,
    params: Params,
    graph: Graph,
    chosen: list[str],
    console: Console,
    *,
    compare: bool,
) -> summary.Summary:
    from frontier.tracking.record import Tracker
    from pipelines.progress import Display

    display = Display(console, len(chosen))
    tracker = Tracker(root, display.say)
    tracker.start("retrain" if compare else "produce", _flat(params), _versions())
    from pipelines.produce import Production, produce, stopped_by_signals

    hardware = read_json(root / "data" / "hardware.json")
    timings = _timings(root)
    production = Production(root, graph, params, hardware, tracker, display, timings)
    failure: BaseException | None = None
    try:
        if chosen:
            with stopped_by_signals(production), display.shown():
                produce(production, chosen)
    except (FrontierError, KeyboardInterrupt) as error:
        failure = error
    except Exception as error:
        if not production.failures:
            raise
        failure = next(iter(production.failures.values()))
        failure.__context__ = error
    closed = _close(production, chosen)
    if failure is None:
        _settle(production, closed, compare=compare)
    stopped = isinstance(failure, repro.Cancelled | KeyboardInterrupt)
    tracker.finish("KILLED" if stopped else "FAILED" if failure else "FINISHED")
    if failure is not None:
        raise failure
    write_json(root / ".work" / "finished.json", _state(root))
    summary.show(console, closed)
    return closed


def _close(production: Any, chosen: list[str]) -> summary.Summary:
    """Timings, summary.json, and the parent run's numbers and files."""
    root, tracker = production.root, production.tracker
    timings = dict(production.timings)
    for name, outcome in production.outcomes.items():
        if outcome.outcome == "ran" or name not in timings:
            timings[name] = outcome.seconds
    write_json(root / ".work" / "timings.json", timings)
    outcomes = {name: "skipped" for name in chosen}
    outcomes |= {name: outcome.outcome for name, outcome in production.outcomes.items()}
    outcomes |= dict.fromkeys(production.failures, "failed")
    results = summary.stage_results(root, production.graph, outcomes, timings)
    closed = summary.build(root, production.params, results, tracker.parent)
    summary.write(root, closed)
    links = {
        f"stage.{name}": f"{result.outcome} {result.run_id or ''}".strip()
        for name, result in results.items()
    }
    tracker.tag(links)
    files = {"": root / "params.yaml", "dvc": root / "dvc.lock"}
    tracker.log_parent(summary.headline(closed), files)
    return closed


def _settle(production: Any, closed: summary.Summary, *, compare: bool) -> None:
    """Register what was exported and let the gate decide who is champion."""
    from pipelines.challenge import settle

    root, tracker, params = production.root, production.tracker, production.params
    files = {"report": root / "data" / "report" / "page", "summary": root / summary.PATH}
    tracker.log_parent({}, files)
    decisions = tracker.call(
        lambda client, run_id: settle(root, params, closed, client, run_id, compare=compare)
    )
    for decision in decisions or []:
        production.display.say(f"{decision['target']}: {decision['reason']}")


def _close_unchanged(
    root: Path, params: Params, graph: Graph, console: Console
) -> summary.Summary:
    run_id = summary.read(root).get("run_id")
    results = summary.stage_results(root, graph, {}, _timings(root))
    closed = summary.build(root, params, results, run_id)
    summary.write(root, closed)
    summary.show(console, closed)
    return closed


def _is_finished(root: Path) -> bool:
    """Whether the last run also came to register and report what the stages made."""
    path = root / ".work" / "finished.json"
    return path.is_file() and bool(read_json(path) == _state(root))


def _state(root: Path) -> dict[str, str]:
    return {"dvc.lock": sha256(root / "dvc.lock")}


def _timings(root: Path) -> dict[str, float]:
    path = root / ".work" / "timings.json"
    return dict(read_json(path)) if path.is_file() else {}


def _flat(params: Params) -> dict[str, Any]:
    from frontier.stages import flatten

    return flatten(params.model_dump(mode="json", by_alias=True))


def _versions() -> dict[str, str]:
    names = ("frontier", "torch", "onnxruntime", "dvc", "prefect", "mlflow", "great_expectations")
    return {f"version.{name}": _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"

