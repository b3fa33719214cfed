"""Which stages a run takes, and what a look leaves behind."""

from pathlib import Path

import pytest

from frontier.errors import UsageError
from frontier.files import lock, read_json, write_json
from pipelines import launch, looking, repro
from pipelines.graph import Graph, Node
from pipelines.launch import Selection

CHECKOUT = Path(__file__).resolve().parents[2]


def graph(*stale: str) -> Graph:
    """pack -> teacher -> search@a, search@b -> report, and `other` beside them."""
    upstream = {
        "pack": (),
        "teacher": ("pack",),
        "search@a": ("teacher",),
        "search@b": ("teacher",),
        "other": (),
        "report": ("search@a", "search@b", "other"),
    }
    return {
        name: Node(name, needed, "cpu", ("x changed",) if name in stale else ())
        for name, needed in upstream.items()
    }


@pytest.mark.parametrize(
    ("selection", "stale", "expected"),
    [
        (Selection(), (), []),
        (Selection(), ("search@b",), ["search@b", "report"]),
        (Selection(only="teacher"), (), ["teacher"]),
        (Selection(only="search"), ("search@a",), ["search@a", "search@b"]),
        (Selection(only="teacher"), ("other", "report"), ["teacher"]),
        (Selection(start="search"), (), ["search@a", "search@b", "report"]),
        (Selection(start="search@a"), (), ["search@a", "report"]),
        (
            Selection(start="pack"),
            ("teacher",),
            ["pack", "teacher", "search@a", "search@b", "report"],
        ),
    ],
)
def test_named_stages_run_although_nothing_changed(
    selection: Selection, stale: tuple[str, ...], expected: list[str]
) -> None:
    assert selection.choose(graph(*stale)) == expected
    assert selection.forced == (selection != Selection())


@pytest.mark.parametrize(
    ("selection", "stale", "words"),
    [
        (Selection(only="report"), ("search@b",), "--only report: search@b comes before"),
        (Selection(only="report"), ("pack",), "pack and 3 more"),
        (Selection(start="search@a"), ("search@b",), "--from search@a: search@b"),
        (Selection(start="search"), ("other",), "x changed"),
        (Selection(only="serch"), (), "did you mean"),
    ],
)
def test_stale_input_of_a_named_stage_is_refused(
    selection: Selection, stale: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        selection.choose(graph(*stale))


def test_force_forgets_what_ended_and_keeps_what_was_killed(tmp_path: Path) -> None:
    work = tmp_path / ".work" / "teacher"
    (work / "ended").mkdir(parents=True)
    write_json(work / "killed" / "run.json", {})
    repro._forget_finished(tmp_path, "teacher")
    repro._forget_finished(tmp_path, "never run")
    assert [state.name for state in work.iterdir()] == ["killed"]


@pytest.mark.parametrize(("always", "fails", "kept"), [(True, 0, 1), (False, 1, 1), (False, 0, 0)])
def test_who_looks_or_is_refused_leaves_no_trace(
    tmp_path: Path, always: bool, fails: int, kept: int
) -> None:
    def change() -> None:
        with launch.kept(tmp_path, always=always):
            write_json(tmp_path / "params.yaml", "new")
            write_json(tmp_path / "data" / "source.json", "new")
            if fails:
                raise UsageError("refused")

    write_json(tmp_path / "params.yaml", "old")
    if fails:
        with pytest.raises(UsageError):
            change()
    else:
        change()
    assert read_json(tmp_path / "params.yaml") == ("old" if kept else "new")
    assert (tmp_path / "data" / "source.json").exists() != kept


def test_status_asks_about_the_data_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(root: Path) -> Graph:
        asked.append(read_json(root / "data" / "source.json")["kind"])
        return graph()

    monkeypatch.setattr(looking, "read_graph", read)
    (tmp_path / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text())
    write_json(tmp_path / "data" / "source.json", {"kind": "of the last run"})
    looking.current_graph(tmp_path)
    with lock(launch.run_lock(tmp_path)):
        looking.current_graph(tmp_path)  # a run is using its own description
    assert asked == ["synthetic", "of the last run"]
    assert read_json(tmp_path / "data" / "source.json") == {"kind": "of the last run"}
