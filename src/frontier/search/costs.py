"""What a search believes of networks that it has not measured: time, size and memory.

Legend: N architectures, G genes, L limits.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.models.architecture import Architecture, SearchSpace
from frontier.search.features import Genes, genes_of
from frontier.search.footprint import Footprint
from frontier.search.frontier import Limits
from frontier.search.latency import Estimator, Timing
from frontier.search.quality import estimator_quality
from frontier.search.table import TableEstimator

Floats = npt.NDArray[np.float64]


class Surveyed(NamedTuple):
    """A device's latency table, and what is known of how good it is."""

    estimator: TableEstimator
    quality: dict[str, Any]


class Costs:
    """Estimates that steer; every finalist is measured whole.

    Args:
        timed: what was measured in this search; the table is scaled to it, since the device may be
            faster or slower than on the day of its survey.
        surveyed: the device's latency table; without one the estimate is fitted to `timed`.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        limits: Limits,
        timed: Mapping[str, Timing],
        surveyed: Surveyed | None,
    ) -> None:
        self.space, self.limits, self.surveyed = space, limits, surveyed
        self._footprint = Footprint(space, num_classes)
        genes = self._genes([*timed])
        ms = {code: timing.int8.p50_ms for code, timing in timed.items()}
        self._ms = surveyed.estimator if surveyed else Estimator(space, ms)
        self._scale = float(np.exp(np.log([*ms.values()] / self._ms.estimate(genes)).mean()))
        sizes = np.array([timing.size_mb for timing in timed.values()])
        self._graph_mb = float(np.median(sizes - self._footprint.parameters(genes) / 1e6))
        memory = {c: t.memory_mb for c, t in timed.items() if t.memory_mb is not None}
        self._memory = Estimator(space, memory) if memory else None

    def ms(self, genes_NG: Genes) -> Floats:
        """Milliseconds an image, `[N]`."""
        found: Floats = self._scale * self._ms.estimate(genes_NG)
        return found

    def excess(self, genes_NG: Genes) -> Floats:
        """Over each limit on costs that is set, as a share of it, `[N, L]`."""
        columns = []
        if self.limits.max_latency_ms is not None:
            columns.append(self.ms(genes_NG) / self.limits.max_latency_ms)
        if self.limits.max_size_mb is not None:
            size_mb = self._footprint.parameters(genes_NG) / 1e6 + self._graph_mb
            columns.append(size_mb / self.limits.max_size_mb)
        if self.limits.max_memory_mb is not None and self._memory is not None:
            columns.append(self._memory.estimate(genes_NG) / self.limits.max_memory_mb)
        return np.stack([*columns, np.zeros(len(genes_NG))], axis=1)[:, : len(columns)] - 1

    @property
    def doubted(self) -> bool:
        """Whether there is a table and its own test says that it is not to be trusted."""
        return self.surveyed is not None and not self.surveyed.quality["trusted"]

    def straddling(self, codes: list[str]) -> list[str]:
        """Those that the error of 95 in 100 estimates leaves on both sides of the limit on time."""
        limit = self.limits.max_latency_ms
        if limit is None or self.surveyed is None or not codes:
            return []
        ms, error = self.ms(self._genes(codes)), self.surveyed.quality["p95_error"]
        near = np.abs(ms / limit - 1) <= error
        return [codes[i] for i in np.argsort(ms, kind="stable") if near[i]]

    def quality(self, estimated: Floats, measured: Floats) -> dict[str, Any]:
        """Of the estimates of milliseconds: the table's own test, and on this search's finalists.

        Args:
            estimated: of finalists not timed before, `[N]`; `measured` likewise.
        """
        finalists = estimator_quality(estimated, measured)
        own = self.surveyed.quality if self.surveyed else {**finalists, "trusted": False}
        return {"kind": "table" if self.surveyed else "whole", **own, "finalists": finalists}

    def _genes(self, codes: list[str]) -> Genes:
        return genes_of(self.space, [Architecture.parse(code) for code in codes])
