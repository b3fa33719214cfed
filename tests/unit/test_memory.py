"""The batch size that fits is found once; memory that runs out is told in words."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frontier.errors import OutOfMemory, UsageError
from frontier.files import read_json
from frontier.params import Length, load_yaml, parse_params
from frontier.training import memory, plan
from frontier.training.checkpoint import load_newest
from frontier.training.plan import plan_of, train
from tests import tiny

LENGTH = Length(steps=10, share=1.0)
MB = 10**6


class LinearGrowth:
    """As if each step took 200 MB and 100 MB an image."""

    def __init__(self, device: torch.device) -> None:
        self.images = 0

    def bytes(self) -> int:
        self.images = 2 if not self.images else 4
        return (200 + 100 * self.images) * MB


@pytest.mark.parametrize(
    ("free_mb", "images", "expected"),
    [
        (2000, 100, 8),
        (2249, 100, 8),
        (2251, 100, 16),
        (10**6, 100, 64),
        (10**6, 50, 32),
        (380, 9, 1),
    ],
)
def test_the_largest_power_of_two_that_leaves_room(
    tmp_path: Path, monkeypatch, capsys, free_mb, images, expected
) -> None:
    monkeypatch.setattr(memory, "Growth", LinearGrowth)
    monkeypatch.setattr(memory, "free_bytes", lambda device: free_mb * MB)
    task = tiny.task(tmp_path, images=images, batch_size="auto")
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    assert plan_of(task, LENGTH) == (10, expected)
    assert read_json(tmp_path / "plan.json") == {"steps": 10, "batch_size": expected}
    assert f"of {expected} images" in capsys.readouterr().out
    assert all(torch.equal(value, before[n]) for n, value in task.module.state_dict().items())
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    assert plan_of(task, LENGTH).batch_size == expected  # read, not measured again


@pytest.mark.parametrize(("at_most", "expected"), [(256, 256), (48, 32), (1, 1)])
def test_auto_chooses_at_most_what_the_user_allows(
    tmp_path: Path, monkeypatch, at_most, expected
) -> None:
    monkeypatch.setattr(memory, "Growth", LinearGrowth)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**12)
    allowed = {"batch_size": "auto", "max_batch_size": at_most}
    task = tiny.task(tmp_path, images=300, **allowed)
    assert plan_of(task, LENGTH).batch_size == expected


def test_where_no_batch_fits_nothing_is_guessed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "Growth", LinearGrowth)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(OutOfMemory, match=r"train\.batch_size: no batch fits"):
        plan_of(tiny.task(tmp_path, batch_size="auto"), LENGTH)
    assert not (tmp_path / "plan.json").exists()


def test_a_training_of_automatic_size_uses_it(tmp_path: Path) -> None:
    task, sizes = tiny.task(tmp_path, images=6, batch_size="auto"), []
    told = replace(task, backward=lambda b: sizes.append(len(b.labels)) or task.backward(b))
    history = train(told, Length(steps=3, share=1.0))
    assert sizes[-3:] == [4, 4, 4]  # six images hold no batch of eight
    assert [row["step"] for row in history] == [2, 3]


def test_growth_sees_a_peak_that_is_gone_again() -> None:
    torch.ones(128 * MB).sum()  # an older and higher one does not count
    growth = memory.Growth(torch.device("cpu"))
    torch.ones(64 * MB).add_(1).sum()  # 256 MB
    assert 200 * MB < growth.bytes() < 800 * MB


def test_growth_sees_what_comes_from_pages_that_malloc_had_kept() -> None:
    torch.ones(7 * MB)  # malloc takes arrays below the largest one freed from its heap, not by mmap
    kept, above = [torch.ones(6 * MB) for _ in range(40)], torch.ones(6 * MB)
    del kept
    growth = memory.Growth(torch.device("cpu"))
    torch.ones(64 * MB).add_(1).sum()
    assert 200 * MB < growth.bytes() < 800 * MB
    assert above.sum() == 6 * MB


@pytest.mark.parametrize("value", ["automatic", 0, -2, 1.5, True, None])
def test_a_batch_size_is_a_number_or_auto(value) -> None:
    values = load_yaml(Path(__file__).parents[2] / "params.yaml")
    values["train"]["batch_size"] = value
    with pytest.raises(UsageError, match=r"train\.batch_size: must be auto or at least 1"):
        parse_params(values)
    values["train"]["batch_size"] = "auto"
    parse_params(values)


def exhausted(task: plan.Task, step: int, error: Exception) -> plan.Task:
    """The task, out of memory at `step` whenever its batch is of full size."""

    def backward(batch):
        if batch.step == step and len(batch.labels) >= task.source.batch_size:
            raise error
        return task.backward(batch)

    return replace(task, backward=backward)


CPU_WORDS = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."


@pytest.mark.parametrize(
    ("step", "error"),
    [(0, torch.OutOfMemoryError("CUDA")), (6, RuntimeError(CPU_WORDS)), (9, MemoryError())],
)
def test_running_out_names_what_would_fit(tmp_path: Path, step: int, error: Exception) -> None:
    task = tiny.task(tmp_path, images=8, batch_size=8)
    with pytest.raises(OutOfMemory) as told:
        train(exhausted(task, step, error), LENGTH)
    message = str(told.value)
    assert "GB with train.batch_size 8" in message
    assert "4 would fit; set train.batch_size=4, or auto" in message
    assert told.value.exit_code == 71
    kept = load_newest(tmp_path)
    assert (kept.step if kept else 0) == step // 4 * 4
    resumed = tiny.task(tmp_path, images=8, batch_size=8)
    history = train(resumed, LENGTH)
    whole = tiny.task(tmp_path / "whole", images=8, batch_size=8)
    assert train(whole, LENGTH) == history
    for name, value in whole.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], value), name


def test_weights_and_their_average_survive_running_out(tmp_path: Path) -> None:
    task = tiny.task(tmp_path)
    training = task.training(10, tmp_path)
    training.module.train()
    for batch in task.source(0, 2):
        training.advance(batch)
    before = {name: value.clone() for name, value in training.module.state_dict().items()}
    average = {name: value.clone() for name, value in training.ema.average.items()}
    training.backward = exhausted(task, 2, torch.OutOfMemoryError("CUDA")).backward
    with pytest.raises(torch.OutOfMemoryError):
        training.advance(next(task.source(2, 3)))
    assert all(torch.equal(v, before[n]) for n, v in training.module.state_dict().items())
    assert all(torch.equal(v, average[n]) for n, v in training.ema.average.items())


def test_another_error_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="sizes differ"):
        train(exhausted(tiny.task(tmp_path), 1, RuntimeError("sizes differ")), LENGTH)


LIMITED = """
import resource, sys, psutil, torch
from pathlib import Path
from frontier.errors import OutOfMemory
from frontier.params import Length
from frontier.training.plan import train
from tests import tiny

torch.set_num_threads(1)
warm, task = (tiny.task(Path(sys.argv[1]) / name, batch_size=size, loader_workers=0)
              for name, size in (("warm", 2), ("task", 2048)))
train(warm, Length(steps=1, share=1.0))
taken = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (taken + 700_000_000, resource.RLIM_INFINITY))
try:
    train(task, Length(steps=1, share=1.0))
except OutOfMemory as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_real_limit_is_told_in_words(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[2]
    path = os.pathsep.join([str(checkout / "src"), str(checkout)])
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 71, answer.stdout + answer.stderr
    assert "GB with train.batch_size 2048; " in answer.stdout
    assert re.search(r"[1-9]\d* would fit", answer.stdout)
