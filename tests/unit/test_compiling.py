"""Where networks are compiled, and that it leaves weights and copies alone."""

import copy

import pytest
import torch

from frontier.training.compiling import compile_on_gpu, pays
from tests import tiny


@pytest.mark.parametrize(
    ("choice", "device", "wanted"),
    [("auto", "cuda", True), ("auto", "cpu", False), ("never", "cuda", False)],
)
def test_only_cuda_is_worth_it_and_only_if_allowed(choice: str, device: str, wanted: bool) -> None:
    run = tiny.RUN.model_copy(update={"compile": choice})
    assert pays(run, torch.device(device)) == wanted


def test_on_a_cpu_the_call_stays_as_it_was() -> None:
    detector = tiny.detector()
    compile_on_gpu(detector, tiny.RUN)
    assert detector._compiled_call_impl is None


def test_a_compiled_network_keeps_names_answers_and_uncompiled_copies() -> None:
    """What averaging, scoring and export rely on; `eager` compiles without a compiler."""
    plain, compiled = tiny.detector(), tiny.detector()
    compiled.compile(dynamic=False, backend="eager")
    assert [*compiled.state_dict()] == [*plain.state_dict()]
    assert copy.deepcopy(compiled)._compiled_call_impl is None
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for one, other in zip(plain(images)[:2], compiled(images)[:2], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
