"""Everything the report tells, read once from the stages' outputs; each file is a named source."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frontier import files
from frontier.params import Target
from frontier.report.words import number

# the declared inputs of the report, as they are named below data/
FOLDERS = (
    "ingest/catalog",
    "validate",
    "pretrain",
    "teacher",
    "pseudo_label",
    "supernet",
    "search",
    "compare",
    "distill",
    "quantize",
    "export",
    "evaluate",
)
CARD_PICTURES = ("box_sizes.png", "offenders.jpg")
OUTCOMES = {"measured": "measured", "built-not-run": "built, not run", "not-built": "not built"}
Table = dict[str, list[float | None]]


@dataclass(frozen=True)
class Source:
    """A file that numbers of the page come from; `anchor` is its place on the page."""

    stage: str
    file: str
    sha256: str
    anchor: str


class Sources:
    """Reads files below the inputs and remembers each with the SHA-256 of the bytes read."""

    def __init__(self, inputs: Mapping[str, Path]) -> None:
        self._inputs = inputs
        self.read: dict[str, Source] = {}

    def path(self, name: str) -> Path:
        """The file `name` ("evaluate/<target>/evaluate.json"), recorded as a source."""
        path = self._resolve(name)
        if name not in self.read:
            stage = name.split("/")[0] if "/" in name else "flow"
            anchor = f"source-{len(self.read) + 1}"
            self.read[name] = Source(stage, f"data/{name}", files.sha256(path), anchor)
        return path

    def json(self, name: str) -> Any:
        return files.read_json(self.path(name))

    def json_or_none(self, name: str) -> Any:
        """For files that a stage writes only where it had something to say."""
        return self.json(name) if self._exists(name) else None

    def path_or_none(self, name: str) -> Path | None:
        """For files that a stage writes only where it had something to show."""
        return self.path(name) if self._exists(name) else None

    def history(self, name: str) -> Table:
        """The columns of a training's `history.csv`, none where nothing was trained."""
        return read_table(self.path(name)) if self._exists(name) else {}

    def _exists(self, name: str) -> bool:
        return self._resolve(name).is_file()

    def _resolve(self, name: str) -> Path:
        folder = next(key for key in self._inputs if name == key or name.startswith(f"{key}/"))
        return self._inputs[folder] / name.removeprefix(folder).lstrip("/")


def read_table(path: Path) -> Table:
    """Columns of a CSV file of numbers; an empty cell is None."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else []
    return {
        name: [number(float(row[name])) if row[name] else None for row in rows] for name in names
    }


@dataclass(frozen=True)
class TargetResult:
    """What one target came to: the search it took its student from, and its own three stages."""

    name: str
    target: Target
    search: Mapping[str, Any]
    plan: Mapping[str, Any]
    export: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    bundle: Mapping[str, Any]
    curves: Mapping[str, Any] | None

    @property
    def measured(self) -> bool:
        """Both timed and scored in its own runtime; anything less is never called a result."""
        return bool(self.export["status"] == self.evaluate["status"] == "measured")

    @property
    def status(self) -> str:
        """measured | built-not-run | not-built"""
        return "measured" if self.measured else str(self.evaluate["status"])

    @property
    def outcome(self) -> str:
        """The status in words."""
        return OUTCOMES[self.status]

    @property
    def reason(self) -> str:
        """Why it was not measured; empty where it was."""
        return str(self.evaluate["reason"] or self.export["reason"] or "")

    @property
    def latency(self) -> Mapping[str, Any]:
        return self.export.get("latency") or {}

    @property
    def precision(self) -> str:
        """How the shipped network computes, in words."""
        return "float32" if self.plan["answer"] == "float" else "hybrid INT8"


@dataclass(frozen=True)
class Results:
    """All of a run, as the report needs it.

    Attributes:
        searches: `search.json` per searched target.
        comparison: what their frontiers lose on each other's device.
        histories: columns of `history.csv` per training ("teacher", "distill/<target>", ...),
            none where nothing was trained.
        suspects: labels that the teacher doubts, None where it was not asked.
        suspects_picture: the first of them, None where there is none.
        pseudo_examples: pictures with pseudo-labels, None where there is none.
        batches: the sheet of training images per student, None where there is none.
        dataset_pictures: `box_sizes.png` and `offenders.jpg` of the dataset card, None where it
            has none.
    """

    catalog: Mapping[str, Any]
    verdict: Mapping[str, Any]
    hardware: Mapping[str, Any]
    audit: Mapping[str, Any]
    teacher: Mapping[str, Any]
    suspects: Sequence[Mapping[str, Any]] | None
    suspects_picture: Path | None
    pseudo_examples: Path | None
    searches: Mapping[str, Mapping[str, Any]]
    comparison: Mapping[str, Any]
    targets: Sequence[TargetResult]
    histories: Mapping[str, Table]
    batches: Mapping[str, Path | None]
    dataset_pictures: Mapping[str, Path | None]
    sources: Sources = field(repr=False)

    @property
    def measured(self) -> list[TargetResult]:
        return [target for target in self.targets if target.measured]

    @property
    def frontier_points(self) -> int:
        return sum(point["on_frontier"] for s in self.searches.values() for point in s["timed"])


def recommended(search: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The timed point that the search recommends; None where it recommends none."""
    return next((point for point in search["timed"] if point["recommended"]), None)


