"""The page: one HTML file with its style, script, charts and pictures inside."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from frontier.errors import UsageError
from frontier.models.architecture import STAGE_NAMES, Architecture
from frontier.report import accuracy, charts, dataset, training, words
from frontier.report.examples import Example
from frontier.report.results import Results, TargetResult, baseline, recommended, taken

HERE = Path(__file__).parent


def environment(*, autoescape: bool) -> jinja2.Environment:
    """Templates of this folder. Absent values are allowed: the filters write them as a dash."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=autoescape,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("ap", "ms", "signed", "interval", "percent", "size", "count", "times", "sentence"):
        made.filters[name] = getattr(words, name)
    made.tests["known"] = lambda value: words.number(value) is not None
    made.globals.update(
        ratio=words.ratio,
        plural=words.plural,
        share=charts.share,
        recommended=recommended,
        baseline=baseline,
        limits=limits,
        speedup=speedup,
        stages=stages,
        last=training.last,
        size_rows=accuracy.sizes,
        precision_recall=accuracy.precision_recall,
        confusion=accuracy.confusion,
        outcome=accuracy.outcome,
        drawn=accuracy.MAX_CLASSES,
    )
    return made


def render(
    results: Results,
    *,
    examples: Sequence[Example],
    sizes: Sequence[dataset.Histogram],
    suspects: Sequence[Mapping[str, Any]],
    card: str,
    parameters: Mapping[str, Any],
) -> str:
    """The whole page.

    Args:
        examples: of the first measured target.
        sizes: of the dataset's boxes.
        suspects: the first labels that the teacher doubts, with file names.
        card: the model card, markdown.
        parameters: the sections of `params.yaml` that the report reads.
    """
    return (
        environment(autoescape=True)
        .get_template("page.html")
        .render(
            results=results,
            sources=results.sources.read,
            device=device_name(results.hardware),
            examples=examples,
            card=_markdown(card),
            parameters=flatten(parameters),
            hardware=flatten(results.hardware),
            frontiers={
                name: charts.frontier(search)
                for name, search in results.searches.items()
                if not taken(search)
            },
            drifts={name: charts.drift(s) for name, s in results.searches.items()},
            waterfalls={name: charts.waterfall(s) for name, s in results.searches.items()},
            trainings={name: training.chart(table) for name, table in results.histories.items()},
            batches={name: _inlined(path) for name, path in results.batches.items()},
            suspects=suspects,
            suspects_picture=_inlined(results.suspects_picture),
            pseudo_examples=_inlined(results.pseudo_examples),
            pictures={name: _inlined(path) for name, path in results.dataset_pictures.items()},
            labels=dataset.labels_chart(results.verdict["classes"]),
            sizes=[dataset.sizes_chart(histogram) for histogram in sizes],
            plotly=plotly_script(),
            style=(HERE / "page.css").read_text(),
            script=(HERE / "page.js").read_text(),
        )
    )


def plotly_script() -> str:
    """The charting library, to be written into the page: it must work without a network."""
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text()


def device_name(hardware: Mapping[str, Any]) -> str:
    """What to call the measured device, without the trade marks."""
    return re.sub(r"\((R|TM)\)", "", str(hardware["device"]))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys, in their own order."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def limits(target: TargetResult) -> list[dict[str, Any]]:
    """Each limit of the search with what was shipped; `met` is None where there is no limit."""
    asked = target.search["limits"]
    latency = (target.latency.get("int8") or {}).get("p50_ms")
    accuracy = target.evaluate.get("AP")
    rows = [
        ("median latency", "at most", "ms", asked["max_latency_ms"], latency, -1),
        ("AP", "at least", "ap", asked["min_ap"], accuracy, 1),
        *_footprint_limits(target),
    ]
    return [
        {
            "name": name,
            "bound": bound,
            "unit": unit,
            "limit": limit,
            "shipped": shipped,
            "met": None if limit is None or shipped is None else sign * (shipped - limit) >= 0,
        }
        for name, bound, unit, limit, shipped, sign in rows
    ]


def _footprint_limits(target: TargetResult) -> list[tuple[str, str, str, Any, Any, int]]:
    """Limits on size and memory where they are set: of the network as it was searched."""
    found = recommended(target.search) or {}
    rows = (("size of the INT8 network", "size_mb"), ("peak memory", "memory_mb"))
    asked = {key: target.search["limits"][f"max_{key}"] for _, key in rows}
    return [
        (name, "at most", "MB", asked[key], found.get(key), -1)
        for name, key in rows
        if asked[key] is not None
    ]


def speedup(target: TargetResult) -> float | None:
    """Float latency over the shipped model's, both measured in the same runtime."""
    found = target.latency
    return words.ratio(
        (found.get("float") or {}).get("p50_ms"), (found.get("int8") or {}).get("p50_ms")
    )


def stages(code: str) -> list[dict[str, Any]]:
    """What a code says, stage by stage; empty if it is no code of this search space."""
    try:
        architecture = Architecture.parse(code)
    except UsageError:
        return []
    blocks = {"q": "QARepVGG", "d": "depthwise"}
    return [
        {
            "name": name,
            "block": blocks[stage.block],
            "depth": stage.depth,
            "channels": architecture.hidden(index),
            "concat": stage.concat,
        }
        for index, (name, stage) in enumerate(zip(STAGE_NAMES, architecture.stages, strict=True))
    ]


def input_side(results: Results) -> int | None:
    """Of the first student's square input, pixels; None where no architecture was found."""
    answer = recommended(next(iter(results.searches.values())))
    return Architecture.parse(answer["architecture"]).image_side if answer else None


def _inlined(path: Path | None) -> str | None:
    """A picture's file in base64."""
    return base64.b64encode(path.read_bytes()).decode() if path else None


def _markdown(text: str) -> str:
    """Markdown to HTML without raw HTML, links or images: class names in it are not trusted."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    html: str = parser.disable(["link", "image", "autolink", "reference"]).render(text)
    return html
