"""Tables larger than memory: appended batch by batch, read back in order, dealt out by a key."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.ipc

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

ROWS = 1 << 17  # gathered before they are dealt out, so that no part gets crumbs


class Spool:
    """A file of record batches. Read only when it is closed, any number of times."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._file = pa.OSFile(str(path), "wb")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._file, schema, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, table: Any) -> None:
        """Add the rows of a table of `schema`."""
        if table.num_rows:
            self._writer.write_table(table)
            self.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def tables(self) -> Iterator[Any]:
        """The rows as they were appended, a table a batch."""
        with pa.OSFile(str(self.path)) as file:
            for batch in pa.ipc.open_stream(file):
                yield pa.Table.from_batches([batch])


def chunks(tables: Iterable[Any], rows: int) -> Iterator[Any]:
    """The same rows in tables of `rows` each; the last may be shorter."""
    kept: list[Any] = []
    count = 0
    for table in tables:
        kept.append(table)
        count += table.num_rows
        while count >= rows:
            whole = pa.concat_tables(kept)
            yield whole.slice(0, rows).combine_chunks()
            kept, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(kept).combine_chunks()


def deal(
    tables: Iterable[Any],
    schema: Any,
    part_of: Callable[[Any], npt.NDArray[np.int64]],
    parts: int,
    folder: Path,
) -> list[Spool]:
    """Spread rows over `parts` spools, in order within each.

    Args:
        part_of: the part of each row of a table, 0 to `parts` - 1.
    """
    folder.mkdir(parents=True)
    spools = [Spool(folder / f"{part}.arrow", schema) for part in range(parts)]
    for table in chunks(tables, ROWS):
        part = part_of(table)
        order = np.argsort(part, kind="stable")
        dealt = table.take(order)
        ends = np.searchsorted(part[order], np.arange(parts + 1))
        for number in np.unique(part):
            start, stop = int(ends[number]), int(ends[number + 1])
            spools[number].append(dealt.slice(start, stop - start))
    for spool in spools:
        spool.close()
    return spools
