"""The same charts as still pictures, for the experiment dashboard and the README."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frontier.data.verdict.plots import (
    ACCENT,
    FAINT,
    FLOAT,
    GOOD,
    INK,
    INT8,
    axes_of,
    new,
    plain,
    save,
)
from frontier.report import charts, words
from frontier.report.results import TargetResult, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _axes(width: float, height: float) -> tuple["Figure", "Axes"]:
    figure = new(width, height)
    return figure, axes_of(figure.add_subplot())


def _scatter(axes: "Axes", timed: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    color = INT8 if key == "latency" else FLOAT
    x = np.array([point[f"{key}_p50_ms"] for point in timed])
    y = np.array([point["AP"] for point in timed])
    axes.errorbar(
        x,
        y,
        xerr=_spread(x, [point.get(f"{key}_interval_ms") for point in timed]),
        yerr=_spread(y, [point.get("AP_interval") for point in timed]),
        fmt="o",
        markersize=5,
        color=color,
        markerfacecolor=color if key == "latency" else "white",
        elinewidth=0.7,
        label=label,
    )


def _spread(values: Any, bounds: Sequence[Any]) -> Any:
    """`[2, N]` distances to the lower and upper bound, 0 where no interval is known."""
    pairs = [bound or (value, value) for value, bound in zip(values, bounds, strict=True)]
    low, high = np.array(pairs, float).reshape(-1, 2).T
    return np.abs(np.stack([values - low, high - values]))


def frontier(search: Mapping[str, Any], title: str, path: Path) -> Path:
    """Accuracy against measured latency, with the recommended point and the baseline named."""
    figure, axes = _axes(8, 4.8)
    timed = search["timed"]
    _scatter(axes, timed, "latency_float", "float32")
    _scatter(axes, timed, "latency", "INT8, the precision that ships")
    edge = sorted((p for p in timed if p["on_frontier"]), key=lambda p: p["latency_p50_ms"])
    axes.step(
        [point["latency_p50_ms"] for point in edge],
        [point["AP"] for point in edge],
        where="post",
        color=INT8,
        linewidth=1.6,
        label="frontier",
    )
    for label, point in named(search):
        _name(axes, point, label, INK if label == "baseline" else ACCENT)
    for limit, draw in (("max_latency_ms", axes.axvline), ("min_ap", axes.axhline)):
        if search["limits"][limit] is not None:
            draw(search["limits"][limit], color=FAINT, linestyle="--", linewidth=1)
    axes.set_xlabel("median latency measured on the device, ms", color=INK)
    axes.set_ylabel("AP on the held-out share of train", color=INK)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return save(figure, path)


def _name(axes: "Axes", point: Mapping[str, Any], label: str, color: str) -> None:
    place = (point["latency_p50_ms"], point["AP"])
    axes.plot(*place, "o", markersize=14, fillstyle="none", color=color, markeredgewidth=1.6)
    axes.annotate(
        label, place, xytext=(10, -14), textcoords="offset points", color=color, fontsize=10
    )


def per_class(target: TargetResult, path: Path) -> Path:
    """AP per class of the exported model and of its float form; absent classes stay empty."""
    rows = target.evaluate["per_class"]
    figure, axes = _axes(8, max(2.4, 0.42 * len(rows) + 1.2))
    places = np.arange(len(rows))
    for offset, key, color, label in (
        (-0.2, "AP", INT8, f"exported ({target.precision})"),
        (0.2, "AP_float", FLOAT, "float32"),
    ):
        values = [words.number(row[key]) or 0.0 for row in rows]
        axes.barh(places + offset, values, height=0.36, color=color, label=label)
    axes.set_yticks(places, [plain(row["name"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("AP on the test split", color=INK)
    axes.set_title(f"AP per class, {target.name}", loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def postmortem(search: Mapping[str, Any], path: Path) -> Path | None:
    """The waterfall from the baseline's latency to the answer's; None where there is none."""
    rows = charts.waterfall(search)
    if not rows:
        return None
    figure, axes = _axes(8, max(2.4, 0.4 * len(rows) + 1.2))
    widest = max(row["total"] for row in (rows[0], rows[-1]))
    scale = rows[0]["total"] / rows[0]["width"] if rows[0]["width"] else widest / 100
    for place, row in enumerate(rows):
        color = FLOAT if row["total"] is not None else GOOD if row["delta_ms"] <= 0 else ACCENT
        axes.barh(place, row["width"] * scale, left=row["left"] * scale, height=0.6, color=color)
    axes.set_yticks(range(len(rows)), [row["edit"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("median latency, ms", color=INK)
    axes.set_title("From the baseline to the answer", loc="left", fontsize=11, color=INK)
    return save(figure, path)
