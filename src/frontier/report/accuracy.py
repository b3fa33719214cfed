"""What `curves.json` of `evaluate` tells: precision over recall, sizes, who is taken for whom."""

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.report import words
from frontier.report.charts import PALETTE, Figure, layout

Ints = npt.NDArray[np.int64]
Curves = Mapping[str, Any]

MAX_CLASSES = 20  # drawn one by one; the others are left out or added up
BACKGROUND = "background"


class Cell(NamedTuple):
    """`boxes` of one truth taken for one class; their `share` of the row, 0..1; both `told`."""

    boxes: int
    share: float
    right: bool
    told: str


class Confusion(NamedTuple):
    """The matrix for a table: one row of cells per name, the last row and column background."""

    names: list[str]
    rows: list[list[Cell]]
    totals: list[int]


def drawn_classes(curves: Curves) -> list[int]:
    """Labels of the classes that are drawn one by one: those of most boxes, true and detected."""
    counts = np.array(curves["confusion"])
    boxes = counts[:-1].sum(axis=1) + counts[:, :-1].sum(axis=0)
    return sorted(np.argsort(-boxes, kind="stable")[:MAX_CLASSES].tolist())


def precision_recall(curves: Curves) -> Figure | None:
    """Precision over recall at IoU 0.5, of each drawn class and on average; None without truth."""
    if curves["precision_mean"] is None:
        return None
    lines = [
        _line(curves, curves["classes"][label], curves["precision"][label], color, 1.5)
        for label, color in zip(drawn_classes(curves), itertools.cycle(PALETTE), strict=False)
        if curves["precision"][label] is not None
    ]
    mean = _line(curves, "mean of all classes", curves["precision_mean"], "--ink", 3.5)
    figure = layout("recall", "precision", height=440, hovermode="closest")
    for axis in ("xaxis", "yaxis"):
        figure[axis] |= {"range": [0, 1.02], "tickformat": ".1f"}
    # below the chart, and scrolling where a phone puts one name a line
    figure["legend"] |= {"y": -0.18, "yanchor": "top", "maxheight": 0.35}
    return {"data": [*lines, mean], "layout": figure}


def _line(
    curves: Curves, name: str, precision: Sequence[float], color: str, width: float
) -> dict[str, Any]:
    shown = f"{escape(name, quote=False)} {words.ap(float(np.mean(precision)), 2)}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": shown,
        "x": curves["recall"],
        "y": precision,
        "line": {"color": color, "width": width},
        "hovertemplate": "recall %{x:.2f}, precision %{y:.3f}",
    }


def sizes(evaluated: Mapping[str, Any], curves: Curves) -> list[dict[str, Any]]:
    """Rows of AP per COCO size: name, range in words, boxes, AP, AP_float."""
    ranges = {"small": "below 32 px", "medium": "32 to 96 px", "large": "above 96 px"}
    return [
        {
            "name": name,
            "range": told,
            "boxes": curves["boxes_per_size"][name],
            "AP": evaluated[f"AP_{name}"],
            "AP_float": evaluated["float"][f"AP_{name}"],
        }
        for name, told in ranges.items()
    ]


def confusion(curves: Curves) -> Confusion:
    """The matrix with its rows as shares; classes that are not drawn are added up."""
    drawn = drawn_classes(curves)
    names = [curves["classes"][label] for label in drawn]
    others = len(curves["classes"]) - len(drawn)
    if others:
        names.append(words.plural(others, "other class", "other classes"))
    names.append(BACKGROUND)
    counts = _folded(np.array(curves["confusion"], np.int64), drawn)
    totals = counts.sum(axis=1)
    rows = [
        [_cell(names, counts, totals, true, seen) for seen in range(len(names))]
        for true in range(len(names))
    ]
    return Confusion(names, rows, totals.tolist())


def _folded(counts: Ints, drawn: Sequence[int]) -> Ints:
    """The matrix with all but the drawn labels in one row and column, so that sums stay."""
    classes = len(counts) - 1
    place = np.full(classes + 1, len(drawn))
    place[list(drawn)] = np.arange(len(drawn))
    place[classes] = len(drawn) + (len(drawn) < classes)
    folded = np.zeros((place[classes] + 1,) * 2, np.int64)
    np.add.at(folded, (place[:, None], place[None, :]), counts)
    return folded


def _cell(names: Sequence[str], counts: Ints, totals: Ints, true: int, seen: int) -> Cell:
    count, total = int(counts[true, seen]), int(totals[true])
    share = count / total if total else 0.0
    last = len(names) - 1
    if true == last:
        told = f"{count} of {total} detections that hit no box were called {names[seen]}"
    else:
        became = "were missed" if seen == last else f"were called {names[seen]}"
        told = f"{count} of {total} {names[true]} ({share:.0%}) {became}"
    return Cell(count, share, true == seen != last, told)


def outcome(curves: Curves) -> dict[str, float | int | None]:
    """At the shown threshold: `truths`, `shown`, `right`, precision and recall (0..1), F1."""
    counts = np.array(curves["confusion"])
    truths, shown = int(counts[:-1].sum()), int(counts[:, :-1].sum())
    right = int(np.trace(counts[:-1, :-1]))
    return {
        "truths": truths,
        "shown": shown,
        "right": right,
        "precision": words.ratio(right, shown) if shown else None,
        "recall": words.ratio(right, truths) if truths else None,
        "f1": words.ratio(2 * right, truths + shown) if truths + shown else None,
    }
