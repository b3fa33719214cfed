"""A catalog judged from end to end: decisions written as they fall, sums and flags kept."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from scipy.spatial.distance import jensenshannon

from frontier.data.catalog import USED
from frontier.data.formats import SPLITS
from frontier.data.verdict import flags
from frontier.data.verdict.faults import CLIPPED, BoxFaults, box_faults
from frontier.data.verdict.offenders import Offenders
from frontier.data.verdict.rules import FAULTS, NOTES, REMARKS
from frontier.files import read_json
from frontier.params import Validate

Array = npt.NDArray[Any]
pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

NAMES = (*SPLITS, "unlabelled")
MEASURED = ("val", "test")
# what the four numbers of a box may mean by mistake: where corners belong, and in YOLO
READINGS = (
    ("[x1, y1, x2, y2]", "[centre x, centre y, width, height]"),
    ("[x1, y1, x2, y2]", "[left, top, width, height]"),
)
BINS = 16  # of box sides: half octaves, up to the whole side of the image


class Judged:
    """The verdict in the making.

    Attributes:
        counts: images and boxes by what became of them.
        cells: boxes that are used, by (split, category id).
        usable: images that are used, by split.
        sizes: boxes that are used, by share of the image's width and height, `[BINS, BINS]` by
            split; see `size_map`.
        reach: by split, boxes in all, those far outside, and those that fit in each other reading.
        offenders: the images with most faults.
        splits: the split of each image, `[I]`, as its place in `NAMES`.
    """

    def __init__(self, catalog: Path, out: Path, params: Validate) -> None:
        self.catalog, self.params = catalog, params
        self.info: dict[str, Any] = read_json(catalog / "catalog.json")
        self.counts: Counter[str] = Counter()
        self.cells: Counter[tuple[str, int]] = Counter()
        self.usable: Counter[str] = Counter()
        self.sizes = {split: np.zeros((BINS, BINS), np.int64) for split in SPLITS}
        self.reach = {split: np.zeros(4, np.int64) for split in NAMES}
        self.offenders = Offenders()
        self._flags = [pd.DataFrame({name: np.zeros(0, bool) for name in flags.FLAGS})]
        self._splits: list[Array] = [np.zeros(0, np.int8)]
        images = pa.parquet.ParquetWriter(out / "images.parquet", flags.IMAGES)
        boxes = pa.parquet.ParquetWriter(out / "boxes.parquet", flags.BOXES)
        with images, boxes:
            for shard in flags.shards(catalog, params.max_boxes):
                self._add(shard, images, boxes)
        self.splits = np.concatenate(self._splits)
        # records with a fault of their own never became boxes, but they came in
        # and stand in `problems.parquet` alone
        for kind, sums in {"boxes": ("dropped",), "images": ("in", "quarantined")}.items():
            for key in (*sums, "refused"):
                self.counts[f"{kind}_{key}"] += self.info[f"{kind}_refused"]
        self.counts["boxes_in"] = sum(
            self.counts[f"boxes_{key}"] for key in ("used", "repaired", "dropped")
        )

    def _add(self, shard: flags.Shard, images: Any, boxes: Any) -> None:
        code = flags.image_codes(shard.images, self.params)
        usable = code == "ok"
        sizes_hw = np.stack([shard.images[k].to_numpy() for k in ("height", "width")], axis=1)
        whole, shard = shard, shard.only(usable)
        centred = self.info["format"] == "yolo"
        found = box_faults(shard.boxes, shard.rows, sizes_hw, self.params, centred=centred)
        table = flags.outcomes(shard, code, found.code)
        self.offenders.add(whole, code, found, table)
        images.write_table(table)
        boxes.write_table(flags.faulty_boxes(shard, found.code))
        self._flags.append(flags.image_flags(shard, usable, found))
        self._count_outcomes(shard, table)
        self._count_boxes(shard, found, sizes_hw)

    def _count_outcomes(self, shard: flags.Shard, table: Any) -> None:
        split = _texts(shard.images["split"])
        used = _texts(table["outcome"]) == USED
        place = pa.compute.index_in(shard.images["split"], pa.array(NAMES)).to_numpy()
        self._splits.append(place.astype(np.int8))
        quarantined = int((~used).sum())
        self.counts.update(
            images_in=len(used), images_used=len(used) - quarantined, images_quarantined=quarantined
        )
        self.counts["boxes_quarantined"] += int(table["dropped"].to_numpy()[~used].sum())
        for key in ("used", "repaired", "dropped"):
            self.counts[f"boxes_{key}"] += int(table[key].to_numpy().sum())
        self.usable.update(split[used].tolist())

    def _count_boxes(self, shard: flags.Shard, found: BoxFaults, sizes_hw: Array) -> None:
        every = _texts(shard.images["split"])[shard.rows]
        for name in np.unique(every).tolist():
            own = every == name
            told = (own.sum(), found.far[own].sum(), *found.fits[own].sum(axis=0))
            self.reach[name] += np.array(told, np.int64)
        kept = found.code <= CLIPPED
        rows = shard.rows[kept]
        split = _texts(shard.images["split"])[rows]
        category = shard.boxes["category_id"].to_numpy()[kept]
        inside = found.inside_xyxy[kept]
        share = (inside[:, 2:] - inside[:, :2]) / sizes_hw[rows][:, ::-1]
        for name in np.unique(split).tolist():
            own = split == name
            ids, amounts = np.unique(category[own], return_counts=True)
            for i, amount in zip(ids.tolist(), amounts.tolist(), strict=True):
                self.cells[name, i] += amount
            self.sizes[name] += size_map(share[own])

    def tables(self) -> dict[str, pd.DataFrame]:
        """What the rules read, by table name; `where` names the rows of the small ones.

        `images` has all in the order of the catalog, `labelled` the usable ones that may have
        boxes, by the same index.
        """
        whole = pd.concat(self._flags, ignore_index=True)
        self._flags = [whole]
        labelled = whole["usable"] & (self.splits < len(SPLITS))
        return {
            "records": self._records(),
            "images": whole[["usable", *NOTES]],
            "labelled": whole.loc[labelled, ["filled", *flags.BOX_FLAGS]],
            "pairs": self._pairs(),
            "splits": self._split_rows(),
            "classes": self._class_rows(),
            "cells": self._cell_rows(),
        }

    def _records(self) -> pd.DataFrame:
        """A single row: how many records have each fault."""
        path = self.catalog / "problems.parquet"
        codes = pa.parquet.read_table(path, columns=["code"])["code"].value_counts().to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in codes}
        strange = [code for code in counts if not code.startswith("image-")]
        assert {*strange} <= {*FAULTS, *REMARKS}, f"no rule counts {strange}"
        return pd.DataFrame({code: [counts.get(code, 0)] for code in (*FAULTS, *REMARKS)})

    def _pairs(self) -> pd.DataFrame:
        table = pa.parquet.read_table(self.catalog / "pairs.parquet").to_pandas()
        one, other = (
            np.array(NAMES)[self.splits[table[name].to_numpy()]] for name in ("first", "second")
        )
        leaks = (one != other) & (np.isin(one, MEASURED) | np.isin(other, MEASURED))
        exact = table["exact"].to_numpy()
        table["no-leak"] = ~(leaks & exact)
        table["no-near-leak"] = ~leaks | exact
        table["no-copies"] = ~exact | (one != other)
        return pd.DataFrame(table)

    def _split_rows(self) -> pd.DataFrame:
        ids = [entry["category_id"] for entry in self.info["classes"]]
        classes = {s: np.array([self.cells[s, i] for i in ids], np.float64) for s in SPLITS}
        rows = []
        for split in SPLITS:
            images, boxes = self.usable[split], int(self.sizes[split].sum())
            drifts = {
                "class_drift": drift(classes["train"], classes[split]),
                "size_drift": drift(*(diagonals(self.sizes[s]) for s in ("train", split))),
            }
            words = ", ".join(
                f"{key.replace('_', ' ')} {value:.2f}" for key, value in drifts.items()
            )
            where = f"{split}: {images} usable images, {boxes} usable boxes, {words}"
            if misread := self._misread(split):
                where = f"{where}; {misread}"
            row = {"split": split, "where": where, "filled": bool(images and boxes)}
            rows.append({**row, "understood": not misread, **drifts})
        return pd.DataFrame(rows)

    def _misread(self, split: str) -> str:
        """What the numbers of a split's boxes probably mean, if not what the format says."""
        count, far, *fitting = self.reach[split].tolist()
        if far <= self.params.max_far * count:
            return ""
        for fits, meaning in zip(fitting, READINGS[self.info["format"] == "yolo"], strict=True):
            if fits >= self.params.fits * count:
                return (
                    f"{far} of {count} boxes reach far outside their image, but {fits} of them all "
                    f"fit if their numbers mean {meaning}: convert them"
                )
        return ""

    def _class_rows(self) -> pd.DataFrame:
        rows = []
        for entry in self.info["classes"]:
            own = {split: self.cells[split, entry["category_id"]] for split in SPLITS}
            where = f"class {entry['name']!r}: {own['train']} boxes in train"
            enough = own["train"] >= self.params.min_boxes_per_class
            rows.append({"name": entry["name"], **own, "where": where, "enough": enough})
        return pd.DataFrame(rows, columns=["name", *SPLITS, "where", "enough"])

    def _cell_rows(self) -> pd.DataFrame:
        rows = [
            {
                "where": f"class {entry['name']!r} has no box in {split}",
                "present": self.cells[split, entry["category_id"]] > 0,
            }
            for entry in self.info["classes"]
            for split in SPLITS
        ]
        return pd.DataFrame(rows, columns=["where", "present"])


