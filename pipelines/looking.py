"""Commands that change nothing: what is up to date, and what a detector sees."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frontier.errors import Busy, DataError, UsageError, nearest
from frontier.files import lock
from frontier.params import load_params
from pipelines import launch, repro
from pipelines.graph import Graph, read_graph, stale
from pipelines.summary import made_by

COLOURS = ((230, 60, 60), (40, 130, 230), (40, 170, 90), (240, 150, 20), (150, 80, 210))


def status(root: Path, console: Console) -> None:
    """One line per stage: up to date or why it would run, and the MLflow run that made it."""
    graph = current_graph(root)
    would_run = stale(graph)
    table = Table("stage", "state", "made by MLflow run")
    for name, node in graph.items():
        state = "up to date"
        if name in would_run:
            state = ", ".join(node.reasons) or f"would run after {', '.join(node.upstream)}"
        table.add_row(name, state, made_by(root, name) or "-")
    console.print(table)
    console.print(f"{len(would_run)} of {len(graph)} stages would run", highlight=False)


def current_graph(root: Path) -> Graph:
    """The graph against data and device as they are now; nothing is left changed.

    While a run holds the checkout, its own description of both stands: DVC is reading it.
    """
    params = load_params(root / "params.yaml")
    try:
        with lock(launch.run_lock(root), wait_s=0.0), launch.kept(root, always=True):
            launch.write_described(launch.describe(root, params))
            repro.prepare(root)
            return read_graph(root)
    except Busy:
        return read_graph(root)


def predict(
    root: Path, images: Sequence[Path], output: Path, target: str | None, min_score: float
) -> None:
    """Write each image with its detections drawn, and print them.

    Raises:
        UsageError: no such target or image, or nothing was exported yet.
        DataError: images that cannot be read, once all others are done.
    """
    from frontier.images import ImageError, read_image
    from frontier.runtime.predictor import Predictor

    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise UsageError("\n".join(f"{path}: no such image" for path in missing))
    params = load_params(root / "params.yaml")
    name = target or params.searched[0]
    if name not in params.targets:
        raise UsageError(f"--target {name}: no such target; {nearest(name, [*params.targets])}")
    bundle = root / "data" / "export" / name / "bundle"
    if not bundle.is_dir():
        raise UsageError(f"{bundle}: nothing exported yet; run `frontier run` first")
    predictor = Predictor(bundle, params.run.threads)
    output.mkdir(parents=True, exist_ok=True)
    unreadable = []
    for path, drawn in zip(images, _drawn_paths(images, output), strict=True):
        try:
            pixels = read_image(path)
        except ImageError as error:
            unreadable.append(f"{path}: {error}")
            continue
        found = predictor(pixels)
        rows = [row for row in zip(*found, strict=True) if row[1] >= min_score]
        _draw(pixels, rows, predictor.classes).save(drawn)
        print(f"{path}: {len(rows)} detections -> {drawn}")
        for box, score, label in rows:
            corners = " ".join(f"{value:.0f}" for value in box)
            print(f"  {predictor.classes[label]} {score:.2f}  [{corners}]")
    if unreadable:
        raise DataError(f"{len(unreadable)} of {len(images)} images cannot be read", unreadable)


def _drawn_paths(images: Sequence[Path], output: Path) -> list[Path]:
    """One file per image, in order; those of the same name are numbered."""
    names: dict[str, None] = {}
    for path in images:
        tries = itertools.chain([path.stem], (f"{path.stem}-{n}" for n in itertools.count(2)))
        names[next(name for name in tries if name not in names)] = None
    return [output / f"{name}.png" for name in names]


def _draw(pixels: Any, rows: Sequence[Any], classes: Sequence[str]) -> Any:
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(image)
    for box, score, label in rows:
        colour = COLOURS[label % len(COLOURS)]
        corners = [float(value) for value in box]
        canvas.rectangle(corners, outline=colour, width=max(1, min(image.size) // 200))
        canvas.text((corners[0] + 2, corners[1] + 1), f"{classes[label]} {score:.2f}", fill=colour)
    return image


def export_data(root: Path, console: Console, folder: Path, form: str) -> None:
    """Write the dataset in another format, as the last verdict left it.

    Raises:
        UsageError: an unknown format, a folder that holds something, or no verdict yet.
    """
    from frontier.data.catalog import Catalog
    from frontier.data.exports.exporting import FORMS, export

    if form not in FORMS:
        raise UsageError(f"{form}: no such format; {nearest(form, [*FORMS])}")
    catalog, judged = root / "data" / "ingest" / "catalog", root / "data" / "validate" / "judged"
    if not judged.is_dir():
        raise UsageError(f"{judged}: no verdict yet; run `frontier run --only validate` first")
    counts = export(Catalog.load(catalog, judged), folder, form)
    left_out = f", {counts['left_out']} left out: {form} cannot say `ignore`"
    console.print(
        f"{counts['images']} images and {counts['boxes']} boxes in {folder}"
        + (left_out if counts["left_out"] else ""),
        highlight=False,
    )
