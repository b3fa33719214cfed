"""What the predictors see of an architecture: the one-hot code and nominal costs.

Legend: N architectures, G genes of `SearchSpace.genes`, F features.
"""

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
)

Genes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DEPTHWISE_COST = 0.12  # of a full 3x3 convolution's
COST_UNIT = 1e5


def genes_of(space: SearchSpace, architectures: list[Architecture]) -> Genes:
    """The vectors of choice indices, `[N, G]`."""
    rows = [space.encode(a) for a in architectures]
    return np.array(rows, np.int64).reshape(-1, len(space.genes()))


def features(space: SearchSpace, genes_NG: Genes) -> Floats:
    """One-hot choices, nominal cost by stage and in all, area and head width, `[N, F]`."""
    one_hot = [np.eye(n)[genes_NG[:, g]] for g, n in enumerate(space.genes())]
    costs = stage_costs(space, genes_NG)
    area = areas(space, genes_NG)[:, None]
    heads = np.array(HEAD_WIDTHS)[genes_NG[:, -2]][:, None] * area
    return np.concatenate([*one_hot, costs, costs.sum(1, keepdims=True), area, heads], axis=1)


def stage_costs(space: SearchSpace, genes_NG: Genes) -> Floats:
    """Depth x hidden width squared x area, less for depthwise blocks, `[N, 8]`, without a unit."""
    factor = np.array([DEPTHWISE_COST if block == "d" else 1.0 for block in BLOCKS])
    columns = []
    for stage in range(len(STAGE_NAMES)):
        block, depth, hidden = genes_NG[:, 4 * stage : 4 * stage + 3].T
        size = np.array(DEPTHS[stage])[depth] * np.array(HIDDENS[stage])[hidden] ** 2.0
        columns.append(size * factor[block])
    return np.stack(columns, axis=1) * areas(space, genes_NG)[:, None] / COST_UNIT


def areas(space: SearchSpace, genes_NG: Genes) -> Floats:
    """Of the input, in units of 256 x 256 pixels, `[N]`."""
    sides = np.array(sorted(space.image_sides), np.float64)
    area: Floats = (sides[genes_NG[:, -1]] / 256) ** 2
    return area
