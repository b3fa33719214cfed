"""The pack stage in both stores: the same images and boxes, and which store it was."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from frontier.data.loading import storing
from frontier.data.loading.packing import PackedSplit, load_meta, load_split, shard_paths
from frontier.params import Pack, Workers
from frontier.stages import pack
from tests.tiny import CLASSES, RUN

COUNT, SIDE = 10, 64


class Listed:
    """A split of smooth pictures, as a catalog lists them."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder, self.image_ids = folder, np.arange(COUNT) + 100
        self.offsets = np.arange(COUNT + 1)  # one box an image
        self.sizes_hw = rng.integers(30, 90, (COUNT, 2))
        for i, (height, width) in enumerate(self.sizes_hw.tolist()):
            coarse = rng.integers(0, 256, (3, 3, 3)).astype(np.uint8)
            Image.fromarray(cv2.resize(coarse, (width, height))).save(self.image_path(i))

    def image_path(self, i: int) -> Path:
        return self.folder / f"{i}.png"

    def targets(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array([[1, 2, 20 + i, 25]], np.float32), np.array([i % 3]), np.array([False])


def packed(root: Path, store: str, seed: int = 0) -> PackedSplit:
    params = pack.Params(
        run=RUN.model_copy(update={"seed": seed}),
        pack=Pack(image_size=SIDE, holdout=0.25, store=store),
        workers=Workers(backend="local", jobs=1, address=None),
    )
    source = root / "source"
    source.mkdir(parents=True, exist_ok=True)
    catalog, split = SimpleNamespace(classes=CLASSES), Listed(source)
    folder = root / f"{store}{seed}"
    counts = pack.pack(folder, catalog, {"train": split}, {"train": np.arange(COUNT)}, params)
    assert counts == {"train": COUNT}
    return load_split(folder, "train")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(storing, "SHARD_BYTES", 2 * SIDE**2)  # four images in each


def test_both_stores_hold_the_same(tmp_path: Path) -> None:
    array, shards = packed(tmp_path, "array"), packed(tmp_path, "shards")
    assert [load_meta(tmp_path / f"{s}0").images_per_shard for s in ("array", "shards")] == [
        None,
        4,
    ]
    assert len(shard_paths(tmp_path / "shards0", "train")) == 3
    assert array.image_ids.tolist() == sorted(shards.image_ids)
    for row, image_id in enumerate(shards.image_ids):
        (same,) = np.flatnonzero(array.image_ids == image_id)
        for one, other in zip(array.targets(same), shards.targets(row), strict=True):
            np.testing.assert_array_equal(one, other)
        assert np.array_equal(array.sizes_hw[same], shards.sizes_hw[row])
        gap = np.abs(array.images[same].astype(int) - shards.images[row])
        assert gap.mean() < 2


def test_shards_are_filled_in_an_order_of_chance_that_the_seed_decides(tmp_path: Path) -> None:
    places = (("a", 0), ("b", 0), ("a", 1))
    one, again, other = (packed(tmp_path / name, "shards", seed) for name, seed in places)
    assert one.image_ids.tolist() == again.image_ids.tolist()
    assert one.image_ids.tolist() != sorted(one.image_ids)
    assert one.image_ids.tolist() != other.image_ids.tolist()
    first, second = (
        [path.read_bytes() for path in shard_paths(tmp_path / name / "shards0", "train")]
        for name in ("a", "b")
    )
    assert first == second


def test_auto_goes_by_the_size_of_all_splits_together(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(storing, "ARRAY_BYTES", COUNT * SIDE * SIDE * 3)
    packed(tmp_path, "auto")
    assert load_meta(tmp_path / "auto0").images_per_shard is None
    monkeypatch.setattr(storing, "ARRAY_BYTES", COUNT * SIDE * SIDE * 3 - 1)
    packed(tmp_path, "auto", seed=1)
    assert load_meta(tmp_path / "auto1").images_per_shard == 4
