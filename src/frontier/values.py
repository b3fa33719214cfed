"""The kinds of value that stand in `params.yaml`, each with what a wrong one is told."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


def _known_width(value: float) -> float:
    if value not in (0.25, 0.5, 1.0):
        raise ValueError(f"space.interface_width: must be 0.25, 0.5 or 1.0 (found {value:g})")
    return value


def _known_batch_size(value: object) -> object:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"train.batch_size: must be auto or at least 1 (found {value!r})")


def _known_scale(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, list | tuple) and len(value) == 2:
        low, high = value
        if all(type(v) in (int, float) and math.isfinite(v) for v in value) and 0 < low <= high:
            return float(low), float(high)
    raise ValueError(
        f"train.augment.scale: must be auto or [low, high] with 0 < low <= high (found {value!r})"
    )


def _known_pattern(value: str | None) -> str | None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"ingest.scenes: not a regular expression: {error}") from None
    return value


Width = Annotated[float, AfterValidator(_known_width)]
BatchSize = Annotated[int | Literal["auto"], PlainValidator(_known_batch_size)]
Scale = Annotated[tuple[float, float] | Literal["auto"], PlainValidator(_known_scale)]
Pattern = Annotated[str | None, AfterValidator(_known_pattern)]
Side = Annotated[int, Field(ge=32, multiple_of=32)]
