"""One self-contained page, a model card and figures, from what the other stages wrote."""

from pathlib import Path

from frontier import tracking
from frontier.files import atomic_write
from frontier.params import Report, Run, Search, Section, Target
from frontier.report import card, figures, page
from frontier.report.examples import Example, examples, test_scenes
from frontier.report.results import FOLDERS, Results, gather
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
    shown: list[Example] = []
    threshold = None
    if results.measured and params.report.examples:
        detections = f"evaluate/{results.measured[0].name}/detections.parquet"
        scenes = test_scenes(
            inputs.path("ingest/catalog"),
            results.sources.path("validate/verdict.json"),
            results.sources.path(detections),
        )
        names_of_classes = [entry["name"] for entry in results.catalog["classes"]]
        shown, threshold = examples(scenes, names_of_classes, params.report.examples)
    model_card = card.render(results)
    atomic_write(out / "model_card.md", model_card)
    html = page.render(
        results,
        examples=shown,
        threshold=threshold,
        card=model_card,
        parameters=params.model_dump(mode="json"),
    )
    atomic_write(out / "index.html", html)
    for path in (out / "index.html", out / "model_card.md"):
        tracking.log_artifact(path, "report")
    for path in _draw(results, out / "figures"):
        tracking.log_artifact(path, "figures")
    return {
        "frontier_points": results.frontier_points,
        "targets_measured": len(results.measured),
        "targets_built_not_run": sum(t.status == "built-not-run" for t in results.targets),
        "targets_not_built": sum(t.status == "not-built" for t in results.targets),
        "examples": len(shown),
    }


def _draw(results: Results, folder: Path) -> list[Path]:
    """The still figures; further searched or measured targets carry their name."""
    drawn: list[Path | None] = []
    for index, (name, search) in enumerate(results.searches.items()):
        suffix = f"-{name}" if index else ""
        title = f"{results.catalog['name']}: accuracy against measured latency, {name}"
        drawn.append(figures.frontier(search, title, folder / f"frontier{suffix}.png"))
        drawn.append(figures.postmortem(search, folder / f"postmortem{suffix}.png"))
    for index, target in enumerate(results.measured):
        suffix = f"-{target.name}" if index else ""
        drawn.append(figures.per_class(target, folder / f"per_class{suffix}.png"))
    return [path for path in drawn if path is not None]
