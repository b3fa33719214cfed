"""NSGA-II on the two predictors, through pymoo.

Reference: Deb et al. 2002; constraint domination: feasible before infeasible, then by excess.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from frontier.models.architecture import SearchSpace

Genes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Objective = Callable[[Genes], tuple[Floats, Floats]]
Excess = Callable[[Genes], Floats]


def evolve(
    space: SearchSpace,
    objective: Objective,
    candidates: int,
    population: int,
    seed: int,
    start: Genes,
    excess: Excess,
) -> Genes:
    """The non-dominated `[N, G]` by (predicted AP, estimated ms), fastest first.

    Args:
        objective: `[P, G]` -> predicted AP and estimated ms, `[P]` each.
        candidates: how many are considered in all, in generations of `population`.
        start: members of the first generation, `[S, G]`.
        excess: `[P, G]` -> over each limit, `[P, L]`; above 0 ranks behind every one that is not.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.operators.crossover.ux import UX
    from pymoo.optimize import minimize

    choices = np.array(space.genes())
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, choices, (population, len(choices)))
    first = np.unique(np.concatenate([start, drawn]), axis=0)
    algorithm = NSGA2(
        pop_size=population, sampling=first, crossover=UX(), mutation=_redraw(choices)
    )
    problem = _problem(choices, objective, excess)
    found = minimize(problem, algorithm, ("n_eval", candidates), seed=seed)
    members = found.pop if found.opt is None else found.opt
    genes = np.unique(members.get("X").astype(np.int64), axis=0)
    return genes[np.argsort(objective(genes)[1], kind="stable")]


def _problem(choices: npt.NDArray[Any], objective: Objective, excess: Excess) -> Any:
    from pymoo.core.problem import Problem

    class Predicted(Problem):
        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            genes = x.astype(np.int64)
            ap, ms = objective(genes)
            out["F"] = np.stack([-ap, ms], axis=1)
            out["G"] = excess(genes)

    size = len(choices)
    limits = excess(np.zeros((1, size), np.int64)).shape[1]
    made: Any = Predicted  # its constructor has no types
    return made(n_var=size, n_obj=2, n_ieq_constr=limits, xl=0, xu=choices - 1, vtype=int)


def _redraw(choices: npt.NDArray[Any]) -> Any:
    """Mutation: each gene anew with probability 1 / G, whatever its neighbours in number mean."""
    from pymoo.core.mutation import Mutation

    class Redraw(Mutation):
        def _do(  # type: ignore[override]
            self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any
        ) -> Any:
            chosen = random_state.random(X.shape) < 1 / len(choices)
            return np.where(chosen, random_state.integers(0, choices, X.shape), X)

    return Redraw()
