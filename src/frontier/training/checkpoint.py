"""Resumable training state: one safetensors file, its digest in its name.

Tensors are stored as such, the rest as JSON in the file's metadata, so that one digest covers both
and one rename commits both. Batches and augmentation depend on (seed, step) alone, so no random
state needs saving: the step is enough to go on exactly.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from frontier import tracking
from frontier.files import atomic_write, sha256

KEEP = 2


class Checkpoint(NamedTuple):
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write one checkpoint; older ones beyond the newest `KEEP` go once it is complete."""
    from safetensors.torch import save as serialise

    content = serialise(
        {name: t.detach().contiguous() for name, t in checkpoint.tensors.items()},
        {"step": str(checkpoint.step), "state": json.dumps(checkpoint.state)},
    )
    digest = hashlib.sha256(content).hexdigest()
    atomic_write(folder / f"{checkpoint.step:08d}-{digest}.safetensors", content)
    for stale in _newest_first(folder)[KEEP:]:
        stale.unlink()


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose bytes are what was written; None if there is none.

    Those that are not are named in a warning, with the step that is taken up instead.
    """
    damaged: list[str] = []
    found = None
    for path in _newest_first(folder):
        if sha256(path) == path.stem.partition("-")[2]:
            found = _load(path)
            break
        damaged.append(path.name)
    if damaged:
        taken_up = f"goes on from step {found.step}" if found else "starts over from step 0"
        tracking.log_warning(
            f"{folder}: {', '.join(damaged)}: truncated or altered (the bytes do not have the "
            f"SHA-256 in the name), not used; training {taken_up}"
        )
    return found


def _load(path: Path) -> Checkpoint:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Checkpoint(int(metadata["step"]), tensors, json.loads(metadata["state"]))


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), reverse=True)
