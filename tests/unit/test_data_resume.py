"""A loader that starts again anywhere goes on with the very batches that were to come (R6)."""

import functools
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontier.data.loading.loader import Batch, batches
from frontier.data.loading.packing import PackedMeta, load_split, pixels_path, save_meta
from frontier.data.loading.storing import portions, write_shard
from frontier.params import Augment
from tests.tiny import CLASSES, SIDE, split_of, write_pack

IMAGES, BATCH, SAVED, MORE = 23, 4, 40, 8  # an epoch ends within 40..48 steps
AUGMENT = Augment(
    scale=(0.6, 1.4), translate=0.15, degrees=0,
    shear=0, flip=0.5, hsv=(0.015, 0.5, 0.3), mosaic=0.3, mixup=0.3,
    paste=1, paste_margin=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("array") / "main"
    write_pack(folder, train=IMAGES)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, array: Path) -> Path:
    """Five of them."""
    folder = tmp_path_factory.mktemp("shards") / "main"
    write_pack(folder, train=IMAGES)
    pixels_path(folder, "train").unlink()
    images = [str(folder.parent / f"{i}.png") for i in range(IMAGES)]
    for path, square in zip(images, split_of(IMAGES).images[:], strict=True):
        Image.fromarray(square[16:112]).save(path)
    for portion in portions(images, SIDE, folder / "train", 5):
        write_shard(portion)
    save_meta(folder, PackedMeta(SIDE, CLASSES, {"train": IMAGES}, 5))
    return folder


@functools.cache
def uninterrupted(folder: Path, rows: range) -> list[Batch]:
    return [*stream(folder, 0, 0, rows)]


def stream(folder: Path, start: int, workers: int, rows: range) -> Iterator[Batch]:
    """As a process does it that has just started."""
    return batches(
        [load_split(folder, "train")],
        batch_size=BATCH,
        image_size=lambda step: 64 if step % 2 else 96,
        augment=AUGMENT,
        seed=3,
        workers=workers,
        start=start,
        steps=SAVED + MORE,
        rows=rows,
    )


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("store", ["array", "shards"])
def test_forty_batches_then_save_and_resume(
    store: str, workers: int, ranks: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder, own = request.getfixturevalue(store), BATCH // ranks
    assert SAVED * BATCH // IMAGES != (SAVED + MORE) * BATCH // IMAGES
    for rank in range(ranks):
        rows = range(rank * own, (rank + 1) * own)
        begun = stream(folder, 0, workers, rows)
        seen = sum(1 for _ in islice(begun, SAVED))
        begun.close()
        (tmp_path / "state.json").write_text(json.dumps({"step": seen}))
        saved = json.loads((tmp_path / "state.json").read_text())["step"]
        resumed = [*stream(folder, saved, workers, rows)]
        assert len(resumed) == MORE
        for expected, found in zip(uninterrupted(folder, rows)[SAVED:], resumed, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("store", ["array", "shards"])
def test_the_rows_of_two_ranks_are_the_batch_of_one(
    store: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(store)
    parts = [stream(folder, SAVED, 0, rows) for rows in (range(4), range(2), range(2, 4))]
    for whole, first, second in zip(*parts, strict=True):
        for field in ("image_ids", "images_BHWC"):
            both = np.concatenate([getattr(first, field), getattr(second, field)])
            np.testing.assert_array_equal(getattr(whole, field), both)
        boxes = np.concatenate([b.boxes_xyxy[b.labels >= 0] for b in (first, second)])
        np.testing.assert_array_equal(whole.boxes_xyxy[whole.labels >= 0], boxes)


def test_both_stores_show_nearly_the_same(array: Path, shards: Path) -> None:
    one, other = load_split(array, "train"), load_split(shards, "train")
    assert np.array_equal(one.boxes_xyxy, other.boxes_xyxy)
    gap = np.abs(one.images[:].astype(int) - other.images[:])
    assert gap.mean() < 1
