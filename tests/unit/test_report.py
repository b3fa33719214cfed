"""The report: one page that tells everything, survives what is missing, and trusts no text."""

import html
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from frontier import files
from frontier.data.catalog import CatalogSplit
from frontier.data.verdict import plots
from frontier.matching import Judgement
from frontier.report import accuracy, charts, dataset, training, words
from frontier.report.examples import pick
from frontier.report.results import FOLDERS
from frontier.stages import Inputs, declaration
from frontier.stages.report import Params, run
from tests.fake_run import BASE, CLASSES, PROJECT, write_run


def make_report(root: Path, **variant: Any) -> tuple[Path, dict[str, float]]:
    """Write a made-up run, report on it, return the page's folder and the metrics."""
    values = write_run(root, **variant).model_dump(mode="json")
    params = Params.model_validate({name: values[name] for name in Params.model_fields})
    deps = tuple(f"data/{name}" for name in (*FOLDERS, "hardware.json"))
    out = root / "data" / "report" / "page"
    out.mkdir(parents=True)
    return out, run(params, Inputs(root, deps, None, root / ".work"), out)


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style)\b[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


def visible_text(page: str) -> str:
    text = re.sub(r"<[^>]+>", " ", without_scripts(page))
    return " ".join(html.unescape(text).replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    return make_report(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(report: tuple[Path, dict[str, float]]) -> str:
    return (report[0] / "index.html").read_text()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For variants of which only the text is read: the figures are most of a report's cost."""
    monkeypatch.setattr("frontier.stages.report._draw", lambda *_: [])


def test_metrics_count_what_is_shown(report: tuple[Path, dict[str, float]]) -> None:
    assert report[1] == {
        "frontier_points": 8,
        "targets_measured": 1,
        "targets_built_not_run": 1,
        "targets_not_built": 0,
        "examples": 12,
    }


def test_headline_numbers_are_the_exported_artifacts(page: str) -> None:
    text = visible_text(page)
    assert "AP 0.441 on the test split in 2.02 ms, 1.8× the speed of its float form" in text
    assert "0.415–0.468" in text
    assert "1.96–2.12" in text


def test_page_needs_nothing_from_outside(page: str) -> None:
    """Links and pictures stay inside the file, and its policy forbids loading anything else."""
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', without_scripts(page))
    assert addresses
    inside = ("#", "data:image/jpeg;base64,", "data:image/png;base64,")
    assert all(a.startswith(inside) for a in addresses)
    assert "default-src 'none'" in page
    assert "url(" not in page[: page.index("<body>")]


def test_class_names_are_text_never_markup(
    report: tuple[Path, dict[str, float]], page: str
) -> None:
    assert "<script>alert" not in page
    assert "<b>3.png" not in page
    for name in CLASSES:
        assert page.count(str(escape(name))) >= 3
    assert "\n| \\<script\\>" in (report[0] / "model_card.md").read_text()


def test_every_element_is_closed(page: str) -> None:
    open_elements: list[str] = []
    void = {"meta", "link", "br", "img", "rect", "image", "use", "hr"}

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                open_elements.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in void:
                assert open_elements.pop() == tag

    Checker().feed(page)
    assert open_elements == []


def test_anchors_lead_somewhere_and_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', without_scripts(page))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', without_scripts(page))) <= set(ids)


def test_provenance_names_each_file_with_its_hash(
    report: tuple[Path, dict[str, float]], page: str
) -> None:
    data = report[0].parents[1]
    listed = re.findall(
        r'<code class="nowrap">(data/[^<]+)</code></td><td><code class="nowrap">([0-9a-f]{64})',
        page,
    )
    assert {name for name, _ in listed} >= {
        "data/search/onnxruntime-cpu/search.json",
        "data/evaluate/onnxruntime-cpu/evaluate.json",
        "data/evaluate/onnxruntime-cpu/detections.parquet",
        "data/evaluate/onnxruntime-cpu/curves.json",
        "data/distill/onnxruntime-cpu/batches.jpg",
        "data/teacher/suspects.json",
        "data/teacher/suspects.jpg",
        "data/ingest/catalog/boxes.parquet",
        "data/pretrain/history.csv",
        "data/export/onnxruntime-cpu/export.json",
        "data/validate/judged/verdict.json",
        "data/validate/card/box_sizes.png",
        "data/validate/card/offenders.jpg",
        "data/hardware.json",
    }
    for name, digest in listed:
        assert files.sha256(data.parent / name) == digest


def test_expectations_to_look_at_come_first(page: str) -> None:
    text = visible_text(page)
    order = ("boxes-inside-image", "look-alikes", "2 expectations met without", "known-categories")
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "The dataset card, data/validate/card/index.html , has more" in text


def test_a_target_that_was_not_run_is_never_called_measured(page: str) -> None:
    text = visible_text(page)
    assert "tensorrt: built, not run. No NVIDIA GPU here" in text
    assert "No accuracy and no latency is claimed for it." in text
    assert page.count('<span class="good">measured</span>') == 1


@pytest.mark.usefixtures("no_figures")
def test_a_target_without_its_builder_is_called_not_built(tmp_path: Path) -> None:
    out, metrics = make_report(tmp_path, unmeasured="not-built")
    assert (metrics["targets_built_not_run"], metrics["targets_not_built"]) == (0, 1)
    assert "tensorrt: not built. No NVIDIA GPU" in visible_text((out / "index.html").read_text())
    assert "| tensorrt | not built |" in (out / "model_card.md").read_text()


def test_an_evaluation_without_curves_is_said_to_have_none(tmp_path: Path) -> None:
    """As an older one, which `frontier run --only report` meets."""
    out, metrics = make_report(tmp_path, curves=False)
    text = visible_text((out / "index.html").read_text())
    assert "this evaluation left no curves.json . Run evaluate again." in text
    assert "No examples: the evaluation left no curves.json" in text
    assert metrics["examples"] == 0
    assert not (out / "figures" / "confusion.png").exists()


def test_the_plan_says_on_how_much_it_rests(page: str) -> None:
    text = visible_text(page)
    assert "every group alone, on 16 validation images" in text
    assert "1 whole plan and the 2 groups of largest error alone, on 64 images" in text
    assert "timed on a packed validation image of 192 × 144 pixels" in text
    assert "resizes itself, it is at most 0.0004" in text


def test_absent_classes_have_no_number(page: str) -> None:
    assert "absent from the test split" in page
    assert "nan" not in visible_text(page).lower().split()
    for text in re.findall(r"<script[^>]*data-chart[^>]*>(.*?)</script>", page, re.DOTALL):
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in a chart"))


def test_frontier_chart_holds_both_precisions_and_intervals(page: str) -> None:
    chart = next(re.finditer(r'data-chart="chart-frontier-1">(.*?)</script>', page, re.DOTALL))
    figure = json.loads(chart[1])
    by_name = {trace.get("name"): trace for trace in figure["data"]}
    assert {"float32", "frontier", "recommended", "baseline"} <= set(by_name)
    int8 = by_name["INT8, the precision that ships"]
    assert len(int8["x"]) == 12
    assert min(int8["error_x"]["array"] + int8["error_x"]["arrayminus"]) > 0
    assert "q2x32" in int8["text"][0]
    edge = by_name["frontier"]
    assert edge["x"] == sorted(edge["x"])
    assert edge["y"] == sorted(edge["y"])


def test_same_run_gives_same_bytes(report: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    again, _ = make_report(tmp_path)
    names = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [str(name) for name in names] == [
        "figures/box_sizes.png",
        "figures/confusion.png",
        "figures/examples.jpg",
        "figures/frontier.png",
        "figures/labels.png",
        "figures/per_class.png",
        "figures/per_size.png",
        "figures/postmortem.png",
        "figures/precision_recall.png",
        "index.html",
        "model_card.md",
    ]
    for name in names:
        assert (again / name).read_bytes() == (report[0] / name).read_bytes(), name


def test_everything_that_may_be_missing_at_once(tmp_path: Path) -> None:
    out, metrics = make_report(
        tmp_path,
        pseudo="skipped",
        feasible=False,
        measured=False,
        trained=False,
        pictured=False,
        max_latency_ms=0.1,
        min_ap=0.9,
    )
    text = visible_text((out / "index.html").read_text())
    assert metrics["targets_measured"] == 0
    assert "No exported model was run" in text
    assert "No recommendation. No architecture runs in 0.10 ms" in text
    assert "Skipped. The dataset has no unlabelled images." in text
    assert "at most 0.10 ms – not measured" in text
    assert not (out / "figures" / "per_class.png").exists()
    assert not (out / "figures" / "postmortem.png").exists()
    assert "No target was run, so there is no accuracy to show." in text
    assert "No examples: no target was run." in text
    assert text.count("No step of it was recorded.") == 4
    assert "No picture of its batches was kept." in text
    assert "Worst offenders" not in text
    assert "No architecture was found, so there is no input to measure sizes at." in text


@pytest.mark.usefixtures("no_figures")
def test_a_taken_architecture_has_no_frontier_and_says_so(tmp_path: Path) -> None:
    folder, metrics = make_report(tmp_path, taken=True)
    text = visible_text((folder / "index.html").read_text())
    assert metrics["frontier_points"] == 0
    assert text.count("Taken, not searched") == 2  # under the heading, and in the model card
    assert "nothing was searched" in text
    assert "The latency estimator that steered" not in text
    assert "Kendall" not in text


@pytest.mark.usefixtures("no_figures")
def test_limits_are_compared_with_what_was_shipped(tmp_path: Path) -> None:
    out, _ = make_report(tmp_path, max_latency_ms=1.5, min_ap=0.4, answer="float")
    text = visible_text((out / "index.html").read_text())
    assert "median latency at most 1.50 ms 2.02 ms not met" in text
    assert "AP at least 0.400 0.441 met" in text
    assert "limit not met. Asked: median latency at most 1.50 ms; shipped: 2.02 ms." in text
    assert "The float model is the answer." in text


def test_waterfall_adds_up() -> None:
    search = {
        "timed": [{"recommended": True, "latency_p50_ms": 2.0, "AP": 0.42}],
        "baseline": {"architecture": BASE, "latency_p50_ms": 3.0, "AP": 0.40},
        "postmortem": [
            {"edit": "a", "delta_ms": -1.5, "delta_AP": 0.01, "text": "a"},
            {"edit": "b", "delta_ms": 0.3, "delta_AP": 0.01, "text": "b"},
        ],
        "postmortem_residual": {"ms": 0.2, "AP": 0.0},
    }
    rows = charts.waterfall(search)
    assert [row["edit"] for row in rows] == ["baseline", "a", "b", "residual", "recommended"]
    ends = [row["left"] + row["width"] for row in rows]
    assert rows[-1]["width"] == pytest.approx(200 / 3)
    assert ends == pytest.approx([100, 100, 60, 200 / 3, 200 / 3])
    search["postmortem_residual"] = {"ms": 1e-9, "AP": 0.0}
    assert "residual" not in [row["edit"] for row in charts.waterfall(search)]


def judged(right: int, false: int) -> Judgement:
    states = np.array(["right"] * right + ["false"] * false)
    return Judgement(states, np.zeros(right + false, int), np.array(["right"] * right))


def test_examples_run_from_worst_to_best() -> None:
    """Worst is the lowest F1, of equals the one with more errors."""
    ranked = [judged(1, 2), judged(9, 0), judged(0, 1), judged(2, 1), judged(1, 0), judged(0, 3)]
    assert pick(ranked, 99) == [5, 2, 0, 3, 4, 1]
    assert pick(ranked, 3) == [5, 0, 1]
    assert pick(ranked, 1) == [5]


def test_the_graph_declares_what_the_report_reads() -> None:
    deps = declaration(PROJECT, "report", None).deps
    data = {dep.removeprefix("data/") for dep in deps if dep.startswith("data/")}
    assert data == {*FOLDERS, "hardware.json"}


def test_a_training_is_drawn_from_the_columns_it_has() -> None:
    """AP stands in few rows, none of which may fall between the points that are drawn."""
    steps = [float(step) for step in range(2000)]
    scores = [0.5 if step % 500 == 499 else None for step in range(2000)]
    table: Any = {"step": steps, "new_loss": steps, "AP": scores, "epoch": steps}
    figure = training.chart(table)
    assert figure is not None
    lines = {line["name"]: line for line in figure["data"]}
    assert {*lines} == {"new loss", "AP"}
    assert lines["AP"]["x"] == [499, 999, 1499, 1999]
    assert lines["AP"]["customdata"] == ["499", "999", "1499", "1999"]
    drawn = lines["new loss"]["x"]
    assert (len(drawn), drawn[0], drawn[-1]) == (300, 0, 1999)
    assert {line["yaxis"] for line in figure["data"]} == {"y", "y2"}
    assert figure["layout"]["xaxis"]["anchor"] == "y2"
    told = training.last({**table, "loss": steps})
    assert told == "1,999 steps, 1999 epochs, loss 0.00 to 1999.00, best AP 0.500, last 0.500"
    assert training.chart({}) is None
    assert training.chart({"step": steps, "loss": [None] * 2000}) is None


def test_the_page_says_what_was_taken_for_what(page: str) -> None:
    text = visible_text(page)
    assert "27 of 33 boxes found (82%), 27 of 32 detections right (84%)" in text
    assert "2 of 11 bolt (18%) were called &lt;script&gt;" in page
    assert "4 of 11 nut (36%) were missed" in page
    assert "3 of 3 detections that hit no box were called washer" in page
    assert "large above 96 px, 0 boxes absent from the test split" in text


def test_many_classes_are_added_up_and_nothing_is_lost() -> None:
    classes, rng = 50, np.random.default_rng(0)
    counts = rng.integers(0, 9, (classes + 1, classes + 1))
    counts[7], counts[:, 7] = 99, 99
    names = [f"c{label}" for label in range(classes)]
    found = accuracy.confusion({"classes": names, "confusion": counts.tolist()})
    assert len(found.names) == accuracy.MAX_CLASSES + 2
    assert "c7" in found.names
    assert found.names[-2:] == ["30 other classes", "background"]
    assert sum(found.totals) == counts.sum()
    assert sum(cell.boxes for cell in found.rows[-1]) == counts[-1].sum()
    rows = [{"name": name, "train": 5, "val": 1, "test": 2} for name in names]
    bars = plots.class_rows(rows)
    assert len(bars) == plots.MAX_CLASSES + 1
    assert sum(row["train"] for row in bars) == 250


def test_box_sizes_are_counted_in_both_units() -> None:
    """Of 4 boxes one is a crowd; an image of 200 x 100 is halved by an input of 100 px."""
    split = CatalogSplit(
        Path(),
        1,
        np.arange(2),
        np.array([[100, 200], [50, 50]]),
        ["a", "b"],
        np.array([0, 3, 4]),
        np.array([[0, 0, 200, 100], [0, 0, 20, 20], [0, 0, 9, 9], [0, 0, 25, 25]], np.float32),
        np.zeros(4, np.int64),
        np.array([False, False, True, False]),
    )
    fake: Any = type("Fake", (), {"splits": ["test"], "split": lambda self, name: split})()
    relative, pixels = dataset.histograms(fake, 100)
    assert dict(zip(relative.bins, relative.counts["test"], strict=True))["10–15"] == 1
    assert dict(zip(relative.bins, relative.counts["test"], strict=True))["50–55"] == 1
    assert dict(zip(relative.bins, relative.counts["test"], strict=True))["95–100"] == 1
    assert dict(zip(pixels.bins, pixels.counts["test"], strict=True))["8–11"] == 1
    assert dict(zip(pixels.bins, pixels.counts["test"], strict=True))["45–64"] == 1
    assert sum(pixels.counts["test"]) == 3
    assert len(dataset.histograms(fake, None)) == 1
    empty = dataset.Histogram("", [], {"test": []})
    assert dataset.sizes_chart(empty) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.ap(None), "–"),
        (words.ap(float("nan")), "–"),
        (words.ap(0.4125), "0.412"),
        (words.ms(2.017), "2.02"),
        (words.ms(123.4), "123"),
        (words.signed(-0.0001), "0.000"),
        (words.signed(-0.3, 2), "−0.30"),
        (words.interval([0.1, None]), "–"),
        (words.interval((1.0, 12.34), "ms"), "1.00–12.3"),
        (words.size(1_412_345), "1.4 MB"),
        (words.sentence("no GPU here"), "No GPU here."),
        (words.sentence(None), ""),
    ],
)
def test_numbers_are_written_plainly(written: str, expected: str) -> None:
    assert written == expected


