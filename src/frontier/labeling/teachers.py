"""Who labels and teaches: the network trained here, or any ONNX detector, behind one interface.

`data/teacher` holds one of the two: `save_detector`'s files, or `MODEL` with `DESCRIPTION`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from frontier import tracking
from frontier.boxes import Letterbox
from frontier.data.loading.packing import PackedSplit, StoredImages
from frontier.errors import DataError, TamperedError, nearest
from frontier.files import atomic_write, read_json, sha256, write_json
from frontier.labeling.description import Description, read_description
from frontier.labeling.onnx_detector import OnnxDetector
from frontier.labeling.untrusted import checked_model
from frontier.metrics import Detections
from frontier.models.detector import load_detector
from frontier.models.inference import detect
from frontier.params import Evaluate

MODEL, DESCRIPTION = "teacher.onnx", "teacher.json"


class Teacher(Protocol):
    """Something that detects in packed images."""

    def detect(self, split: PackedSplit, *, mirrored: bool = False) -> Detections:
        """Boxes in stored pixels, labels of the dataset; `mirrored`: found in mirror images, the
        boxes turned back."""
        ...


class Matching(NamedTuple):
    """How a model's classes meet the dataset's, by name.

    Attributes:
        label_of: dataset label of each of the model's classes, -1 where there is none.
        untaught: names of the dataset's classes that the model does not know.
        unused: names of the model's classes that the dataset does not have.
    """

    label_of: np.ndarray[Any, np.dtype[np.int64]]
    untaught: list[str]
    unused: list[str]


def match_classes(of_model: Sequence[str], of_dataset: Sequence[str]) -> Matching:
    """By name, capitals and the blanks around it aside."""
    places = {_plain(name): label for label, name in enumerate(of_dataset)}
    label_of = np.array([places.get(_plain(name), -1) for name in of_model], np.int64)
    known = {_plain(name) for name in of_model}
    untaught = [name for name in of_dataset if _plain(name) not in known]
    unused = [name for name in of_model if _plain(name) not in places]
    return Matching(label_of, untaught, unused)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


class TrainedTeacher:
    """The largest network, trained by this pipeline."""

    def __init__(self, folder: Path, device: torch.device, rules: Evaluate) -> None:
        loaded = load_detector(folder)
        self._rules = rules
        self._side = loaded.architecture.image_side
        self._deployed = loaded.module.deploy().to(device)

    def detect(self, split: PackedSplit, *, mirrored: bool = False) -> Detections:
        if not mirrored:
            return _within(split, detect(self._deployed, split, self._side, self._rules))
        found = detect(self._deployed, _mirror(split), self._side, self._rules)
        boxes = found.boxes_xyxy.copy()
        boxes[:, [0, 2]] = split.image_size - boxes[:, [2, 0]]
        return _within(split, Detections(found.image_id, boxes, found.scores, found.labels))


def _within(split: PackedSplit, found: Detections) -> Detections:
    """Boxes cut off where the image ends and the grey around it begins; those in the grey go."""
    sizes = split.sizes_hw.tolist()
    inner = [Letterbox((height, width), split.image_size) for height, width in sizes]
    edges = np.array([[b.left, b.top, b.left + b.new_hw[1], b.top + b.new_hw[0]] for b in inner])
    order = np.argsort(split.image_ids)
    place = order[np.searchsorted(split.image_ids[order], found.image_id)]
    low, high = edges[place][:, [0, 1, 0, 1]], edges[place][:, [2, 3, 2, 3]]
    boxes = np.clip(found.boxes_xyxy, low, high).astype(np.float32)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Detections(found.image_id[solid], boxes[solid], found.scores[solid], found.labels[solid])


class _Mirrored(StoredImages):
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index)[..., ::-1, :]


def _mirror(split: PackedSplit) -> PackedSplit:
    return replace(split, images=_Mirrored(split.images.pixels, split.images.rows))


class OnnxTeacher:
    """A user's detector. It sees what is stored of an image, without the grey around it."""

    def __init__(self, folder: Path, names: Sequence[str], threads: int) -> None:
        description = Description.model_validate(read_json(folder / DESCRIPTION)["description"])
        self._detector = OnnxDetector(checked_model(folder / MODEL), description, threads)
        self._label_of = match_classes(description.classes, names).label_of

    def detect(self, split: PackedSplit, *, mirrored: bool = False) -> Detections:
        rows = [self._detect_one(split, i, mirrored) for i in range(len(split))]
        return Detections.gather(split.image_ids.tolist(), rows)

    def _detect_one(self, split: PackedSplit, i: int, mirrored: bool) -> tuple[Any, Any, Any]:
        height, width = split.sizes_hw[i].tolist()
        inner = Letterbox((height, width), split.image_size)
        rows, columns = inner.new_hw
        content = split.images[i][inner.top : inner.top + rows, inner.left : inner.left + columns]
        found = self._detector(np.ascontiguousarray(content[:, ::-1] if mirrored else content))
        boxes = found.boxes_xyxy.copy()
        if mirrored:
            boxes[:, [0, 2]] = columns - boxes[:, [2, 0]]
        labels = self._label_of[found.classes]
        known = labels >= 0
        return (boxes + inner.pad_xyxy)[known], found.scores[known], labels[known]


def is_onnx(folder: Path) -> bool:
    """Whether a user's detector teaches, or the network that was trained here."""
    return (folder / MODEL).is_file()


def open_teacher(
    folder: Path, names: Sequence[str], device: torch.device, threads: int, rules: Evaluate
) -> Teacher:
    """The teacher that lies in `data/teacher`.

    Args:
        names: of the dataset's classes, by label.
        device: of a network trained here; an ONNX detector runs on the CPU.
        rules: which boxes of a network trained here are kept; an ONNX detector has its own.
    """
    if is_onnx(folder):
        return OnnxTeacher(folder, names, threads)
    return TrainedTeacher(folder, device, rules)


def take_onnx(
    root: Path, manifest: Mapping[str, Any], names: Sequence[str], out: Path, stored_px: int
) -> Matching:
    """Put a user's detector into `out`, as it is, and report how its classes meet the dataset's.

    Args:
        manifest: what `describe_teacher` gave when the run began.
        stored_px: side of the packed images.

    Raises:
        TamperedError: the model changed since.
        DataError: none of its classes is one of the dataset's.
    """
    described = read_description(root / manifest["onnx"])
    if sha256(described.model) != manifest["sha256"]:
        raise TamperedError(f"{described.model}: altered since this run began; run it again")
    description = described.description
    matching = match_classes(description.classes, names)
    _tell(matching, len(names), manifest["onnx"], names, description.classes)
    if stored_px < max(description.image_size):
        tracking.log_warning(
            f"pack.image_size: {stored_px} px is less than the teacher's {description.image_size}; "
            "it sees enlarged images and finds less than it could"
        )
    atomic_write(out / MODEL, checked_model(described.model))
    told = {"untaught": matching.untaught, "unused": len(matching.unused)}
    write_json(out / DESCRIPTION, {"description": description.model_dump(mode="json"), **told})
    return matching


def _tell(
    matching: Matching, count: int, path: str, names: Sequence[str], known: Sequence[str]
) -> None:
    hints = [
        f"{name}: no class of that name; {nearest(name, [*known])}" for name in matching.untaught
    ]
    if len(matching.untaught) == count:
        raise DataError(f"{path}: none of its classes is one of the dataset's; rename them", hints)
    if hints:
        tracking.log_warning(
            f"{path}: {len(hints)} of {count} classes go untaught: " + "; ".join(hints)
        )
