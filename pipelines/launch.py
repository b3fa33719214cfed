"""The way into a run: queue, merge settings, ask what is stale, run it, write down what came out.

A run with nothing to do imports neither prefect nor mlflow.
"""

import contextlib
import importlib.metadata
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from frontier.data.intake.source import describe_source
from frontier.errors import Busy, FrontierError, UsageError, nearest
from frontier.files import atomic_write, lock, read_json, write_json
from frontier.labeling.description import describe_teacher
from frontier.labeling.review import REVIEW, read_review
from frontier.params import Params, load_yaml
from frontier.targets.hardware import hardware_fingerprint
from pipelines import budget, catalog, closing, machine, planning, repro, settings, summary
from pipelines.closing import read_timings
from pipelines.environment import prepare_environment
from pipelines.graph import Graph, downstream, read_graph, resolve, stale, upstream
from pipelines.processes import command_line
from pipelines.progress import Display
from pipelines.services import Server, prefect_api

# dataset, ONNX teacher, a person's verdicts on pseudo-labels, device
DESCRIBED = ("data/source.json", "data/teacher.json", "data/review.json", "data/hardware.json")


@dataclass(frozen=True)
class Selection:
    """Which stages run: all stale ones; or, stale or not, those from `start` on or `only` one."""

    only: str | None = None
    start: str | None = None

    def check(self, root: Path) -> None:
        """Before anything is written: is there such a stage?

        Raises:
            UsageError: no; names the nearest.
        """
        known = load_yaml(root / "dvc.yaml")["stages"]
        for wanted in (self.only, self.start):
            if wanted and wanted.partition("@")[0] not in known:
                raise UsageError(f"{wanted}: no such stage; {nearest(wanted, [*known])}")

    @property
    def forced(self) -> bool:
        """Whether stages were named, which then run even where nothing changed."""
        return bool(self.only or self.start)

    def choose(self, graph: Graph) -> list[str]:
        """The stages to run, in order.

        Raises:
            UsageError: no such stage, or a named one reads what is out of date itself.
        """
        chosen = set(graph) if self.forced else stale(graph)
        if self.start:
            chosen &= downstream(graph, set(resolve(graph, self.start)))
        if self.only:
            chosen &= set(resolve(graph, self.only))
        waiting = (upstream(graph, chosen) - chosen) & stale(graph)
        if waiting:
            first = next(name for name in graph if name in waiting)
            why = ", ".join(graph[first].reasons[:3]) or "what it reads would be made anew"
            more = f" and {len(waiting) - 1} more" if waiting - {first} else ""
            wanted = f"--only {self.only}" if self.only else f"--from {self.start}"
            raise UsageError(
                f"{wanted}: {first}{more} comes before it and is out of date ({why}); "
                "run `frontier run` without it first"
            )
        return [name for name in graph if name in chosen]


def run(
    root: Path,
    request: settings.Request,
    console: Console,
    selection: Selection = Selection(),
    *,
    dry_run: bool = False,
    compare: bool = False,
    from_catalog: bool = False,
    budget_s: float | None = None,
) -> summary.Summary:
    """One pipeline run, from the command line's wishes to summary.json.

    Args:
        compare: put the challenger to the champion even where there is one.
        from_catalog: the search starts from what the catalog has for this device.
        budget_s: plan the whole run to take so long.

    Raises:
        FrontierError: what stopped it; nothing is written before `request` was found valid.
    """
    if budget_s is not None and selection.forced:
        raise UsageError("--budget plans a whole run; leave out --from and --only")
    prepare_environment(root)
    with checkout(root, console):
        started = time.monotonic()  # what was waited for other runs is none of its own
        selection.check(root)
        request, merged = _merged(root, request, from_catalog=from_catalog)
        described = describe(root, merged.params)
        with kept(root, always=dry_run):
            write_described(described)
            repro.prepare(root)
            planned = None
            if budget_s is not None:
                before = _graph_with(root, merged)
                facts = [*described.values()]
                planned = planning.plan(root, merged.params, budget_s, before, facts, console)
                merged = settings.merge(root, planned.added_to(request))
            merged.write()
            graph = read_graph(root)
            chosen = selection.choose(graph)
            for line in merged.diff:
                console.print(f"params.yaml  {line}", markup=False, highlight=False, soft_wrap=True)
            _show_plan(console, graph, chosen, read_timings(root))
        if dry_run:
            return {}
        compare = compare or closing.owes_comparison(root)
        if not chosen and not compare and closing.is_finished(root):
            return _close_unchanged(root, merged.params, graph, console)
        return _produce(
            root,
            merged.params,
            graph,
            chosen,
            console,
            compare=compare,
            force=selection.forced,
            clock=planning.Clock(started, planned),
        )


