"""A teacher's detections on many images: portion by portion, in worker processes, resumable.

Each portion ends as one file below the stage's work folder; a killed labelling goes on with the
portions that are missing, and ends with the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save

from frontier import tracking
from frontier.data.loading.packing import PackedSplit, load_meta, load_split
from frontier.data.workers import run as work
from frontier.files import atomic_write
from frontier.labeling.agreement import agreement
from frontier.labeling.teachers import open_teacher
from frontier.metrics import Detections
from frontier.params import Evaluate, Workers

PORTION = 256  # images where they lie in an array; of shards each is one

Flags = npt.NDArray[np.bool_]


class Question(NamedTuple):
    """Who looks at what, and how; plain values, that travel to another process.

    Attributes:
        teacher: the folder of the teacher.
        pack: the folder of the packed data.
        split: a name in it.
        flip_iou: overlap from which a detection of the mirror image is the same; None looks once.
        device: for a network trained here.
        threads: of all processes together.
        rules: which boxes of a network trained here are kept.
    """

    teacher: str
    pack: str
    split: str
    flip_iou: float | None
    device: str
    threads: int
    rules: Evaluate


class Answer(NamedTuple):
    """Detections in the order of the images, and which of them were seen `[N]` in both looks."""

    found: Detections
    twice: Flags


def ask(question: Question, folder: Path, workers: Workers) -> Answer:
    """The teacher's detections on a whole split.

    Args:
        folder: where portions are kept until the stage is done.
    """
    split = load_split(Path(question.pack), question.split)
    ranges = list(portions(split))
    paths = [folder / f"{question.split}-{start:08d}.safetensors" for start, _ in ranges]
    jobs = max(1, min(workers.jobs, len(ranges)))  # whatever is missing: bytes may hang on threads
    question = question._replace(threads=max(1, question.threads // jobs))
    missing = [
        (question, start, stop, str(path))
        for (start, stop), path in zip(ranges, paths, strict=True)
        if not path.is_file()
    ]
    done = len(ranges) - len(missing)
    answered = work(answer_portion, missing, _hands(question, workers, len(missing)))
    for number, _ in enumerate(answered, 1):
        tracking.log_progress(done + number, len(ranges), f"portions of {question.split}")
    return _joined([load_file(path) for path in paths])


def portions(split: PackedSplit) -> Iterator[tuple[int, int]]:
    """First image and end of each portion."""
    per_shard = getattr(split.images.pixels, "images_per_shard", PORTION)
    for start in range(0, len(split), per_shard):
        yield start, min(start + per_shard, len(split))


def _hands(question: Question, workers: Workers, portions: int) -> Workers:
    """No more processes than portions, and one beside a GPU."""
    if workers.backend != "local":
        return workers
    most = 1 if question.device != "cpu" else max(1, portions)
    return workers.model_copy(update={"jobs": min(workers.jobs, most)})


def answer_portion(question: Question, start: int, stop: int, path: str) -> None:
    """Ask about images `start` to `stop - 1`, and keep the answer."""
    torch.set_num_threads(question.threads)
    pack = Path(question.pack)
    names = [entry["name"] for entry in load_meta(pack).classes]
    device = torch.device(question.device)
    teacher = open_teacher(Path(question.teacher), names, device, question.threads, question.rules)
    split = load_split(pack, question.split).subset(np.arange(start, stop))
    found = teacher.detect(split)
    twice = np.ones(len(found.scores), bool)
    if question.flip_iou is not None:
        found, twice = agreement(found, teacher.detect(split, mirrored=True), question.flip_iou)
    arrays = {
        "image_id": found.image_id,
        "boxes_xyxy": np.ascontiguousarray(found.boxes_xyxy, np.float32),
        "scores": np.ascontiguousarray(found.scores, np.float32),
        "labels": np.ascontiguousarray(found.labels, np.int64),
        "twice": twice,
    }
    atomic_write(Path(path), save(arrays))


def _joined(parts: Sequence[dict[str, npt.NDArray[np.generic]]]) -> Answer:
    names = ("image_id", "boxes_xyxy", "scores", "labels", "twice")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    twice = columns.pop("twice").astype(bool)
    return Answer(Detections(**columns), twice)
