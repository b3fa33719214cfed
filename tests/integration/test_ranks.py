"""Two processes that train one network: the same steps as one, one writer, one error."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from frontier.files import read_json, verify_manifest, write_json, write_manifest
from frontier.labeling.description import describe_teacher
from tests import tiny

pytestmark = pytest.mark.integration
CHECKOUT = Path(__file__).parents[2]
WORKER = CHECKOUT / "tests" / "rank_worker.py"


def start(folder: Path, *program: str, ranks: int = 2) -> "subprocess.CompletedProcess[str]":
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--rdzv-backend=c10d"]
    launcher += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    path = f"{CHECKOUT / 'src'}{os.pathsep}{CHECKOUT}"
    own = {"PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), *program],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=240,
    )


def trained(folder: Path, case: str, ranks: int = 2) -> list[dict[str, torch.Tensor]]:
    """The weights that each rank ended with."""
    folder.mkdir(exist_ok=True)
    alone = ["alone"] if ranks == 1 else []
    answer = start(folder, str(WORKER), case, str(folder), *alone, ranks=ranks)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return [load_file(folder / f"{rank}.safetensors") for rank in range(ranks)]


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def travelled(
    weights: dict[str, torch.Tensor], begun: dict[str, torch.Tensor], names: list[str]
) -> float:
    """The length of all updates together."""
    squares = [float((weights[name] - begun[name]).double().square().sum()) for name in names]
    return float(sum(squares)) ** 0.5


@pytest.mark.parametrize("case", ["frozen", "frozen-distilled"])
def test_two_ranks_take_the_steps_of_one(tmp_path: Path, case: str) -> None:
    first, second = trained(tmp_path / "two", case)
    (alone,) = trained(tmp_path / "one", case, ranks=1)
    assert difference(first, second) == 0
    begun = load_file(tmp_path / "one" / "start.safetensors")
    assert difference(first, alone) < 1e-5 * difference(alone, begun)
    rows = [read_json(tmp_path / name / "0.json") for name in ("two", "one")]
    for two, one in zip(*rows, strict=True):
        # features are standardised over a rank's own rows; their loss weighs nothing here
        assert two | {"feature_loss": 0} == pytest.approx(one | {"feature_loss": 0}, rel=1e-6)


@pytest.mark.parametrize("case", ["live", "sandwich", "distilled"])
def test_live_batch_norms_see_their_own_rows(tmp_path: Path, case: str, record_property) -> None:
    first, second = trained(tmp_path / "two", case)
    (alone,) = trained(tmp_path / "one", case, ranks=1)
    learned = [name for name in first if "running" not in name and "tracked" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    apart = difference({name: first[name] for name in learned}, alone)
    record_property("largest_weight_difference", apart)
    print(f"{case}: weights of two ranks and one differ by up to {apart:.2g}")
    assert torch.isfinite(torch.tensor(apart))
    # other statistics are other noise: no weight can be told, but how far they went and the losses
    begun = load_file(tmp_path / "one" / "start0.safetensors")
    went = [travelled(weights, begun, learned) for weights in (first, alone)]
    assert went[0] == pytest.approx(went[1], rel=0.2)
    rows = [read_json(tmp_path / name / "0.json") for name in ("two", "one")]
    for two, one in zip(*rows, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=0.2)
        assert two["box_loss"] == pytest.approx(one["box_loss"], rel=0.2)


def test_one_rank_writes_and_all_resume_from_it(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "live")[0]
    cut = tmp_path / "cut"
    cut.mkdir()
    assert start(cut, str(WORKER), "killed", str(cut)).returncode != 0
    assert [path.name[:8] for path in (cut / "work").glob("*.safetensors")] == ["00000004"]
    resumed = trained(cut, "live")[0]
    assert difference(whole, resumed) == 0
    assert read_json(cut / "0.json") == read_json(tmp_path / "whole" / "0.json")


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_alike(tmp_path: Path) -> None:
    answer = start(tmp_path, str(WORKER), "nan", str(tmp_path))
    assert answer.returncode != 0
    first, second = ((tmp_path / f"{rank}.error").read_text() for rank in (0, 1))
    assert first == second
    images = re.search(r"^step 2: .* images \[(.*?)\]", first)
    assert images
    assert len(images[1].split(",")) == 4  # of both ranks
    assert not [*(tmp_path / "work").glob("*.safetensors")]


def test_ranks_agree_on_a_plan(tmp_path: Path) -> None:
    first, second = trained(tmp_path, "budget")
    steps = read_json(tmp_path / "work" / "plan.json")["steps"]
    assert [read_json(tmp_path / f"{r}.json")[-1]["step"] for r in (0, 1)] == [steps, steps]
    assert (
        difference(
            {"w": first["head.0.class_pred.weight"]}, {"w": second["head.0.class_pred.weight"]}
        )
        == 0
    )


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    answer = start(tmp_path, str(WORKER), "odd", str(tmp_path))
    assert "train.batch_size: 3 images do not divide among 2 processes" in answer.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout in which `teacher` is the next stage."""
    from frontier.models.detector import Detector, save_detector
    from pipelines.settings import Request, merge

    root = tmp_path / "project"
    shutil.copytree(CHECKOUT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    wanted = ["teacher.steps=5", "train.batch_size=4", "space.image_sizes=[64]"]
    merge(root, Request(preset="smoke", assignments=wanted)).write()
    tiny.write_pack(root / "data" / "pack" / "main", train=10, holdout=4, val=4)
    write_manifest(root / "data" / "pack")
    (root / "data" / "pretrain").mkdir()
    largest = tiny.SearchSpace(0.25, (64,)).largest
    save_detector(Detector(largest, 3), tiny.CLASSES, root / "data" / "pretrain")
    write_manifest(root / "data" / "pretrain")
    write_json(root / "data" / "teacher.json", describe_teacher(root, None))
    return root


def test_a_stage_runs_under_torchrun(project: Path, monkeypatch) -> None:
    journal = project / "journal.jsonl"
    monkeypatch.setenv("FRONTIER_JOURNAL", str(journal))
    answer = start(project, "-m", "frontier.stages", "teacher")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    verify_manifest(project / "data" / "teacher")
    for name in ("model.safetensors", "quality.json", "suspects.json"):
        assert (project / "data" / "teacher" / name).is_file()
    assert (project / "data" / "runs" / "teacher.json").is_file()
    assert not (project / "data" / ".partial" / "teacher").exists()
    events = re.findall(r'"event": "(\w+)"', journal.read_text())
    assert events.count("start") == events.count("end") == 1
    assert answer.stdout.count("epoch 1/") == 1


def test_a_stage_that_trains_nothing_is_refused(project: Path) -> None:
    answer = start(project, "-m", "frontier.stages", "report")
    assert answer.returncode != 0
    assert "report: no training; start it without torchrun" in answer.stderr
