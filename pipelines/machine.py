"""What the settings ask of this machine, checked before anything is written."""

import importlib.metadata

from frontier.errors import UsageError
from frontier.params import Params


def check(params: Params) -> None:
    """Refuse what cannot run here.

    Raises:
        UsageError: names every such setting.
    """
    problems = _untimeable(params)
    if params.run.device == "cuda" and (reason := _no_cuda()):
        problems.append(f"run.device: cuda, but {reason}; use --set run.device=auto")
    if problems:
        raise UsageError("\n".join(problems))


def _no_cuda() -> str:
    """Why torch cannot use a GPU here, empty if it can; a CPU build is known without importing."""
    version = importlib.metadata.version("torch")
    if "+cpu" in version:
        return f"torch {version} is a CPU build"
    import torch

    return "" if torch.cuda.is_available() else f"torch {version} finds no usable GPU"


def _untimeable(params: Params) -> list[str]:
    from frontier.targets import target

    searched = {name: target(params.targets[name]) for name in params.searched}
    return [
        f"searched: {name} cannot be timed on this machine ({made.unavailable()}); take it out of "
        "`searched` and give it `like:` a target that can"
        for name, made in searched.items()
        if not made.timeable
    ]
