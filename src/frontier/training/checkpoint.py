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

    state, contents = json.dumps(checkpoint.state), json.dumps(_contents(checkpoint))
    content = serialise(
        {name: t.detach().contiguous() for name, t in checkpoint.tensors.items()},
        {"step": str(checkpoint.step), "state": state, "contents": contents},
    )
    digest = hashlib.sha256(content).hexdigest()
    atomic_write(folder / f"{checkpoint.step:08d}-{digest}.safetensors", content)
    for stale in _newest_first(folder)[KEEP:]:
        stale.unlink()


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that holds what was written, whole; None if there is none.

    Those that are not are named in a warning, with the step that is taken up instead.
    """
    damaged: list[str] = []
    found = None
    for path in _newest_first(folder):
        found = _load(path) if sha256(path) == path.stem.partition("-")[2] else None
        if found:
            break
        damaged.append(path.name)
    if damaged:
        taken_up = f"goes on from step {found.step}" if found else "starts over from step 0"
        tracking.log_warning(
            f"{folder}: {', '.join(damaged)}: truncated or altered (the bytes do not have the "
            f"SHA-256 in the name, or a part is missing), not used; training {taken_up}"
        )
    return found


def _contents(checkpoint: Checkpoint) -> list[str]:
    """Every name in it: what is missing would be taken for what a training has not yet."""
    return sorted([*checkpoint.tensors, *(f"state/{name}" for name in checkpoint.state)])


def _load(path: Path) -> Checkpoint | None:
    """None where a part that was written is not there."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not {"step", "state", "contents"} <= metadata.keys():
        return None
    loaded = Checkpoint(int(metadata["step"]), tensors, json.loads(metadata["state"]))
    return loaded if _contents(loaded) == json.loads(metadata["contents"]) else None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), reverse=True)
