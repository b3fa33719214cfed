"""Which architectures to evaluate next: one function a strategy, chosen by `search.strategy`.

Each is asked for some, is told all that was evaluated so far, and answers the same to the same.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from frontier.models.architecture import STAGE_NAMES, Architecture, SearchSpace
from frontier.params import Search
from frontier.search.accuracy import AccuracyPredictor
from frontier.search.evolution import evolve
from frontier.search.features import genes_of, stage_costs

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Thing = TypeVar("Thing")
Genes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OVERDRAW = 8  # random architectures drawn for one that is taken, to spread them over cost
GENES_OF_A_STAGE = 4


@dataclass(frozen=True)
class Told:
    """What is known when a strategy is asked.

    Attributes:
        evaluated: architectures with their measured AP, in the order of evaluation.
        estimate_ms: `[N, G]` -> milliseconds, `[N]`.
        excess: `[N, G]` -> estimated excess over each limit, as a share of it, `[N, L]`.
    """

    space: SearchSpace
    search: Search
    seed: int
    evaluated: list[tuple[Architecture, float]]
    estimate_ms: Callable[[Genes], Floats]
    excess: Callable[[Genes], Floats]

    def new(self, architectures: Iterator[Architecture] | list[Architecture]) -> list[Architecture]:
        """Those that were not evaluated yet, each once."""
        known = {architecture.code for architecture, _ in self.evaluated}
        return [a for a in dict.fromkeys(architectures) if a.code not in known]


Strategy = Callable[[Told, int], list[Architecture]]


def evolution(told: Told, count: int) -> list[Architecture]:
    """A spread of the front that NSGA-II finds on the predictors; random ones to begin with.

    Reference: NSGANetV2, Lu et al. 2020 (arXiv:2007.10396): a surrogate refit as it goes.
    """
    explored = round(told.search.evaluations * told.search.explored)
    if len(told.evaluated) < explored:
        return random(told, min(count, explored - len(told.evaluated)))
    predictor = AccuracyPredictor(told.space, told.evaluated)

    def objective(genes_NG: Genes) -> tuple[Floats, Floats]:
        return predictor.predict(genes_NG), told.estimate_ms(genes_NG)

    architectures = [architecture for architecture, _ in told.evaluated]
    front = evolve(
        told.space,
        objective,
        told.search.candidates // told.search.rounds,
        told.search.population,
        told.seed + len(told.evaluated),
        genes_of(told.space, architectures),
        told.excess,
    )
    believed = told.new(told.space.decode(genes) for genes in front.tolist())
    return spread(believed, count) or random(told, count)


def random(told: Told, count: int) -> list[Architecture]:
    """Drawn evenly over the range of cost: choice by choice, most would lie in its middle."""
    generator = np.random.default_rng((told.seed, len(told.evaluated)))
    known = {architecture.code for architecture, _ in told.evaluated}
    return by_cost(told.space, generator, count, known)


def by_cost(
    space: SearchSpace, generator: np.random.Generator, count: int, known: set[str]
) -> list[Architecture]:
    """`count` random architectures, cheapest first and evenly spread; none of the `known` codes."""
    choices = space.genes()
    drawn = generator.integers(0, choices, (OVERDRAW * count, len(choices)))
    order = np.argsort(stage_costs(space, drawn).sum(axis=1), kind="stable")
    ordered = dict.fromkeys(map(space.decode, drawn[order].tolist()))
    return spread([a for a in ordered if a.code not in known], count)


def grid(told: Told, count: int) -> list[Architecture]:
    """Every stage alike: each block, depth, width, concatenation, head and side in turn.

    A seeded order, so that a part of the grid is a sample of it.
    """
    *stages, heads, sides = told.space.genes()
    per_stage = [range(min(stages[g::GENES_OF_A_STAGE])) for g in range(GENES_OF_A_STAGE)]
    points = list(itertools.product(*per_stage, range(heads), range(sides)))
    order = np.random.default_rng(told.seed).permutation(len(points))
    genes = ([*points[i][:-2]] * len(STAGE_NAMES) + [*points[i][-2:]] for i in order)
    return told.new(map(told.space.decode, genes))[:count] or random(told, count)


def bayesian(told: Told, count: int) -> list[Architecture]:
    """Multi-objective tree-structured Parzen estimator on what was measured, through Optuna.

    Reference: Ozaki et al. 2022, "Multiobjective Tree-Structured Parzen Estimator".
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=told.seed + len(told.evaluated), constant_liar=True)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.add_trials(_trials(told))
    names = _distributions(told.space)
    asked = (study.ask(names) for _ in range(2 * count))
    drawn = (told.space.decode([trial.params[name] for name in names]) for trial in asked)
    return told.new(drawn)[:count] or random(told, count)


def _trials(told: Told) -> Iterator["FrozenTrial"]:
    from optuna.trial import create_trial

    names = _distributions(told.space)
    genes = genes_of(told.space, [architecture for architecture, _ in told.evaluated])
    estimated, over = told.estimate_ms(genes), told.excess(genes)
    rows = zip(genes.tolist(), estimated, over, told.evaluated, strict=True)
    for row, ms, own, (_, ap) in rows:
        yield create_trial(
            params=dict(zip(names, row, strict=True)),
            distributions=names,
            values=[ap, float(ms)],
            constraints={f"limit{i}": float(miss) for i, miss in enumerate(own)},
        )


def _distributions(space: SearchSpace) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import IntDistribution

    return {f"gene{i}": IntDistribution(0, count - 1) for i, count in enumerate(space.genes())}


def spread(things: list[Thing], count: int) -> list[Thing]:
    """`count` of them, evenly spread over the list."""
    if len(things) <= count:
        return things
    picks = np.linspace(0, len(things) - 1, count).round().astype(int)
    return [things[i] for i in dict.fromkeys(picks.tolist())]


STRATEGIES: dict[str, Strategy] = {
    "evolution": evolution,
    "random": random,
    "bayesian": bayesian,
    "grid": grid,
}
