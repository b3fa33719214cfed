"""The catalog's tables as COCO JSON, a split a file, streamed: a row group in memory at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from frontier.data.tables import opened

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker


def write_coco(folder: Path, classes: list[dict[str, Any]]) -> None:
    """Write `annotations/instances_<split>.json` beside the tables of a catalog folder."""
    (folder / "annotations").mkdir(exist_ok=True)
    splits = pa.parquet.read_table(folder / "images.parquet", columns=["split"])["split"].unique()
    categories = [{"id": c["category_id"], "name": c["name"]} for c in classes]
    for split in sorted(set(splits.to_pylist()) - {"unlabelled"}):
        with (folder / "annotations" / f"instances_{split}.json").open("w") as file:
            file.write(f'{{"categories": {json.dumps(categories)},\n"images": ')
            _write_list(file, map(_images, _own(folder / "images.parquet", split)))
            file.write(',\n"annotations": ')
            _write_list(file, map(_annotations, _own(folder / "boxes.parquet", split)))
            file.write("}\n")


def _own(path: Path, split: str) -> Iterator[Any]:
    with opened(path) as file:
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            yield table.filter(pa.compute.equal(table["split"], split))


def _write_list(file: TextIO, pieces: Iterator[list[str]]) -> None:
    before = "["
    for records in pieces:
        if records:
            file.write(before + "\n" + ",\n".join(records))
            before = ","
    file.write("[]" if before == "[" else "]")


def _images(table: Any) -> list[str]:
    names = pa.array([json.dumps(name) for name in table["file_name"].to_pylist()], pa.string())
    fields = {"id": table["image_id"], "file_name": names}
    return _records(fields | {side: table[side] for side in ("width", "height")})


def _annotations(table: Any) -> list[str]:
    texts = [table[side].cast(pa.string()) for side in "xywh"]
    sides = pa.compute.binary_join_element_wise(*texts, ", ")
    bbox = pa.compute.binary_join_element_wise("[", sides, "]", "")
    area = pa.compute.multiply(table["w"], table["h"])
    ids = {"id": table["box_id"], "image_id": table["image_id"]}
    rest = {"bbox": bbox, "area": area, "iscrowd": table["is_crowd"].cast(pa.int8())}
    return _records({**ids, "category_id": table["category_id"], **rest})


def _records(fields: dict[str, Any]) -> list[str]:
    """JSON objects, put together column by column."""
    pieces: list[Any] = []
    before = "{"
    for key, column in fields.items():
        pieces += [f'{before}"{key}": ', column.cast(pa.string())]
        before = ", "
    texts: list[str] = pa.compute.binary_join_element_wise(*pieces, "}", "").to_pylist()
    return texts
