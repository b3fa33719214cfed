"""Which device a process trains on, and what is said where there is none."""

import pytest
import torch

from frontier.errors import UsageError
from frontier.training.loop import training_device
from tests import tiny

CUDA = tiny.RUN.model_copy(update={"device": "cuda"})


def test_cuda_without_a_gpu_says_that_none_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=r"^run\.device: cuda, but torch finds no GPU") as told:
        training_device(CUDA)
    assert "torchrun" not in str(told.value)


def test_more_processes_than_gpus_are_told_apart_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match=r"more processes than the 2 GPU\(s\)"):
        training_device(CUDA)
