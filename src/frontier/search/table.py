"""The additive latency table: what each choice of a stage costs, as a difference in a real graph.

A base network is timed whole at every input side; then with one stage changed, at the smallest and
the largest side. An architecture's estimate is the base plus the differences of its choices, each
between the two sides in proportion to the area, all weighted as whole networks, timed too, demand.
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

STIFFNESS = 0.02  # of the weights towards 1: errors of 3 % in time against 20 % in a weight
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
    """Milliseconds by architecture code, of all `entries` of the space at least."""

    space: SearchSpace
    ms: dict[str, float]

    def components(self, genes_NG: Genes) -> Floats:
        """Milliseconds of the base, what each stage and the head add, and a constant, `[N, K]`."""
        base, stages, heads = self._differences
        sides, share = genes_NG[:, -1], self._share(genes_NG)[:, None]
        columns = [base[sides][:, None]]
        for stage, table in enumerate(stages):
            low, high = (side[tuple(genes_NG[:, 4 * stage : 4 * stage + 4].T)] for side in table)
            columns.append(_between(low[:, None], high[:, None], share))
        low, high = (side[genes_NG[:, -2]][:, None] for side in heads)
        constant = np.full((len(genes_NG), 1), base.min())
        return np.concatenate([*columns, _between(low, high, share), constant], axis=1)

    @cached_property
    def _differences(self) -> tuple[Floats, list[Floats], Floats]:
        """Base by side; by stage `[2 sides, block, depth, hidden, concat]`; `[2 sides, head]`."""
        base, sides = base_of(self.space), sorted(self.space.image_sides)
        ends = (sides[0], sides[-1])
        stages = [np.stack([self._stage(stage, side) for side in ends]) for stage in range(8)]
        heads = [[self._added(replace(base, head_width=w), s) for w in HEAD_WIDTHS] for s in ends]
        return np.array([self.ms[base.at(s).code] for s in sides]), stages, np.array(heads)

    def _stage(self, stage: int, side: int) -> Floats:
        table = np.empty((len(BLOCKS), 3, len(HIDDENS[stage]), 2))
        for choice in _choices():
            table[choice] = self._added(_with(base_of(self.space), stage, choice), side)
        least, middle, most = DEPTHS[stage]
        table[:, 1] = _between(table[:, 0], table[:, 2], (middle - least) / (most - least))
        return table

    def _added(self, network: Architecture, side: int) -> float:
        return self.ms[network.at(side).code] - self.ms[base_of(self.space).at(side).code]

    def _share(self, genes_NG: Genes) -> Floats:
        """Where the input's area lies between the smallest (0) and the largest (1), `[N]`."""
        ends = np.array([min(self.space.image_sides), max(self.space.image_sides)]) / 256.0
        low, high = ends**2
        found: Floats = (areas(self.space, genes_NG) - low) / max(high - low, 1e-9)
        return found


def _between(low: Any, high: Any, share: Any) -> Any:
    return low + (high - low) * share


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
