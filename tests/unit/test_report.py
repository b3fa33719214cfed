"""The report: one page that tells everything, survives what is missing, and trusts no text."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from frontier import files
from frontier.report import charts, words
from frontier.report.examples import Scene, best_threshold, match, pick, score
from frontier.report.results import FOLDERS
from frontier.stages import Inputs
from frontier.stages.report import Params, run
from tests.fake_run import BASE, CLASSES, write_run


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
    assert all(a.startswith(("#", "data:image/jpeg;base64,")) for a in addresses)
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
        "data/export/onnxruntime-cpu/export.json",
        "data/validate/verdict.json",
        "data/hardware.json",
    }
    for name, digest in listed:
        assert files.sha256(data.parent / name) == digest


def test_a_target_that_was_not_run_is_never_called_measured(page: str) -> None:
    text = visible_text(page)
    assert "tensorrt: built, not run. No NVIDIA GPU here" in text
    assert "No accuracy and no latency is claimed for it." in text
    assert page.count('<span class="good">measured</span>') == 1


def test_a_target_without_its_builder_is_called_not_built(tmp_path: Path) -> None:
    out, metrics = make_report(tmp_path, unmeasured="not-built")
    assert (metrics["targets_built_not_run"], metrics["targets_not_built"]) == (0, 1)
    assert "tensorrt: not built. No NVIDIA GPU" in visible_text((out / "index.html").read_text())
    assert "| tensorrt | not built |" in (out / "model_card.md").read_text()


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
        "figures/frontier.png",
        "figures/per_class.png",
        "figures/postmortem.png",
        "index.html",
        "model_card.md",
    ]
    for name in names:
        assert (again / name).read_bytes() == (report[0] / name).read_bytes(), name


def test_everything_that_may_be_missing_at_once(tmp_path: Path) -> None:
    out, metrics = make_report(
        tmp_path, pseudo="skipped", feasible=False, measured=False, max_latency_ms=0.1, min_ap=0.9
    )
    text = visible_text((out / "index.html").read_text())
    assert metrics["targets_measured"] == 0
    assert "No exported model was run" in text
    assert "No recommendation. No architecture runs in 0.10 ms" in text
    assert "Skipped. The dataset has no unlabelled images." in text
    assert "at most 0.10 ms – not measured" in text
    assert not (out / "figures" / "per_class.png").exists()
    assert not (out / "figures" / "postmortem.png").exists()


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


def scene(truth: list[Any], labels: list[int], crowd: list[bool], found: list[Any]) -> Scene:
    boxes = np.array([box for box, *_ in found], np.float32).reshape(-1, 4)
    return Scene(
        "a.png",
        Path("a.png"),
        (100, 100),
        np.array(truth, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(crowd, bool),
        boxes,
        np.array([score for _, score, _ in found], np.float32),
        np.array([label for *_, label in found], np.int64),
    )


SQUARE, OTHER = (10, 10, 50, 50), (60, 60, 90, 90)


def test_matching_takes_each_truth_once_and_ignores_crowds() -> None:
    crowded = scene(
        [SQUARE, OTHER],
        [0, 1],
        [False, True],
        [(SQUARE, 0.9, 0), (SQUARE, 0.8, 0), (SQUARE, 0.7, 1), (OTHER, 0.6, 1)],
    )
    matched = match(crowded)
    assert matched.right.tolist() == [True, False, False, False]
    assert matched.counts.tolist() == [True, True, True, False]
    assert score(crowded, matched, 0.85) == 1.0
    assert score(crowded, matched, 0.5) == pytest.approx(0.5)


def test_threshold_is_where_f1_is_highest() -> None:
    scenes = [scene([SQUARE], [0], [False], [(SQUARE, 0.6, 0), (OTHER, 0.3, 0)])]
    assert best_threshold(scenes, [match(s) for s in scenes]) == pytest.approx(0.6)
    empty = scene([], [], [], [])
    assert best_threshold([empty], [match(empty)]) == 0.5
    assert score(empty, match(empty), 0.5) == 1.0


def test_examples_run_from_worst_to_best() -> None:
    f1 = [0.5, 1.0, 0.0, 0.7, 0.9]
    assert pick(f1, 3) == [2, 3, 1]
    assert pick(f1, 99) == [2, 0, 3, 4, 1]
    assert pick(f1, 1) == [2]


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
    drawn = charts.curves({**table, "AP": [None]})
    assert [(line["name"], line["mode"]) for line in drawn["data"]] == [("loss", "lines+markers")]
    assert "yaxis2" not in drawn["layout"]
    assert "yaxis2" in charts.curves({**table, "AP": [0.25]})["layout"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_in_a_browser_charts_draw_and_a_phone_does_not_scroll_sideways(
    report: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """The page in an iframe as wide as a phone; a probe writes what it finds into the DOM."""
    probe = """<script>addEventListener("load", () => setTimeout(() => parent.postMessage({
      charts: document.querySelectorAll(".chart .main-svg").length,
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
    assert found["charts"] >= 4
    assert found["wide"] <= 390
