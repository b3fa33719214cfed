"""The canonical form of a dataset: a table of images, a table of boxes, a list of faults.

Legend: I images, N boxes. Boxes are stored as COCO states them; a `CatalogSplit` holds them
clipped, as corners, with everything that the verdict of `validate` excludes left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from frontier import boxes
from frontier.data.canonical import write_coco
from frontier.files import read_json, write_json

Array = npt.NDArray[Any]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("split", pa.string()),
        ("file_name", pa.string()),
        ("width", pa.int64()),  # decoded, upright; 0 if it does not decode
        ("height", pa.int64()),
        ("declared_width", pa.int64()),
        ("declared_height", pa.int64()),
        ("source", pa.string()),  # the file that lists the image, and the line in it
        ("line", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("status", pa.string()),
        ("notes", pa.list_(pa.string())),  # what is odd about a usable file
        ("scene", pa.int64()),  # equal for images that show the same
        ("boxes", pa.int64()),  # rows of the boxes table, which follow the order of the images
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
        ("line", pa.int64()),
        ("source_id", pa.int64()),
    ]
)
USED, REPAIRED, DROPPED, QUARANTINED = "used", "repaired", "dropped", "quarantined"


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


def image_root(folder: Path, info: dict[str, Any], split: str) -> Path:
    """The folder that the file names of a split of the catalog in `folder` are relative to."""
    key = "unlabelled_root" if split == "unlabelled" else "image_root"
    return folder.resolve().parents[2] / str(info[key])


class Catalog:
    """A catalog folder, opened for reading."""

    def __init__(self, folder: Path, info: dict[str, Any], judged: Path | None) -> None:
        self.folder, self.info = folder, info
        self.classes: list[dict[str, Any]] = info["classes"]
        self.images = pa.parquet.read_table(folder / "images.parquet")
        self.usable = _is(self.images["status"], "ok")
        self.dropped = np.zeros(0, np.int64)
        if judged:
            outcome = pa.parquet.read_table(judged / "images.parquet", columns=["outcome"])
            self.usable &= _is(outcome["outcome"], USED)
            faulty = pa.parquet.read_table(judged / "boxes.parquet", columns=["box_id", "outcome"])
            self.dropped = faulty["box_id"].to_numpy()[_is(faulty["outcome"], DROPPED)]

    @classmethod
    def load(cls, folder: Path, judged: Path | None = None) -> Self:
        """Open `<root>/data/ingest/<name>`; what the verdict in `judged` excludes is left out."""
        return cls(folder, read_json(folder / "catalog.json"), judged)

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have images."""
        return sorted(self.images["split"].unique().to_pylist())

    def root(self, split: str) -> Path:
        """The folder that the file names of a split are relative to."""
        return image_root(self.folder, self.info, split)

    def image_path(self, row: dict[str, Any]) -> Path:
        """The file of a row of the images table (its `split` and `file_name`)."""
        return self.root(row["split"]) / str(row["file_name"])

    def split(self, name: str) -> CatalogSplit:
        """The usable images of a split, in the order of the table."""
        usable = self.usable & _is(self.images["split"], name)
        images = self.images.filter(pa.array(usable))
        sizes_hw = np.stack([images[side].to_numpy() for side in ("height", "width")], axis=1)
        return CatalogSplit(
            self.root(name),
            len(self.classes),
            images["image_id"].to_numpy(),
            sizes_hw,
            images["file_name"].to_pylist(),
            *self._boxes_of(usable, sizes_hw),
        )

    def scenes(self, name: str) -> Array:
        """The scene of each image of `split(name)`, `[I]`."""
        scenes: Array = self.images["scene"].to_numpy()[
            self.usable & _is(self.images["split"], name)
        ]
        return scenes

    def _boxes_of(self, usable: Array, sizes_hw: Array) -> tuple[Array, ...]:
        """Offsets, corners, labels and ignore of the boxes of the usable images."""
        counts = self.images["boxes"].to_numpy()
        place = np.repeat(np.cumsum(usable) - 1, counts)
        table = pa.parquet.read_table(self.folder / "boxes.parquet")
        keep = np.repeat(usable, counts) & ~np.isin(table["box_id"].to_numpy(), self.dropped)
        column = {key: table[key].to_numpy()[keep] for key in (*"xywh", "category_id", "is_crowd")}
        place = place[keep]
        corners = boxes.xywh_to_xyxy(np.stack([column[key] for key in "xywh"], axis=-1))
        corners = clip_each(corners, sizes_hw[place])
        solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        own = np.bincount(place[solid], minlength=len(sizes_hw))
        offsets = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
        ids = np.array([c["category_id"] for c in self.classes], np.int64)
        labels = np.searchsorted(ids, column["category_id"][solid]).astype(np.int64)
        return offsets, corners[solid], labels, column["is_crowd"][solid]


def _is(column: Any, value: str) -> Array:
    flags: Array = pa.compute.equal(column, value).to_numpy(zero_copy_only=False)
    return flags


def clip_each(boxes_xyxy: Array, sizes_hw: Array) -> Array:
    """Clip box i of `[N, 4]` to an image of `sizes_hw[i]` (height, width)."""
    clipped: Array = np.clip(boxes_xyxy, 0, sizes_hw[:, [1, 0, 1, 0]].astype(np.float32))
    return clipped


class CatalogWriter:
    """The two tables of a catalog, written shard by shard."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.boxes = folder, 0
        self._images = pa.parquet.ParquetWriter(folder / "images.parquet", IMAGES)
        self._boxes = pa.parquet.ParquetWriter(folder / "boxes.parquet", BOXES)

    def add(self, images: Any, boxes: Any, rows: Array) -> None:
        """Append some images and their boxes.

        Args:
            images: the columns of `IMAGES` but `boxes`.
            boxes: the columns of `formats.BOXES`, in the order of the images.
            rows: the image of each box, from 0 within `images`, ascending.
        """
        counts = np.bincount(rows, minlength=images.num_rows)
        self._images.write_table(
            images.append_column("boxes", pa.array(counts)).select(IMAGES.names)
        )
        ids = np.arange(self.boxes + 1, self.boxes + 1 + boxes.num_rows)
        boxes = boxes.append_column("box_id", pa.array(ids))
        boxes = boxes.append_column("split", images["split"].take(pa.array(rows)))
        self._boxes.write_table(boxes.select(BOXES.names))
        self.boxes += boxes.num_rows

    def close(self, info: dict[str, Any]) -> None:
        """Finish with `catalog.json` and the canonical COCO files.

        Args:
            info: name, source, format, image_root and unlabelled_root (relative to the project
                root or absolute), classes in category_id order.
        """
        self._images.close()
        self._boxes.close()
        write_json(self.folder / "catalog.json", info)
        write_coco(self.folder, info["classes"])
