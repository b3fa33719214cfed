"""The closing table and its machine-readable face, data/report/summary.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frontier.files import read_json, write_json
from frontier.params import Params
from pipelines.graph import Graph

VERSION = 1
PATH = "data/report/summary.json"
PAGE = "data/report/page/index.html"
Summary = dict[str, Any]


@dataclass(frozen=True)
class StageResult:
    """What this run did with a stage, and for how many seconds."""

    outcome: str
    seconds: float
    run_id: str | None


def stage_results(
    root: Path,
    graph: Graph,
    outcomes: Mapping[str, str],
    seconds: Mapping[str, float],
) -> dict[str, StageResult]:
    """One entry per stage of the graph; a stage that this run did not touch is `unchanged` where
    nothing of it is stale, else `skipped`."""
    return {
        name: StageResult(
            _outcome(root, name, outcomes.get(name, "skipped" if node.reasons else "unchanged")),
            round(seconds.get(name, 0.0), 3),
            made_by(root, name),
        )
        for name, node in graph.items()
    }


def _outcome(root: Path, stage: str, outcome: str) -> str:
    """A stage that is up to date and found nothing to do says so itself, in its audit."""
    audit = _json(root / "data" / stage / "audit.json")
    return "skipped" if outcome != "failed" and audit.get("status") == "skipped" else outcome


def made_by(root: Path, stage: str) -> str | None:
    """The MLflow run that truly made the stage's outputs, also where the cache restored them."""
    record = _json(root / "data" / "runs" / f"{stage}.json")
    run_id = record.get("run_id")
    return str(run_id) if run_id else None


def build(
    root: Path, params: Params, stages: Mapping[str, StageResult], run_id: str | None
) -> Summary:
    """Everything the closing table tells, from the stages' own outputs."""
    return {
        "version": VERSION,
        "run_id": run_id,
        "dataset": _json(root / "data" / "validate" / "judged" / "verdict.json").get("counts", {}),
        "targets": {name: _target(root, params, name) for name in params.targets},
        "frontier": [point for name in params.searched for point in _points(root, name)],
        "stages": {
            name: {
                "seconds": result.seconds,
                "outcome": result.outcome,
                "mlflow_run_id": result.run_id,
            }
            for name, result in stages.items()
        },
        "budget": None,
        "report": PAGE if (root / PAGE).is_file() else None,
        "dashboard": "mlruns/mlflow.db",
    }


def write(root: Path, summary: Summary) -> None:
    write_json(root / PATH, summary)


def read(root: Path) -> Summary:
    """The last summary; empty where there is none."""
    return _json(root / PATH)


def headline(summary: Summary) -> dict[str, float]:
    """The parent run's metrics: `AP.onnxruntime-cpu` and so on."""
    names = ("AP", "AP50", "AP_float", "latency_p50_ms", "latency_float_p50_ms", "size_bytes")
    return {
        f"{name}.{target}": float(facts[name])
        for target, facts in summary["targets"].items()
        for name in names
        if facts[name] is not None
    }


def _target(root: Path, params: Params, name: str) -> dict[str, Any]:
    export = _json(root / "data" / "export" / name / "export.json")
    evaluate = _json(root / "data" / "evaluate" / name / "evaluate.json")
    plan = _json(root / "data" / "quantize" / name / "plan.json")
    search = _json(root / "data" / "search" / params.targets[name].like / "search.json")
    bundle = f"data/export/{name}/bundle"
    # a run may have ended between the two: what was not scored is not reported as measured
    measured = (evaluate.get("status") == "measured" and export.get("latency")) or {}
    int8, float32 = measured.get("int8", {}), measured.get("float", {})
    return {
        "status": evaluate.get("status", "not-built"),
        "reason": evaluate.get("reason") or None,
        "feasible": search.get("feasible"),
        "recommended_reason": search.get("recommended", {}).get("reason"),
        "architecture": _json(root / bundle / "detector.json").get("architecture"),
        "answer": plan.get("answer"),
        "AP": evaluate.get("AP"),
        "AP50": evaluate.get("AP50"),
        "AP_float": (evaluate.get("float") or {}).get("AP"),
        "AP_interval": evaluate.get("AP_interval"),
        "latency_p50_ms": int8.get("p50_ms"),
        "latency_interval_ms": int8.get("interval_ms"),
        "latency_stable": int8.get("stable"),
        "latency_float_p50_ms": float32.get("p50_ms"),
        "latency_float_interval_ms": float32.get("interval_ms"),
        "latency_pipeline_p50_ms": measured.get("pipeline", {}).get("p50_ms"),
        "size_bytes": export.get("size_bytes"),
        "size_float_bytes": export.get("size_float_bytes"),
        "bundle": bundle if (root / bundle).is_dir() else None,
    }


