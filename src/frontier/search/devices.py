"""What one device's frontier loses on another, by timing it there.

Frontiers of devices overlap little: YOLOBench, Lazarevich et al. 2023 (arXiv:2307.13901).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from frontier.search.frontier import Point, non_dominated

Row = Mapping[str, Any]


def frontier_of(search: Mapping[str, Any]) -> list[Row]:
    """The timed rows of `search.json` that lie on its frontier, and the recommended one."""
    return [row for row in search["timed"] if row["on_frontier"] or row["recommended"]]


def loss(
    home: Mapping[str, Any], away: Mapping[str, Any], away_ms: Mapping[str, float]
) -> dict[str, Any]:
    """`home`'s frontier on `away`'s device, beside what was found for that device.

    Args:
        home, away: `search.json` of both; their accuracies come from the same supernet.
        away_ms: milliseconds an image on `away`'s device, by code, of `home`'s frontier.

    Returns:
        `rows`, one for each architecture of `home`'s frontier; `slower`: how many times as long its
        recommended architecture takes there as `away`'s fastest of no less AP (None where there
        is none); `lost_AP`: what its best within `away`'s latency is short of `away`'s own (None
        where nothing of it is within); `overlap`: shared architectures over all of both frontiers.
    """
    rows = [
        {
            "architecture": row["architecture"],
            "AP": row["AP"],
            "home_ms": row["latency_p50_ms"],
            "away_ms": away_ms[row["architecture"]],
            "recommended": row["recommended"],
        }
        for row in frontier_of(home)
    ]
    return {
        "rows": rows,
        "slower": _slower(next(row for row in rows if row["recommended"]), away["timed"]),
        "lost_AP": _lost_ap(rows, away["timed"]),
        "overlap": _overlap(home, away),
    }


def _slower(answer: Row, timed: Sequence[Row]) -> float | None:
    as_good = [row["latency_p50_ms"] for row in timed if row["AP"] >= answer["AP"]]
    return answer["away_ms"] / min(as_good) if as_good else None


def _lost_ap(rows: Sequence[Row], timed: Sequence[Row]) -> float | None:
    own = next(row for row in timed if row["recommended"])
    within = [row["AP"] for row in rows if row["away_ms"] <= own["latency_p50_ms"]]
    return float(own["AP"] - max(within)) if within else None


def _overlap(home: Mapping[str, Any], away: Mapping[str, Any]) -> float:
    """Jaccard index of the two frontiers."""
    first, second = ({p.code for p in non_dominated(_points(s))} for s in (home, away))
    return len(first & second) / len(first | second)


def _points(search: Mapping[str, Any]) -> list[Point]:
    return [
        Point(row["architecture"], row["AP"], row["AP_interval"][0], row["latency_p50_ms"])
        for row in search["timed"]
    ]
