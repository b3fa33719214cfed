"""One search on one target: evaluate, predict, evolve, time whole, recommend, explain."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from frontier import tracking
from frontier.models.architecture import Architecture
from frontier.params import Measure, Search
from frontier.search.accuracy import AccuracyPredictor, Evaluation, Evaluator
from frontier.search.evolution import evolve
from frontier.search.frontier import Choice, Point, non_dominated, ranks, recommend
from frontier.search.latency import LatencyEstimator, Timing, time_architectures
from frontier.search.postmortem import explain, walk
from frontier.targets.base import Target

EXPLORED = 0.6  # share of the evaluations spent before the predictors propose


class SearchSession:
    """State of one search; `evaluator` remembers accuracies across a kill, `timings` do not.

    Args:
        records: where latencies measured on this device are recorded.
        work: folder for the networks that are timed.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        target: Target,
        search: Search,
        measure: Measure,
        threads: int,
        seed: int,
        records: Path,
        work: Path,
    ) -> None:
        self.evaluator, self.target, self.search, self.measure = evaluator, target, search, measure
        self.threads, self.seed, self.records, self.work = threads, seed, records, work
        self.space = evaluator.supernet.space
        self.baseline = self.space.baseline(search.baseline)
        self.evaluations: dict[str, Evaluation] = {}
        self.timings: dict[str, Timing] = {}

    def run(self) -> dict[str, Any]:
        """The content of `search.json`."""
        start = [*dict.fromkeys([self.baseline, *self.space.seeds()])]
        self._explore(start)
        self._time(start[: self.search.finalists])
        estimator = LatencyEstimator(self.space, self._ms())
        self._propose(start, estimator)
        finalists = self._finalists(start, estimator)
        estimated = dict(zip(finalists, estimator.estimate_ms(_parse(finalists)), strict=True))
        fresh = [code for code in finalists if code not in self.timings]
        self._time(_parse(finalists))
        choice = recommend(
            [self._point(code) for code in finalists],
            self._point(self.baseline.code),
            self.search.max_latency_ms,
            self.search.min_ap,
        )
        held_out = {code: (estimated[code], self.timings[code].int8.p50_ms) for code in fresh}
        return self._document(finalists, choice, held_out)

    def _evaluate(self, architectures: list[Architecture]) -> None:
        for architecture in architectures:
            evaluation = self.evaluator.evaluate(architecture)
            self.evaluations[architecture.code] = evaluation
            done = len(self.evaluations)
            tracking.log_metrics({"AP": evaluation.AP, "gmac": evaluation.gmac}, step=done)
            tracking.log_progress(
                min(done, self.search.evaluations), self.search.evaluations, "subnets evaluated"
            )

    def _explore(self, start: list[Architecture]) -> None:
        """The seeds, then random architectures spread evenly over the range of cost."""
        count = max(len(start), round(self.search.evaluations * EXPLORED)) - len(start)
        generator = np.random.default_rng(self.seed)
        drawn = sorted((self.space.random(generator) for _ in range(8 * count)), key=_nominal_cost)
        self._evaluate([*start, *drawn[4::8]])

    def _propose(self, start: list[Architecture], estimator: LatencyEstimator) -> None:
        """Evolve on the predictors and evaluate a spread of what they believe in, twice."""
        for rounds_left in (2, 1):
            left = self.search.evaluations - len(self.evaluations)
            if left <= 0:
                return
            predictor = AccuracyPredictor(self.space, [*self.evaluations.values()])

            def objective(
                drawn: list[Architecture], predictor: AccuracyPredictor = predictor
            ) -> list[tuple[float, float]]:
                pairs = zip(predictor.predict(drawn), estimator.estimate_ms(drawn), strict=True)
                return [(float(ap), float(ms)) for ap, ms in pairs]

            believed = evolve(
                self.space,
                objective,
                self.search.candidates // 2,
                self.search.population,
                self.seed + rounds_left,
                start,
                self.search.max_latency_ms,
            )
            new = [a for a in believed if a.code not in self.evaluations]
            self._evaluate(_spread(new, -(-left // rounds_left)))
        generator = np.random.default_rng(self.seed + 1)
        while len(self.evaluations) < self.search.evaluations:
            self._evaluate([self.space.random(generator)])

    def _finalists(self, start: list[Architecture], estimator: LatencyEstimator) -> list[str]:
        """Baseline, smallest, largest, then the best non-domination ranks by (AP, estimated ms)."""
        codes = [*self.evaluations]
        ms = estimator.estimate_ms(_parse(codes))
        rank = ranks([self.evaluations[code].AP for code in codes], [*ms])
        by_rank = [codes[i] for i in np.argsort(rank, kind="stable")]
        fixed = [self.baseline.code, self.space.smallest.code, self.space.largest.code]
        return [*dict.fromkeys([*fixed, *by_rank])][: max(len(fixed), self.search.finalists)]

    def _time(self, architectures: list[Architecture]) -> None:
        """Time whole what is not timed yet, all scaled by the baseline, the fixed reference.

        Weights do not change the time, so these networks are not recalibrated.
        """
        wanted = [a for a in dict.fromkeys(architectures) if a.code not in self.timings]
        if not wanted:
            return
        known = self.timings.get(self.baseline.code)
        self.timings |= time_architectures(
            {a.code: self.evaluator.supernet.extract(a).cpu() for a in wanted},
            self.target,
            self.measure,
            self.threads,
            self.records,
            self.work,
            self.evaluator.supernet.extract(self.baseline).cpu(),
            known.int8.p50_ms if known else None,
        )

    def _ms(self) -> dict[str, float]:
        return {code: timing.int8.p50_ms for code, timing in self.timings.items()}

    def _point(self, code: str) -> Point:
        evaluation = self.evaluations[code]
        return Point(code, evaluation.AP, evaluation.AP_interval[0], self.timings[code].int8.p50_ms)

    def _document(
        self, finalists: list[str], choice: Choice, held_out: dict[str, tuple[float, float]]
    ) -> dict[str, Any]:
        steps, residual = self._postmortem(Architecture.parse(choice.code))
        on_frontier = {p.code for p in non_dominated([self._point(c) for c in finalists])}
        rows = [self._row(code, on_frontier, choice.code) for code in finalists]
        baseline = next(row for row in rows if row["architecture"] == self.baseline.code)
        return {
            "evaluated": [
                {**asdict(e), "AP_interval": [*e.AP_interval]} for e in self.evaluations.values()
            ],
            "timed": rows,
            "recommended": {"architecture": choice.code, "reason": choice.reason},
            "baseline": baseline,
            "limits": {"max_latency_ms": self.search.max_latency_ms, "min_ap": self.search.min_ap},
            "feasible": choice.feasible,
            "postmortem": steps,
            "postmortem_residual": residual,
            "estimator": _quality(held_out),
            "space_size": self.space.size,
        }

    def _postmortem(self, answer: Architecture) -> tuple[list[dict[str, Any]], dict[str, float]]:
        path = walk(self.baseline, answer)
        architectures = [architecture for _, architecture in path]
        self._evaluate(architectures)
        self._time(architectures)
        ap = {code: evaluation.AP for code, evaluation in self.evaluations.items()}
        steps = explain(path, self._ms(), ap)
        total_ms = self._ms()[answer.code] - self._ms()[self.baseline.code]
        total_ap = ap[answer.code] - ap[self.baseline.code]
        residual = {
            "ms": total_ms - sum(step.delta_ms for step in steps),
            "AP": total_ap - sum(step.delta_AP for step in steps),
        }
        return [asdict(step) for step in steps], residual

    def _row(self, code: str, on_frontier: set[str], recommended: str) -> dict[str, Any]:
        evaluation, timing = self.evaluations[code], self.timings[code]
        names = {
            self.baseline.code: "baseline",
            self.space.smallest.code: "smallest",
            self.space.largest.code: "largest",
        }
        return {
            "architecture": code,
            "AP": evaluation.AP,
            "AP_interval": [*evaluation.AP_interval],
            "latency_p50_ms": timing.int8.p50_ms,
            "latency_interval_ms": [*timing.int8.interval_ms],
            "latency_float_p50_ms": timing.float32.p50_ms,
            "latency_float_interval_ms": [*timing.float32.interval_ms],
            "gmac": evaluation.gmac,
            "parameters": evaluation.parameters,
            "stable": timing.int8.stable and timing.float32.stable,
            "on_frontier": code in on_frontier,
            "recommended": code == recommended,
            "name": names.get(code, "found"),
        }


def _parse(codes: list[str]) -> list[Architecture]:
    return [Architecture.parse(code) for code in codes]


def _nominal_cost(architecture: Architecture) -> float:
    width = sum(
        s.depth * s.hidden**2 * (0.12 if s.block == "d" else 1.0) for s in architecture.stages
    )
    return width * architecture.image_side**2


def _spread(architectures: list[Architecture], count: int) -> list[Architecture]:
    """`count` of them, evenly spread over the list."""
    if len(architectures) <= count:
        return architectures
    picks = np.linspace(0, len(architectures) - 1, count).round().astype(int)
    return [architectures[i] for i in dict.fromkeys(picks.tolist())]


def _quality(held_out: dict[str, tuple[float, float]]) -> dict[str, float | int | None]:
    """Kendall tau and mean relative error of the estimates of models timed afterwards."""
    from scipy.stats import kendalltau

    if len(held_out) < 3:
        return {"tau": None, "mape": None, "n": len(held_out)}
    estimated, measured = np.array([*held_out.values()]).T
    tau = float(kendalltau(estimated, measured).statistic)
    mape = float(np.mean(np.abs(estimated / measured - 1)))
    return {"tau": tau if np.isfinite(tau) else None, "mape": mape, "n": len(held_out)}
