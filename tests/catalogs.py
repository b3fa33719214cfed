"""Small catalogs from rows, as `ingest` and `validate` would leave them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from frontier.data import formats
from frontier.data.catalog import IMAGES, CatalogWriter
from frontier.data.verdict import flags

UNTOLD = {"sha256": "", "phash": "", "status": "ok", "notes": [], "source": "", "line": 0}


def write_catalog(
    folder: Path, info: dict[str, Any], images: list[dict[str, Any]], boxes: list[dict[str, Any]]
) -> None:
    """Write a catalog folder; boxes are put into the order of their images."""
    rows = [{"scene": i, **UNTOLD, **row} for i, row in enumerate(images)]
    place = {(row["split"], row["image_id"]): i for i, row in enumerate(rows)}
    own = sorted(boxes, key=lambda box: place[box["split"], box["image_id"]])
    schema = pa.schema([field for field in IMAGES if field.name != "boxes"])
    writer = CatalogWriter(folder)
    of = np.array([place[box["split"], box["image_id"]] for box in own], np.int64)
    table = pa.Table.from_pylist([{"line": 0, **box} for box in own], formats.BOXES)
    writer.add(pa.Table.from_pylist(rows, schema), table, of)
    writer.close(info)


def write_judged(folder: Path, images: list[dict[str, Any]]) -> None:
    """The verdict that every image and box is used."""
    folder.mkdir(parents=True)
    rows = [{**row, "outcome": "used", "code": "ok"} for row in images]
    pa.parquet.write_table(pa.Table.from_pylist(rows, flags.IMAGES), folder / "images.parquet")
    pa.parquet.write_table(flags.BOXES.empty_table(), folder / "boxes.parquet")
