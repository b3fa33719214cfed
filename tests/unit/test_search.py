"""The frontier, the recommendation, the evolution and the post-mortem."""

import numpy as np
import pytest

from frontier.labeling.thresholds import choose, wilson
from frontier.metrics import Detections, Truth
from frontier.models.architecture import SearchSpace
from frontier.search.accuracy import Evaluation, _read
from frontier.search.evolution import evolve
from frontier.search.frontier import Point, non_dominated, ranks, recommend
from frontier.search.postmortem import explain, walk

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


def test_evolution_finds_a_planted_optimum():
    best = SPACE.decode([1] * 32 + [2, 1])

    def objective(drawn):
        target = np.array(SPACE.encode(best))
        return [(-float(np.abs(np.array(SPACE.encode(a)) - target).sum()), 1.0) for a in drawn]

    found = evolve(SPACE, objective, 3000, 50, seed=0, start=[], max_ms=None)
    assert objective([found[0]])[0][0] >= -3


def test_evolution_repeats_itself():
    def objective(drawn):
        return [(float(a.image_side), float(a.stages[0].hidden)) for a in drawn]

    first, second = (evolve(SPACE, objective, 200, 20, 0, [], None) for _ in range(2))
    assert first == second


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


def test_thresholds_hold_the_wanted_precision():
    truth = Truth(
        2, np.array([1]), np.array([0, 2]),
        np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32),
        np.array([0, 0]), np.zeros(2, np.uint8),
    )  # fmt: skip
    found = Detections(
        np.array([1, 1, 1, 1]),
        np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 40, 40], [0, 0, 9, 9]], np.float32),
        np.array([0.9, 0.6, 0.5, 0.3], np.float32),
        np.array([0, 0, 0, 1]),
    )
    sure, none = choose(truth, found, wanted=0.9)
    assert sure.score == pytest.approx(0.9)
    assert (sure.precision, sure.recall) == (1.0, 0.5)
    assert none.score is None
    loose, _ = choose(truth, found, wanted=0.6)
    assert loose.score == pytest.approx(0.5)
    assert loose.precision == pytest.approx(2 / 3)


def test_wilson_interval_of_a_known_case():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
