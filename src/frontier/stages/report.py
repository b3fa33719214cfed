"""One self-contained page, a model card and figures, from what the other stages wrote."""

from collections.abc import Sequence
from pathlib import Path

from frontier import tracking
from frontier.data.catalog import Catalog
from frontier.data.drawing import jpeg
from frontier.data.verdict import plots
from frontier.files import atomic_write
from frontier.params import Report, Run, Search, Section, Target
from frontier.report import card, figures, page, stills
from frontier.report.dataset import Histogram, histograms, suspect_rows
from frontier.report.examples import Example, example_sheet, examples, read_detections
from frontier.report.results import FOLDERS, Results, gather, taken
from frontier.stages import Inputs


class Params(Section):
    run: Run
    search: Search
    report: Report
    searched: list[str]
    targets: dict[str, Target]


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    names = (*FOLDERS, "hardware.json")
    results = gather({name: inputs.path(name) for name in names}, params.searched, params.targets)
    catalog = Catalog.load(inputs.path("ingest/catalog"), inputs.path("validate/judged"))
    for table in ("images", "boxes"):
        results.sources.path(f"ingest/catalog/{table}.parquet")
    shown = _examples(results, catalog, params.report.examples)
    sizes = histograms(catalog, page.input_side(results))
    model_card = card.render(results)
    atomic_write(out / "model_card.md", model_card)
    html = page.render(
        results,
        examples=shown,
        sizes=sizes,
        suspects=suspect_rows(results.suspects or [], catalog),
        card=model_card,
        parameters=params.model_dump(mode="json"),
    )
    atomic_write(out / "index.html", html)
    for path in (out / "index.html", out / "model_card.md"):
        tracking.log_artifact(path, "report")
    for path in _draw(results, sizes, shown, out / "figures"):
        tracking.log_artifact(path, "figures")
    return {
        "frontier_points": results.frontier_points,
        "targets_measured": len(results.measured),
        "targets_built_not_run": sum(t.status == "built-not-run" for t in results.targets),
        "targets_not_built": sum(t.status == "not-built" for t in results.targets),
        "examples": len(shown),
    }


def _examples(results: Results, catalog: Catalog, amount: int) -> list[Example]:
    """Of the first measured target; none where no target was run, or by an older `evaluate`."""
    target = results.measured[0] if results.measured else None
    if target is None or target.curves is None or not amount:
        return []
    table = results.sources.path(f"evaluate/{target.name}/detections.parquet")
    return examples(
        catalog.split("test"),
        read_detections(table),
        target.curves["classes"],
        target.curves["score_threshold"],
        amount,
    )


def _draw(
    results: Results, sizes: Sequence[Histogram], shown: Sequence[Example], folder: Path
) -> list[Path]:
    """The still figures; further searched or measured targets carry their name."""
    drawn: list[Path | None] = []
    for index, (name, search) in enumerate(results.searches.items()):
        suffix = f"-{name}" if index else ""
        title = f"{results.catalog['name']}: accuracy against measured latency, {name}"
        if not taken(search):
            drawn.append(figures.frontier(search, title, folder / f"frontier{suffix}.png"))
        drawn.append(figures.postmortem(search, folder / f"postmortem{suffix}.png"))
    for index, target in enumerate(results.measured):
        suffix = f"-{target.name}" if index else ""
        drawn.append(figures.per_class(target, folder / f"per_class{suffix}.png"))
        drawn.append(stills.per_size(target, folder / f"per_size{suffix}.png"))
        drawn.append(stills.precision_recall(target, folder / f"precision_recall{suffix}.png"))
        drawn.append(stills.confusion(target, folder / f"confusion{suffix}.png"))
    drawn.append(plots.classes(results.verdict["classes"], folder / "labels.png"))
    drawn.append(stills.sizes(sizes, folder / "box_sizes.png"))
    if shown:
        path = folder / "examples.jpg"
        atomic_write(path, jpeg(example_sheet(shown)))
        drawn.append(path)
    return [path for path in drawn if path is not None]
