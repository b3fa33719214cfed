"""A loader as most people write it: each image from its file, one transform after the other."""

from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from frontier.boxes import PAD_VALUE
from frontier.data.loading.transforms import MIN_SIDE_PX
from frontier.params import Augment

GREY = (PAD_VALUE,) * 3
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # image [S, S, 3], boxes [n, 4], labels [n]


class PlainDataset(Dataset[Sample]):
    def __init__(self, photos: Any, side: int, augment: Augment, interpolation: int) -> None:
        self.photos, self.side, self.augment = photos, side, augment
        self.interpolation = interpolation

    def __len__(self) -> int:
        return len(self.photos.paths)

    def __getitem__(self, i: int) -> Sample:
        rng = np.random.default_rng()
        image = cv2.cvtColor(cv2.imread(self.photos.paths[i]), cv2.COLOR_BGR2RGB)
        image, boxes = letterboxed(image, self.photos.boxes_xyxy[i], self.side)
        image, boxes = warped(image, boxes, self.augment, self.interpolation, rng)
        image = jittered(image, self.augment.hsv, rng)
        if rng.uniform() < self.augment.flip:
            image = np.ascontiguousarray(image[:, ::-1])
            boxes = np.stack(
                [self.side - boxes[:, 2], boxes[:, 1], self.side - boxes[:, 0], boxes[:, 3]], axis=1
            )
        keep = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX).all(axis=1)
        return image, boxes[keep].astype(np.float32), self.photos.labels[i][keep]


def letterboxed(image: np.ndarray, boxes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    ratio = side / max(height, width)
    new_w, new_h = max(1, round(width * ratio)), max(1, round(height * ratio))
    if (new_w, new_h) != (width, height):
        image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    top, left = (side - new_h) // 2, (side - new_w) // 2
    borders = top, side - new_h - top, left, side - new_w - left
    image = cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=GREY)
    return image, boxes * ratio + np.array([left, top] * 2)


def warped(
    image: np.ndarray,
    boxes: np.ndarray,
    augment: Augment,
    interpolation: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """RandomAffine about the centre; a box becomes the hull of its four corners."""
    side = image.shape[0]
    scale = rng.uniform(*augment.scales)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 0, scale)
    matrix[:, 2] += rng.uniform(-augment.translate, augment.translate, 2) * side
    image = cv2.warpAffine(image, matrix, (side, side), flags=interpolation, borderValue=GREY)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return image, np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).clip(0, side)


def jittered(
    image: np.ndarray, gains: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    hue, saturation, value = 1 + rng.uniform(-1, 1, 3) * gains
    levels = np.arange(256)
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    tables = (levels * hue) % 180, (levels * saturation).clip(0, 255), (levels * value).clip(0, 255)
    changed = [cv2.LUT(p, t.astype(np.uint8)) for p, t in zip(planes, tables, strict=True)]
    return cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2RGB)


def plain_collate(samples: list[Sample]) -> tuple[torch.Tensor, ...]:
    """Tensors, which worker processes hand over in shared memory."""
    most = max(1, *(len(labels) for _, _, labels in samples))
    boxes = np.zeros((len(samples), most, 4), np.float32)
    labels = np.full((len(samples), most), -1, np.int64)
    for row, (_, own, classes) in enumerate(samples):
        boxes[row, : len(own)], labels[row, : len(own)] = own, classes
    images = np.stack([image for image, _, _ in samples])
    return torch.from_numpy(images), torch.from_numpy(boxes), torch.from_numpy(labels)