def taken(search: Mapping[str, Any]) -> bool:
    """Whether `architecture` was given, and so nothing searched: no point has an AP."""
    return bool(search.get("taken"))


def baseline(search: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((point for point in search["timed"] if point["name"] == "baseline"), None)


def named(search: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The points a reader looks for, by label; one where the search recommends its baseline."""
    start, answer = baseline(search), recommended(search)
    if answer is not None and answer is start:
        return [("recommended, the baseline", answer)]
    pairs = (("baseline", start), ("recommended", answer))
    return [(label, point) for label, point in pairs if point is not None]


def gather(
    inputs: Mapping[str, Path], searched: Sequence[str], targets: Mapping[str, Target]
) -> Results:
    """Read a run.

    Args:
        inputs: the folder of each name in `FOLDERS`, and the file "hardware.json".
    """
    sources = Sources(inputs)
    students = [f"distill/{name}" for name in searched]
    trainings = ["pretrain", "teacher", "supernet", *students]
    # read in the order of the pipeline, which is the order of the page's list of sources
    hardware = sources.json("hardware.json")
    catalog = sources.json("ingest/catalog/catalog.json")
    verdict = sources.json("validate/judged/verdict.json")
    pictures = {name: sources.path_or_none(f"validate/card/{name}") for name in CARD_PICTURES}
    quality = sources.json_or_none("teacher/quality.json") or {}
    suspects = sources.json_or_none("teacher/suspects.json")
    suspects_picture = sources.path_or_none("teacher/suspects.jpg")
    audit = sources.json("pseudo_label/audit.json")
    pseudo_examples = sources.path_or_none("pseudo_label/examples.jpg")
    histories = {name: sources.history(f"{name}/history.csv") for name in trainings}
    batches = {name: sources.path_or_none(f"{name}/batches.jpg") for name in students}
    searches = {name: sources.json(f"search/{name}/search.json") for name in searched}
    comparison = sources.json("compare/compare.json")
    return Results(
        catalog=catalog,
        verdict=verdict,
        hardware=hardware,
        audit=audit,
        teacher=quality,
        suspects=suspects,
        suspects_picture=suspects_picture,
        pseudo_examples=pseudo_examples,
        searches=searches,
        comparison=comparison,
        targets=[
            _target(sources, name, target, searches[target.like])
            for name, target in targets.items()
        ],
        histories=histories,
        batches=batches,
        dataset_pictures=pictures,
        sources=sources,
    )


def _target(sources: Sources, name: str, target: Target, search: Mapping[str, Any]) -> TargetResult:
    return TargetResult(
        name,
        target,
        search,
        sources.json(f"quantize/{name}/plan.json"),
        sources.json(f"export/{name}/export.json"),
        sources.json(f"evaluate/{name}/evaluate.json"),
        sources.json_or_none(f"export/{name}/bundle/detector.json") or {},
        sources.json_or_none(f"evaluate/{name}/curves.json"),
    )