def _texts(column: Any) -> Array:
    texts: Array = column.to_numpy(zero_copy_only=False).astype("<U24")
    return texts


def size_map(share: Array) -> npt.NDArray[np.int64]:
    """Boxes by (width, height) as shares of the image's `[N, 2]`: bin b holds shares from
    `2 ** ((b - BINS) / 2)` up, the first also what is smaller."""
    octave = np.log2(np.maximum(share, 1e-9).clip(max=1 - 1e-9))
    bins = np.floor(BINS + 2 * octave).astype(np.int64).clip(0, BINS - 1)
    counts = np.bincount(bins[:, 0] * BINS + bins[:, 1], minlength=BINS * BINS)
    return counts.reshape(BINS, BINS)


def drift(a: Array, b: Array) -> float:
    """Jensen-Shannon distance of two histograms, 0 (alike) to 1; 0 where one is empty.

    Less what two samples of one distribution would show: to second order the divergence in bits
    is a chi-square sum over 8 ln 2, so k bins add (k - 1) (1 / n + 1 / m) / (8 ln 2) by chance.
    """
    if not a.sum() or not b.sum():
        return 0.0
    bins = np.count_nonzero(a + b)
    chance = (bins - 1) * (1 / a.sum() + 1 / b.sum()) / (8 * np.log(2))
    return float(np.sqrt(max(jensenshannon(a, b, base=2) ** 2 - chance, 0.0)))


def diagonals(sizes: Array) -> Array:
    """A size map summed over boxes of equal area, `[2 * BINS - 1]`."""
    flipped = np.fliplr(sizes)
    return np.array([np.trace(flipped, k) for k in range(1 - BINS, BINS)], np.float64)
