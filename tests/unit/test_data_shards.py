"""Pixels in shards: the same images by another way, in an order that keeps few shards open."""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from frontier.boxes import Letterbox
from frontier.data.loading import shards, storing
from frontier.data.loading.loader import batches
from frontier.data.loading.order import Order
from frontier.data.loading.packing import PackedSplit, StoredImages, shard_paths
from frontier.data.loading.shards import ShardedPixels
from frontier.data.loading.storing import Portion, needs_shards, portions, write_rows, write_shard
from frontier.images import read_image
from tests.tiny import split_of

SIDE = 64


def photos(folder: Path, count: int, noise: float = 0) -> list[str]:
    """Image files of all proportions, smooth or grainy."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        height, width = rng.integers(20, 120, 2)
        coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        smooth = cv2.resize(coarse, (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, noise, smooth.shape) if noise else 0
        path = folder / f"{i:03d}.png"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def written(folder: Path, images: list[str], per_shard: int) -> ShardedPixels:
    for portion in portions(images, SIDE, folder / "train", per_shard):
        write_shard(portion)
    return ShardedPixels(shard_paths(folder, "train"), per_shard, len(images), SIDE)


def sharded(folder: Path, count: int, per_shard: int) -> PackedSplit:
    """A split whose image files matter little."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = written(folder, photos(folder, count), per_shard)
    split = split_of(count)
    images = StoredImages(pixels, np.arange(count))
    return PackedSplit(images, 3, split.image_ids, *fields(split), split.name)


def fields(split: PackedSplit) -> Iterable[np.ndarray]:
    return split.sizes_hw, split.offsets, split.boxes_xyxy, split.labels, split.ignore


def test_shards_hold_what_an_array_holds_but_for_jpeg(tmp_path: Path) -> None:
    images = photos(tmp_path, 11)
    pixels = written(tmp_path, images, per_shard=4)
    assert [path.name for path in pixels.paths] == [f"train-0000{i}.arrow" for i in range(3)]
    out = tmp_path / "train.npy"
    array = np.lib.format.open_memmap(out, "w+", np.uint8, pixels.shape)
    for portion in portions(images, SIDE, out, None):
        write_rows(portion)
    for row, image in enumerate(images):
        expected = Letterbox(read_image(Path(image)).shape[:2], SIDE).image(read_image(Path(image)))
        np.testing.assert_array_equal(array[row], expected)
        assert np.abs(pixels[row].astype(int) - expected).mean() < 2
        border = (expected == 114).all(axis=(1, 2))
        assert (pixels[row][border] == 114).all()


def test_rows_are_chosen_as_in_an_array(tmp_path: Path) -> None:
    pixels = written(tmp_path, photos(tmp_path, 7), per_shard=3)
    whole = pixels[np.arange(7)]
    for images in (StoredImages(pixels, np.array([6, 0, 3])), StoredImages(whole, [6, 0, 3])):
        assert images.shape == (3, SIDE, SIDE, 3)
        np.testing.assert_array_equal(images[1], whole[0])
        np.testing.assert_array_equal(images[1:], whole[[0, 3]])
        assert images[3:].shape == (0, SIDE, SIDE, 3)


def test_drawn_pictures_are_kept_exactly(tmp_path: Path) -> None:
    drawing = np.full((SIDE, SIDE, 3), 255, np.uint8)
    cv2.putText(drawing, "ok", (4, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 200), 1, cv2.LINE_8)
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    pixels = written(tmp_path, [str(tmp_path / "drawing.png")], per_shard=1)
    np.testing.assert_array_equal(pixels[0], drawing)


def test_equal_portions_give_equal_bytes(tmp_path: Path) -> None:
    images = photos(tmp_path, storing.BATCH_ROWS + 3)
    for name in ("one", "two"):
        write_shard(Portion(images, SIDE, str(tmp_path / name), 0))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(shards.open_shard(tmp_path / "one")) == len(images)


@pytest.mark.parametrize(
    ("store", "images", "expected"),
    [
        ("auto", 13_981, False),
        ("auto", 13_982, True),  # 16 GiB of 640 x 640
        ("array", 1_740_000, False),
        ("shards", 1, True),
    ],
)
def test_what_auto_means_depends_on_the_data_alone(store, images, expected) -> None:
    assert needs_shards(store, images, 640) == expected


def test_an_epoch_takes_every_image_once_from_few_shards_at_a_time(tmp_path: Path) -> None:
    split = sharded(tmp_path, 120, per_shard=5)
    order = Order([split], seed=1)
    epochs = [[order.place(epoch * 120 + i) for i in range(120)] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]
    for places in epochs:
        assert sorted(places) == list(range(120))
        shard = np.array(places) // 5
        first, last = {}, {}
        for position, number in enumerate(shard.tolist()):
            first.setdefault(number, position)
            last[number] = position
        in_use = [sum(first[s] <= p <= last[s] for s in first) for p in range(120)]
        assert max(in_use) <= shards.WINDOW
        assert np.mean(in_use[20:-20]) > shards.WINDOW / 2  # well mixed


def test_what_is_mixed_in_lies_near(tmp_path: Path) -> None:
    order = Order([sharded(tmp_path, 120, per_shard=5)], seed=1)
    for position in (0, 119, 120, 200):
        block = order.block(position)
        near = order.near(block)
        assert order.place(position) in near
        assert len(near) == 5
    whole = Order([split_of(9)], seed=1)
    assert list(whole.near(whole.block(17))) == list(range(9))


def test_shards_of_several_splits_are_mixed(tmp_path: Path) -> None:
    splits = [sharded(tmp_path / "a", 20, per_shard=4), sharded(tmp_path / "b", 20, per_shard=4)]
    order = Order(splits, seed=0)
    places = [order.place(i) for i in range(40)]
    assert sorted(places) == list(range(40))
    assert {p // 20 for p in places[:20]} == {0, 1}


def resident_bytes(folder: Path) -> tuple[int, int]:
    """Of the folder's mapped shards: how many, and how much of them is in memory."""
    maps = [m for m in psutil.Process(os.getpid()).memory_maps() if str(folder) in m.path]
    return len(maps), sum(m.rss for m in maps)


def test_an_epoch_lets_go_of_the_shards_that_it_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "WINDOW", 2)
    count, per_shard = 240, 12
    pixels = written(tmp_path, photos(tmp_path, count, noise=60), per_shard)
    split = split_of(count)
    split = PackedSplit(
        StoredImages(pixels, np.arange(count)), 3, split.image_ids, *fields(split), split.name
    )
    largest = max(path.stat().st_size for path in pixels.paths)
    stream = batches(
        [split], batch_size=4, image_size=lambda _: 64, augment=None, seed=0, workers=0,
        start=0, steps=60,
    )  # fmt: skip
    seen = np.array([resident_bytes(tmp_path) for step, _ in enumerate(stream) if step % 6 == 0])
    assert len(pixels.paths) == 20
    most = 2 + 2  # the window and the next two
    assert seen[:, 0].max() == most
    assert largest < seen[:, 1].max() <= most * (largest + mmap.PAGESIZE)
