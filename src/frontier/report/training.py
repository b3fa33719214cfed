"""The course of a training: losses, AP and learning rate over the steps, one above the other."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from frontier.report import words
from frontier.report.charts import PALETTE, Figure, layout
from frontier.report.results import Table

MAX_POINTS = 300
MARKED_POINTS = 30  # a line of fewer points shows them
GAP = 0.07  # between panels, share of the height
COLORS = {"loss": "--ink", "AP": "--good", "lr": "--faint"}


class Line(NamedTuple):
    """One column where it was recorded; `epochs` is empty where nobody counted them."""

    name: str
    steps: list[float]
    values: list[float]
    epochs: list[float]


class Panel(NamedTuple):
    """Lines of one scale, what the scale is called, and its share of the height."""

    title: str
    height: float
    lines: list[Line]


def panels(table: Table) -> list[Panel]:
    """What there is to draw of a history, from top to bottom; columns are known by their name."""
    losses = [name for name in table if name.endswith("loss")]
    wanted = (("loss", 3.0, losses), ("AP", 1.5, ["AP"]), ("learning rate", 1.4, ["lr"]))
    found = [
        Panel(title, height, [line for name in names if (line := _line(table, name)).steps])
        for title, height, names in wanted
    ]
    return [panel for panel in found if panel.lines]


def _line(table: Table, name: str) -> Line:
    """Rows without a value are left out: AP is scored once an epoch, not at every logged step."""
    steps = table.get("step", [])
    values = table.get(name, [None] * len(steps))
    epochs = table.get("epoch", [None] * len(steps))
    rows = [
        (step, value, epoch)
        for step, value, epoch in zip(steps, values, epochs, strict=True)
        if step is not None and value is not None
    ]
    known = [epoch for *_, epoch in rows if epoch is not None]
    counted = known if len(known) == len(rows) else []
    return Line(name, [row[0] for row in rows], [row[1] for row in rows], counted)


def chart(table: Table) -> Figure | None:
    """The panels as one chart; None where nothing was recorded."""
    found = panels(table)
    if not found:
        return None
    figure = layout("step", "", height=220 + 90 * len(found), hovermode="x unified")
    figure["hoversubplots"] = "axis"
    figure["xaxis"]["anchor"] = _axis(len(found) - 1)
    data = []
    style = figure.pop("yaxis")
    for index, (panel, domain) in enumerate(zip(found, _domains(found), strict=True)):
        title = {**style["title"], "text": panel.title}
        ticks = {"rangemode": "tozero", "nticks": 3 if index else 6}
        figure[f"yaxis{_axis(index)[1:]}"] = {**style, "title": title, "domain": domain, **ticks}
        data += [_trace(line, number, _axis(index)) for number, line in enumerate(panel.lines)]
    return {"data": data, "layout": figure}


def _axis(index: int) -> str:
    """What Plotly calls the y axis of a panel."""
    return f"y{index + 1}" if index else "y"


def _domains(found: Sequence[Panel]) -> list[list[float]]:
    """Bottom and top of each panel as shares of the chart, the first at the top."""
    unit = (1 - GAP * (len(found) - 1)) / sum(panel.height for panel in found)
    domains, top = [], 1.0
    for panel in found:
        bottom = max(0.0, top - panel.height * unit)
        domains.append([round(bottom, 4), round(top, 4)])
        top = bottom - GAP
    return domains


def _trace(line: Line, number: int, axis: str) -> dict[str, Any]:
    epoch = " in epoch %{customdata}" if line.epochs else ""
    points = np.unique(np.linspace(0, len(line.steps) - 1, MAX_POINTS).astype(int)).tolist()
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(line.steps) < MARKED_POINTS else "lines",
        "name": line.name.replace("_", " "),
        "x": [line.steps[point] for point in points],
        "y": [line.values[point] for point in points],
        "customdata": [f"{line.epochs[point]:.4g}" for point in points if line.epochs],
        "hovertemplate": f"%{{y:.4~g}}{epoch if line.name == 'AP' else ''}",
        "line": {
            "color": COLORS.get(line.name, PALETTE[number % len(PALETTE)]),
            "width": 2 if line.name in COLORS else 1.5,
        },
        "marker": {"size": 5},
        "yaxis": axis,
        "showlegend": line.name.endswith("loss"),
    }


def last(table: Table) -> str:
    """How far it got and what it came to, in words."""
    lines = {line.name: line for panel in panels(table) for line in panel.lines}
    said = []
    if loss := lines.get("loss"):
        said.append(f"{loss.steps[-1]:,.0f} steps")
        if loss.epochs:
            count = f"{loss.epochs[-1]:.4g}"
            said.append(f"{count} epoch{'' if count == '1' else 's'}")
        said.append(f"loss {words.ap(loss.values[0], 2)} to {words.ap(loss.values[-1], 2)}")
    if scored := lines.get("AP"):
        said.append(f"best AP {words.ap(max(scored.values))}, last {words.ap(scored.values[-1])}")
    return ", ".join(said)
