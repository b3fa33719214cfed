"""The parts of a split brought together on disk, and the faults that only the whole can show."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet

from frontier.data.formats import BOXES, IMAGES, Part, Problem
from frontier.data.intake.spool import Spool, deal

Ints = npt.NDArray[np.int64]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

UNKNOWN, REFUSED = -1, -2  # instead of a row
BUCKET = 1 << 20  # ids looked at together when repeats are sought
PROBLEMS = pa.schema([(name, pa.string()) for name in Problem._fields])


class Problems:
    """The list of faults, on its way into a file; nothing of it stays in memory but counts."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.critical = 0
        self._writer = pa.parquet.ParquetWriter(path, PROBLEMS)

    def add(self, problems: Iterable[Problem]) -> None:
        rows = list(problems)
        if rows:
            self.counts.update(row.code for row in rows)
            self.critical += sum(row.severity == "critical" for row in rows)
            columns = [list(column) for column in zip(*rows, strict=True)]
            self._writer.write_table(pa.table(columns, schema=PROBLEMS))

    def close(self) -> None:
        self._writer.close()


class Gathered:
    """One split: its images and boxes in spools, its image ids in memory.

    Attributes:
        classes: names by category id, as the split's files state them.
        images_read, boxes_read: records of the files, sound or not.
    """

    def __init__(self, split: str, work: Path) -> None:
        self.split = split
        self.images = Spool(work / f"{split}-images.arrow", IMAGES)
        self.boxes = Spool(work / f"{split}-boxes.arrow", BOXES)
        self.classes: dict[int, str] = {}
        self.images_read = self.boxes_read = 0
        self._ids: list[Ints] = []
        self._refused: list[int] = []
        self.kept = self._rows = np.zeros(0, np.int64)
        self._sorted_ids = np.zeros(0, np.int64)

    def add(self, part: Part) -> None:
        self.images.append(part.images)
        self.boxes.append(part.boxes)
        self.classes |= part.classes
        self.images_read += part.images.num_rows + part.refused_images
        self.boxes_read += part.boxes.num_rows + part.refused_boxes
        self._ids.append(part.images["image_id"].to_numpy())
        self._refused += part.refused

    def close(self) -> Iterator[Problem]:
        """End the reading; images whose id is taken are left out, and named."""
        self.images.close()
        self.boxes.close()
        ids = np.concatenate([*self._ids, np.zeros(0, np.int64)])
        self._ids.clear()
        unique, first = np.unique(ids, return_index=True)
        self.kept = np.sort(first)
        refused = np.setdiff1d(np.array(self._refused, np.int64), unique)
        every = np.concatenate([unique, refused])
        rows = np.concatenate([np.searchsorted(self.kept, first), np.full(len(refused), REFUSED)])
        order = np.argsort(every)
        self._sorted_ids, self._rows = every[order], rows[order]
        for i in np.setdiff1d(np.arange(len(ids)), first):
            text = f"image id {ids[i]} is used twice"
            yield Problem("duplicate-id", "critical", f"{self.split} image {ids[i]}", text)

    def __len__(self) -> int:
        return len(self.kept)

    def image_tables(self) -> Iterator[Any]:
        """The images that are kept, in order."""
        start = 0
        for table in self.images.tables():
            stop = start + table.num_rows
            own = self.kept[np.searchsorted(self.kept, start) : np.searchsorted(self.kept, stop)]
            yield table.take(own - start)
            start = stop

    def rows(self, image_ids: Ints) -> Ints:
        """Which of the kept images each id names; `UNKNOWN`, or `REFUSED` with its image."""
        if not len(self._sorted_ids):
            return np.full(len(image_ids), UNKNOWN)
        place = np.searchsorted(self._sorted_ids, image_ids).clip(max=len(self._sorted_ids) - 1)
        return np.where(self._sorted_ids[place] == image_ids, self._rows[place], UNKNOWN)

    def repeated_boxes(self, work: Path) -> Ints:
        """Places of the boxes whose own id was used before, sorted."""
        schema = pa.schema([("id", pa.int64()), ("place", pa.int64())])
        buckets = 1 + self.boxes.rows // BUCKET

        def numbered() -> Iterator[Any]:
            start = 0
            for table in self.boxes.tables():
                places = pa.array(np.arange(start, start + table.num_rows))
                start += table.num_rows
                yield pa.table([table["source_id"], places], schema=schema).drop_null()

        folder = work / f"{self.split}-ids"
        spools = deal(numbered(), schema, lambda t: t["id"].to_numpy() % buckets, buckets, folder)
        found = [_repeats(spool) for spool in spools]
        return np.sort(np.concatenate(found))


def _repeats(spool: Spool) -> Ints:
    table = pa.concat_tables([spool.schema.empty_table(), *spool.tables()])
    ids, places = table["id"].to_numpy(), table["place"].to_numpy()
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    repeats: Ints = places[again]
    return repeats
