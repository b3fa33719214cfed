"""Packed splits, augmentation and batches."""

from pathlib import Path

import numpy as np
import pytest

from frontier.data.loading import transforms
from frontier.data.loading.loader import Batch, batches
from frontier.data.loading.packing import (
    PackedMeta,
    PackedSplit,
    load_split,
    save_meta,
    stack_targets,
)
from frontier.data.loading.transforms import augmented, plain
from frontier.params import Augment
from tests.tiny import SIDE, split_of

AUGMENT = Augment(
    scale=(0.6, 1.4),
    translate=0.15,
    degrees=0,
    shear=0,
    flip=0.5,
    hsv=(0.015, 0.5, 0.3),
    mosaic=0.5,
    mixup=0,
    paste=2,
    paste_margin=0.1,
)
STILL = Augment(
    scale=(0.7, 1.3),
    translate=0.1,
    degrees=0,
    shear=0,
    flip=0.5,
    hsv=(0, 0, 0),
    mosaic=0.5,
    mixup=0,
    paste=2,
    paste_margin=0.1,
)


# of the first and the last batch: mean grey of each image, sum of its box coordinates
GREYS = [[76.11, 30.68, 20.56, 78.68], [35.27, 57.27, 45.73, 20.94]]
BOXES = [[844.56, 48.52, 440.62, 1021.39], [323.24, 396.74, 945.09, 470.32]]


