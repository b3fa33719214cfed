"""Interactive charts as Plotly figures, and bars as plain percentages for HTML.

A colour is the name of a CSS variable ("--int8"); the page's script resolves it, so that charts
follow the reader's light or dark scheme.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

from frontier.report import words
from frontier.report.results import named, recommended

Figure = dict[str, Any]
# for lines and bars that stand for no fixed thing; readable on light and on dark
PALETTE = (
    *("#4269d0", "#efa318", "#e5583e", "#3f9f9a", "#3ca951", "#d9709b", "#9a60e0", "#9c6b4e"),
    *("#6f9be8", "#8a8f98"),
)


def layout(x_title: str, y_title: str, **more: Any) -> dict[str, Any]:
    """The look that all charts share; `more` replaces or adds keys of Plotly's layout."""
    axis = {
        "gridcolor": "--line",
        "linecolor": "--faint",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "--line",
        "automargin": True,
    }
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "--sans", "size": 13, "color": "--ink"},
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "xaxis": {**axis, "title": {"text": x_title, "standoff": 10, "font": {"size": 13}}},
        "yaxis": {**axis, "title": {"text": y_title, "standoff": 12, "font": {"size": 13}}},
        "hoverlabel": {
            "bgcolor": "--raised",
            "bordercolor": "--faint",
            "align": "left",
            "font": {"family": "--sans", "size": 12, "color": "--ink"},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        **more,
    }


def _error(values: Sequence[float], bounds: Sequence[Any], color: str) -> dict[str, Any]:
    """Asymmetric error bars; a missing interval is drawn as none."""
    pairs = [bound or (value, value) for value, bound in zip(values, bounds, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, (_, high) in zip(values, pairs, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, pairs, strict=True)],
        "color": color,
        "thickness": 1,
        "width": 0,
    }


def _wrapped(code: str, width: int = 34) -> str:
    """An architecture code in lines short enough for a phone's hover box."""
    lines = [""]
    for part in code.split("-"):
        if lines[-1] and len(lines[-1]) + len(part) >= width:
            lines.append("")
        lines[-1] += f"-{part}" if lines[-1] else part
    return "<br>".join(map(escape, lines))


def _hover(point: Mapping[str, Any]) -> str:
    stable = "" if point["stable"] else "<br>unstable: the device drifted during this measurement"
    return (
        f"<b>{escape(point['name'])}</b><br>{_wrapped(point['architecture'])}"
        f"<br>AP {words.ap(point['AP'])} ({words.interval(point.get('AP_interval'))})"
        f"<br>INT8 {words.ms(point['latency_p50_ms'])} ms"
        f" ({words.interval(point.get('latency_interval_ms'), 'ms')})"
        f"<br>float {words.ms(point['latency_float_p50_ms'])} ms"
        f" ({words.interval(point.get('latency_float_interval_ms'), 'ms')})"
        f"<br>{point['gmac']:.3f} GMAC, {point['parameters'] / 1e6:.2f} M parameters{stable}"
    )


def _points(search: Mapping[str, Any], key: str, name: str, color: str, fill: bool) -> Figure:
    timed = search["timed"]
    x = [point[f"{key}_p50_ms"] for point in timed]
    y = [point["AP"] for point in timed]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "text": [_hover(point) for point in timed],
        "hovertemplate": "%{text}<extra></extra>",
        "error_x": _error(x, [p.get(f"{key}_interval_ms") for p in timed], color),
        "error_y": _error(y, [p.get("AP_interval") for p in timed], color),
        "marker": {
            "size": 9,
            "color": color if fill else "--page",
            "symbol": ["circle" if point["stable"] else "x" for point in timed],
            "line": {"width": 1.5, "color": color},
        },
    }


