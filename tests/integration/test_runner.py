"""The stage runner and its declaration, on three stages of a fraction of a second."""

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from frontier import tracking
from frontier.errors import DataError, StageFailed, UsageError
from frontier.files import read_json, verify_manifest
from frontier.params import Params, load_params
from frontier.stages import Inputs, declarations
from pipelines import graph, launch, repro
from tests import fake_project

CHECKOUT = fake_project.CHECKOUT
REAL = declarations(CHECKOUT)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = fake_project.make(tmp_path / "project")
    for name, value in fake_project.environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FRONTIER_JOURNAL", raising=False)
    repro.prepare(root)
    return root


def stage(root: Path, *arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "frontier.stages", *arguments],
        cwd=root,
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
        timeout=60,
    )


def reproduce(root: Path, name: str) -> repro.Outcome:
    return repro.reproduce(
        root, name, run_id=None, on_event=lambda _: None, cancelled=threading.Event()
    )


@pytest.mark.parametrize("key", [*REAL])
def test_dvc_yaml_names_exactly_the_params_that_a_stage_reads(key: str) -> None:
    declared = REAL[key]
    module = importlib.import_module(f"frontier.stages.{declared.name}")
    fields = {field.alias or name for name, field in module.Params.model_fields.items()}
    named = {
        "target" if section == f"targets.{declared.target}" else section
        for section in declared.params
    }
    assert fields == named


@pytest.mark.parametrize("key", [*REAL])
def test_declared_code_exists_and_includes_the_stage_itself(key: str) -> None:
    code = [dep for dep in REAL[key].deps if dep.startswith("src/")]
    assert f"src/frontier/stages/{REAL[key].name}.py" in code
    assert all((CHECKOUT / dep).exists() for dep in code)


def test_each_data_dependency_is_made_by_a_stage_or_by_the_flow() -> None:
    outs = [declared.out for declared in REAL.values()]
    for declared in REAL.values():
        for dep in declared.deps:
            made = any(dep.startswith(out) or out.startswith(f"{dep}/") for out in outs)
            flow = dep in launch.DESCRIBED
            assert made or flow or dep.startswith("src/"), f"{declared.key}: {dep}"


def test_our_reading_of_dvc_yaml_is_dvcs(project: Path) -> None:
    read = graph.read_graph(project)
    ours = declarations(project)
    assert {*read} == {*ours}
    assert all(read[key].device == ours[key].device for key in ours)
    assert read["score@tensorrt"].upstream == ("train",)


def test_a_stage_leaves_a_verified_folder_and_its_records(project: Path) -> None:
    assert stage(project, "first", FRONTIER_RUN_ID="abc").returncode == 0
    assert stage(project, "train").returncode == 0
    verify_manifest(project / "data" / "train")
    assert read_json(project / "data/runs/first.json") == {"run_id": "abc", "stage": "first"}
    assert read_json(project / "data/metrics/train.json") == {"steps": 5.0}  # NaN left out
    assert not (project / "data/.partial/train").exists()


def test_the_same_twice_gives_the_same_bytes(project: Path) -> None:
    stage(project, "first")
    first = (project / "data/first/manifest.json").read_bytes()
    stage(project, "first")
    assert (project / "data/first/manifest.json").read_bytes() == first


def test_an_altered_input_is_refused_by_name(project: Path) -> None:
    stage(project, "first")
    (project / "data/first/seed.txt").write_text("17")
    answer = stage(project, "train")
    assert answer.returncode == 65
    assert "data/first/seed.txt" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (project / "data/train").exists()


def test_another_value_never_resumes_an_old_state(project: Path) -> None:
    stage(project, "first")
    stage(project, "train")
    changed = (project / "params.yaml").read_text().replace("seed: 0", "seed: 1")
    (project / "params.yaml").write_text(changed)
    stage(project, "first")
    stage(project, "train")
    starts = [
        line for line in (project / "writers.log").read_text().splitlines() if "start" in line
    ]
    assert [line.split()[2] for line in starts] == ["0", "0"]
    states = [path for path in (project / ".work/train").iterdir() if path.is_dir()]
    assert len(states) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["frist"], "did you mean 'first'"), (["score"], "score@"), ([], "usage")],
)
def test_a_stage_that_is_not_there(project: Path, arguments: list[str], words: str) -> None:
    answer = stage(project, *arguments)
    assert answer.returncode == 2
    assert words in answer.stderr


