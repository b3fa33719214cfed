"""A detector that needs no training: coloured squares on grey, weights set by hand.

It has the parts that matter to export and quantization (strided convolutions, a bottleneck with a
scalar on its shortcut, max pooling, a transposed convolution, concatenation, DFL) and scores an
AP of 1 on `write_pack` and `write_catalog`, so that a test can tell a good artifact from a bad one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from frontier.boxes import Letterbox
from frontier.data.loading import packing
from frontier.files import write_json
from frontier.models.decoding import moments, powers
from tests.catalogs import write_catalog, write_judged

SIDE, CELL = 64, 16
COLOURS = np.array([(225, 30, 30), (30, 225, 30), (30, 30, 225)], np.uint8)
CLASSES = [{"category_id": 10 * (i + 1), "name": n} for i, n in enumerate(("red", "green", "blue"))]
BINS = 5


class ConvReLU(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0)
        nn.init.constant_(self.conv.bias, 0.001)

    def forward(self, features):
        return self.conv(features).relu()


def _average(conv: nn.Conv2d) -> None:
    """Each output channel about the mean of its own input channel over the window."""
    nn.init.normal_(conv.weight, std=0.005)
    for channel in range(conv.out_channels):
        conv.weight.data[channel, channel] += 1 / conv.weight[0, 0].numel()


class Bottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvReLU(channels, channels, 3, 1)
        self.second = ConvReLU(channels, channels, 3, 1)
        self.alpha = nn.Parameter(torch.tensor([0.9]))
        for block in (self.first, self.second):
            nn.init.normal_(block.conv.weight, std=0.02)

    def forward(self, features):
        return self.alpha * features + self.second(self.first(features))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvReLU(3, 3, 2, 2)
        opponent = torch.full((3, 3), -0.5) + 1.5 * torch.eye(3)
        self.stem.conv.weight.data = opponent[:, :, None, None].repeat(1, 1, 2, 2) / 4
        self.stages = nn.ModuleList(
            nn.Sequential(ConvReLU(3, 3, 2, 2), Bottleneck(3)) for _ in range(2)
        )
        self.last = ConvReLU(3, 3, 2, 2)
        for block in (self.stages[0][0], self.stages[1][0], self.last):
            _average(block.conv)

    def forward(self, images):
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return self.last(features)


class Neck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = ConvReLU(3, 3, 2, 2)
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)
        self.mix = ConvReLU(9, 6, 1, 1)
        nn.init.normal_(self.mix.conv.weight, std=0.01)
        for channel in range(3):
            self.mix.conv.weight.data[channel, channel] = 1.0

    def forward(self, features):
        pooled = nn.functional.max_pool2d(features, 3, 1, 1)
        deep = self.up(self.down(features))
        return self.mix(torch.cat([features, deep, pooled], dim=1))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_conv, self.box_conv = ConvReLU(6, 6, 3, 1), ConvReLU(6, 6, 3, 1)
        self.class_pred, self.box_pred = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 4 * BINS, 1)
        nn.init.zeros_(self.class_conv.conv.weight)
        nn.init.zeros_(self.class_pred.weight)
        for channel in range(3):
            self.class_conv.conv.weight.data[channel, channel, 1, 1] = 1.0
            self.class_pred.weight.data[channel, channel] = 20.0
        nn.init.constant_(self.class_pred.bias, -6.0)
        nn.init.normal_(self.box_pred.weight, std=0.01)
        # half of the mass on bin 0, half on bin 1: half a cell in every direction
        peaked = torch.tensor([8.0, 8.0, -8.0, -8.0, -8.0]).repeat(4)
        self.box_pred.bias.data = peaked

    def forward(self, features):
        logits = self.class_pred(self.class_conv(features)).flatten(2).transpose(1, 2)
        bins = self.box_pred(self.box_conv(features)).flatten(2).transpose(1, 2)
        return logits, bins.unflatten(2, (4, BINS))


class Standin(nn.Module):
    """`forward(images_BCHW) -> (boxes_xyxy, scores)`, already in its deployed form."""

    def __init__(self, side: int = SIDE, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone, self.neck, self.head = Backbone(), Neck(), nn.ModuleList([Head()])
        steps = (torch.arange(side // CELL) + 0.5) * CELL
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("centres", torch.stack([x.flatten(), y.flatten()], dim=1))
        self.register_buffer("powers", powers(BINS))
        self.requires_grad_(False)
        self.eval()

    def deploy(self) -> nn.Module:
        return self

    def forward(self, images_BCHW):
        logits, bins = self.head[0](self.neck(self.backbone(images_BCHW)))
        distances = moments(bins, self.powers)[0] * CELL
        low, high = self.centres - distances[..., :2], self.centres + distances[..., 2:]
        return torch.cat([low, high], dim=-1), logits.sigmoid()


@dataclass
class Shape:
    image_side: int = SIDE
    code: str = "standin"


@dataclass
class LoadedStandin:
    """What `frontier.models.detector.load_detector` answers."""

    module: Standin
    classes: list[dict[str, Any]]
    architecture: Shape


def load_standin(folder: Path) -> LoadedStandin:
    return LoadedStandin(Standin(), CLASSES, Shape())


def scene(rng: np.random.Generator, side: int = SIDE):
    """An image [side, side, 3] with one to four squares; boxes [n, 4], labels [n]."""
    cell = side * CELL // SIDE
    image = rng.integers(100, 129, (side, side, 3)).astype(np.uint8)
    places = rng.choice((SIDE // CELL) ** 2, rng.integers(1, 5), replace=False)
    labels = rng.integers(0, len(COLOURS), len(places))
    y, x = np.divmod(places, SIDE // CELL)
    boxes = np.stack([x, y, x + 1, y + 1], axis=1).astype(np.float32) * cell
    for (left, top, right, bottom), label in zip(boxes.astype(int), labels, strict=True):
        image[top:bottom, left:right] = COLOURS[label]
    return image, boxes, labels


def packed_scene(rng: np.random.Generator, side: int, size_hw: tuple[int, int]):
    """A corner of a scene in its letterbox, whose border is a whole number of cells."""
    image, boxes, labels = scene(rng, side)
    height, width = size_hw
    inside = (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    letterbox = Letterbox(size_hw, side)
    square = letterbox.image(image[:height, :width])
    return square, letterbox.to_square(boxes[inside]), labels[inside]


def write_pack(folder: Path, images: int = 24, side: int = SIDE) -> None:
    """A packed dataset with a train and a val split, of images in three proportions."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = [(side, side), (side // 2, side), (side, side // 2)]
    sizes_hw = [shapes[index % len(shapes)] for index in range(images)]
    for name in ("train", "val"):
        scenes = [packed_scene(rng, side, size_hw) for size_hw in sizes_hw]
        np.save(packing.pixels_path(folder, name), np.stack([image for image, _, _ in scenes]))
        parts = [(boxes, labels, np.zeros(len(labels), np.uint8)) for _, boxes, labels in scenes]
        offsets, boxes, labels, ignore = packing.stack_targets(parts)
        arrays = {
            "image_ids": np.arange(images),
            "sizes_hw": np.array(sizes_hw),
            "offsets": offsets,
            "boxes_xyxy": boxes,
            "labels": labels,
            "ignore": ignore,
        }
        path = packing.targets_path(folder, name)
        path.write_bytes(packing.save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
    counts = {"train": images, "val": images}
    packing.save_meta(folder, packing.PackedMeta(side, CLASSES, counts, None))


def write_project(root: Path, images: int = 24) -> None:
    """Everything that quantize, export and evaluate read, below `root / "data"`."""
    data = root / "data"
    write_pack(data / "pack" / "main", images)
    write_json(data / "hardware.json", {"device": "test"})
    student = data / "distill" / "onnxruntime-cpu"
    student.mkdir(parents=True)
    (student / "model.safetensors").write_bytes(b"stand-in")
    rng = np.random.default_rng(1)
    image_rows, box_rows = [], []
    for index in range(images):
        pixels, boxes, labels = scene(rng, 2 * SIDE)
        path = data / "images" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        image_rows.append(
            {
                "image_id": index,
                "split": "test",
                "file_name": path.name,
                **dict.fromkeys(("width", "height", "declared_width", "declared_height"), 2 * SIDE),
            }
        )
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels, strict=True):
            box_rows.append(
                {
                    "image_id": index,
                    "split": "test",
                    "category_id": CLASSES[label]["category_id"],
                    **{"x": left, "y": top, "w": right - left, "h": bottom - top},
                    "is_crowd": False,
                }
            )
    info = {"name": "test", "source": "test", "image_root": "data/images", "classes": CLASSES}
    info["unlabelled_root"] = None
    write_catalog(data / "ingest" / "catalog", info, image_rows, box_rows)
    write_judged(data / "validate" / "judged", image_rows)
