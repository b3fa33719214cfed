"""Accuracy and dataset as still pictures, for the experiment dashboard.

Trainings need none: the dashboard draws their curves from the metrics that they log.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np

from frontier.data.verdict.plots import (
    FLOAT,
    INK,
    INT8,
    SPLIT_COLORS,
    axes_of,
    bars,
    new,
    plain,
    save,
)
from frontier.report import accuracy, dataset, words
from frontier.report.charts import PALETTE
from frontier.report.results import TargetResult


def precision_recall(target: TargetResult, path: Path) -> Path | None:
    """A line per drawn class and their mean; None where the truth holds no box."""
    curves = target.curves
    if curves is None or curves["precision_mean"] is None:
        return None
    figure = new(8, 5)
    axes = axes_of(figure.add_subplot())
    for label, color in zip(accuracy.drawn_classes(curves), cycle(PALETTE), strict=False):
        if (precision := curves["precision"][label]) is not None:
            name = f"{plain(curves['classes'][label])} {words.ap(float(np.mean(precision)), 2)}"
            axes.plot(curves["recall"], precision, color=color, linewidth=1.2, label=name)
    mean = curves["precision_mean"]
    name = f"mean of all classes {words.ap(float(np.mean(mean)), 2)}"
    axes.plot(curves["recall"], mean, color=INK, linewidth=2.6, label=name)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("recall", color=INK)
    axes.set_ylabel("precision, IoU 0.5", color=INK)
    axes.set_title(f"Precision over recall, {target.name}", loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return save(figure, path)


def per_size(target: TargetResult, path: Path) -> Path | None:
    """AP of small, medium and large boxes, exported and float; an absent size stays empty."""
    if target.curves is None:
        return None
    rows = accuracy.sizes(target.evaluate, target.curves)
    figure = new(8, 2.6)
    axes = axes_of(figure.add_subplot())
    names = [f"{row['name']}, {row['range']}\n{row['boxes']:,} boxes" for row in rows]
    series = [
        (f"exported ({target.precision})", INT8, [words.number(row["AP"]) for row in rows]),
        ("float32", FLOAT, [words.number(row["AP_float"]) for row in rows]),
    ]
    bars(axes, names, series)
    axes.set_xlabel("AP on the test split", color=INK)
    axes.set_title(f"AP per box size, {target.name}", loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def confusion(target: TargetResult, path: Path) -> Path | None:
    """Counts on a ground of each row's shares: rows are truth, columns what it was taken for."""
    if target.curves is None:
        return None
    found = accuracy.confusion(target.curves)
    side = 2.2 + 0.5 * len(found.names)
    figure = new(side + 1, side)
    axes = figure.add_subplot()
    shares = np.array([[cell.share for cell in row] for row in found.rows])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, cells in enumerate(found.rows):
        for column, cell in enumerate(cells):
            ink = "white" if cell.share > 0.6 else INK
            text = f"{cell.boxes}" if cell.boxes else "·"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    places = range(len(found.names))
    names = [plain(name) for name in found.names]
    axes.set_xticks(places, [*names[:-1], "missed"], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("taken for", color=INK)
    axes.set_ylabel("truth", color=INK)
    title = f"At a score of {target.curves['score_threshold']:.2f}, IoU 0.5, {target.name}"
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    return save(figure, path)


def sizes(histograms: Sequence[dataset.Histogram], path: Path) -> Path | None:
    """One histogram below the other; None where there is no box."""
    drawn = [histogram for histogram in histograms if histogram.bins]
    if not drawn:
        return None
    figure = new(8, 2.9 * len(drawn))
    for axes, histogram in zip(
        figure.subplots(len(drawn), squeeze=False)[:, 0], drawn, strict=True
    ):
        axes_of(axes)
        width = 0.8 / len(histogram.counts)
        for index, (split, counts) in enumerate(histogram.counts.items()):
            places = np.arange(len(counts)) + (index - (len(histogram.counts) - 1) / 2) * width
            shares = 100 * np.array(counts) / max(1, sum(counts))
            axes.bar(places, shares, width, color=SPLIT_COLORS[split], label=split)
        axes.set_xticks(range(len(histogram.bins)), histogram.bins, rotation=45, fontsize=8)
        axes.set_xlabel(histogram.title, color=INK)
        axes.set_ylabel("boxes, %", color=INK)
        axes.legend(frameon=False, fontsize=9)
    return save(figure, path)
