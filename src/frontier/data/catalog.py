"""The canonical form of a dataset: a table of images, a table of boxes, a list of faults.

Legend: I images, N boxes. Boxes are stored as COCO states them; a `CatalogSplit` holds them
clipped, as corners, with everything that the verdict of `validate` excludes left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from frontier import boxes
from frontier.data.formats import Problem
from frontier.files import read_json, write_json

Array = npt.NDArray[Any]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("split", pa.string()),
        ("file_name", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("declared_width", pa.int64()),
        ("declared_height", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("status", pa.string()),
    ]
)
BOXES = pa.schema(
    [
        ("box_id", pa.int64()),
        ("image_id", pa.int64()),
        ("split", pa.string()),
        ("category_id", pa.int64()),
        *((name, pa.float64()) for name in "xywh"),
        ("is_crowd", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class CatalogSplit:
    """The boxes of image i are rows `offsets[i]:offsets[i + 1]`, in pixels of the image."""

    folder: Path
    num_classes: int
    image_ids: Array  # int64 [I]
    sizes_hw: Array  # int64 [I, 2]
    file_names: list[str]
    offsets: Array  # int64 [I + 1]
    boxes_xyxy: Array  # float32 [N, 4]
    labels: Array  # int64 [N], 0-based
    ignore: Array  # bool [N], crowds

    def __len__(self) -> int:
        return len(self.image_ids)

    def image_path(self, i: int) -> Path:
        """The file of image i."""
        return self.folder / self.file_names[i]

    def targets(self, i: int) -> tuple[Array, Array, Array]:
        """Boxes `[n, 4]`, labels `[n]` and ignore `[n]` of image i."""
        own = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.boxes_xyxy[own], self.labels[own], self.ignore[own]


class Catalog:
    """A catalog folder, opened for reading."""

    def __init__(self, folder: Path, info: dict[str, Any], verdict: dict[str, Any] | None) -> None:
        self.folder, self.info = folder, info
        self.classes: list[dict[str, Any]] = info["classes"]
        self.images = pa.parquet.read_table(folder / "images.parquet")
        self.boxes = pa.parquet.read_table(folder / "boxes.parquet")
        excluded = verdict or {"quarantined": [], "dropped": []}
        self.quarantined = {(q["split"], q["image_id"]) for q in excluded["quarantined"]}
        self.dropped = np.array([d["box_id"] for d in excluded["dropped"]], np.int64)

    @classmethod
    def load(cls, folder: Path, verdict: Path | None = None) -> Self:
        """Open `<root>/data/ingest/<name>`; with a `verdict.json`, what it excludes is left out."""
        return cls(
            folder, read_json(folder / "catalog.json"), read_json(verdict) if verdict else None
        )

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have images."""
        return sorted(self.images["split"].unique().to_pylist())

    def root(self, split: str) -> Path:
        """The folder that the file names of a split are relative to."""
        key = "unlabelled_root" if split == "unlabelled" else "image_root"
        return self.folder.resolve().parents[2] / str(self.info[key])

    def image_path(self, row: dict[str, Any]) -> Path:
        """The file of a row of the images table (its `split` and `file_name`)."""
        return self.root(row["split"]) / str(row["file_name"])

    def split(self, name: str) -> CatalogSplit:
        """The usable images of a split, in the order of the table."""
        images = self.images.filter(pa.compute.equal(self.images["split"], name))
        rows = [
            row
            for row in images.select(
                ["image_id", "file_name", "height", "width", "status"]
            ).to_pylist()
            if row["status"] == "ok" and (name, row["image_id"]) not in self.quarantined
        ]
        image_ids = np.array([row["image_id"] for row in rows], np.int64)
        sizes_hw = np.array([(r["height"], r["width"]) for r in rows], np.int64).reshape(-1, 2)
        own = self._boxes_of(name, image_ids, sizes_hw)
        return CatalogSplit(
            self.root(name),
            len(self.classes),
            image_ids,
            sizes_hw,
            [row["file_name"] for row in rows],
            *own,
        )

    def _boxes_of(self, name: str, image_ids: Array, sizes_hw: Array) -> tuple[Array, ...]:
        table = self.boxes.filter(pa.compute.equal(self.boxes["split"], name))
        column = {key: table[key].to_numpy() for key in table.column_names if key != "split"}
        places = {int(image_id): i for i, image_id in enumerate(image_ids)}
        place = np.array([places.get(int(i), -1) for i in column["image_id"]], np.int64)
        keep = (place >= 0) & ~np.isin(column["box_id"], self.dropped)
        place = place[keep]
        corners = boxes.xywh_to_xyxy(np.stack([column[k][keep] for k in "xywh"], axis=-1))
        corners = clip_each(corners, sizes_hw[place])
        solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        order = np.flatnonzero(solid)[np.argsort(place[solid], kind="stable")]
        counts = np.bincount(place[order], minlength=len(image_ids))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ids = np.array([c["category_id"] for c in self.classes], np.int64)
        labels = np.searchsorted(ids, column["category_id"][keep][order]).astype(np.int64)
        return offsets, corners[order], labels, column["is_crowd"][keep][order]


def clip_each(boxes_xyxy: Array, sizes_hw: Array) -> Array:
    """Clip box i of `[N, 4]` to an image of `sizes_hw[i]` (height, width)."""
    clipped: Array = np.clip(boxes_xyxy, 0, sizes_hw[:, [1, 0, 1, 0]].astype(np.float32))
    return clipped


def write_catalog(
    folder: Path,
    info: dict[str, Any],
    images: Iterable[dict[str, Any]],
    boxes: Iterable[dict[str, Any]],
    problems: Iterable[Problem],
) -> None:
    """Write the two tables, `catalog.json`, `problems.json` and canonical COCO files.

    Args:
        info: name, source, image_root and unlabelled_root (relative to the project root or
            absolute), classes in category_id order.
        images: rows of `IMAGES`.
        boxes: rows of `BOXES`, each of an image in `images`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image_rows, box_rows = list(images), list(boxes)
    pa.parquet.write_table(pa.Table.from_pylist(image_rows, IMAGES), folder / "images.parquet")
    pa.parquet.write_table(pa.Table.from_pylist(box_rows, BOXES), folder / "boxes.parquet")
    write_json(folder / "catalog.json", info)
    write_json(folder / "problems.json", [p._asdict() for p in problems])
    for split in sorted({row["split"] for row in image_rows} - {"unlabelled"}):
        own_images = [row for row in image_rows if row["split"] == split]
        own_boxes = [row for row in box_rows if row["split"] == split]
        content = _coco(info["classes"], own_images, own_boxes)
        write_json(folder / "annotations" / f"instances_{split}.json", content)


def _coco(
    classes: list[dict[str, Any]], images: list[dict[str, Any]], boxes: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "categories": [{"id": c["category_id"], "name": c["name"]} for c in classes],
        "images": [
            {"id": r["image_id"], **{key: r[key] for key in ("file_name", "width", "height")}}
            for r in images
        ],
        "annotations": [
            {
                "id": r["box_id"],
                "image_id": r["image_id"],
                "category_id": r["category_id"],
                "bbox": [r[key] for key in "xywh"],
                "area": r["w"] * r["h"],
                "iscrowd": int(r["is_crowd"]),
            }
            for r in boxes
        ],
    }
