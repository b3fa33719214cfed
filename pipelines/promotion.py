"""The gate: whether a challenger replaces the champion. Pure, so that every case is a test."""

import math
from dataclasses import dataclass

UNSTABLE = "its latency is unstable: measure again on a quiet machine"
MAX_SLOWDOWN = 1.05  # against the champion, where no limit in milliseconds is set


@dataclass(frozen=True)
class Candidate:
    """What was measured of one exported detector.

    Attributes:
        status: `measured`, or `built-not-run` where this machine could not run it.
        AP: on the present test split, 0..1.
        latency_p50_ms: None where it was not measured on this hardware.
        stable: whether repeated latency blocks agreed.
    """

    status: str
    AP: float | None
    latency_p50_ms: float | None
    stable: bool = True


@dataclass(frozen=True)
class Limits:
    max_latency_ms: float | None = None
    min_ap: float | None = None


@dataclass(frozen=True)
class Gain:
    """AP(challenger) - AP(champion), paired over the same images, with its 95 % interval."""

    delta: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    promote: bool
    reason: str


def decide(
    challenger: Candidate | None, champion: Candidate | None, gain: Gain | None, limits: Limits
) -> Decision:
    """Promote only what is measured, within its limits, and better beyond chance.

    Args:
        gain: None where there is no champion to compare with.
    """
    fault = unfit(challenger, limits)
    if challenger is None or fault:
        return Decision(False, f"refused: {fault}")
    if champion is None:
        return Decision(True, "promoted: there was no champion and it meets its limits")
    assert gain is not None, "a champion is compared on the same images"
    if not challenger.stable:
        return Decision(False, f"refused: {UNSTABLE}")
    if limits.max_latency_ms is None and _slower(challenger, champion):
        return Decision(
            False,
            f"refused: {challenger.latency_p50_ms:.2f} ms is slower than the champion's "
            f"{champion.latency_p50_ms:.2f} ms by more than {MAX_SLOWDOWN - 1:.0%}",
        )
    interval = f"{gain.delta:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    if not gain.low > 0:
        return Decision(False, f"refused: AP difference {interval} is not above zero")
    return Decision(True, f"promoted: AP difference {interval} is above zero")


def unfit(candidate: Candidate | None, limits: Limits) -> str:
    """Why a candidate cannot be champion at all; empty if it can."""
    if candidate is None:
        return "the target has no result"
    if candidate.status != "measured":
        return f"it is {candidate.status}, not measured"
    if candidate.AP is None or not math.isfinite(candidate.AP):
        return f"its AP is {candidate.AP}"
    latency = candidate.latency_p50_ms
    if latency is None or not math.isfinite(latency):
        return f"its latency is {latency}"
    if limits.max_latency_ms is not None and not candidate.stable:
        return UNSTABLE
    if limits.max_latency_ms is not None and latency > limits.max_latency_ms:
        return f"{latency:.2f} ms is above search.max_latency_ms {limits.max_latency_ms}"
    if limits.min_ap is not None and limits.min_ap > candidate.AP:
        return f"AP {candidate.AP:.4f} is below search.min_ap {limits.min_ap}"
    return ""


def _slower(challenger: Candidate, champion: Candidate) -> bool:
    """A champion timed on other hardware (None) sets no limit here."""
    if champion.latency_p50_ms is None or challenger.latency_p50_ms is None:
        return False
    return challenger.latency_p50_ms > MAX_SLOWDOWN * champion.latency_p50_ms
