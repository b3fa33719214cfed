"""A COCO folder as packed splits in memory, without the pipeline around it."""

from pathlib import Path

import numpy as np

from frontier.boxes import Letterbox, xywh_to_xyxy
from frontier.data.formats import coco
from frontier.data.packing import PackedSplit, StoredImages, stack_targets
from frontier.images import read_image


def packed(folder: Path, split: str, side: int) -> PackedSplit:
    """One split of a COCO folder, letterboxed to `side` pixels."""
    parsed = coco.read(folder / "annotations" / f"instances_{split}.json")
    label = {category_id: i for i, category_id in enumerate(sorted(parsed.classes))}
    pixels = np.empty((len(parsed.images), side, side, 3), np.uint8)
    sizes, parts = [], []
    for row, record in enumerate(parsed.images):
        image = read_image(folder / "images" / record.file_name)
        letterbox = Letterbox(image.shape[:2], side)
        pixels[row] = letterbox.image(image)
        own = [box for box in parsed.boxes if box.image_id == record.image_id]
        corners = xywh_to_xyxy(np.array([b[2:6] for b in own], np.float32).reshape(-1, 4))
        labels = np.array([label[b.category_id] for b in own], np.int64)
        crowd = np.array([b.is_crowd for b in own], np.uint8)
        parts.append((letterbox.to_square(corners), labels, crowd))
        sizes.append(image.shape[:2])
    ids = np.array([record.image_id for record in parsed.images], np.int64)
    stored = StoredImages(pixels, np.arange(len(ids), dtype=np.int64))
    return PackedSplit(stored, len(label), ids, np.array(sizes, np.int64), *stack_targets(parts))
