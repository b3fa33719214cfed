"""The additive latency table: what each choice of a stage costs, as a difference in a real graph.

A base network is timed whole at every input side; then with one stage changed, at the smallest and
the largest side. An architecture's estimate is the base plus the differences of its choices,
smoothed, and weighted as whole networks, timed too, demand.
More whole networks, which nothing was fitted to, tell how good that is.

Legend: N architectures, G genes of `SearchSpace.genes`, K components of an estimate.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from frontier.models.architecture import (
    BLOCKS,
    DEPTHS,
    HEAD_WIDTHS,
    HIDDENS,
    STAGE_NAMES,
    Architecture,
    SearchSpace,
    StageChoice,
)
from frontier.search.features import Genes, areas, genes_of
from frontier.search.quality import estimator_quality

Floats = npt.NDArray[np.float64]

SMOOTHING = 1e-5  # a ridge that decides only where the parts leave a term open
STIFFNESS = 0.05  # of the calibrated weights towards 1
WORST_MAPE, LEAST_TAU, LEAST_TAU_IN_BANDS = 0.05, 0.9, 0.6  # else an estimate is not trusted


def base_of(space: SearchSpace) -> Architecture:
    """The network that differences are taken in: the middle of every list, full blocks."""
    stages = tuple(
        StageChoice("q", depths[1], hiddens[1], concat=False)
        for depths, hiddens in zip(DEPTHS, HIDDENS, strict=True)
    )
    return Architecture(space.interface_width, space.middle_side, HEAD_WIDTHS[1], stages)


def entries(space: SearchSpace) -> list[Architecture]:
    """Every network that the table is made of. Of the depths only the least and the most."""
    base = base_of(space)
    changed = [base, *(replace(base, head_width=width) for width in HEAD_WIDTHS)]
    for stage, choice in itertools.product(range(len(STAGE_NAMES)), _choices()):
        changed.append(_with(base, stage, choice))
    sides = sorted({min(space.image_sides), max(space.image_sides)})
    at_sides = [network.at(side) for network in changed for side in sides]
    return [*dict.fromkeys([*(base.at(side) for side in space.image_sides), *at_sides])]


def _choices() -> list[tuple[int, int, int, int]]:
    """Indices of block, depth (ends only), hidden width and concatenation."""
    hiddens = range(len(HIDDENS[0]))
    return list(itertools.product(range(len(BLOCKS)), (0, 2), hiddens, (0, 1)))


def _with(base: Architecture, stage: int, choice: tuple[int, int, int, int]) -> Architecture:
    block, depth, hidden, concat = choice
    made = StageChoice(
        BLOCKS[block], DEPTHS[stage][depth], HIDDENS[stage][hidden], concat=bool(concat)
    )
    return replace(base, stages=(*base.stages[:stage], made, *base.stages[stage + 1 :]))


@dataclass(frozen=True)
class Table:
    """Milliseconds by architecture code, of all `entries` of the space at least.

    A difference of two medians is as noisy as either, and an estimate would add up eight of them.
    So they are smoothed by what a choice is known to cost (`_terms`); a test holds that at 3 % of
    noise this takes at least 30 % off the errors of estimates.
    """

    space: SearchSpace
    ms: dict[str, float]

    def components(self, genes_NG: Genes) -> Floats:
        """Milliseconds of the base, what each stage and the head add, and a constant, `[N, K]`."""
        always, parts = self._smoothed
        terms = [term * weight for term, weight in zip(self._terms(genes_NG), parts, strict=True)]
        columns = [term.sum(axis=1, keepdims=True) for term in terms]
        columns[0] = columns[0] + always
        constant = np.full((len(genes_NG), 1), min(self.ms.values()))
        return np.concatenate([*columns, constant], axis=1)

    @cached_property
    def _smoothed(self) -> tuple[float, list[Floats]]:
        """Milliseconds that every network takes, and those of each term, by component."""
        from sklearn.linear_model import Ridge

        made = entries(self.space)
        terms = self._terms(genes_of(self.space, made))
        values = np.concatenate(terms, axis=1)
        spread = np.maximum(values.std(axis=0), 1e-9)
        ms = np.array([self.ms[network.code] for network in made])
        model = Ridge(alpha=SMOOTHING).fit(values / spread, ms, sample_weight=ms**-2.0)
        ends = np.cumsum([term.shape[1] for term in terms])[:-1]
        return float(model.intercept_), np.split(model.coef_ / spread, ends)

    def _terms(self, genes_NG: Genes) -> list[Floats]:
        """What time depends on, by component: area; each stage by block; the head's width.

        A stage's two branches grow with its width, a bottleneck with width and width squared, what
        it concatenates with depth times width; each has a share that grows with the input's area
        and one that does not, such as the start of an operator.
        """
        area = areas(self.space, genes_NG)[:, None]
        found = [area]
        for stage in range(len(STAGE_NAMES)):
            block, depth, hidden, concat = genes_NG[:, 4 * stage : 4 * stage + 4].T
            d, h = np.array(DEPTHS[stage])[depth], np.array(HIDDENS[stage])[hidden] / 100.0
            own = np.stack([d**0, h, d, d * h, d * h**2, concat, concat * d * h], axis=1)
            by_block = np.concatenate([own * (block == b)[:, None] for b in range(len(BLOCKS))], 1)
            found.append(np.concatenate([by_block, by_block * area], axis=1))
        heads = np.eye(len(HEAD_WIDTHS))[genes_NG[:, -2]]
        return [*found, np.concatenate([heads, heads * area], axis=1)]


class TableEstimator:
    """Milliseconds from the table, its components weighted by regression on whole networks.

    Args:
        whole: code -> milliseconds of the networks to calibrate on.
    """

    def __init__(self, table: Table, whole: dict[str, float]) -> None:
        from sklearn.linear_model import Ridge

        self.table = table
        shares = (
            table.components(_genes(table.space, [*whole])) / np.array([*whole.values()])[:, None]
        )
        plain = np.append(np.ones(shares.shape[1] - 1), 0.0)  # a sum, without the constant
        model = Ridge(alpha=STIFFNESS, fit_intercept=False)
        model.fit(shares, 1 - shares @ plain)
        self.weights = plain + np.asarray(model.coef_)

    def estimate(self, genes_NG: Genes) -> Floats:
        """Milliseconds, `[N]`."""
        found: Floats = self.table.components(genes_NG) @ self.weights
        return found

    def judge(self, held_out: dict[str, float]) -> dict[str, Any]:
        """How far from networks it was not fitted to, and whether it is to be trusted.

        Args:
            held_out: code -> milliseconds.
        """
        measured = np.array([*held_out.values()])
        estimated = self.estimate(_genes(self.table.space, [*held_out]))
        quality = estimator_quality(estimated, measured)
        errors = np.abs(estimated / measured - 1)
        return {
            **quality,
            "max_error": float(errors.max()),
            "p95_error": float(np.percentile(errors, 95)),
            "trusted": _trusted(quality),
        }


def _trusted(quality: dict[str, Any]) -> bool:
    ranks = [quality["tau"], *quality["tau_in_bands"]]
    least = [LEAST_TAU, *[LEAST_TAU_IN_BANDS] * len(quality["tau_in_bands"])]
    ordered = all(tau is not None and tau >= bar for tau, bar in zip(ranks, least, strict=True))
    return ordered and quality["mape"] is not None and quality["mape"] <= WORST_MAPE


def _genes(space: SearchSpace, codes: list[str]) -> Genes:
    return genes_of(space, [Architecture.parse(code) for code in codes])
