"""`frontier space` and `frontier explain`."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from frontier.errors import UsageError
from frontier.files import write_json
from frontier.models.architecture import Architecture, SearchSpace, edits, yolo_nas
from frontier.search.postmortem import explain as explained
from frontier.search.postmortem import walk
from pipelines import explaining

CHECKOUT = Path(__file__).parents[2]
SPACE = SearchSpace(0.25, (64, 96, 128))
BASELINE = yolo_nas("s", 0.25, 128)
ANSWER = SPACE.decode([1, 0, 1, 0] * 2 + SPACE.encode(BASELINE)[8:32] + [1, 0])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "parameters", "gmac"),
    [("s", 12.17, 15.90), ("m", 31.89, 43.88), ("l", 41.99, 59.92)],
)
def test_space_shows_the_published_family(
    capsys, name: str, parameters: float, gmac: float
) -> None:
    code = yolo_nas(name, 1.0, 640).code
    explaining.space(CHECKOUT, Console(width=200), code)
    words = told(capsys)
    assert code in words
    shown = re.search(r"([0-9.]+) M parameters and ([0-9.]+) GMAC", words)
    assert shown
    assert (float(shown[1]), float(shown[2])) == pytest.approx((parameters, gmac), rel=0.005)


def test_space_tells_its_size(capsys) -> None:
    explaining.space(CHECKOUT, Console(width=200), None)
    words = told(capsys)
    assert "4.23e+14 architectures" in words
    assert words.count("QARepVGG or depthwise") == 6
    assert words.count("plain 3x3 or depthwise") == 2


def cost_of(architecture: Architecture) -> float:
    return sum(s.depth * s.hidden for s in architecture.stages) / 1000 + architecture.head_width


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = walk(BASELINE, ANSWER)
    ms = {a.code: cost_of(a) for _, a in path}
    ap = {a.code: cost_of(a) / 10 for _, a in path}
    steps = [asdict(step) for step in explained(path, ms, ap)]
    rows = [
        {"architecture": a.code, "latency_p50_ms": ms[a.code], "AP": ap[a.code]}
        for a in (BASELINE, ANSWER)
    ]
    document = {
        "target": "onnxruntime-cpu",
        "timed": rows,
        "baseline": rows[0],
        "recommended": {"architecture": ANSWER.code},
        "postmortem": steps,
        "postmortem_residual": {"ms": 0.0, "AP": 0.0},
    }
    folder = tmp_path / "data" / "search" / "onnxruntime-cpu"
    folder.mkdir(parents=True)
    write_json(folder / "search.json", document)
    return tmp_path


def test_the_walk_is_printed_and_adds_up(project: Path, capsys) -> None:
    explaining.explain(project, Console(width=200), None, None)
    words = told(capsys)
    for edit, _ in edits(BASELINE, ANSWER):
        assert edit in words
    total = re.search(r"in all │ ([+-][0-9.]+) │ ([+-][0-9.]+)", words)
    assert total
    change = cost_of(ANSWER) - cost_of(BASELINE)
    assert float(total[1]) == pytest.approx(change, abs=1e-3)
    assert float(total[2]) == pytest.approx(10 * change, abs=0.1)


def test_each_edit_can_be_undone(project: Path, capsys) -> None:
    steps = [*edits(BASELINE, ANSWER)]
    for number, (edit, _) in enumerate(steps, 1):
        outputs = []
        for undo in (str(number), edit):
            explaining.explain(project, Console(width=200), None, undo)
            outputs.append(told(capsys))
        assert outputs[0] == outputs[1]
        code = re.search(r"(w0\S+)", outputs[0])
        assert code
        left = [name for name, _ in edits(BASELINE, Architecture.parse(code[1]))]
        assert left == [name for name, _ in steps if name != edit]
        shown = re.search(r"([0-9.]+) ms, AP", outputs[0])
        assert shown
        assert float(shown[1]) == pytest.approx(cost_of(Architecture.parse(code[1])), abs=1e-3)


def test_what_is_not_there_is_told(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such edit; there are 1 \(backbone stage 1"):
        explaining.explain(project, Console(), None, "9")
    with pytest.raises(UsageError, match="did you mean 'onnxruntime-cpu'"):
        explaining.explain(project, Console(), "onnxruntime", None)
    with pytest.raises(UsageError, match="no search yet"):
        explaining.explain(tmp_path / "none", Console(), None, None)


def test_a_taken_architecture_has_no_story(tmp_path: Path) -> None:
    found = {"target": "cpu", "taken": True, "postmortem": []}
    write_json(tmp_path / "data" / "search" / "cpu" / "search.json", found)
    with pytest.raises(UsageError, match="cpu: its architecture was given, not searched"):
        explaining.explain(tmp_path, Console(), None, None)
