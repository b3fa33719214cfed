"""Resumable training state: safetensors for tensors, JSON for the rest, a digest over both.

Batches and augmentation depend on (seed, step) alone, so no random state needs saving: the step is
enough to go on exactly.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from frontier.files import atomic_write, read_json, sha256, write_json

KEEP = 2


class Checkpoint(NamedTuple):
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write one checkpoint; older ones beyond the newest `KEEP` go once it is complete."""
    from safetensors.torch import save as serialise

    content = serialise({name: t.detach().contiguous() for name, t in checkpoint.tensors.items()})
    path = folder / f"{checkpoint.step:08d}.safetensors"
    atomic_write(path, content)
    digest = hashlib.sha256(content).hexdigest()
    description = {"step": checkpoint.step, "sha256": digest, "state": checkpoint.state}
    write_json(path.with_suffix(".json"), description)
    for stale in sorted(folder.glob("*.json"))[:-KEEP]:
        stale.unlink()
        stale.with_suffix(".safetensors").unlink(missing_ok=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose bytes are what was written; None if there is none."""
    from safetensors.torch import load_file

    for description_path in sorted(folder.glob("*.json"), reverse=True):
        path = description_path.with_suffix(".safetensors")
        try:
            description = read_json(description_path)
            whole = sha256(path) == description["sha256"]
        except (OSError, ValueError, KeyError):
            continue
        if whole:
            return Checkpoint(description["step"], load_file(path), description["state"])
    return None