def load(splits: list[PackedSplit], start: int = 0, steps: int = 9, **changed: object) -> list:
    options = {"batch_size": 4, "image_size": lambda step: 64 if step % 2 else 96, "seed": 3}
    options |= {"augment": AUGMENT, "workers": 1, **changed}
    return list(batches(splits, start=start, steps=steps, **options))


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_resume_gives_the_tail_across_an_epoch() -> None:
    splits = [split_of(6), split_of(5, first_id=100)]
    whole, tail = load(splits), load(splits, start=5)
    assert len(whole) == 9
    assert all(same(a, b) for a, b in zip(whole[5:], tail, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_batch(workers: int) -> None:
    splits = [split_of(6), split_of(5, first_id=100)]
    alone = load(splits, start=2, workers=0)
    ahead = load(splits, start=2, workers=workers)
    assert len(alone) == len(ahead) == 7
    assert all(same(a, b) for a, b in zip(alone, ahead, strict=True))


def test_each_epoch_shows_every_image_once_in_its_own_order() -> None:
    ids = np.concatenate([b.image_ids for b in load([split_of(12)], steps=6)])
    assert sorted(ids[:12]) == sorted(ids[12:]) == list(range(12))
    assert list(ids[:12]) != list(ids[12:])


def test_batches_are_those_of_earlier_versions() -> None:
    """A training that was begun by one version goes on alike in the next.

    Greys are rounded: OpenCV's float resize and its colour conversion differ between CPUs.
    """
    made = load([split_of(6), split_of(5, first_id=100)])
    assert [batch.image_ids.tolist() for batch in made] == [
        [103, 101, 0, 2], [1, 4, 100, 104], [5, 3, 102, 3],
        [103, 104, 100, 102], [4, 101, 1, 2], [0, 5, 2, 1],
        [100, 103, 3, 104], [101, 5, 4, 102], [0, 3, 2, 104],
    ]  # fmt: skip
    greys = [batch.images_BHWC.mean(axis=(1, 2, 3)) for batch in (made[0], made[8])]
    np.testing.assert_allclose(greys, GREYS, atol=0.05)
    boxes = [batch.boxes_xyxy.sum(axis=(1, 2)) for batch in (made[0], made[8])]
    np.testing.assert_allclose(boxes, BOXES, atol=1e-2)


def test_another_seed_gives_other_batches() -> None:
    splits = [split_of(12)]
    assert not same(load(splits, steps=1)[0], load(splits, steps=1, seed=4)[0])


def test_shapes_and_padding() -> None:
    for step, batch in enumerate(load([split_of(5)])):
        side = 64 if step % 2 else 96
        assert batch.images_BHWC.shape == (4, side, side, 3)
        assert batch.boxes_xyxy.shape == (*batch.labels.shape, 4)
        assert batch.boxes_xyxy.max() <= side
        assert not batch.ignore[batch.labels < 0].any()
        assert not batch.boxes_xyxy[batch.labels < 0].any()


def test_images_without_boxes_make_batches() -> None:
    empty = split_of(4).with_targets(np.arange(4), [0] * 5, [], [], [])
    assert (load([empty], steps=1)[0].labels == -1).all()


def test_closing_early_ends_the_thread() -> None:
    stream = batches(
        [split_of(4)],
        batch_size=2,
        image_size=lambda _: 64,
        augment=None,
        seed=0,
        workers=2,
        start=0,
        steps=99,
    )
    next(stream)
    stream.close()


def bright_box(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(image[..., 0] > 190)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_boxes_move_with_the_pixels() -> None:
    split, found = split_of(8), 0
    for seed in range(30):
        sample = augmented([(split, seed % 8)], 96, STILL, np.random.default_rng(seed))
        for box in sample.boxes_xyxy:
            np.testing.assert_allclose(box, bright_box(sample.image_HWC), atol=1.5)
            found += 1
    assert found >= 25, "too few boxes were left to tell"


def test_mixup_shows_two_images_and_boxes_both() -> None:
    splits = [split_of(9)]
    mixup = AUGMENT.model_copy(update={"mosaic": 0, "paste": 0, "mixup": 1})
    alone = load(splits, augment=mixup.model_copy(update={"mixup": 0}))
    for one, both in zip(alone, load(splits, augment=mixup), strict=True):
        assert np.array_equal(one.image_ids, both.image_ids)
        for row in range(4):
            own, boxes = one.boxes_xyxy[row], both.boxes_xyxy[row]
            first = int((one.labels[row] >= 0).sum())
            np.testing.assert_array_equal(boxes[:first], own[:first])
            other = 2.0 * both.images_BHWC[row] - one.images_BHWC[row]
            assert -1 <= other.min() <= other.max() <= 256
            for x1, y1, x2, y2 in boxes[first:][both.labels[row][first:] >= 0].round().astype(int):
                assert (other[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] > 170).all()


def test_mixup_of_some_images_leaves_the_others_as_they_are() -> None:
    splits = [split_of(9)]
    half = AUGMENT.model_copy(update={"mosaic": 0, "paste": 0, "mixup": 0.5})
    mixed = np.concatenate([(b.labels >= 0).sum(1) for b in load(splits, augment=half)])
    assert 8 <= (mixed == 2).sum() <= 28


def test_a_mosaic_boxes_its_bright_parts() -> None:
    split, found = split_of(8), 0
    for seed in range(20):
        sources = [(split, (seed + i) % 8) for i in range(4)]
        sample = augmented(sources, 96, STILL, np.random.default_rng(seed))
        covered = np.zeros((96, 96), bool)
        for x1, y1, x2, y2 in sample.boxes_xyxy.round().astype(int):
            covered[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
            inner = sample.image_HWC[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            assert inner.size == 0 or (inner > 190).mean() > 0.9
            found += inner.size > 0
        stray = np.count_nonzero((sample.image_HWC[..., 0] > 190) & ~covered)
        assert stray <= 4 * 2 * 96  # slivers of boxes cut to under two pixels
    assert found >= 40, "too few boxes were left to tell"


def test_barely_visible_boxes_are_ignored() -> None:
    far = Augment(
        scale=(1.0, 1.0),
        translate=0.9,
        degrees=0,
        shear=0,
        flip=0,
        hsv=(0, 0, 0),
        mosaic=0,
        mixup=0,
        paste=0,
        paste_margin=0.1,
    )
    split, seen = split_of(8), []
    for seed in range(60):
        sample = augmented([(split, seed % 8)], 128, far, np.random.default_rng(seed))
        boxes = split.targets(seed % 8)[0][0]
        full = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
        for box, ignore in zip(sample.boxes_xyxy, sample.ignore, strict=True):
            share = (box[2] - box[0]) * (box[3] - box[1]) / full
            seen.append(bool(ignore))
            assert ignore == (share < 0.25) or abs(share - 0.25) < 0.01
    assert any(seen)
    assert not all(seen)


AS_IT_IS = Augment(
    scale=(1.0, 1.0),
    translate=0,
    degrees=0,
    shear=0,
    flip=0,
    hsv=(0, 0, 0),
    mosaic=0,
    mixup=0,
    paste=0,
    paste_margin=0.1,
)


@pytest.mark.parametrize(
    ("side", "ignored"), [(128, [False, True, False]), (64, [True, True, False])]
)
def test_a_tiny_object_in_full_view_is_ignored_and_no_background(side, ignored) -> None:
    boxes = [[50, 50, 53, 53], [60, 60, 61.9, 70], [70, 70, 80, 80]]
    split = split_of(1).with_targets([0], *stack_targets([(boxes, [0, 1, 2], [0, 0, 0])]))
    sample = augmented([(split, 0)], side, AS_IT_IS, np.random.default_rng(0))
    assert sample.labels.tolist() == [0, 1, 2]
    assert sample.ignore.tolist() == ignored
    np.testing.assert_allclose(sample.boxes_xyxy, np.array(boxes) * side / SIDE, atol=1e-4)


def test_only_what_is_cut_away_goes() -> None:
    # left of the tile, a sliver of a large one, a third of a tiny one, all of a tiny one
    boxes = [[-9, 5, -1, 9], [-90, 5, 1.5, 90], [-2, 5, 1, 9], [5, 5, 6, 6]]
    tile = transforms.Tile(0, 0, 64, 64, 1.0, 0, 0, flip=False)
    left, labels, ignore = transforms._crop(
        np.array(boxes, np.float32), np.arange(4), np.zeros(4, bool), tile
    )
    assert labels.tolist() == [2, 3]
    assert ignore.all()
    np.testing.assert_array_equal(left, [[0, 5, 1, 9], [5, 5, 6, 6]])


@pytest.mark.parametrize("mosaic", [False, True])
def test_what_is_not_scaled_keeps_its_pixels(mosaic: bool) -> None:
    moved = Augment(
        scale=(1.0, 1.0),
        translate=0.3,
        degrees=0,
        shear=0,
        flip=0.5,
        hsv=(0, 0, 0),
        mosaic=0,
        mixup=0,
        paste=0,
        paste_margin=0.1,
    )
    split = split_of(8)
    for seed in range(20):
        sources = [(split, (seed + i) % 8) for i in range(4 if mosaic else 1)]
        sample = augmented(sources, SIDE, moved, np.random.default_rng(seed))
        assert set(np.unique(sample.image_HWC)) <= {0, 114, 255}, "interpolated"


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("x", [-70, -3, 0, 5, 40, 99])
@pytest.mark.parametrize("y", [-30, 0, 60, 99])
def test_what_is_not_scaled_is_copied_as_it_would_be_warped(x: int, y: int, flip: bool) -> None:
    source = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    copied, warped = (np.full((64, 80, 3), 114, np.uint8) for _ in range(2))
    transforms._copy(copied, source[:, ::-1] if flip else source, x, y)
    transforms._warp(warped, source, -1 if flip else 1, 1, x + 70 * flip, y)
    np.testing.assert_array_equal(copied, warped)


def test_plain_is_the_stored_image() -> None:
    split = split_of(2)
    sample = plain(split, 1, SIDE)
    np.testing.assert_array_equal(sample.image_HWC, split.images[1])
    np.testing.assert_array_equal(plain(split, 1, 64).boxes_xyxy * 2, sample.boxes_xyxy)


def test_targets_saved_and_loaded_over_the_same_pixels(tmp_path: Path) -> None:
    split = split_of(6)
    chosen = split.with_targets([4, 1], [0, 2, 2], [[0, 0, 9, 9], [1, 1, 5, 5]], [0, 2], [0, 1])
    chosen.save_targets(tmp_path / "pseudo.safetensors")
    loaded = split.load_targets(tmp_path / "pseudo.safetensors")
    assert list(loaded.image_ids) == [4, 1]
    np.testing.assert_array_equal(loaded.images[0], split.images[4])
    assert list(loaded.targets(0)[1]) == [0, 2]
    assert len(loaded.targets(1)[1]) == 0
    assert list(split.subset([5, 0]).labels) == [2, 0]


def test_a_packed_split_is_read_from_disk(tmp_path: Path) -> None:
    split = split_of(3)
    save_meta(tmp_path, PackedMeta(SIDE, [{"category_id": 1, "name": "a"}], {"train": 3}, None))
    np.save(tmp_path / "train.npy", split.images[:])
    split.save_targets(tmp_path / "whole.safetensors")
    from safetensors.numpy import load_file, save_file

    arrays = load_file(tmp_path / "whole.safetensors")
    del arrays["rows"]
    save_file(arrays, tmp_path / "train.safetensors")
    opened = load_split(tmp_path, "train")
    assert (len(opened), opened.image_size, opened.num_classes) == (3, SIDE, 1)
    np.testing.assert_array_equal(opened.images[2], split.images[2])
    np.testing.assert_array_equal(opened.boxes_xyxy, split.boxes_xyxy)
