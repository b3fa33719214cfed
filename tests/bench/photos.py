"""A COCO folder as packed splits in memory, without the pipeline around it."""

from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pandas as pd

from frontier.boxes import Letterbox, xywh_to_xyxy
from frontier.data.formats import box_table, image_table, pa
from frontier.data.formats.coco import Coco
from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.images import read_image


def coco_folder(text: str) -> Path:
    """An argument that names a dataset; `make` passes it on from DATA."""
    if not (Path(text) / "annotations").is_dir():
        raise ArgumentTypeError(
            f"{text}: no dataset in COCO layout (annotations/instances_train.json) is there; "
            "name another folder: DATA=... after make, or --data"
        )
    return Path(text)


def packed(folder: Path, split: str, side: int) -> PackedSplit:
    """One split of a COCO folder, letterboxed to `side` pixels."""
    parts = list(Coco().read(folder, split))
    classes = sorted(i for part in parts for i in part.classes)
    images = pa.concat_tables([image_table(), *(part.images for part in parts)]).to_pandas()
    boxes = pa.concat_tables([box_table(), *(part.boxes for part in parts)]).to_pandas()
    of_image = dict(list(boxes.groupby("image_id")))
    pixels = np.empty((len(images), side, side, 3), np.uint8)
    sizes, targets = [], []
    for row, (image_id, name) in enumerate(
        images[["image_id", "file_name"]].itertuples(index=False)
    ):
        image = read_image(Coco().image_root(folder) / name)
        letterbox = Letterbox(image.shape[:2], side)
        pixels[row] = letterbox.image(image)
        targets.append(_targets(of_image.get(image_id, boxes[:0]), letterbox, classes))
        sizes.append(image.shape[:2])
    ids = images["image_id"].to_numpy()
    stored = StoredImages(pixels, np.arange(len(ids), dtype=np.int64))
    hw = np.array(sizes, np.int64)
    return PackedSplit(
        stored, len(classes), ids, hw, *stack_targets(targets), f"{folder.name}/{split}"
    )


def _targets(
    own: pd.DataFrame, letterbox: Letterbox, classes: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    corners = letterbox.to_square(xywh_to_xyxy(own[list("xywh")].to_numpy(np.float32)))
    labels = np.searchsorted(classes, own["category_id"].to_numpy())
    return corners, labels, own["is_crowd"].to_numpy(np.uint8)
