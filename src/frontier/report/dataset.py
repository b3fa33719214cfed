"""How many boxes there are of what, and how large they are, split by split."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.data.catalog import Catalog, CatalogSplit
from frontier.data.formats import SPLITS
from frontier.data.verdict.plots import class_rows
from frontier.report.charts import Figure, layout

Floats = npt.NDArray[np.float64]

COLORS = {"train": "--int8", "val": "--accent", "test": "--float"}
RELATIVE_BINS = 20
NAME_LENGTH = 16
MAX_SUSPECTS = 20  # rows of the table


class Histogram(NamedTuple):
    """Boxes per bin: `bins` are the bins' names, `counts` per split, `[len(bins)]` each."""

    title: str
    bins: list[str]
    counts: dict[str, list[int]]


def histograms(catalog: Catalog, side_px: int | None) -> list[Histogram]:
    """Sizes of the boxes that are used, crowds left out: the square root of the area.

    Args:
        side_px: of the network's square input; None leaves out sizes at the input.
    """
    names = [name for name in SPLITS if name in catalog.splits]
    splits = {name: catalog.split(name) for name in names}
    relative = {name: _relative(split) for name, split in splits.items()}
    edges = np.linspace(0, 100, RELATIVE_BINS + 1)
    made = [_histogram("√ of box area ÷ image area, %", relative, edges)]
    if side_px is not None:
        pixels = {name: _at_input(split, side_px) for name, split in splits.items()}
        title = f"√ of box area at the network's input ({side_px} px), px"
        made.append(_histogram(title, pixels, _octave_edges(side_px)))
    return made


def _sides(split: CatalogSplit) -> tuple[Floats, Floats]:
    """Square root of the area of each box that is no crowd, and its image's (height, width)."""
    boxes = split.boxes_xyxy.astype(np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sizes_hw = np.repeat(split.sizes_hw, np.diff(split.offsets), axis=0).astype(np.float64)
    keep = ~split.ignore
    return np.sqrt(area[keep]), sizes_hw[keep]


def _relative(split: CatalogSplit) -> Floats:
    sides, sizes_hw = _sides(split)
    percent: Floats = 100 * sides / np.sqrt(sizes_hw.prod(axis=1))
    return percent


def _at_input(split: CatalogSplit, side_px: int) -> Floats:
    """The letterbox scales an image by its longer side."""
    sides, sizes_hw = _sides(split)
    pixels: Floats = sides * side_px / sizes_hw.max(axis=1, initial=1)
    return pixels


def _octave_edges(side_px: int) -> Floats:
    """0, then from 2 px on two bins an octave, as detectors see sizes, in whole pixels."""
    steps = 2 * np.sqrt(2) ** np.arange(64)
    return np.unique(np.round([0, *steps[steps < side_px], side_px]))


def _histogram(title: str, values: Mapping[str, Floats], edges: Floats) -> Histogram:
    low, high = edges[0], edges[-1]
    counts = {
        name: np.histogram(own.clip(low, high), edges)[0].tolist() for name, own in values.items()
    }
    used = np.flatnonzero(np.sum([*counts.values()], axis=0))
    kept = slice(used[0], used[-1] + 1) if len(used) else slice(0)
    bins = [f"{a:g}–{b:g}" for a, b in pairwise(edges)]
    return Histogram(title, bins[kept], {name: own[kept] for name, own in counts.items()})


def sizes_chart(histogram: Histogram) -> Figure | None:
    """Bars per bin and split, as shares of the split's boxes; None where there is no box."""
    if not histogram.bins:
        return None
    data = [
        {
            "type": "bar",
            "name": name,
            "x": histogram.bins,
            "y": [100 * count / max(1, sum(counts)) for count in counts],
            "customdata": counts,
            "hovertemplate": "%{customdata:,} boxes, %{y:.1f} %",
            "marker": {"color": COLORS[name]},
        }
        for name, counts in histogram.counts.items()
    ]
    look = {"height": 300, "hovermode": "x unified", "bargap": 0.15}
    figure = layout(histogram.title, "share of the split's boxes, %", **look)
    figure["xaxis"] |= {"type": "category"}
    return {"data": data, "layout": figure}


def labels_chart(classes: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Boxes per class, a bar per split; None without classes."""
    rows = class_rows(classes)
    if not rows:
        return None
    places = [*range(len(rows))]
    names = [escape(row["name"], quote=False) for row in rows]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": split,
            "y": places,
            "x": [row[split] for row in rows],
            "customdata": names,
            "hovertemplate": "%{customdata}: %{x:,} boxes",
            "marker": {"color": COLORS[split]},
        }
        for split in SPLITS
    ]
    figure = layout("boxes", "", height=110 + 40 * len(rows), bargap=0.25, hovermode="closest")
    ticks = {"tickvals": places, "ticktext": [_short(row["name"]) for row in rows]}
    # the most frequent on top; Plotly counts from below
    figure["yaxis"] |= {**ticks, "autorange": "reversed", "showgrid": False}
    return {"data": data, "layout": figure}


def _short(name: str) -> str:
    """A name that leaves a phone some width for the bars."""
    short = name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
    return escape(short, quote=False)  # Plotly knows no entity for a quotation mark


def suspect_rows(suspects: Sequence[Mapping[str, Any]], catalog: Catalog) -> list[dict[str, Any]]:
    """The first labels that the teacher doubts, each with the file name of its image."""
    shown = suspects[:MAX_SUSPECTS]
    # held-out images are train's in the catalog; ids are unique within a split of it only
    sources = {row["split"]: row["split"].replace("holdout", "train") for row in shown}
    names: dict[str, dict[int, str]] = {}
    for split, source in sources.items():
        images = catalog.split(source)
        names[split] = dict(zip(images.image_ids.tolist(), images.file_names, strict=True))
    return [{**row, "file_name": names[row["split"]][row["image_id"]]} for row in shown]
