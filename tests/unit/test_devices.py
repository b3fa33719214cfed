"""What one device's frontier loses on another."""

import pytest

from frontier.search.devices import frontier_of, loss


def search(recommended: str, **points: tuple[float, float]) -> dict[str, object]:
    """A search whose points are (AP, ms); all named are on its frontier."""
    timed = [
        {
            "architecture": code, "AP": ap, "AP_interval": [ap - 0.01, ap + 0.01],
            "latency_p50_ms": ms, "on_frontier": True, "recommended": code == recommended,
        }
        for code, (ap, ms) in points.items()
    ]  # fmt: skip
    return {"timed": timed}


HOME = search("b", a=(0.3, 1.0), b=(0.4, 2.0))
AWAY = search("c", a=(0.3, 2.0), c=(0.45, 3.0))


def test_a_frontier_timed_elsewhere():
    found = loss(HOME, AWAY, {"a": 2.0, "b": 6.0})
    assert found["slower"] == pytest.approx(6.0 / 3.0)  # c is as good and takes 3 ms there
    assert found["lost_AP"] == pytest.approx(0.45 - 0.3)  # only a fits into c's 3 ms
    assert found["overlap"] == pytest.approx(1 / 3)
    assert [row["away_ms"] for row in found["rows"]] == [2.0, 6.0]


def test_nothing_as_good_and_nothing_within():
    found = loss(search("b", b=(0.5, 2.0)), AWAY, {"b": 9.0})
    assert found["slower"] is None
    assert found["lost_AP"] is None
    assert found["overlap"] == 0


def test_the_recommended_counts_though_something_dominates_it():
    made = search("b", a=(0.3, 1.0), b=(0.2, 2.0))
    made["timed"][1]["on_frontier"] = False
    assert [row["architecture"] for row in frontier_of(made)] == ["a", "b"]
