"""Kernels made for one network: where `torch.compile` is worth its minutes.

On a CPU it is not: compiling takes longer than the short trainings here. On CUDA it fuses what
stands between the convolutions; each input side is a graph of its own, so that shapes are fixed.
The supernet stays as it is: every subnet of it would be another graph. Not run on a GPU so far.
"""

import torch
from torch import nn

from frontier.params import Run


def compile_on_gpu(module: nn.Module, run: Run) -> None:
    """Compile the module's call in place; its weights, their names and its copies stay as they are.

    Only where `run.compile` is `auto` and the module lies on a CUDA device.
    """
    if pays(run, next(module.parameters()).device):
        module.compile(dynamic=False)


def pays(run: Run, device: torch.device) -> bool:
    return run.compile == "auto" and device.type == "cuda"
