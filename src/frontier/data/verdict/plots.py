"""A dataset as still figures, and the look that all still figures share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from frontier.data.formats import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, LINE, WASH = "#1b1f24", "#6b7280", "#e3e5e8", "#f3f3ef"
INT8, FLOAT, ACCENT, GOOD = "#1f5fa8", "#8b929c", "#b4451f", "#2f7d4f"
SPLIT_COLORS = {"train": INT8, "val": ACCENT, "test": FLOAT}
# no software version in the file: equal numbers give equal bytes
METADATA = {"Software": None}

MAX_CLASSES = 30  # bars of a chart; the table has all
NAME_LENGTH = 40
TICKS = 4  # bins between two ticks of a size map: two octaves


def new(width: float, height: float) -> "Figure":
    """An empty figure, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=160, layout="constrained")


def axes_of(axes: "Axes") -> "Axes":
    """The axes in the look that all figures share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def save(figure: "Figure", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=METADATA, facecolor="white")
    return path


def plain(name: str) -> str:
    """The user's text as text, on one line of bounded length: a dollar sign in it is no formula."""
    line = " ".join(name.split())
    short = line if len(line) <= NAME_LENGTH else f"{line[: NAME_LENGTH - 1]}…"
    return short.replace("$", r"\$")


def bars(
    axes: "Axes", names: Sequence[str], series: Sequence[tuple[str, str, Sequence[Any]]]
) -> None:
    """Horizontal bars, a group per name and a colour per series, the first on top."""
    places = np.arange(len(names))
    height = 0.8 / len(series)
    for index, (label, color, values) in enumerate(series):
        offset = (index - (len(series) - 1) / 2) * height
        lengths = [value or 0.0 for value in values]
        axes.barh(places + offset, lengths, height=0.9 * height, color=color, label=label)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def class_rows(classes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Boxes per class and split, most in train first; what goes beyond the chart is added up."""
    rows = sorted(classes, key=lambda row: -row["train"])
    shown = [{key: row[key] for key in ("name", *SPLITS)} for row in rows[:MAX_CLASSES]]
    if rest := rows[MAX_CLASSES:]:
        name = f"{len(rest):,} other {'class' if len(rest) == 1 else 'classes'}"
        shown.append({"name": name, **{key: sum(row[key] for row in rest) for key in SPLITS}})
    return shown


def classes(counts: Sequence[Mapping[str, Any]], path: Path) -> Path | None:
    """Boxes per class and split; None without classes.

    Args:
        counts: `name` and the boxes of each split, a row per class.
    """
    rows = class_rows(counts)
    if not rows:
        return None
    figure = new(8, 1.2 + 0.42 * len(rows))
    axes = axes_of(figure.add_subplot())
    names = [plain(row["name"]) for row in rows]
    bars(axes, names, [(s, SPLIT_COLORS[s], [row[s] for row in rows]) for s in SPLITS])
    axes.set_xlim(left=0, right=None if any(row[s] for row in rows for s in SPLITS) else 1)
    axes.set_xlabel("boxes", color=INK)
    axes.set_title("Boxes per class and split", loc="left", fontsize=11, color=INK)
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def box_sizes(sizes: Mapping[str, Any], path: Path) -> Path | None:
    """A map of widths and heights per split, one scale for all; None where there is no box.

    Args:
        sizes: boxes by half octaves of width and height, `[BINS, BINS]` by split; see
            `judged.size_map`.
    """
    from matplotlib.colors import LogNorm

    maps = {split: np.asarray(sizes[split]) for split in SPLITS}
    peak = max(int(counts.max()) for counts in maps.values())
    if not peak:
        return None
    figure = new(10.5, 3.6)
    # between 1 and 2 even where every box has a size of its own: a scale needs two ends
    scale = LogNorm(1, max(peak, 2))
    panels = figure.subplots(1, len(maps), sharey=True)
    for axes, (split, counts) in zip(panels, maps.items(), strict=True):
        _size_map(axes, split, counts, scale)
    panels[0].set_ylabel("box height, % of the image's", color=INK)
    ticks = [step * 10**power for power in range(10) for step in (1, 3)]
    ticks = [tick for tick in ticks if tick <= scale.vmax]
    bar = figure.colorbar(panels[-1].images[0], ax=panels, pad=0.02, ticks=ticks, format="{x:,.0f}")
    bar.set_label("boxes", color=INK)
    bar.minorticks_off()
    bar.ax.tick_params(colors=INK, labelsize=9)
    return save(figure, path)


def _size_map(axes: "Axes", split: str, counts: Any, scale: Any) -> None:
    bins = len(counts)
    seen = np.ma.masked_equal(counts.T, 0)
    axes.imshow(seen, cmap="viridis_r", norm=scale, origin="lower", aspect="equal")
    axes.set_facecolor(WASH)
    edges = np.arange(0, bins + 1, TICKS)
    # the first bin holds whatever is smaller too, so it begins at 0
    names = ["0", *(f"{share:.2g}" for share in 100 * 2 ** ((edges[1:] - bins) / 2))]
    axes.set_xticks(edges - 0.5, [*names[:-1], "100"])
    axes.set_yticks(edges - 0.5, [*names[:-1], "100"])
    axes.tick_params(colors=INK, labelsize=9)
    axes.spines[:].set_color(FAINT)
    axes.set_xlabel("box width, % of the image's", color=INK)
    amount = f"{counts.sum():,} {'box' if counts.sum() == 1 else 'boxes'}"
    axes.set_title(f"{split}, {amount}", loc="left", fontsize=11, color=INK)
