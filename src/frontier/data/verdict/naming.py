"""What breaks a rule, by name: read from the catalog for the rows that are asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.compute

from frontier.data.tables import opened
from frontier.data.verdict.rules import Rule

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

REASONS = {
    "no-leak": "is the same file in another split",
    "no-near-leak": "looks like it, in another split",
    "no-copies": "is the same file in the same split",
    "filled": "has no box",
}


class Names:
    """Names the rows of flag tables.

    Args:
        catalog: its folder.
        judged: the folder with what was decided about each image.
    """

    def __init__(self, catalog: Path, judged: Path, tables: dict[str, pd.DataFrame]) -> None:
        self.catalog, self.judged, self.tables = catalog, judged, tables

    def broken(self, rule: Rule, most: int) -> list[str]:
        """The first `most` rows that break a rule, in words."""
        if rule.table == "records":
            return self._problems(rule.code, most)
        table = self.tables[rule.table]
        column = table[rule.column]
        breaking = column > rule.limit if rule.share is None else ~column.astype(bool)
        rows = np.flatnonzero(breaking)[:most]
        if rule.table in ("images", "labelled"):
            return self._images(rule, table.index[rows].to_numpy())
        if rule.table == "pairs":
            return self._pairs(rule, table.iloc[rows])
        return [str(text) for text in table["where"].iloc[rows]]

    def _problems(self, code: str, most: int) -> list[str]:
        found: list[str] = []
        with opened(self.catalog / "problems.parquet") as file:
            for batch in file.iter_batches():
                own = batch.filter(pa.compute.equal(batch["code"], code))
                rows = own.slice(0, most - len(found)).to_pylist()
                found += [f"{row['where']}: {row['message']}" for row in rows]
                if len(found) >= most:
                    break
        return found

    def _images(self, rule: Rule, rows: npt.NDArray[np.int64]) -> list[str]:
        found = self.rows(rows)
        if rule.column == "usable":
            return [
                f"{row['split']}/{row['file_name']} is unusable: {row['code']}" for row in found
            ]
        reason = REASONS.get(rule.column, f"has a fault of this kind: {rule.code}")
        return [f"{row['split']}/{row['file_name']} {reason}" for row in found]

    def _pairs(self, rule: Rule, pairs: pd.DataFrame) -> list[str]:
        first = self.rows(pairs["first"].to_numpy())
        second = self.rows(pairs["second"].to_numpy())
        names = [
            tuple(f"{row['split']}/{row['file_name']}" for row in pair)
            for pair in zip(first, second, strict=True)
        ]
        return [f"{one} and {other}: one {REASONS[rule.code]}" for one, other in names]

    def rows(self, rows: npt.ArrayLike) -> list[dict[str, Any]]:
        """Rows of the images table; only the row groups that hold them are read."""
        found: dict[int, dict[str, Any]] = {}
        wanted, start = np.unique(np.asarray(rows, np.int64)), 0
        with opened(self.judged / "images.parquet") as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                own = wanted[(wanted >= start) & (wanted < stop)]
                if len(own):
                    table = file.read_row_group(group, ["split", "file_name", "code"])
                    named = table.take(pa.array(own - start)).to_pylist()
                    found |= dict(zip(own.tolist(), named, strict=True))
                start = stop
        return [found[row] for row in np.asarray(rows).tolist()]
