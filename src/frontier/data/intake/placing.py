"""Boxes laid beside their images: shard by shard, in the order of the images."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow

from frontier.data.formats import BOXES, Problem
from frontier.data.intake.gathering import UNKNOWN, Gathered, Problems
from frontier.data.intake.spool import Spool, deal

Ints = npt.NDArray[np.int64]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

PLACED = BOXES.append(pa.field("row", pa.int64()))
LISTED = 20  # known ids named in a message


def place_boxes(gathered: Gathered, shard_rows: int, problems: Problems, work: Path) -> list[Spool]:
    """One spool of `PLACED` a shard of `shard_rows` images; boxes of no known image or class, or
    with an id used before, are named and left out."""
    repeated = gathered.repeated_boxes(work)
    shards = max(1, -(-len(gathered) // shard_rows))
    sound = _sound(gathered, repeated, problems)
    folder = work / f"{gathered.split}-placed"
    return deal(sound, PLACED, lambda t: t["row"].to_numpy() // shard_rows, shards, folder)


def in_order(spool: Spool) -> Any:
    """The boxes of a shard by image, those of an image as the file has them."""
    table = pa.concat_tables([spool.schema.empty_table(), *spool.tables()])
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    return table.take(order)


def _sound(gathered: Gathered, repeated: Ints, problems: Problems) -> Iterator[Any]:
    known = np.sort(np.array([*gathered.classes], np.int64))
    start = 0
    for table in gathered.boxes.tables():
        stop = start + table.num_rows
        again = np.zeros(table.num_rows, bool)
        own = repeated[np.searchsorted(repeated, start) : np.searchsorted(repeated, stop)]
        again[own - start] = True
        rows = gathered.rows(table["image_id"].to_numpy())
        strange = ~np.isin(table["category_id"].to_numpy(), known)
        problems.add(_faults(gathered, table, again, rows == UNKNOWN, strange))
        keep = ~again & ~strange & (rows >= 0)
        yield table.append_column("row", pa.array(rows)).filter(pa.array(keep))
        start = stop


def _faults(
    gathered: Gathered,
    table: Any,
    again: npt.NDArray[np.bool_],
    lost: npt.NDArray[np.bool_],
    strange: npt.NDArray[np.bool_],
) -> Iterable[Problem]:
    faulty = np.flatnonzero(again | lost | strange)
    columns = ("line", "source_id", "image_id", "category_id")
    # whole columns at once: a value taken singly costs a hundred times as much
    values = (table[name].take(pa.array(faulty)).to_pylist() for name in columns)
    known = _ids(gathered)
    for i, line, source_id, image_id, category_id in zip(faulty.tolist(), *values, strict=True):
        named = f" annotation {source_id}" if source_id is not None else ""
        where = f"{gathered.split}{named} (line {line})"
        if again[i]:
            text = f"annotation id {source_id} is used twice"
            yield Problem("duplicate-id", "critical", where, text)
        if lost[i]:
            text = f"image_id {image_id} is no image of this split"
            yield Problem("unknown-image", "critical", where, text)
        if strange[i]:
            text = f"category_id {category_id} is not in categories; known ids: {known}"
            yield Problem("unknown-category", "critical", where, text)


def _ids(gathered: Gathered) -> str:
    return ", ".join(map(str, sorted(gathered.classes)[:LISTED])) or "none"
