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
    own = (_bands(ms) == number for number in range(BANDS))
    return {
        "tau": kendall(estimated, measured),
        "tau_in_bands": [kendall(estimated[rows], measured[rows]) for rows in own],
        "n": len(measured),
    }


def regret(believed: Floats, true: Floats, ms: Floats, top: int) -> dict[str, Any]:
    """What trusting `[N]` beliefs costs: the best of all less the best of the believed `top`.

    Returns:
        `regret` over all, and `regret_in_bands` for each quartile of latency (None if empty).
    """
    own = (_bands(ms) == number for number in range(BANDS))
    return {
        "top": top,
        "regret": _regret(believed, true, top),
        "regret_in_bands": [_regret(believed[rows], true[rows], top) for rows in own],
    }


def _regret(believed: Floats, true: Floats, top: int) -> float | None:
    chosen = np.argsort(-believed, kind="stable")[:top]
    return float(true.max() - true[chosen].max()) if len(true) else None


def _bands(ms: Floats) -> npt.NDArray[np.int64]:
    """The quartile of latency each belongs to, 0 the fastest, `[N]`."""
    edges: Any = np.quantile(ms, np.linspace(0, 1, BANDS + 1)[1:-1]) if len(ms) else []
    return np.searchsorted(edges, ms, side="right")


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
