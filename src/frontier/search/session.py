"""One search on one target: evaluate, predict, evolve, time whole, recommend, explain."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from frontier import tracking
from frontier.models.architecture import Architecture
from frontier.params import Search
from frontier.search.accuracy import AccuracyPredictor, Evaluation, Evaluator
from frontier.search.costs import Costs, Surveyed
from frontier.search.features import Floats, genes_of
from frontier.search.frontier import (
    Choice,
    Limits,
    Point,
    hypervolume,
    non_dominated,
    ranks,
    recommend,
)
from frontier.search.latency import Stopwatch, Timing, append_timings, read_timings
from frontier.search.postmortem import explain, walk
from frontier.search.quality import rank_quality
from frontier.search.strategies import STRATEGIES, Strategy, Told, random, spread
from frontier.search.survey import Survey, build


class SearchSession:
    """State of one search, which goes on where a killed one was.

    Args:
        evaluator: remembers accuracies across a kill.
        stopwatch: times networks; its folder also keeps what they took.
        survey: of the device, where `search.estimator` asks for the table.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        search: Search,
        stopwatch: Stopwatch,
        survey: Survey | None,
        seed: int,
    ) -> None:
        self.evaluator, self.search, self.stopwatch = evaluator, search, stopwatch
        self.survey, self.seed = survey, seed
        self.space = evaluator.supernet.space
        self.baseline = self.space.baseline(search.baseline)
        self.limits = Limits.of(search)
        self.evaluations: dict[str, Evaluation] = {}
        self.timings: dict[str, Timing] = read_timings(self._journal)
        self.costs: Costs
        self._planned = search.evaluations * (2 if search.compare_random else 1)

    def run(self) -> dict[str, Any]:
        """The content of `search.json`."""
        given = [self.space.member(code, "search.seeds") for code in self.search.seeds]
        start = [*dict.fromkeys([self.baseline, *self.space.seeds(), *given])]
        self._time(start)
        classes = self.evaluator.supernet.num_classes
        self.costs = Costs(self.space, classes, self.limits, self.timings, self._surveyed())
        found = self._spend(STRATEGIES[self.search.strategy], start)
        finalists = self._finalists(found)
        held_out = self._held_out(finalists)
        choice = recommend(
            [self._point(code) for code in finalists],
            self._point(self.baseline.code),
            self.limits,
        )
        document = self._document(finalists, choice, held_out)
        return {**document, "random": self._random(finalists)}

    def _surveyed(self) -> Surveyed | None:
        return None if self.survey is None else build(self.survey, self.search)

    def _spend(self, strategy: Strategy, start: list[Architecture]) -> list[str]:
        """Evaluate as many as `search.evaluations`, `start` among them; their codes."""
        evaluated = self._evaluate(start, [])
        size = -(-self.search.evaluations // (self.search.rounds + 1))
        while (left := self.search.evaluations - len(evaluated)) > 0:
            told = Told(
                self.space, self.search, self.seed, evaluated, self.costs.ms, self.costs.excess
            )
            asked = strategy(told, min(left, size))
            evaluated = self._evaluate(asked, evaluated)
        return [architecture.code for architecture, _ in evaluated]

    def _evaluate(
        self, architectures: list[Architecture], evaluated: list[tuple[Architecture, float]]
    ) -> list[tuple[Architecture, float]]:
        """`evaluated` and the architectures behind it, each with its AP."""
        known = [*evaluated]
        evaluations = self.evaluator.evaluate(architectures)
        for architecture, evaluation in zip(architectures, evaluations, strict=True):
            self.evaluations[architecture.code] = evaluation
            known.append((architecture, evaluation.AP))
            done = len(self.evaluations)
            values = {"AP": evaluation.AP, "gmac": evaluation.gmac}
            if evaluation.AP_before is not None:
                values["AP_before_recalibration"] = evaluation.AP_before
            tracking.log_metrics(values, step=done)
            tracking.log_progress(min(done, self._planned), self._planned, "subnets evaluated")
        return known

    def _finalists(self, codes: list[str]) -> list[str]:
        """Baseline, smallest, largest, then the best non-domination ranks by (AP, estimated ms).

        Those that may or may not keep to the limit, by the error of their estimates, come on top;
        an estimator that is not to be trusted is asked for twice as many of the best.
        """
        fixed = [self.baseline.code, self.space.smallest.code, self.space.largest.code]
        others = [code for code in codes if code not in fixed]
        count = self.search.finalists * (2 if self.costs.doubted else 1)
        best = self._best(others, count - len(fixed))
        doubtful = self.costs.straddling(others)
        return [*dict.fromkeys([*fixed, *best, *spread(doubtful, self.search.finalists)])]

    def _best(self, codes: list[str], count: int) -> list[str]:
        """Rank by rank; of the last one that finds room, some evenly spread over time."""
        ms = self.costs.ms(genes_of(self.space, _parse(codes)))
        rank = np.array(ranks([self.evaluations[code].AP for code in codes], [*ms]))
        best: list[str] = []
        while len(best) < min(count, len(codes)):
            number = rank[[code not in best for code in codes]].min()
            own = np.flatnonzero(rank == number)
            fastest_first = [codes[i] for i in own[np.argsort(ms[own], kind="stable")]]
            best += spread(fastest_first, count - len(best))
        return best

    def _held_out(self, finalists: list[str]) -> dict[str, tuple[float, float]]:
        """Time the finalists; estimated and measured ms of those that the estimator did not see."""
        estimated = self.costs.ms(genes_of(self.space, _parse(finalists)))
        fresh = [code not in self.timings for code in finalists]
        self._time(_parse(finalists))
        return {
            code: (float(ms), self.timings[code].int8.p50_ms)
            for code, ms, new in zip(finalists, estimated, fresh, strict=True)
            if new
        }

    def _random(self, finalists: list[str]) -> dict[str, float | int] | None:
        """The same number of evaluations spent at random, and the area under both frontiers."""
        if not self.search.compare_random:
            return None
        drawn = self._spend(random, [])
        best = self._best(drawn, self.search.finalists)
        self._time(_parse(best))
        worst_ms = self._ms()[self.space.largest.code]
        own, other = (
            hypervolume([self._point(code) for code in codes], worst_ms)
            for codes in (finalists, best)
        )
        return {"hypervolume": own, "random_hypervolume": other, "evaluations": len(drawn)}

    def _time(self, architectures: list[Architecture]) -> None:
        """Time whole what is not timed yet, all scaled by the baseline, the fixed reference.

        Weights do not change the time, so these networks are not recalibrated.
        """
        wanted = [a for a in dict.fromkeys(architectures) if a.code not in self.timings]
        if not wanted:
            return
        known = self.timings.get(self.baseline.code)
        timed = self.stopwatch.time(
            {a.code: self.evaluator.supernet.extract(a).cpu() for a in wanted},
            self.evaluator.supernet.extract(self.baseline).cpu(),
            known.int8.p50_ms if known else None,
        )
        append_timings(self._journal, timed)
        self.timings |= timed

    @property
    def _journal(self) -> Path:
        return self.stopwatch.folder / "timings.jsonl"

    def _ms(self) -> dict[str, float]:
        return {code: timing.int8.p50_ms for code, timing in self.timings.items()}

    def _point(self, code: str) -> Point:
        evaluation, timing = self.evaluations[code], self.timings[code]
        return Point(
            code,
            evaluation.AP,
            evaluation.AP_interval[0],
            timing.int8.p50_ms,
            timing.size_mb,
            timing.memory_mb,
        )

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
            "limits": asdict(self.limits),
            "objective": self.search.objective,
            "batch_size": self.search.batch_size,
            "strategy": self.search.strategy,
            "seed": self.seed,
            "candidates": self.search.candidates,
            "feasible": choice.feasible,
            "postmortem": steps,
            "postmortem_residual": residual,
            "estimator": self.costs.quality(*_columns(held_out)),
            "predictor": self._predictor_quality(),
            "space_size": self.space.size,
        }

    def _postmortem(self, answer: Architecture) -> tuple[list[dict[str, Any]], dict[str, float]]:
        path = walk(self.baseline, answer)
        architectures = [architecture for _, architecture in path]
        self._evaluate(architectures, [])
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

    def _predictor_quality(self) -> dict[str, Any]:
        """Of the accuracy predictor, on architectures that a fit did not see."""
        evaluated = [
            (Architecture.parse(code), evaluation.AP)
            for code, evaluation in self.evaluations.items()
        ]
        predicted = AccuracyPredictor(self.space, evaluated).out_of_fold(evaluated)
        ms = self.costs.ms(genes_of(self.space, [a for a, _ in evaluated]))
        return rank_quality(predicted, np.array([ap for _, ap in evaluated]), ms)

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
            **timing.columns(),
            "gmac": evaluation.gmac,
            "parameters": evaluation.parameters,
            "on_frontier": code in on_frontier,
            "recommended": code == recommended,
            "name": names.get(code, "found"),
        }


def _parse(codes: list[str]) -> list[Architecture]:
    return [Architecture.parse(code) for code in codes]


def _columns(pairs: dict[str, tuple[float, float]]) -> tuple[Floats, Floats]:
    estimated, measured = np.array([*pairs.values()], np.float64).reshape(-1, 2).T
    return estimated, measured