def test_a_training_of_one_epoch_shows_its_losses() -> None:
    table: dict[str, list[float | None]] = {"step": [16.0], "epoch": [1.0], "loss": [2.5]}
    drawn = training.chart({**table, "AP": [None]})
    assert [(line["name"], line["mode"]) for line in drawn["data"]] == [("loss", "lines+markers")]
    scored = training.chart({**table, "AP": [0.25]})
    assert [line["name"] for line in scored["data"]] == ["loss", "AP"]
    assert training.last(table) == "16 steps, 1 epoch, loss 2.50 to 2.50"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_in_a_browser_charts_draw_and_a_phone_does_not_scroll_sideways(
    report: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """The page in an iframe as wide as a phone; a probe writes what it finds into the DOM."""
    probe = """<script>addEventListener("load", () => setTimeout(() => parent.postMessage({
      charts: document.querySelectorAll(".chart:has(.main-svg)").length,
      wide: document.documentElement.scrollWidth}, "*"), 500))</script></body>"""
    page = (report[0] / "index.html").read_text().replace("</body>", probe)
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "phone.html").write_text(
        "<script>onmessage = e => document.title = JSON.stringify(e.data)</script>"
        '<iframe src="page.html" style="width:390px;height:3000px;border:0"></iframe>'
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
    address = (tmp_path / "phone.html").as_uri()
    dumped = subprocess.run(
        [*command, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=True
    )
    title = re.search(r"<title>(.*?)</title>", dumped.stdout)
    assert title is not None, dumped.stdout[:500]
    found = json.loads(html.unescape(title[1]))
    assert (
        found["charts"] == 10
    )  # frontier, drift, precision over recall, 4 trainings, labels, 2 sizes
    assert found["wide"] <= 390


def test_doubted_labels_are_candidates_with_their_judge_named(page: str) -> None:
    text = visible_text(page)
    assert "30 candidates for an error" in text
    assert "of AP 0.512 on val, and the labels disagree there" in text
    assert f"val <b>900.png wrong class bolt {CLASSES[2]} 0.125" in text
    assert text.count("val <b>900.png") == 20
    assert "The first 20 of 30" in text


@pytest.mark.usefixtures("no_figures")
def test_doubted_labels_are_shown_only_where_somebody_doubted(tmp_path: Path) -> None:
    text = visible_text((make_report(tmp_path, trained=False)[0] / "index.html").read_text())
    assert "Labels worth a second look" not in text


@pytest.fixture
def text_of(no_figures: None, tmp_path: Path) -> Callable[..., str]:
    """The text of a variant's page."""
    numbers = itertools.count()

    def text(**variant: Any) -> str:
        folder, _ = make_report(tmp_path / str(next(numbers)), **variant)
        return visible_text((folder / "index.html").read_text())

    return text


def test_a_table_that_is_not_to_be_trusted_is_said_so(text_of: Callable[..., str]) -> None:
    estimator = {
        "kind": "table", "parts": 521, "calibration": 60, "n": 80, "tau": 0.84, "mape": 0.07,
        "tau_in_bands": [0.5, 0.6, 0.7, None], "max_error": 0.31, "trusted": False,
        "finalists": {"mape": 0.05},
    }  # fmt: skip
    text = text_of(estimator=estimator)
    assert "521 networks that differ in one part" in text
    assert "not to be trusted" in text
    assert "not to be trusted" not in text_of(estimator={**estimator, "trusted": True})


def test_the_audit_and_the_other_device_have_their_tables(text_of: Callable[..., str]) -> None:
    alone = {
        "architecture": BASE, "AP": 0.31, "latency_p50_ms": 2.0, "AP_alone": 0.44,
        "AP_alone_interval": [0.41, 0.47],
    }  # fmt: skip
    audit = {
        "networks": [alone], "steps": 400, "tau": 0.71, "tau_in_bands": [0.5, None, 0.6, 0.7],
        "n": 12, "top": 3, "regret": 0.012, "regret_in_bands": [0.0, None, 0.01, 0.02],
    }  # fmt: skip
    row = {"architecture": BASE, "AP": 0.3, "home_ms": 2.0, "away_ms": 1.5, "recommended": True}
    pair = {
        "home": "onnxruntime-cpu", "away": "openvino-cpu", "rows": [row], "slower": 1.23,
        "lost_AP": 0.018, "overlap": 0.25,
    }  # fmt: skip
    text = text_of(audit_of_search=audit, pairs=[pair])
    for expected in ("0.440", "0.71", "0.012 AP short", "1.23 times", "+0.018", "25"):
        assert expected in text
    plain = text_of()
    assert "No network was trained alone" in plain
    assert "loses on the other" not in plain


def test_a_limit_on_size_is_shown_where_it_is_set(text_of: Callable[..., str]) -> None:
    assert "size of the INT8 network" in text_of(max_size_mb=0.5)
    assert "size of the INT8 network" not in text_of()
