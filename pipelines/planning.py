"""A run's budget from its plan to its end: what is known is asked, what was taken is told."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from frontier.files import read_json, write_json
from frontier.params import Params
from frontier.targets.hardware import fingerprint_id, hardware_fingerprint
from pipelines import budget, calibration, costs, duration, settings, summary
from pipelines.budget import PATH, Plan
from pipelines.graph import Graph, downstream, stale

MOSTLY = 10  # stages: a run of fewer says little about what start and end of a whole one take


@dataclass(frozen=True)
class Planned:
    """The plan, and what calibrating for it took of this run's time."""

    plan: Plan
    spent_s: float

    def added_to(self, request: settings.Request) -> settings.Request:
        return replace(request, assignments=[*request.assignments, *self.plan.assignments])


def plan(
    root: Path,
    params: Params,
    budget_s: float,
    graph: Graph,
    described: Sequence[Any],
    console: Console,
) -> Planned:
    """The plan of an earlier run for the same wish, or a new one; shown, and kept on disk.

    Args:
        graph: as `params` leave it, before the plan changes them.

    Raises:
        UsageError: the budget is too small.
    """
    others = budget.others_digest(params, described)
    earlier = budget.recorded(root, params, budget_s, others)
    if earlier is not None:
        budget.show(console, earlier, again=True)
        return Planned(earlier, 0.0)
    started = time.monotonic()
    console.print(f"planning for {duration.shown(budget_s)}: timing this device", highlight=False)
    fingerprint = fingerprint_id(hardware_fingerprint())
    rates = calibration.rates(root, params, fingerprint)
    spent_s = time.monotonic() - started
    known = costs.Costs(
        rates,
        costs.count_images(root, params),
        costs.read_records(root, fingerprint),
    )
    base = budget.base_values(root, params)
    stages = _stages(graph)
    made = budget.make(params, base, budget_s, known, stages, others, spent_s)
    budget.show(console, made, again=False)
    budget.write(root, made)
    return Planned(made, spent_s)


def _stages(graph: Graph) -> list[str]:
    """What will run: all that is stale, and every training, since its length changes."""
    wanted = stale(graph) | downstream(graph, {"pretrain"})
    return [name for name in graph if name in wanted]


@dataclass(frozen=True)
class Clock:
    """When the run began, and what it was planned to take."""

    started: float
    planned: Planned | None

    def settle(self, production: Any, closed: summary.Summary) -> summary.Summary:
        """Keep what the stages took for later plans; with a budget, tell planned from taken."""
        total_s = time.monotonic() - self.started
        spent_s = self.planned.spent_s if self.planned else 0.0
        outcomes = production.outcomes.items()
        seconds = {name: outcome.seconds for name, outcome in outcomes}
        self._keep(production, total_s - spent_s)
        if self.planned is None:
            return closed
        result = budget.taken(self.planned.plan, seconds, total_s, spent_s)
        path = production.root / PATH
        write_json(path, {**read_json(path), "taken": result})
        numbers = {f"budget.{name}": result[name] for name in ("planned_s", "taken_s", "off_by")}
        production.tracker.log_parent(numbers, {"budget": path})
        closed = {**closed, "budget": result}
        summary.write(production.root, closed)
        return closed

    def _keep(self, production: Any, total_s: float) -> None:
        outcomes = production.outcomes.items()
        ran = {name: o.seconds for name, o in outcomes if o.outcome == "ran"}
        if len(ran) >= MOSTLY:
            ran[costs.RUN] = total_s - sum(o.seconds for _, o in outcomes)
        params: Params = production.params
        images = costs.count_images(production.root, params)
        fingerprint = fingerprint_id(production.hardware)
        costs.keep_records(production.root, ran, params, images, fingerprint)

    def show(self, console: Console, closed: summary.Summary) -> None:
        if self.planned is not None:
            budget.show_taken(console, closed["budget"])
