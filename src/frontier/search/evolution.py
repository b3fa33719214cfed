"""Candidates by NSGA-II on the two predictors, through Optuna.

Reference: Deb et al. 2002; Optuna's NSGAIISampler.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from frontier.models.architecture import Architecture, SearchSpace

if TYPE_CHECKING:
    from optuna import Trial

Objective = Callable[[list[Architecture]], list[tuple[float, float]]]


def evolve(
    space: SearchSpace,
    objective: Objective,
    candidates: int,
    population: int,
    seed: int,
    start: list[Architecture],
    max_ms: float | None,
) -> list[Architecture]:
    """The non-dominated architectures by (predicted AP, estimated ms), fastest first.

    Args:
        objective: predicted AP and estimated ms of each architecture.
        candidates: how many are considered in all, in generations of `population`.
        start: architectures in the first generation.
        max_ms: candidates over it rank behind every one below (constraint domination).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for architecture in start:
        genes = zip(_names(space), space.encode(architecture), strict=True)
        study.enqueue_trial(dict(genes))
    for done in range(0, candidates, population):
        trials = [study.ask() for _ in range(min(population, candidates - done))]
        drawn = [space.decode(_suggest(trial, space)) for trial in trials]
        for trial, (ap, ms) in zip(trials, objective(drawn), strict=True):
            trial.set_constraint("over_ms", 0.0 if max_ms is None else ms - max_ms)
            study.tell(trial, (ap, ms))
    best = sorted(study.best_trials, key=lambda trial: trial.values[1])
    found = [space.decode([trial.params[name] for name in _names(space)]) for trial in best]
    return [*dict.fromkeys(found)]


def _names(space: SearchSpace) -> list[str]:
    return [f"gene{i}" for i in range(len(space.genes()))]


def _suggest(trial: "Trial", space: SearchSpace) -> list[int]:
    return [
        trial.suggest_int(name, 0, count - 1)
        for name, count in zip(_names(space), space.genes(), strict=True)
    ]
