"""What is wrong with each image and box of a catalog, and what becomes of them, shard by shard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.compute

from frontier.data.catalog import DROPPED, QUARANTINED, REPAIRED, USED
from frontier.data.tables import opened
from frontier.data.verdict.faults import CLIPPED, CODES, DEGENERATE, DUPLICATE, BoxFaults
from frontier.data.verdict.rules import NOTES
from frontier.params import Validate

Array = npt.NDArray[Any]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

BATCH = 8192  # images judged together
DECODED = ("ok", "too-many-boxes", "size-mismatch")  # codes of images that can be looked at
OUTCOMES = np.array([USED, REPAIRED, DROPPED, DROPPED])  # by the place in CODES

IMAGES = pa.schema(
    [
        ("split", pa.string()),
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("outcome", pa.string()),
        ("code", pa.string()),
        *((name, pa.int64()) for name in ("boxes", "used", "repaired", "dropped")),
    ]
)
BOXES = pa.schema(
    [
        ("box_id", pa.int64()),
        ("split", pa.string()),
        ("image_id", pa.int64()),
        ("code", pa.string()),
        ("outcome", pa.string()),
    ]
)


class Shard(NamedTuple):
    """Consecutive images and their boxes, in Arrow's tables."""

    images: Any
    boxes: Any
    rows: npt.NDArray[np.int64]  # the image of each box

    def only(self, usable: npt.NDArray[np.bool_]) -> "Shard":
        """The same images, and the boxes of the usable ones."""
        own = usable[self.rows]
        return Shard(self.images, self.boxes.filter(pa.array(own)), self.rows[own])


def shards(catalog: Path, most: int) -> Iterator[Shard]:
    """The catalog's tables, some images at a time; boxes of an image with more than `most` are
    passed over."""
    boxes = _Reader(catalog / "boxes.parquet")
    with opened(catalog / "images.parquet") as file:
        for batch in file.iter_batches(BATCH):
            images = pa.Table.from_batches([batch])
            counts = images["boxes"].to_numpy()
            kept = np.where(counts > most, 0, counts)
            parts = [boxes.take(0)]
            for run in np.split(np.arange(len(counts)), np.flatnonzero(counts > most)):
                # each run but the first begins with an image whose boxes are passed over
                boxes.skip(int((counts - kept)[run].sum()))
                parts.append(boxes.take(int(kept[run].sum())))
            own = pa.concat_tables(parts).combine_chunks()
            yield Shard(images, own, np.repeat(np.arange(len(counts)), kept))


class _Reader:
    """Rows of a Parquet file, from first to last, as many at a time as are asked for."""

    def __init__(self, path: Path) -> None:
        self.file = opened(path)
        self.batches = self.file.iter_batches(1 << 16)
        self.rest = self.file.schema_arrow.empty_table()

    def take(self, count: int) -> Any:
        kept = [self.rest]
        while sum(table.num_rows for table in kept) < count:
            kept.append(pa.Table.from_batches([next(self.batches)]))
        whole = pa.concat_tables(kept)
        self.rest = whole.slice(count)
        return whole.slice(0, count)

    def skip(self, count: int) -> None:
        while count > self.rest.num_rows:
            count -= self.rest.num_rows
            self.rest = pa.Table.from_batches([next(self.batches)])
        self.rest = self.rest.slice(count)


def image_codes(images: Any, params: Validate) -> Array:
    """ "ok", or why an image is quarantined."""
    code: Array = images["status"].to_numpy(zero_copy_only=False).astype("<U24")
    good = code == "ok"
    sizes, declared = (
        np.stack([images[prefix + side].to_numpy() for side in ("width", "height")])
        for prefix in ("", "declared_")
    )
    differs = (declared > 0).all(axis=0) & (declared != sizes).any(axis=0)
    code[good & (images["boxes"].to_numpy() > params.max_boxes)] = "too-many-boxes"
    code[good & differs] = "size-mismatch"
    return code


BOX_FLAGS = (
    *("out-of-image", "duplicate-box", "degenerate-box", "extreme-aspect", "suspicious-box"),
)
FLAGS = ("usable", "filled", *NOTES, *BOX_FLAGS)


def image_flags(shard: Shard, usable: npt.NDArray[np.bool_], found: BoxFaults) -> pd.DataFrame:
    """One row an image, true where it keeps the rule of that name."""
    rows, count = shard.rows, shard.images.num_rows

    def without(faulty: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        keeps: npt.NDArray[np.bool_] = np.bincount(rows[faulty], minlength=count) == 0
        return keeps

    notes = shard.images["notes"].combine_chunks()
    kinds = {code: _without_note(notes, code) for code in NOTES}
    faulty = (
        *(found.code == CLIPPED, found.code == DUPLICATE, found.code == DEGENERATE),
        *(found.thin, found.doubtful),
    )
    boxes = dict(zip(BOX_FLAGS, map(without, faulty), strict=True))
    filled = np.bincount(rows, minlength=count) > 0
    return pd.DataFrame({"usable": usable, "filled": filled, **kinds, **boxes})


def _without_note(notes: Any, code: str) -> npt.NDArray[np.bool_]:
    without: npt.NDArray[np.bool_] = np.ones(len(notes), bool)
    parents = pa.compute.list_parent_indices(notes).to_numpy()
    named = pa.compute.equal(pa.compute.list_flatten(notes), code).to_numpy(zero_copy_only=False)
    without[parents[named.astype(bool)]] = False
    return without


def outcomes(shard: Shard, code: Array, box_code: npt.NDArray[np.int8]) -> Any:
    """The table of `IMAGES`: what becomes of each image and how many of its boxes.

    Args:
        shard: with the boxes of usable images; those of the others are all dropped.
    """

    def count(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.bincount(shard.rows[chosen], minlength=len(code))

    outcome = np.where(code == "ok", USED, QUARANTINED)
    boxes = shard.images["boxes"].to_numpy()
    dropped = np.where(code == "ok", count(box_code > CLIPPED), boxes)
    columns = [shard.images[name] for name in ("split", "image_id", "file_name")]
    counts = (boxes, count(box_code == 0), count(box_code == CLIPPED), dropped)
    return pa.table([*columns, *map(pa.array, (outcome, code, *counts))], schema=IMAGES)


def faulty_boxes(shard: Shard, box_code: npt.NDArray[np.int8]) -> Any:
    """The table of `BOXES`: those that are not used as they were given."""
    faulty = np.flatnonzero(box_code)
    table = shard.boxes.take(pa.array(faulty))
    code = np.array(CODES)[box_code[faulty]]
    columns = [table[name] for name in ("box_id", "split", "image_id")]
    outcome = OUTCOMES[box_code[faulty]]
    return pa.table([*columns, pa.array(code), pa.array(outcome)], schema=BOXES)
