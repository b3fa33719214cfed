"""The frontier, the recommendation, the evolution and the post-mortem."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from frontier.models.architecture import Architecture, SearchSpace
from frontier.search import session
from frontier.search.accuracy import Evaluation, _read
from frontier.search.evolution import evolve
from frontier.search.features import genes_of
from frontier.search.frontier import Point, hypervolume, non_dominated, ranks, recommend
from frontier.search.latency import Timing
from frontier.search.postmortem import explain, walk
from frontier.search.quality import rank_quality
from frontier.search.session import SearchSession
from frontier.search.strategies import STRATEGIES, Told
from frontier.targets.measure import Latency
from tests import tiny

SPACE = SearchSpace(0.25, (128, 160, 192))
POINTS = [
    Point("fast", 0.30, 0.28, 1.0),
    Point("middle", 0.40, 0.37, 2.0),
    Point("beaten", 0.35, 0.33, 2.5),
    Point("slow", 0.50, 0.46, 5.0),
]


def test_frontier_keeps_what_nothing_beats():
    assert [p.code for p in non_dominated(POINTS)] == ["fast", "middle", "slow"]
    assert ranks([p.ap for p in POINTS], [p.ms for p in POINTS]) == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("max_ms", "min_ap", "code", "feasible"),
    [
        (3.0, None, "middle", True),
        (None, 0.36, "middle", True),
        (None, 0.38, "slow", True),  # by the lower bound, not by the point estimate
        (0.5, None, "fast", False),
        (None, 0.6, "slow", False),
        (3.0, 0.45, "middle", False),
        (None, None, "middle", True),  # no slower than the baseline
    ],
)
def test_recommendation(max_ms, min_ap, code, feasible):
    choice = recommend(POINTS, POINTS[2], max_ms, min_ap)
    assert (choice.code, choice.feasible) == (code, feasible)
    if not feasible:
        assert "over" in choice.reason or "short" in choice.reason


def test_nan_never_wins():
    points = [*POINTS, Point("nan", float("nan"), float("nan"), 0.1)]
    assert recommend(points, POINTS[0], 10.0, None).code == "slow"


BEST = SPACE.decode([0, 1, 2, 1] * 8 + [2, 1])


def planted(genes_NG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AP falls with each gene that differs from the planted architecture's; all take as long."""
    apart = (genes_NG != np.array(SPACE.encode(BEST))).sum(axis=1)
    return -apart.astype(float), np.ones(len(genes_NG))


