"""`--budget 2h`: a plan of the whole run in seconds, made before anything starts.

What it decides goes into `params.yaml` like any `--set`. Trainings turn their share of
`train.budget_s` into steps themselves, by timing; steps end them, not the clock.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frontier.errors import UsageError
from frontier.files import read_json, write_json
from frontier.params import Params, parse_params
from pipelines import duration
from pipelines.costs import RUN, TRAININGS, Costs, skipped, trained_s

PATH = "data/budget.json"
LEAST_STEPS = 20  # as `training.plan`, which would load torch, has it; as many go into timing them
# What a shorter run has less of, and the least that still means something.
REDUCED = {
    "search.evaluations": 8,
    "search.finalists": 5,
    "quantize.sensitivity_images": 16,
    "quantize.calibration_images": 16,
}
SHARES = tuple(f"{name}.share" for name in TRAININGS)
PLANNED = ("train.budget_s", *SHARES, *REDUCED)
WORDS = {
    "search.evaluations": "evaluations",
    "search.finalists": "finalists timed whole",
    "quantize.sensitivity_images": "sensitivity images",
    "quantize.calibration_images": "calibration images",
}
HALVINGS = 12  # a share to a thousandth
CALIBRATION = "calibration"
Values = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a budget comes to.

    Attributes:
        base: what the planned keys were before any budget.
        values: what they are now, by dotted key.
        others: names the rest of the settings, the dataset and the device.
        seconds: by stage; `sources`: where each comes from.
        given_up: `supernet: 1500 -> 420 steps`, one line each.
    """

    budget_s: float
    base: Values
    values: Values
    others: str
    seconds: dict[str, float]
    sources: dict[str, str]
    given_up: list[str]

    @property
    def assignments(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{key}={json.dumps(value)}" for key, value in self.values.items()]


def recorded(root: Path, params: Params, budget_s: float, others: str) -> Plan | None:
    """The plan of an earlier run for the same: so a repeated command finds nothing changed."""
    plan = _read(root)
    if plan is None or (plan.budget_s, plan.others) != (budget_s, others):
        return None
    return plan if plan.base == base_values(root, params) else None


def base_values(root: Path, params: Params) -> Values:
    """The planned keys before any budget: what an earlier plan set does not count."""
    values = _values(params, PLANNED)
    plan = _read(root)
    return plan.base if plan is not None and plan.values == values else values


def others_digest(params: Params, described: Sequence[Any]) -> str:
    """Names everything a plan depends on beside the keys it sets."""
    flat = _flat(params)
    for key in PLANNED:
        del flat[key]
    text = json.dumps([flat, *described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make(
    params: Params,
    base: Values,
    budget_s: float,
    known: Costs,
    stages: Sequence[str],
    others: str,
    spent_s: float = 0.0,
) -> Plan:
    """Fit the run into `budget_s`.

    All that can be reduced is reduced alike: trainings, evaluations and images keep the proportions
    of the preset. What is left over goes into the trainings.

    Args:
        stages: those that will run.
        spent_s: what calibration has taken of the budget already.

    Raises:
        UsageError: it is too small; names the least that would do.
    """
    whole = _with(params, base)
    fit = _Fit(whole, base, budget_s - spent_s, known, stages)
    share = fit.largest_share()
    values = {**_reduced(base, share), **_shares(whole)}
    values["train.budget_s"] = round(fit.left_s(share), 1)
    if fit.left_s(share) < fit.least_s:
        raise fit.refusal(budget_s)
    values = {key: values[key] for key in PLANNED}
    planned = _with(whole, values)
    seconds = {s: known.seconds(s, planned) + trained_s(s, planned) for s in (*stages, RUN)}
    sources = {stage: known.source(stage) for stage in seconds}
    if spent_s:
        seconds, sources = {CALIBRATION: spent_s, **seconds}, {CALIBRATION: "spent", **sources}
    lines = _given_up(whole, planned, known)
    return Plan(budget_s, base, values, others, seconds, sources, lines)


@dataclass(frozen=True)
class _Fit:
    """How much of the preset's numbers fits into the seconds that are open.

    Attributes:
        whole: the settings with the preset's numbers, `base`.
    """

    whole: Params
    base: Values
    open_s: float
    known: Costs
    stages: Sequence[str]

    @property
    def wanted_s(self) -> float:
        return _wanted_training_s(self.whole, self.known)

    @property
    def least_s(self) -> float:
        return _least_training_s(self.whole, _shares(self.whole), self.known)

    def beside_s(self, share: float) -> float:
        """Seconds of everything but trainings."""
        reduced = _with(self.whole, _reduced(self.base, share))
        return sum(self.known.seconds(stage, reduced) for stage in (*self.stages, RUN))

    def left_s(self, share: float) -> float:
        """Seconds for trainings."""
        return self.open_s - self.beside_s(share)

    def largest_share(self) -> float:
        """0 to 1, by halving; 0 also where not even that fits."""

        def fits(share: float) -> bool:
            return self.left_s(share) >= max(share * self.wanted_s, self.least_s)

        low, high = (1.0, 1.0) if fits(1.0) else (0.0, 1.0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def refusal(self, budget_s: float) -> UsageError:
        beside_s, least_s = self.beside_s(0.0), self.least_s
        least = duration.whole_minutes(1.1 * (beside_s + least_s))
        return UsageError(
            f"--budget {duration.shown(budget_s)}: too little for this preset and dataset; the "
            f"least is {least}: {duration.shown(beside_s)} without trainings and "
            f"{duration.shown(least_s)} for at least {LEAST_STEPS} steps of each"
        )


def _reduced(base: Values, share: float) -> Values:
    return {
        key: max(min(least, base[key]), round(share * base[key])) for key, least in REDUCED.items()
    }


def _times(name: str, params: Params) -> int:
    """How often a kind of training happens: each searched target has a student."""
    if skipped(name, params):
        return 0
    return len(params.searched) if name == "distill" else 1


def _wanted_training_s(params: Params, known: Costs) -> float:
    """Seconds of all trainings as the preset has them."""
    if params.train.budget_s is not None:
        return float(params.train.budget_s)
    return float(
        sum(
            _times(name, params) * getattr(params, name).steps * known.rates.step_s[name]
            for name in TRAININGS
        )
    )


def _shares(params: Params) -> Values:
    """The preset's, made to sum to 1 over the trainings that happen."""
    own = {name: getattr(params, name).share * bool(_times(name, params)) for name in TRAININGS}
    total = sum(_times(name, params) * share for name, share in own.items())
    return {f"{name}.share": round(share / total, 9) for name, share in own.items()}


def _least_training_s(params: Params, shares: Values, known: Costs) -> float:
    """So that each training has its least steps, those that it is timed by included."""
    return float(
        max(
            2 * LEAST_STEPS * known.rates.step_s[name] / shares[f"{name}.share"]
            for name in TRAININGS
            if shares[f"{name}.share"]
        )
    )


def _given_up(whole: Params, planned: Params, known: Costs) -> list[str]:
    lines = []
    for name in TRAININGS:
        if _times(name, planned):
            before = _steps(name, whole, known)
            lines.append(f"{name}: {before} -> about {_steps(name, planned, known)} steps")
    old, new = _values(whole, [*REDUCED]), _values(planned, [*REDUCED])
    lines += [f"{WORDS[key]}: {old[key]} -> {new[key]}" for key in REDUCED if old[key] != new[key]]
    return lines


def _steps(name: str, params: Params, known: Costs) -> int:
    if params.train.budget_s is None:
        return int(getattr(params, name).steps)
    return round(trained_s(name, params) / known.rates.step_s[name])


# ---------------------------------------------------------------- params by dotted key


def _flat(params: Params) -> Values:
    from frontier.stages import flatten

    return flatten(params.model_dump(mode="json", by_alias=True))


def _values(params: Params, keys: Sequence[str]) -> Values:
    flat = _flat(params)
    return {key: flat[key] for key in keys}


def _with(params: Params, values: Mapping[str, Any]) -> Params:
    """Other values; checked as if they stood in the file."""
    given = params.model_dump(mode="json", by_alias=True)
    for dotted, value in values.items():
        section, key = dotted.split(".")
        given[section][key] = value
    return parse_params(given)


# ---------------------------------------------------------------- the record, and for people


def write(root: Path, plan: Plan) -> None:
    """Where the next run finds it."""
    write_json(root / PATH, vars(plan))


def _read(root: Path) -> Plan | None:
    path = root / PATH
    if not path.is_file():
        return None
    record = read_json(path)
    record.pop("taken", None)
    return Plan(**record)


def show(console: Console, plan: Plan, *, again: bool) -> None:
    """The plan, before anything starts."""
    title = f"Plan for {duration.shown(plan.budget_s)}" + (", as made before" if again else "")
    table = Table("stage", "seconds", "known from", title=title)
    for stage, seconds in plan.seconds.items():
        own = plan.sources[stage]
        trained = stage.partition("@")[0] in TRAININGS and "train.budget_s and "
        table.add_row(stage, f"{seconds:.0f}", f"{trained or ''}{own}")
    table.add_row("in all", f"{sum(plan.seconds.values()):.0f}", "", style="bold")
    console.print(table)
    console.print("Against the preset's own numbers:", highlight=False)
    for line in plan.given_up:
        console.print(f"  {line}", markup=False, highlight=False)


def taken(plan: Plan, ran: Mapping[str, float], total_s: float, spent_s: float) -> Values:
    """Planned against taken, of the stages that ran, and of the run's start and end."""
    spent = {CALIBRATION: spent_s} if spent_s else {}
    own = {**spent, **ran, RUN: total_s - sum(ran.values()) - spent_s}
    stages = {
        stage: {"planned_s": round(plan.seconds.get(stage, 0.0), 1), "taken_s": round(seconds, 1)}
        for stage, seconds in own.items()
    }
    planned_s = sum(row["planned_s"] for row in stages.values())
    return {
        "budget_s": plan.budget_s,
        "planned_s": round(planned_s, 1),
        "taken_s": round(total_s, 1),
        "off_by": round(total_s / planned_s - 1, 4),
        "stages": stages,
    }


def show_taken(console: Console, result: Mapping[str, Any]) -> None:
    """The closing table: planned and taken, by stage."""
    table = Table("stage", "planned s", "taken s", "off by", title="The budget, kept or not")
    rows = {**result["stages"], "in all": result}
    for stage, row in rows.items():
        off = f"{row['taken_s'] / row['planned_s'] - 1:+.0%}" if row["planned_s"] else "-"
        table.add_row(stage, f"{row['planned_s']:.0f}", f"{row['taken_s']:.0f}", off)
    console.print(table)