def _merged(
    root: Path, request: settings.Request, *, from_catalog: bool
) -> tuple[settings.Request, settings.Merge]:
    """params.yaml as asked for, checked against this machine and the search space; and the
    request with what the catalog had to say filled in."""
    if request.architecture is not None:
        request = replace(request, architecture=catalog.named(root, request.architecture))
    merged = settings.merge(root, request)
    if from_catalog:
        if merged.params.architecture is not None:
            raise UsageError(
                f"--from-catalog: architecture is {merged.params.architecture}, so nothing is "
                "searched; add --set architecture=null"
            )
        request = replace(request, seeds=catalog.seeds(root, merged.params))
        merged = settings.merge(root, request)
    machine.check(merged.params)
    catalog.check(merged.params)
    return request, merged


def _graph_with(root: Path, merged: settings.Merge) -> Graph:
    """What would be stale with these params; the file stays as it is."""
    with kept(root, always=True):
        merged.write()
        return read_graph(root)


def run_lock(root: Path) -> Path:
    return root / ".work" / "run.lock"


@contextlib.contextmanager
def checkout(root: Path, console: Console) -> Iterator[None]:
    """Runs in one checkout queue here."""
    path = run_lock(root)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait_s=0.0))
        except Busy:
            console.print(f"waiting for {_holder(path)}", markup=False, highlight=False)
            stack.enter_context(lock(path))
        yield


def _holder(path: Path) -> str:
    """The process that holds a lock, in words."""
    process = path.read_text()
    return f"process {process}: {' '.join(command_line(process)[1:]) or 'another run'}"


@contextlib.contextmanager
def kept(root: Path, *, always: bool) -> Iterator[None]:
    """DVC answers only about files as they are: who only looks, or is refused, puts them back."""
    paths = [root / name for name in ("params.yaml", *DESCRIBED, budget.PATH)]
    before = {path: path.read_bytes() if path.is_file() else None for path in paths}
    restore = True
    try:
        yield
        restore = always
    finally:
        for path, content in before.items() if restore else ():
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                atomic_write(path, content)


def describe(root: Path, params: Params) -> dict[Path, Any]:
    """What lies outside of the graph as it is now, by the file that DVC compares.

    Raises:
        UsageError: there is no such dataset or teacher, or a review that says nothing known.
    """
    source = params.ingest
    described = describe_source(source.source, source.unlabelled, root, source.format)
    pretrain = describe_source(source.pretrain.source, None, root)
    found = (
        {**described, "pretrain": pretrain},
        describe_teacher(root, params.teacher.onnx),
        {"verdicts": read_review(root / REVIEW)},
        hardware_fingerprint(),
    )
    return dict(zip((root / name for name in DESCRIBED), found, strict=True))


def write_described(described: Mapping[Path, Any]) -> None:
    """DVC compares by content; an untouched file spares it the reading."""
    for path, value in described.items():
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
        after = ", ".join(key for key in graph[name].upstream if key in chosen)
        why = why or (f"after {after}" if after else "asked for")
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
    force: bool,
    clock: planning.Clock,
) -> summary.Summary:
    from frontier.tracking.record import Tracker

    display = Display(console, len(chosen))
    tracker = Tracker(root, display.say)
    tracker.start("retrain" if compare else "produce", _flat(params), _versions())
    server = prefect_api(root)
    from pipelines.produce import Production

    hardware = read_json(root / "data" / "hardware.json")
    timings = read_timings(root)
    production = Production(root, graph, params, hardware, tracker, display, timings, force)
    failure = _attempt(production, chosen, server)
    closed = closing.close(production, chosen)
    decided = failure is None and closing.settle(production, closed, compare=compare)
    closed = clock.settle(production, closed)
    stopped = isinstance(failure, repro.Cancelled | KeyboardInterrupt)
    tracker.finish("KILLED" if stopped else "FAILED" if failure else "FINISHED")
    if failure is not None:
        raise failure
    if decided and not tracker.troubled:  # else the next run makes up for what is missing
        closing.mark_finished(root)
    summary.show(console, closed)
    clock.show(console, closed)
    return closed


def _attempt(production: Any, chosen: list[str], server: Server | None) -> BaseException | None:
    """Run the flow; what stopped it, for the caller to record before it is raised."""
    from pipelines.produce import produce, stopped_by_signals

    if not chosen:
        return None
    try:
        if server:
            server.wait()
        with stopped_by_signals(production), production.display.shown():
            produce(production, chosen)
    except (FrontierError, KeyboardInterrupt) as error:
        return error
    return None


def _close_unchanged(root: Path, params: Params, graph: Graph, console: Console) -> summary.Summary:
    run_id = summary.read(root).get("run_id")
    results = summary.stage_results(root, graph, {}, {})
    closed = summary.build(root, params, results, run_id)
    closed["budget"] = summary.read(root).get("budget")
    summary.write(root, closed)
    summary.show(console, closed)
    return closed


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
