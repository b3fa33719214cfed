"""The catalog of frontiers: kept once, shown, and taken from."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from frontier.errors import UsageError
from frontier.files import read_json, write_json
from frontier.models.architecture import yolo_nas
from frontier.params import Params, load_params, parse_params
from frontier.targets.hardware import hardware_fingerprint
from frontier.tracking.store import connect
from pipelines import catalog
from pipelines.graph import Node
from tests.fake_run import write_run

CHECKOUT = Path(__file__).resolve().parents[2]
TARGET = "onnxruntime-cpu"
PARAMS = load_params(CHECKOUT / "params.yaml")
MEMBER = yolo_nas("m", 0.25, 128).code


def graph(*stale: str) -> dict[str, Node]:
    name = f"search@{TARGET}"
    return {name: Node(name, (), "target", stale)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A made-up run on this device, put into a true catalog; and how to put it there again."""
    root = tmp_path_factory.mktemp("catalog")
    params = write_run(root)
    write_json(root / "data" / "hardware.json", hardware_fingerprint())
    client, experiment = connect(root)
    run_id = client.create_run(experiment).info.run_id

    def call(work: Callable[[Any, str], Any]) -> Any:
        return work(client, run_id)

    production = SimpleNamespace(
        root=root,
        params=params,
        graph=graph(),
        outcomes={},
        tracker=SimpleNamespace(call=call),
    )
    catalog.keep_new(production)
    return root, production


def shown(root: Path, number: int | None) -> str:
    text = io.StringIO()
    catalog.show(root, Console(file=text, width=200), number)
    return text.getvalue()


def frontier(root: Path) -> list[dict[str, Any]]:
    timed = read_json(root / "data" / "search" / TARGET / "search.json")["timed"]
    points = [point for point in timed if point["on_frontier"]]
    return sorted(points, key=lambda point: point["latency_p50_ms"])


def test_a_search_is_kept_once_however_often_it_is_seen(project: tuple[Path, Any]) -> None:
    root, production = project
    catalog.keep_new(production)
    entries = catalog.catalog.entries(connect(root)[0])
    assert [*entries] == [1]
    kept = entries[1]
    assert [p["architecture"] for p in kept["frontier"]] == [
        p["architecture"] for p in frontier(root)
    ]
    assert kept["device"]["cores"] == hardware_fingerprint()["cores"]
    assert kept["runtime"]["name"] == "onnxruntime"
    assert kept["space"] == PARAMS.space.model_dump(mode="json")


def test_a_stale_search_and_a_taken_architecture_are_not_kept(project: tuple[Path, Any]) -> None:
    root, production = project
    before = len(catalog.catalog.entries(connect(root)[0]))
    path = root / "data" / "search" / TARGET / "search.json"
    found = read_json(path)
    write_json(path, {**found, "evaluated": []})
    catalog.keep_new(SimpleNamespace(**{**vars(production), "graph": graph("changed")}))
    write_json(path, {**found, "evaluated": [], "taken": True})
    catalog.keep_new(production)
    write_json(path, found)
    assert len(catalog.catalog.entries(connect(root)[0])) == before


def test_it_is_shown_whole_and_by_entry(project: tuple[Path, Any]) -> None:
    root, _ = project
    table = shown(root, None)
    assert "onnxruntime" in table
    assert "w0.25, 64 to 192 px" in table
    one = shown(root, 1)
    for point in frontier(root):
        assert point["architecture"] in one
        assert f"{point['latency_p50_ms']:.2f}" in one
    with pytest.raises(UsageError, match="entry 7: not there; there are 1"):
        shown(root, 7)


def test_entries_are_named_by_number_and_row(project: tuple[Path, Any]) -> None:
    root, _ = project
    points = frontier(root)
    assert catalog.named(root, "1:2") == points[1]["architecture"]
    recommended = next((p for p in points if p["recommended"]), points[0])
    assert catalog.named(root, "1") == recommended["architecture"]
    assert catalog.named(root, MEMBER) == MEMBER
    for wanted in ("1:0", "1:99"):
        with pytest.raises(UsageError, match=f"{wanted}: entry 1 has rows 1 to {len(points)}"):
            catalog.named(root, wanted)
    with pytest.raises(UsageError, match="entry 2: not there"):
        catalog.named(root, "2:1")


def test_seeds_are_of_this_device_runtime_and_space(project: tuple[Path, Any]) -> None:
    root, _ = project
    known = {point["architecture"] for point in frontier(root)}
    found = catalog.seeds(root, PARAMS)
    assert 0 < len(found) <= PARAMS.search.evaluations // catalog.SHARE
    assert {*found} <= known
    wider = changed("space", interface_width=0.5)
    with pytest.raises(UsageError, match="--from-catalog: no entry"):
        catalog.seeds(root, wider)


def test_seeds_of_another_device_are_left_out(
    project: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = project
    other = {**hardware_fingerprint(), "cores": 99}
    monkeypatch.setattr(catalog, "hardware_fingerprint", lambda: other)
    with pytest.raises(UsageError, match="no entry of this device"):
        catalog.seeds(root, PARAMS)


def changed(section: str | None = None, **values: Any) -> Params:
    given = PARAMS.model_dump(mode="json", by_alias=True)
    if section is None:
        return parse_params({**given, **values})
    return parse_params({**given, section: {**given[section], **values}})


def test_members_of_the_space_pass() -> None:
    catalog.check(changed(architecture=MEMBER))
    catalog.check(changed(architecture="yolo_nas_s"))
    catalog.check(changed("search", seeds=[MEMBER]))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (changed(architecture="yolo"), "not an architecture code"),
        (changed("search", seeds=["w9"]), "not an architecture code"),
        (changed(architecture=yolo_nas("s", 0.5, 128).code), "space.interface_width=0.5"),
        (changed(architecture=yolo_nas("s", 0.25, 320).code), "pack.image_size=320"),
        (changed(architecture=yolo_nas("s", 0.25, 320).code), r"image_sizes=\[96, .*320\]"),
        (changed("search", seeds=[yolo_nas("s", 1.0, 128).code]), "search.seeds: w1"),
    ],
)
def test_what_is_no_member_is_refused_with_what_would_make_it_one(
    params: Params, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        catalog.check(params)
