"""Benchmarks are run by hand; that they can start is tested here."""

import importlib
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from frontier.models.detector import cost
from tests import tiny

FOLDER = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # they are run as scripts
    importlib.import_module(name)


def started(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    return importlib.import_module(name).main()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("training_speed", ["--data"]),
        ("accuracy", ["--steps", "1", "--data"]),
        ("loader_speed", ["--data"]),
        ("int8", ["--model", ".", "--data"]),
        ("ablation", ["--steps", "1", "--out", "nowhere", "--data"]),
        ("image_checks", ["--images"]),
    ],
)
def test_a_missing_folder_is_told_in_words(name, arguments, tmp_path, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        started(name, monkeypatch, *arguments, str(tmp_path / "nowhere"))
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'nowhere'}: no" in told
    assert "DATA=" in told


class Timed:
    """Layers that take as long as they say; `use_up` must come before each timed loop."""

    def __init__(self, whole_ms: float) -> None:
        self.whole_ms, self.ready = whole_ms, True
        self.flops, self.product_flops = 5_400_000_000, 17_000_000_000
        self.detector = SimpleNamespace(
            deploy=lambda: SimpleNamespace(network=None), train=lambda: None
        )

    def product(self) -> None:
        self.ready = True  # threads fill the queue meanwhile

    def floor(self) -> None:
        time.sleep(0.010)

    losses = guarded = floor

    def use_up(self) -> None:
        self.ready = False

    def whole(self) -> None:
        assert not self.ready, "batches made ready before would hide what loading takes"
        time.sleep(4 * self.whole_ms / 1000)


@pytest.mark.parametrize(("whole_ms", "holds"), [(10.0, True), (20.0, False)])
def test_the_training_bench_ends_by_its_bar(
    whole_ms: float, holds: bool, tmp_path: Path, monkeypatch, capsys
) -> None:
    (tmp_path / "annotations").mkdir()
    monkeypatch.syspath_prepend(FOLDER)
    bench = importlib.import_module("training_speed")
    seen = []
    monkeypatch.setattr(bench, "cost", lambda *_: (0, 0.9))
    monkeypatch.setattr(bench, "Layers", lambda *given: seen.append(given[-1]) or Timed(whole_ms))
    arguments = ["--data", str(tmp_path), "--blocks", "2", "--set", "run.precision=bfloat16"]
    if holds:
        started("training_speed", monkeypatch, *arguments)
    else:
        with pytest.raises(SystemExit, match=r"of the floor's time, more than 1\.15"):
            started("training_speed", monkeypatch, *arguments)
    assert seen[0].run.precision == "bfloat16"
    assert "images/s" in capsys.readouterr().out


def test_operations_are_those_of_convolutions_forward_and_backward(monkeypatch) -> None:
    """A convolution by hand, and a network whose multiply-adds are counted elsewhere."""
    monkeypatch.syspath_prepend(FOLDER)
    bench = importlib.import_module("training_speed")
    conv, images = torch.nn.Conv2d(3, 8, 3, padding=1), torch.rand(2, 3, 16, 16)
    forward = 2 * 2 * 8 * 16 * 16 * 3 * 9
    assert bench.flops_of(lambda: conv(images)) == forward
    assert bench.flops_of(lambda: conv(images).sum().backward()) == 2 * forward  # images need none
    detector = tiny.detector()
    _, gmac = cost(detector.deploy().network, 64)
    detector.train()
    images = torch.rand(2, 3, 64, 64)
    counted = bench.flops_of(lambda: sum(part.mean() for part in detector(images)[:2]).backward())
    assert counted == pytest.approx(2 * 6 * gmac * 1e9, rel=0.05)


@pytest.fixture
def ablation(tmp_path: Path, monkeypatch):
    (tmp_path / "annotations").mkdir()
    monkeypatch.syspath_prepend(FOLDER)
    bench = importlib.import_module("ablation")
    monkeypatch.setattr(bench, "packed", lambda *_: None)
    monkeypatch.setattr(bench, "exported", lambda detector: detector)
    return bench


def test_every_row_of_an_ablation_changes_the_recipe(ablation) -> None:
    merged = {
        name: ablation.merge(ablation.ROOT, ablation.Request(preset="laptop", assignments=changes))
        for name, changes in ablation.CHANGES.items()
    }
    assert len({each.text for each in merged.values()}) == len(merged)


def test_an_ablation_tells_its_cost_and_goes_on_where_it_was(
    ablation, tmp_path: Path, monkeypatch, capsys
) -> None:
    trained = []

    def train(params, chosen, splits, steps):
        time.sleep(0.005 * steps)
        if steps == 100:
            trained.append((params.run.seed, params.train.augment.mixup))
            if len(trained) == 3:
                raise KeyboardInterrupt
        return None, {"steps": steps, "seconds": 1}

    given = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--steps", "100"]
    given += ["--rows", "none", "mixup", "--seeds", "3", "5"]
    monkeypatch.setattr(ablation, "trained", train)
    numbers = {"AP50": 0.5, "AP75": 0.25}
    monkeypatch.setattr(ablation, "scores", lambda *_: {"AP": 0.1 * len(trained), **numbers})
    with pytest.raises(KeyboardInterrupt):
        started("ablation", monkeypatch, *given)
    assert "4 trainings of 100 steps: about 0:00:02" in capsys.readouterr().out
    started("ablation", monkeypatch, *given)
    assert trained == [(3, 0.0), (3, 0.3), (5, 0.0), (5, 0.0), (5, 0.3)]
    told = capsys.readouterr().out
    assert "2 trainings" in told
    assert "| none | 2 | 0.250 | 0.212 | 0.500 | 0.250 | 1 |" in told
    assert "| `train.augment.mixup=0.3` | 2 | 0.350 | 0.212 |" in told
    assert str(tmp_path) not in (tmp_path / "out" / "table.md").read_text()
    started("ablation", monkeypatch, *given)
    assert len(trained) == 5
