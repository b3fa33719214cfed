"""Overrides merged into params.yaml."""

from pathlib import Path

import pytest

from frontier.errors import UsageError
from frontier.params import load_params, load_yaml
from pipelines.settings import Request, load_preset, merge

CHECKOUT = Path(__file__).resolve().parents[2]
PRESETS = ("smoke", "demo", "laptop", "gpu", "objects365")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text())
    return tmp_path


def test_demo_is_the_committed_file() -> None:
    assert load_preset("demo") == load_yaml(CHECKOUT / "params.yaml")


def test_nothing_asked_changes_no_byte(root: Path) -> None:
    merged = merge(root, Request())
    assert merged.text == (root / "params.yaml").read_text()
    assert merged.diff == ()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_demo_undoes_it(root: Path, name: str) -> None:
    before = load_yaml(root / "params.yaml")
    merge(root, Request(preset=name)).write()
    load_params(root / "params.yaml")
    merge(root, Request(preset="demo")).write()
    assert load_yaml(root / "params.yaml") == before


def test_presets_start_from_the_demo_and_not_from_each_other(root: Path) -> None:
    merge(root, Request(preset="smoke")).write()
    smoke_then_laptop = merge(root, Request(preset="laptop")).params
    merge(root, Request(preset="demo")).write()
    assert smoke_then_laptop == merge(root, Request(preset="laptop")).params


def test_a_preset_keeps_what_the_user_chose(root: Path) -> None:
    merge(root, Request(data="../photos", max_latency_ms=5.0, targets=["onnxruntime-cpu"])).write()
    params = merge(root, Request(preset="laptop")).params
    assert params.ingest.source == "../photos"
    assert params.search.max_latency_ms == 5.0
    assert [*params.targets] == ["onnxruntime-cpu"]


def test_comments_stay_and_the_diff_names_each_value(root: Path) -> None:
    merged = merge(root, Request(assignments=["search.finalists=3", "search.max_latency_ms=4.5"]))
    assert merged.diff == ("search.finalists: 12 -> 3", "search.max_latency_ms: null -> 4.5")
    assert "# architectures timed whole" in merged.text
    changed = set(merged.text.splitlines()) - set((root / "params.yaml").read_text().splitlines())
    assert len(changed) == 2


def test_values_are_read_as_yaml(root: Path) -> None:
    wanted = ["space.image_sizes=[64, 96]", "train.learning_rate=1.0e-3", "search.min_ap=null"]
    params = merge(root, Request(assignments=wanted)).params
    assert params.space.image_sizes == [64, 96]
    assert params.train.learning_rate == 0.001
    assert params.search.min_ap is None


def test_a_given_architecture_and_seeds_stand_in_the_file_until_a_preset_undoes_them(
    root: Path,
) -> None:
    merge(root, Request(architecture="yolo_nas_s", seeds=["yolo_nas_m"])).write()
    params = load_params(root / "params.yaml")
    assert (params.architecture, params.search.seeds) == ("yolo_nas_s", ["yolo_nas_m"])
    params = merge(root, Request(preset="laptop")).params
    assert (params.architecture, params.search.seeds) == (None, [])


def test_new_data_forgets_the_old_unlabelled_images(root: Path) -> None:
    merge(root, Request(data="../a", unlabelled="../b")).write()
    assert merge(root, Request(data="../c")).params.ingest.unlabelled is None


def test_a_target_brings_the_one_whose_student_it_takes(root: Path) -> None:
    merge(root, Request(targets=["onnxruntime-cpu"])).write()
    params = merge(root, Request(targets=["tensorrt"])).params
    assert set(params.targets) == {"tensorrt", "onnxruntime-cpu"}
    assert params.searched == ["onnxruntime-cpu"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(assignments=["search.finalist=3"]), ["'finalist'", "did you mean 'finalists'"]),
        (Request(assignments=["serch.finalists=3"]), ["'serch'", "did you mean 'search'"]),
        (Request(assignments=["run.threads.x=3"]), ["run.threads is a value"]),
        (Request(assignments=["seed"]), ["section.key=value"]),
        (Request(assignments=["search.finalists=many"]), ["search.finalists", "'many'"]),
        (Request(assignments=["a=1", "search.b=2"]), ["'a'", "'b'"]),
        (Request(assignments=["run.seed=x", "pack.holdout=2"]), ["run.seed", "pack.holdout"]),
        (Request(assignments=["space.image_sizes=[512]"]), ["larger than pack.image_size"]),
        (Request(preset="lapto"), ["did you mean 'laptop'"]),
        (Request(targets=["tensort"]), ["did you mean 'tensorrt'"]),
    ],
)
def test_wrong_wishes_are_refused_whole(root: Path, request_: Request, words: list[str]) -> None:
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(UsageError) as refused:
        merge(root, request_)
    assert all(word in str(refused.value) for word in words)
    assert (root / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("data", [None, "synthetic"])
def test_the_demo_forgets_photos_and_limits(root: Path, data: str | None) -> None:
    """`make demo` is the committed demo, whatever was run here before."""
    committed = load_yaml(root / "params.yaml")
    own = Request(data="../a", unlabelled="../b", max_latency_ms=5.0, targets=["onnxruntime-cpu"])
    merge(root, own).write()
    merge(root, Request(preset="demo", data=data)).write()
    assert load_yaml(root / "params.yaml") == committed
    given = merge(root, Request(preset="demo", data=data, max_latency_ms=3.0)).params
    assert given.search.max_latency_ms == 3.0