def traded(genes_NG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy for time, gene by gene: the front is known by counting."""
    worth = np.array([3.0, 1.0] * 17)
    share = genes_NG / (np.array(SPACE.genes()) - 1)
    return share @ worth, share @ np.ones(34)


def test_evolution_finds_a_planted_optimum_exactly():
    found = evolve(SPACE, planted, 20_000, 100, 0, np.zeros((0, 34), int), None)
    assert [SPACE.decode(genes) for genes in found.tolist()] == [BEST]


def test_evolution_keeps_to_a_limit_and_finds_what_is_best_within():
    found = evolve(SPACE, traded, 40_000, 100, 0, np.zeros((0, 34), int), 10.0)
    ap, ms = traded(found)
    assert ms.max() <= 10.0
    assert (np.diff(ms) >= 0).all()
    assert ap.max() > 0.97 * 30.0  # the ten genes that are worth most


def test_evolution_repeats_itself():
    first, second = (
        evolve(SPACE, traded, 2000, 50, 3, np.zeros((0, 34), int), None) for _ in range(2)
    )
    assert (first == second).all()


def told_of(evaluated: list[Architecture], **changed: object) -> Told:
    search = tiny.PARAMS.search.model_copy(
        update={"evaluations": 40, "candidates": 4000, "population": 50, **changed}
    )
    genes = genes_of(SPACE, evaluated)
    values = [*zip(evaluated, traded(genes)[0].tolist(), strict=True)]
    return Told(SPACE, search, 0, values, lambda genes: traded(genes)[1])


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_propose_what_is_new_and_the_same_again(name: str):
    evaluated = [*SPACE.seeds()]
    while len(evaluated) < 40:
        told = told_of(evaluated)
        asked = STRATEGIES[name](told, 7)
        assert asked == STRATEGIES[name](told, 7)
        assert 0 < len(asked) <= 7
        evaluated += asked
    assert len({*evaluated}) == len(evaluated)
    assert all(SPACE.has(architecture) for architecture in evaluated)


def dominated(architectures: list[Architecture]) -> float:
    ap, ms = traded(genes_of(SPACE, architectures))
    points = [Point("", a, a, m) for a, m in zip(ap, ms, strict=True)]
    return hypervolume(points, 34.0)


@pytest.mark.parametrize(("name", "least"), [("evolution", 1.1), ("bayesian", 1.0)])
def test_a_strategy_that_learns_dominates_more_than_chance(name: str, least: float):
    areas = {}
    for strategy in (name, "random"):
        evaluated: list[Architecture] = []
        while len(evaluated) < 60:
            told = told_of(evaluated, evaluations=60)
            evaluated += STRATEGIES[strategy](told, 10)[: 60 - len(evaluated)]
        areas[strategy] = dominated(evaluated)
    assert areas[name] > least * areas["random"]


def test_a_grid_that_is_used_up_goes_on_at_random():
    space = SearchSpace(0.25, (64,))
    told = replace(told_of([]), space=space)
    every = STRATEGIES["grid"](told, 10_000)
    assert len(every) == 2 * 3 * 4 * 2 * 3
    assert all(len({*map(tuple, np.reshape(space.encode(a)[:32], (8, 4)))}) == 1 for a in every)
    told = replace(told, evaluated=[(architecture, 0.0) for architecture in every])
    assert len(STRATEGIES["grid"](told, 5)) == 5


def test_hypervolume_of_a_known_case():
    points = [Point("a", 0.5, 0.5, 2.0), Point("b", 0.3, 0.3, 1.0), Point("beaten", 0.2, 0.2, 3.0)]
    assert hypervolume(points, 4.0) == pytest.approx(0.5 * 2 + 0.3 * 1)
    assert hypervolume([Point("late", 0.9, 0.9, 5.0)], 4.0) == 0


class Answers:
    """An evaluator whose subnets are as good as `traded` says."""

    def __init__(self) -> None:
        self.supernet = SimpleNamespace(space=SPACE, extract=Untimed)
        self.asked: list[str] = []

    def evaluate(self, architecture: Architecture) -> Evaluation:
        self.asked.append(architecture.code)
        ap = float(traded(genes_of(SPACE, [architecture]))[0][0]) / 40
        return Evaluation(architecture.code, ap, (ap - 0.02, ap + 0.02), 0.1, 1000)


class Untimed:
    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

    def cpu(self) -> "Untimed":
        return self


def timed_by_count(detectors: dict[str, Untimed], *_: object) -> dict[str, Timing]:
    ms = traded(genes_of(SPACE, [d.architecture for d in detectors.values()]))[1] + 1
    latencies = [Latency(m, (m, m), None, None, 9, True) for m in ms.tolist()]
    return {code: Timing(one, one) for code, one in zip(detectors, latencies, strict=True)}


def searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed=timed_by_count, **changed: object
):
    tmp_path.mkdir(exist_ok=True)
    monkeypatch.setattr(session, "time_architectures", timed)
    values = {"evaluations": 60, "candidates": 6000, "population": 50, "finalists": 15}
    search = tiny.PARAMS.search.model_copy(update={**values, "baseline": "yolo_nas_s", **changed})
    answers = Answers()
    made = SearchSession(answers, None, search, None, 1, 0, tmp_path / "records", tmp_path)
    return made.run(), answers.asked


def test_a_search_ends_with_a_frontier_and_beats_random_search(tmp_path, monkeypatch):
    document, asked = searched(tmp_path, monkeypatch, compare_random=True)
    assert len({*asked[:60]}) == 60
    compared = document["random"]
    assert compared["evaluations"] == 60
    assert compared["hypervolume"] > 1.05 * compared["random_hypervolume"]
    assert len(document["timed"]) == 15
    assert document["estimator"]["n"] >= 10
    assert len(document["predictor"]["tau_in_bands"]) == 4
    assert document["postmortem_residual"] == pytest.approx({"ms": 0, "AP": 0})


def test_the_same_search_again_gives_the_same_document(tmp_path, monkeypatch):
    first, _ = searched(tmp_path / "first", monkeypatch)
    second, _ = searched(tmp_path / "second", monkeypatch)
    assert first == second
    assert first["random"] is None


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [7, 25])
def test_a_killed_search_goes_on_to_the_same_frontier(tmp_path, monkeypatch, after: int):
    whole, _ = searched(tmp_path / "whole", monkeypatch)
    timings = []

    def timed(detectors: dict[str, Untimed], *rest: object) -> dict[str, Timing]:
        timings.append(len(detectors))
        return timed_by_count(detectors, *rest)

    kept: dict[str, Evaluation] = {}

    def dying(answers: Answers, architecture: Architecture) -> Evaluation:
        if len(kept) == after and architecture.code not in kept:
            raise Killed
        kept.setdefault(architecture.code, evaluate(answers, architecture))
        return kept[architecture.code]

    evaluate = Answers.evaluate
    monkeypatch.setattr(Answers, "evaluate", dying)
    with pytest.raises(Killed):
        searched(tmp_path / "cut", monkeypatch)
    monkeypatch.setattr(Answers, "evaluate", evaluate)
    resumed, _ = searched(tmp_path / "cut", monkeypatch, timed=timed)
    assert resumed == whole
    assert 6 not in timings  # the first six were timed before the kill


def test_ranks_within_bands_are_not_those_over_all():
    ms = np.repeat([1.0, 2.0, 4.0, 8.0], 10) + np.tile(np.arange(10) / 100, 4)
    backwards = np.repeat([1.0, 2.0, 4.0, 8.0], 10) - np.tile(np.arange(10) / 100, 4)
    quality = rank_quality(backwards, ms, ms)
    assert quality["tau"] > 0.5
    assert quality["tau_in_bands"] == pytest.approx([-1] * 4)
    assert rank_quality(ms[:2], ms[:2], ms[:2])["tau"] is None


def test_postmortem_adds_up():
    path = walk(SPACE.smallest, SPACE.largest)
    generator = np.random.default_rng(0)
    ms = {a.code: float(generator.random()) for _, a in path}
    ap = {a.code: float(generator.random()) for _, a in path}
    steps = explain(path, ms, ap)
    total = ms[SPACE.largest.code] - ms[SPACE.smallest.code]
    assert sum(step.delta_ms for step in steps) == pytest.approx(total)
    assert all(step.edit in step.text for step in steps)


def test_a_torn_evaluation_journal_is_repaired(tmp_path):
    journal = tmp_path / "evaluations.jsonl"
    line = '{"architecture": "a", "AP": 0.5, "AP_interval": [0.4, 0.6], "gmac": 1, "parameters": 2}'
    journal.write_text(f"{line}\n{line[:20]}")
    assert _read(journal) == {"a": Evaluation("a", 0.5, (0.4, 0.6), 1, 2)}
    assert journal.read_text() == f"{line}\n"