def _points(root: Path, target: str) -> list[dict[str, Any]]:
    search = _json(root / "data" / "search" / target / "search.json")
    names = ("architecture", "AP", "latency_p50_ms", "latency_interval_ms", "stable", "recommended")
    return [
        {"target": target, **{name: point.get(name) for name in names}}
        for point in sorted(search.get("timed", []), key=lambda point: point["latency_p50_ms"])
        if point.get("on_frontier")
    ]


def _json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


# ---------------------------------------------------------------- for people


def show(console: Console, summary: Summary) -> None:
    """The closing table: targets, the frontier, where time went, where to look."""
    console.print(_targets_table(summary))
    for line in _remarks(summary):
        console.print(line, markup=False, highlight=False)
    if summary["frontier"]:
        console.print(_frontier_table(summary))
    console.print(_stages_table(summary))
    for line in (
        f"report      {summary['report'] or 'not made yet'}   (`frontier report` opens it)",
        "dashboard   frontier ui   (MLflow, Prefect and the report)",
        f"MLflow run  {summary['run_id'] or 'not recorded'}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _remarks(summary: Summary) -> list[str]:
    """What the targets' numbers need said beside them: why these, limits missed, noise."""
    targets = summary["targets"]
    reasons: dict[str, list[str]] = {}
    for name, facts in targets.items():
        if facts["recommended_reason"]:
            missed = "LIMIT MISSED: " if facts["feasible"] is False else ""
            reasons.setdefault(missed + facts["recommended_reason"], []).append(name)
    lines = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    unstable = [name for name, facts in targets.items() if facts["latency_stable"] is False]
    if unstable:
        lines.append(
            f"{', '.join(unstable)}: the latency is unstable, something else used the machine; "
            "`frontier run --from search` on a quiet one"
        )
    return lines


def _targets_table(summary: Summary) -> Table:
    table = Table(title="Detectors: what ships, in its runtime, and its float form")
    headings = ("target", "status", "AP", "AP float", "ms p50", "ms float", "ms pipeline", "MB")
    for heading in headings:
        table.add_column(heading, no_wrap=heading == "target", overflow="fold")
    for name, facts in summary["targets"].items():
        missed = ", limit missed" if facts["feasible"] is False else ""
        noise = " unstable" if facts["latency_stable"] is False else ""
        table.add_row(
            name,
            f"{facts['status']}{missed}",
            f"{_number(facts['AP'], 3)} {_interval(facts['AP_interval'], 3)}",
            _number(facts["AP_float"], 3),
            f"{_number(facts['latency_p50_ms'], 2)} "
            f"{_interval(facts['latency_interval_ms'], 2)}{noise}",
            f"{_number(facts['latency_float_p50_ms'], 2)} "
            f"{_interval(facts['latency_float_interval_ms'], 2)}",
            _number(facts["latency_pipeline_p50_ms"], 2),
            _number(facts["size_bytes"] and facts["size_bytes"] / 1e6, 2),
        )
    return table


def _frontier_table(summary: Summary) -> Table:
    table = Table(title="Frontier: recalibrated architectures, INT8, before distillation")
    for heading in ("target", "ms p50", "AP", "architecture"):
        table.add_column(heading, no_wrap=heading == "target", overflow="fold")
    for point in summary["frontier"]:
        chosen = "  <- recommended" if point["recommended"] else ""
        noise = " unstable" if point["stable"] is False else ""
        table.add_row(
            point["target"],
            f"{_number(point['latency_p50_ms'], 2)} "
            f"{_interval(point['latency_interval_ms'], 2)}{noise}",
            _number(point["AP"], 3),
            f"{point['architecture']}{chosen}",
        )
    return table


def _stages_table(summary: Summary) -> Table:
    table = Table("stage", "outcome", "seconds", "MLflow run", title="Where time went")
    for name, stage in summary["stages"].items():
        run_id = stage["mlflow_run_id"]
        table.add_row(name, stage["outcome"], f"{stage['seconds']:.1f}", (run_id or "-")[:12])
    ran = sum(s["seconds"] for s in summary["stages"].values() if s["outcome"] == "ran")
    table.add_row("this run", "", f"{ran:.1f}", (summary["run_id"] or "-")[:12], style="bold")
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(bounds: list[float] | None, digits: int) -> str:
    return rf"\[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]" if bounds else ""
