"""The frontier, the recommendation, the evolution and the post-mortem."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frontier.errors import UsageError
from frontier.files import read_json
from frontier.models.architecture import Architecture, SearchSpace, yolo_nas
from frontier.models.detector import Detector
from frontier.models.supernet import Supernet, load_supernet
from frontier.search.accuracy import Evaluation, _read
from frontier.search.evolution import evolve
from frontier.search.features import genes_of
from frontier.search.frontier import (
    Limits,
    Point,
    hypervolume,
    non_dominated,
    ranks,
    recommend,
)
from frontier.search.latency import Timing
from frontier.search.postmortem import explain, walk
from frontier.search.quality import rank_quality
from frontier.search.session import SearchSession
from frontier.search.strategies import STRATEGIES, Told
from frontier.search.taken import take
from frontier.stages.supernet import _leave_untrained
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
    choice = recommend(POINTS, POINTS[2], Limits(max_latency_ms=max_ms, min_ap=min_ap))
    assert (choice.code, choice.feasible) == (code, feasible)
    if not feasible:
        assert "over" in choice.reason or "short" in choice.reason


def test_nan_never_wins():
    points = [*POINTS, Point("nan", float("nan"), float("nan"), 0.1)]
    assert recommend(points, POINTS[0], Limits(max_latency_ms=10.0)).code == "slow"


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


def unlimited(genes_NG: np.ndarray) -> np.ndarray:
    return np.zeros((len(genes_NG), 0))


def over_ten(genes_NG: np.ndarray) -> np.ndarray:
    return traded(genes_NG)[1][:, None] / 10 - 1


def test_evolution_finds_a_planted_optimum_exactly():
    found = evolve(SPACE, planted, 20_000, 100, 0, np.zeros((0, 34), int), unlimited)
    assert [SPACE.decode(genes) for genes in found.tolist()] == [BEST]


def test_evolution_keeps_to_a_limit_and_finds_what_is_best_within():
    found = evolve(SPACE, traded, 40_000, 100, 0, np.zeros((0, 34), int), over_ten)
    ap, ms = traded(found)
    assert ms.max() <= 10.0
    assert (np.diff(ms) >= 0).all()
    assert ap.max() > 0.97 * 30.0  # the ten genes that are worth most


def test_evolution_repeats_itself():
    first, second = (
        evolve(SPACE, traded, 2000, 50, 3, np.zeros((0, 34), int), unlimited) for _ in range(2)
    )
    assert (first == second).all()


def told_of(evaluated: list[Architecture], **changed: object) -> Told:
    search = tiny.PARAMS.search.model_copy(
        update={"evaluations": 40, "candidates": 4000, "population": 50, **changed}
    )
    genes = genes_of(SPACE, evaluated)
    values = [*zip(evaluated, traded(genes)[0].tolist(), strict=True)]
    return Told(SPACE, search, 0, values, lambda genes: traded(genes)[1], unlimited)


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
        self.supernet = SimpleNamespace(space=SPACE, extract=Untimed, num_classes=3)
        self.asked: list[str] = []

    def evaluate(self, architectures: list[Architecture]) -> Iterator[Evaluation]:
        return (self.answer(architecture) for architecture in architectures)

    def answer(self, architecture: Architecture) -> Evaluation:
        self.asked.append(architecture.code)
        ap = float(traded(genes_of(SPACE, [architecture]))[0][0]) / 40
        return Evaluation(architecture.code, ap, (ap - 0.02, ap + 0.02), 0.1, 1000)


class Untimed:
    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

    def cpu(self) -> "Untimed":
        return self


def timed_by_count(detectors: dict[str, Untimed], *_: object) -> dict[str, Timing]:
    """As long as `traded` says, and of as many megabytes."""
    ms = traded(genes_of(SPACE, [d.architecture for d in detectors.values()]))[1] + 1
    latencies = [Latency(m, (m, m), None, None, 9, True) for m in ms.tolist()]
    return {
        code: Timing(one, one, one.p50_ms, 10 * one.p50_ms)
        for code, one in zip(detectors, latencies, strict=True)
    }


def searched(
    tmp_path: Path, timed=timed_by_count, **changed: object
) -> tuple[dict[str, object], list[str]]:
    tmp_path.mkdir(exist_ok=True)
    values = {"evaluations": 60, "candidates": 6000, "population": 50, "finalists": 15}
    search = tiny.PARAMS.search.model_copy(update={**values, "baseline": "yolo_nas_s", **changed})
    answers = Answers()
    made = SearchSession(answers, search, SimpleNamespace(time=timed, folder=tmp_path), None, 0)
    return made.run(), answers.asked


def test_a_search_ends_with_a_frontier_and_beats_random_search(tmp_path):
    document, asked = searched(tmp_path, compare_random=True)
    assert len({*asked[:60]}) == 60
    compared = document["random"]
    assert compared["evaluations"] == 60
    assert compared["hypervolume"] > 1.05 * compared["random_hypervolume"]
    assert len(document["timed"]) == 15
    assert document["estimator"]["n"] >= 10
    assert len(document["predictor"]["tau_in_bands"]) == 4
    assert document["postmortem_residual"] == pytest.approx({"ms": 0, "AP": 0})


def test_the_same_search_again_gives_the_same_document(tmp_path):
    first, _ = searched(tmp_path / "first")
    second, _ = searched(tmp_path / "second")
    assert first == second
    assert first["random"] is None


def test_seeds_are_evaluated_and_timed_before_the_strategy_is_asked(tmp_path):
    seeds = [SPACE.decode([1, 0, 1, 0] * 8 + [1, 0]).code, BEST.code]
    calls: list[list[str]] = []

    def timed(detectors: dict[str, Untimed], *rest: object) -> dict[str, Timing]:
        calls.append([*detectors])
        return timed_by_count(detectors, *rest)

    _, asked = searched(tmp_path, timed=timed, seeds=seeds)
    first = [a.code for a in dict.fromkeys([SPACE.baseline("yolo_nas_s"), *SPACE.seeds()])]
    assert asked[: len(first) + 2] == [*first, *seeds]
    assert calls[0] == [*first, *seeds]
    with pytest.raises(UsageError, match=r"search\.seeds: w1-"):
        searched(tmp_path / "b", seeds=[yolo_nas("s", 1.0, 128).code])


@pytest.mark.parametrize(
    ("limits", "feasible", "words"),
    [
        ({}, True, "Taken, not searched"),
        ({"max_latency_ms": 100.0}, True, "within the limits"),
        ({"max_latency_ms": 0.5}, False, "ms over 0.50"),
        ({"min_ap": 0.4}, None, "shows on the test split"),
    ],
)
def test_a_taken_architecture_is_timed_and_nothing_is_evaluated(
    tmp_path, limits: dict[str, float], feasible: bool | None, words: str
):
    supernet = Supernet(SPACE, 3)
    search = tiny.PARAMS.search.model_copy(update={"baseline": "yolo_nas_s", **limits})
    document = take(BEST.code, supernet, search, SimpleNamespace(time=timed_by_count))
    assert document["feasible"] is feasible
    assert words in document["recommended"]["reason"]
    assert document["recommended"]["architecture"] == BEST.code
    assert [row["name"] for row in document["timed"]] == ["baseline", "taken"]
    assert {row["AP"] for row in document["timed"]} == {None}
    assert not any(row["on_frontier"] for row in document["timed"])
    assert document["evaluated"] == []


def test_what_replaces_an_untrained_supernet_is_the_teacher_cut_to_shape(tmp_path):
    teacher = Detector(tiny.SPACE.largest, 3)
    trained = Supernet(tiny.SPACE, 3)
    trained.load_largest(teacher)
    assert _leave_untrained(trained, tiny.CLASSES, tmp_path) == {}
    loaded, classes = load_supernet(tmp_path)
    assert classes == tiny.CLASSES
    whole = loaded.extract(tiny.SPACE.largest).state_dict()
    for name, value in teacher.state_dict().items():
        assert torch.equal(whole[name], value), name
    assert read_json(tmp_path / "audit.json")["status"] == "skipped"


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("limit", "column"),
    [
        ("max_latency_ms", "latency_p50_ms"),
        ("max_size_mb", "size_mb"),
        ("max_memory_mb", "memory_mb"),
    ],
)
def test_the_answer_keeps_to_a_limit_on_any_cost(tmp_path, limit: str, column: str):
    free, _ = searched(tmp_path / "free", max_latency_ms=1000.0)
    most = {row["recommended"]: row[column] for row in free["timed"]}[True]
    held, _ = searched(tmp_path / "held", **{limit: 0.8 * most})
    answer = next(row for row in held["timed"] if row["recommended"])
    assert held["feasible"]
    assert answer[column] <= 0.8 * most
    none, _ = searched(tmp_path / "none", **{limit: 0.5})
    assert not none["feasible"]
    assert "over 0" in none["recommended"]["reason"]


@pytest.mark.parametrize("after", [7, 25])
def test_a_killed_search_goes_on_to_the_same_frontier(tmp_path, monkeypatch, after: int):
    whole, _ = searched(tmp_path / "whole")
    timings = []

    def timed(detectors: dict[str, Untimed], *rest: object) -> dict[str, Timing]:
        timings.append(len(detectors))
        return timed_by_count(detectors, *rest)

    kept: dict[str, Evaluation] = {}

    def dying(answers: Answers, architecture: Architecture) -> Evaluation:
        if len(kept) == after and architecture.code not in kept:
            raise Killed
        kept.setdefault(architecture.code, answer(answers, architecture))
        return kept[architecture.code]

    answer = Answers.answer
    monkeypatch.setattr(Answers, "answer", dying)
    with pytest.raises(Killed):
        searched(tmp_path / "cut")
    monkeypatch.setattr(Answers, "answer", answer)
    resumed, _ = searched(tmp_path / "cut", timed=timed)
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
