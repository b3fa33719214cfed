"""What a user says of an ONNX detector in YAML: how it wants its images, what it answers.

    model: yolox_nano.onnx    # relative to this file
    image_size: [416, 416]    # height and width of its input, pixels
    colour: bgr               # bgr | rgb: order of the channels
    range: 0-255              # 0-255 | 0-1: what pixels are before `mean` and `std`
    mean: [0, 0, 0]           # taken off each channel
    std: [1, 1, 1]            # each channel is divided by it
    place: top-left           # top-left | centre: of the scaled image; stretch: no border
    border: 114               # grey of the border, 0 to 255
    output:
      layout: yolox           # yolox | decoded | detections
      strides: [8, 16, 32]    # yolox: of its levels, pixels
    classes: coco.txt         # names in the order of its outputs, or a file of one a line

`decoded` and `detections` (suppressed already) state instead of `strides` how boxes are spelled:

      format: xyxy            # xyxy | cxcywh
      units: pixels           # pixels (of its input) | normalised (0 to 1)
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from frontier.errors import UsageError
from frontier.files import sha256
from frontier.labeling.untrusted import checked_model
from frontier.params import Section, explained, load_yaml

Level = Annotated[float, Field(ge=0.0, le=255.0)]
Positive = Annotated[int, Field(ge=1, le=8192)]
Divisor = Annotated[float, Field(gt=0.0)]
WANTED = {"yolox": {"strides"}, "decoded": {"format", "units"}, "detections": {"format", "units"}}


class Output(Section):
    """`strides` of a grid, `format` and `units` of boxes."""

    layout: Literal["yolox", "decoded", "detections"]
    strides: list[Positive] | None = None
    format: Literal["xyxy", "cxcywh"] | None = None
    units: Literal["pixels", "normalised"] | None = None


class Description(Section):
    """See the module; `classes` may be a path, until `read_description` has read it."""

    model: str
    image_size: tuple[Positive, Positive]
    colour: Literal["bgr", "rgb"]
    range: Literal["0-255", "0-1"]
    mean: tuple[float, float, float]
    std: tuple[Divisor, Divisor, Divisor]
    place: Literal["top-left", "centre", "stretch"]
    border: Level
    output: Output
    classes: list[str] | str


class Described(NamedTuple):
    """A description with the names of its classes read, and the model that it means."""

    description: Description
    model: Path


def read_description(path: Path) -> Described:
    """Read and check a description; the model itself is not opened.

    Raises:
        UsageError: lists every wrong key and value, and every file that is missing.
    """
    values = load_yaml(path)
    try:
        description = Description.model_validate(values)
    except ValidationError as error:
        lines = explained(error, values, Description)
        lines += _files_missing(values, path.parent)
        raise _wrong(path, lines) from None
    names = _names(description.classes, path.parent)
    lines = _unfitting(description.output) + _files_missing(values, path.parent)
    if isinstance(names, list) and not names:
        lines.append("classes: none; name them in the order of the model's outputs")
    lines += [f"classes: {name!r} stands twice" for name in _repeated(names)]
    if lines:
        raise _wrong(path, lines)
    found = description.model_copy(update={"classes": names})
    return Described(found, path.parent / description.model)


def _wrong(path: Path, lines: list[str]) -> UsageError:
    return UsageError(f"{path}: {len(lines)} problem(s)\n  " + "\n  ".join(lines))


def _unfitting(output: Output) -> list[str]:
    """Keys that the layout needs and lacks, or that say nothing of it."""
    given = {name for name in ("strides", "format", "units") if getattr(output, name) is not None}
    wanted = WANTED[output.layout]
    missing = [f"output.{key}: missing; layout {output.layout} needs it" for key in wanted - given]
    spare = [
        f"output.{key}: says nothing of layout {output.layout}; remove it" for key in given - wanted
    ]
    return sorted(missing + spare)


def _files_missing(values: dict[str, Any], folder: Path) -> list[str]:
    named = [(key, values.get(key)) for key in ("model", "classes")]
    return [
        f"{key}: {folder / value}: no such file"
        for key, value in named
        if isinstance(value, str) and not (folder / value).is_file()
    ]


def _names(classes: list[str] | str, folder: Path) -> list[str]:
    if isinstance(classes, list):
        return classes
    path = folder / classes
    text = path.read_text(errors="replace") if path.is_file() else "-"
    return [line.strip() for line in text.splitlines() if line.strip()]


def _repeated(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def describe_teacher(root: Path, onnx: str | None) -> dict[str, Any]:
    """What DVC compares: the description, and the SHA-256 of the model.

    Args:
        onnx: the path of the YAML relative to `root`; None for a teacher that is trained here.

    Raises:
        UsageError: the description or its model is wrong; `teacher.onnx` is named.
    """
    if onnx is None:
        return {"onnx": None}
    try:
        described = read_description(root / onnx)
        checked_model(described.model)
    except UsageError as error:
        raise UsageError(f"teacher.onnx: {error}") from None
    description = described.description.model_dump(mode="json")
    return {"onnx": onnx, "description": description, "sha256": sha256(described.model)}
