"""The gate between challenger and champion."""

import pytest

from pipelines.promotion import Candidate, Gain, Limits, decide

CHAMPION = Candidate("measured", 0.40, 5.0)
GOOD = Candidate("measured", 0.45, 5.0)
BETTER = Gain(0.05, 0.02, 0.08)
EQUAL = Gain(0.0, -0.01, 0.01)
WORSE = Gain(-0.05, -0.08, -0.02)
NAN = float("nan")


@pytest.mark.parametrize(
    ("challenger", "champion", "gain", "limits", "reason"),
    [
        pytest.param(
            Candidate("measured", 0.35, 5.0), CHAMPION, WORSE, Limits(), "-0.05", id="worse"
        ),
        pytest.param(
            Candidate("measured", 0.45, 5.5), CHAMPION, BETTER, Limits(), "slower", id="slow"
        ),
        pytest.param(
            Candidate("measured", 0.45, 5.5),
            CHAMPION,
            BETTER,
            Limits(5.4),
            "above",
            id="over limit",
        ),
        pytest.param(Candidate("measured", NAN, 5.0), CHAMPION, BETTER, Limits(), "nan", id="nan"),
        pytest.param(
            Candidate("measured", 0.45, NAN), CHAMPION, BETTER, Limits(), "latency", id="nan ms"
        ),
        pytest.param(GOOD, CHAMPION, Gain(NAN, NAN, NAN), Limits(), "nan", id="nan gain"),
        pytest.param(None, CHAMPION, BETTER, Limits(), "no result", id="missing target"),
        pytest.param(
            Candidate("built-not-run", None, None),
            None,
            None,
            Limits(),
            "not measured",
            id="not run",
        ),
        pytest.param(
            Candidate("measured", 0.45, 5.0, stable=False),
            CHAMPION,
            BETTER,
            Limits(),
            "unstable",
            id="unstable",
        ),
        pytest.param(GOOD, CHAMPION, EQUAL, Limits(), "not above zero", id="equal"),
        pytest.param(
            GOOD, None, None, Limits(min_ap=0.5), "min_ap", id="first, but under its limit"
        ),
        pytest.param(GOOD, None, None, Limits(4.0), "max_latency_ms", id="first, but too slow"),
    ],
)
def test_refused(
    challenger: Candidate | None,
    champion: Candidate | None,
    gain: Gain | None,
    limits: Limits,
    reason: str,
) -> None:
    decision = decide(challenger, champion, gain, limits)
    assert not decision.promote
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("champion", "gain", "limits"),
    [
        pytest.param(CHAMPION, BETTER, Limits(), id="better"),
        pytest.param(CHAMPION, BETTER, Limits(6.0, 0.4), id="better and within limits"),
        pytest.param(Candidate("measured", 0.4, None), BETTER, Limits(), id="timed elsewhere"),
        pytest.param(None, None, Limits(), id="no champion"),
    ],
)
def test_promoted(champion: Candidate | None, gain: Gain | None, limits: Limits) -> None:
    assert decide(GOOD, champion, gain, limits).promote


def test_a_slower_but_allowed_challenger_may_win() -> None:
    slower = Candidate("measured", 0.5, 9.0)
    assert decide(slower, CHAMPION, BETTER, Limits(max_latency_ms=10.0)).promote
