"""How well the predictors rank, also within bands of latency, where cheap proxies fall apart.

Legend: N architectures.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from frontier.search.features import Floats

BANDS = 4
FEWEST = 3  # in a band, for a rank correlation to mean anything


def rank_quality(estimated: Floats, measured: Floats, ms: Floats) -> dict[str, Any]:
    """Kendall's tau of `[N]` estimates, over all and within quartiles of latency.

    Returns:
        `tau`, `tau_in_bands` (a value or None for each quartile, fastest first) and `n`.
    """
    edges: Any = np.quantile(ms, np.linspace(0, 1, BANDS + 1)[1:-1]) if len(ms) else []
    band = np.searchsorted(edges, ms, side="right")
    own = (band == number for number in range(BANDS))
    return {
        "tau": kendall(estimated, measured),
        "tau_in_bands": [kendall(estimated[rows], measured[rows]) for rows in own],
        "n": len(measured),
    }


def estimator_quality(estimated: Floats, measured: Floats) -> dict[str, Any]:
    """Of milliseconds, `[N]`: ranks, and the mean relative error."""
    quality = rank_quality(estimated, measured, measured)
    enough = len(measured) >= FEWEST
    return {**quality, "mape": float(np.abs(estimated / measured - 1).mean()) if enough else None}


def kendall(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float | None:
    """Kendall's tau-b; None of fewer than three pairs, or where one side does not vary."""
    from scipy.stats import kendalltau

    if len(a) < FEWEST:
        return None
    tau = float(kendalltau(a, b).statistic)
    return tau if np.isfinite(tau) else None