def _marked(label: str, point: Mapping[str, Any]) -> Figure:
    start = label == "baseline"
    color, symbol = ("--ink", "diamond-open") if start else ("--accent", "circle-open")
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": label,
        "x": [point["latency_p50_ms"]],
        "y": [point["AP"]],
        "text": [label],
        "textposition": "bottom right",
        "textfont": {"size": 13, "color": color},
        "marker": {"size": 20, "symbol": symbol, "color": color, "line": {"width": 2}},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _limit_lines(limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    line = {"color": "--warn", "width": 1.5, "dash": "dash"}
    shapes: list[dict[str, Any]] = []
    if (most := limits["max_latency_ms"]) is not None:
        shapes.append({"type": "line", "x0": most, "x1": most, "yref": "paper", "y0": 0, "y1": 1})
    if (least := limits["min_ap"]) is not None:
        shapes.append({"type": "line", "y0": least, "y1": least, "xref": "paper", "x0": 0, "x1": 1})
    return [{**shape, "line": line, "layer": "below"} for shape in shapes]


def frontier(search: Mapping[str, Any]) -> Figure:
    """Accuracy against measured latency: INT8 and float, their intervals, the frontier."""
    timed = search["timed"]
    links = [(p["latency_p50_ms"], p["latency_float_p50_ms"], p["AP"]) for p in timed]
    edge = sorted((p for p in timed if p["on_frontier"]), key=lambda p: p["latency_p50_ms"])
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for int8, float32, _ in links for x in (int8, float32, None)],
            "y": [y for *_, point_ap in links for y in (point_ap, point_ap, None)],
            "line": {"color": "--line", "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        _points(search, "latency_float", "float32", "--float", fill=False),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "frontier",
            "x": [point["latency_p50_ms"] for point in edge],
            "y": [point["AP"] for point in edge],
            "line": {"color": "--int8", "width": 2, "shape": "hv"},
            "hoverinfo": "skip",
        },
        _points(search, "latency", "INT8, the precision that ships", "--int8", fill=True),
        *(_marked(label, point) for label, point in named(search)),
    ]
    chart_layout = layout(
        "median latency measured on the device, ms",
        "AP on the held-out share of train",
        height=460,
        shapes=_limit_lines(search["limits"]),
        hovermode="closest",
    )
    return {"data": data, "layout": chart_layout}


def drift(search: Mapping[str, Any]) -> Figure | None:
    """The reference network's latency in every block, over its median; None where not kept."""
    points = [
        (row, block, ms)
        for row in search["timed"]
        for block, ms in enumerate(row["reference_ms"], start=1)
    ]
    if not points:
        return None
    usual = median(ms for *_, ms in points)
    data = {
        "type": "scatter",
        "mode": "markers",
        "x": [block for _, block, _ in points],
        "y": [ms / usual for *_, ms in points],
        "text": [escape(row["architecture"]) for row, *_ in points],
        "hovertemplate": "%{text}<br>block %{x}: %{y:.2f}<extra></extra>",
        "marker": {
            "size": 7,
            "color": "--int8",
            "opacity": 0.6,
            "symbol": ["circle" if row["stable"] else "x" for row, *_ in points],
        },
        "showlegend": False,
    }
    axes = layout("block", "reference latency over its median", height=260, hovermode="closest")
    axes["xaxis"]["dtick"] = 1
    return {"data": [data], "layout": axes}


def waterfall(search: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The post-mortem as floating bars from the baseline's latency to the answer's.

    Returns:
        rows with `text`, `delta_ms`, `delta_AP`, `total` (first and last row), and the bar's
        `left` and `width` in percent of the widest total.
    """
    answer = recommended(search)
    if answer is None or not search["postmortem"]:
        return []
    residual = search["postmortem_residual"]
    start, end = search["baseline"]["latency_p50_ms"], answer["latency_p50_ms"]
    steps = [*search["postmortem"]]
    if any(abs(residual[unit]) > 5e-4 for unit in ("ms", "AP")):
        text = "what the edits together do beyond their sum, and noise of the measurement"
        steps.append(
            {
                "edit": "residual",
                "text": text,
                "delta_ms": residual["ms"],
                "delta_AP": residual["AP"],
            }
        )
    totals = [start]
    for step in steps:
        totals.append(totals[-1] + step["delta_ms"])
    widest = max(*totals, end)
    rows = [_total_row("baseline", start, search["baseline"]["AP"], widest)]
    rows += [
        {
            **step,
            "total": None,
            "left": 100 * min(before, after) / widest,
            "width": 100 * abs(after - before) / widest,
        }
        for step, (before, after) in zip(steps, pairwise(totals), strict=True)
    ]
    return [*rows, _total_row("recommended", end, answer["AP"], widest)]


def _total_row(edit: str, ms: float, ap: float, widest: float) -> dict[str, Any]:
    return {"edit": edit, "total": ms, "AP": ap, "left": 0.0, "width": 100 * ms / widest}


def share(value: Any, values: Sequence[Any]) -> float:
    """Length of a bar in percent of the longest; 0 for absent and negative values."""
    longest = max((words.number(other) or 0.0 for other in values), default=0.0)
    found = words.number(value) or 0.0
    return 100 * max(found, 0.0) / longest if longest > 0 else 0.0
