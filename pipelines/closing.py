"""What is written once the stages are done: timings, summary.json, the record, the gate."""

from pathlib import Path
from typing import Any

from frontier.files import atomic_write, read_json, sha256, write_json
from pipelines import catalog, summary


def close(production: Any, chosen: list[str]) -> summary.Summary:
    """Timings, summary.json, and the parent run's numbers and files."""
    root, tracker = production.root, production.tracker
    _update_timings(production)
    outcomes = dict.fromkeys(chosen, "skipped")
    outcomes |= {name: outcome.outcome for name, outcome in production.outcomes.items()}
    outcomes |= dict.fromkeys(production.failures, "failed")
    seconds = {name: outcome.seconds for name, outcome in production.outcomes.items()}
    results = summary.stage_results(root, production.graph, outcomes, seconds)
    closed = summary.build(root, production.params, results, tracker.parent)
    summary.write(root, closed)
    tracker.tag(
        {
            f"stage.{name}": f"{result.outcome} {result.run_id or ''}".strip()
            for name, result in results.items()
        }
    )
    files = {"": root / "params.yaml", "dvc": root / "dvc.lock", "summary": root / summary.PATH}
    tracker.log_parent(summary.headline(closed), files)
    return closed


def settle(production: Any, closed: summary.Summary, *, compare: bool) -> bool:
    """Log the report, register what was exported, and let the gate decide who is champion.

    Returns:
        whether that was decided; what was not, the next run decides.
    """
    from pipelines.challenge import judge

    root, tracker, say = production.root, production.tracker, production.display.say
    tracker.log_parent({}, {"report": root / "data" / "report" / "page"})
    _owed(root).unlink(missing_ok=True)
    try:
        decisions = judge(root, production.params, closed, tracker.call, compare=compare)
        catalog.keep_new(production)
    except Exception as error:  # a champion is a file from elsewhere: its runtime raises anything
        if compare:
            atomic_write(_owed(root), "a comparison with the champion\n")
        reason = str(error).partition("\n")[0] or type(error).__name__
        say(f"champion: not decided: {reason}; the next `frontier run` decides")
        return False
    for decision in decisions:
        say(f"{decision['target']}: {decision['reason']}")
    return True


def owes_comparison(root: Path) -> bool:
    """Whether an earlier run should have put the challenger to the champion and could not."""
    return _owed(root).is_file()


def _owed(root: Path) -> Path:
    return root / ".work" / "undecided"


def mark_finished(root: Path) -> None:
    write_json(_marker(root), _state(root))


def is_finished(root: Path) -> bool:
    """Whether the last run also came to register and report what the stages made."""
    return _marker(root).is_file() and bool(read_json(_marker(root)) == _state(root))


def read_timings(root: Path) -> dict[str, float]:
    """Seconds that each stage took when it last ran."""
    path = _timings_path(root)
    return dict(read_json(path)) if path.is_file() else {}


def _update_timings(production: Any) -> None:
    timings = dict(production.timings)
    for name, outcome in production.outcomes.items():
        if outcome.outcome == "ran" or name not in timings:
            timings[name] = outcome.seconds
    write_json(_timings_path(production.root), timings)


def _timings_path(root: Path) -> Path:
    return root / ".work" / "timings.json"


def _marker(root: Path) -> Path:
    return root / ".work" / "finished.json"


def _state(root: Path) -> dict[str, str]:
    return {"dvc.lock": sha256(root / "dvc.lock")}