def test_wrong_params_are_listed_all_at_once(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        text.replace("seed: 0", "seed: -1").replace("threads: 2", "threds: 2")
    )
    answer = stage(project, "first")
    assert answer.returncode == 2
    assert all(word in answer.stderr for word in ("run.seed", "run.threds", "'threads'"))


def test_a_failure_keeps_what_was_written_and_the_stages_own_error(project: Path) -> None:
    (project / "bad").touch()
    with pytest.raises(DataError, match=r"2 problems\n  - image 1 is bad\n  - image 2 is bad"):
        reproduce(project, "first")
    assert (project / ".work/first/failed/seed.txt").is_file()
    assert not (project / "data/first").exists()


def test_a_full_disk_is_told_in_words(project: Path) -> None:
    text = (project / "src/frontier/stages/first.py").read_text()
    (project / "src/frontier/stages/first.py").write_text(
        text.replace("    return", "    raise OSError(28, 'full', str(out / 'x'))\n    return")
    )
    answer = stage(project, "first")
    assert answer.returncode == 74
    assert "free space" in answer.stderr


def test_leaving_without_a_result_is_a_failure(project: Path) -> None:
    text = (project / "src/frontier/stages/first.py").read_text()
    (project / "src/frontier/stages/first.py").write_text(
        text.replace("    return", "    raise SystemExit(0)\n    return")
    )
    with pytest.raises(StageFailed):
        reproduce(project, "first")


def test_outcomes_ran_unchanged_and_cached(project: Path) -> None:
    assert reproduce(project, "first").outcome == "ran"
    assert reproduce(project, "first").outcome == "unchanged"
    (project / "data/first/seed.txt").chmod(0o644)
    for path in (project / "data/first").iterdir():
        path.unlink()
    assert reproduce(project, "first").outcome == "cached"


def test_one_changed_value_makes_stale_only_what_reads_it(project: Path) -> None:
    for name in ("first", "train", "score@onnxruntime-cpu", "score@tensorrt"):
        reproduce(project, name)
    assert graph.stale(graph.read_graph(project)) == set()
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        text.replace("compute_capability: 75", "compute_capability: 80")
    )
    assert graph.stale(graph.read_graph(project)) == {"score@tensorrt"}


def test_a_name_that_many_stages_share(project: Path) -> None:
    read = graph.read_graph(project)
    assert graph.resolve(read, "score") == ["score@onnxruntime-cpu", "score@tensorrt"]
    assert graph.downstream(read, {"train"}) == {"train", *graph.resolve(read, "score")}
    with pytest.raises(UsageError, match="did you mean 'train'"):
        graph.resolve(read, "trian")


def test_inputs_are_only_the_declared_ones(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path, ("data/pack/main", "data/search"), None, tmp_path / "work")
    assert inputs.path("pack/main/meta.json") == tmp_path / "data/pack/main/meta.json"
    with pytest.raises(UsageError, match="not a declared input"):
        inputs.path("pack/pretrain")


def test_a_torn_journal_line_is_skipped_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "stage.jsonl"
    monkeypatch.setenv("FRONTIER_JOURNAL", str(journal))
    tracking.log_metrics({"loss": 1.0}, step=1)
    with journal.open("a") as file:
        file.write('{"event": "met')
    assert len([*tracking.read_events(journal)]) == 1  # the torn line may still be being written
    tracking.log_metrics({"loss": 0.5}, step=2)
    assert [event["step"] for _, event in tracking.read_events(journal)] == [1, 2]


def test_journaling_never_hurts_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRONTIER_JOURNAL", "/proc/nowhere/stage.jsonl")
    tracking.log_metrics({"loss": 1.0}, step=1)
    monkeypatch.delenv("FRONTIER_JOURNAL")
    tracking.log_progress(1, 2)


def test_params_of_the_checkout_fill_every_stage() -> None:
    from frontier.stages.__main__ import select_params

    params: Params = load_params(CHECKOUT / "params.yaml")
    for declared in REAL.values():
        module = importlib.import_module(f"frontier.stages.{declared.name}")
        chosen = select_params(module.Params, params, declared.target)
        assert json.loads(chosen.model_dump_json(by_alias=True)).keys()
