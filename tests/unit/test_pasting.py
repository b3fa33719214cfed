"""Copy-paste: what is pasted is boxed, covers nothing, and shows every class alike."""

from collections import Counter

import numpy as np
import pytest

from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.data.loading.pasting import Cutouts, pasted
from frontier.data.loading.transforms import Sample, plain
from frontier.params import Augment

SIDE = 128
STILL = Augment(
    scale=(0.7, 1.3), translate=0.1, degrees=0,
    shear=0, flip=0.5, hsv=(0, 0, 0), mosaic=0.0, mixup=0, paste=8, paste_margin=0.1
)  # fmt: skip


def split_of(labels: list[int], ignore: list[int] | None = None) -> PackedSplit:
    """Grey images with one rectangle each, the brighter the higher its label."""
    pixels = np.full((len(labels), SIDE, SIDE, 3), 60, np.uint8)
    parts = []
    for i, label in enumerate(labels):
        x, y, w, h = 20 + i % 30, 30, 24, 18
        pixels[i, y : y + h, x : x + w] = 150 + 50 * label
        parts.append(([[x, y, x + w, y + h]], [label], [ignore[i] if ignore else 0]))
    count = len(labels)
    sizes = np.tile([SIDE, SIDE], (count, 1))
    images = StoredImages(pixels, np.arange(count))
    return PackedSplit(images, 3, np.arange(count), sizes, *stack_targets(parts), "made/train")


def images(split: PackedSplit) -> list[tuple[PackedSplit, int]]:
    return [(split, i) for i in range(len(split))]


def paste(split: PackedSplit, count: int, seed: int, side: int = 96) -> tuple[Sample, Sample]:
    before = plain(split, 0, side)
    rng = np.random.default_rng(seed)
    return before, pasted(before, Cutouts(images(split)), count, side, STILL, rng)


@pytest.mark.parametrize("seed", range(10))
def test_each_pasted_box_frames_an_object_of_its_class(seed):
    _, after = paste(split_of([0, 1, 2]), 8, seed)
    assert len(after.labels) > 4
    for (x1, y1, x2, y2), label in zip(after.boxes_xyxy, after.labels, strict=True):
        inner = after.image_HWC[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
        assert abs(float(np.median(inner)) - (150 + 50 * label)) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_pasted_over_a_box(seed):
    before, after = paste(split_of([0, 1, 2]), 30, seed)
    x1, y1, x2, y2 = after.boxes_xyxy.T
    wide = np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1)
    high = np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1)
    overlaps = (wide > 0) & (high > 0)
    assert np.array_equal(overlaps, np.eye(len(after.labels), dtype=bool))
    assert np.array_equal(after.boxes_xyxy[:1], before.boxes_xyxy)
    assert len(after.ignore) == len(after.labels) == len(after.boxes_xyxy)


def test_the_given_sample_is_left_alone():
    split = split_of([0, 1])
    before, after = paste(split, 8, 0)
    assert np.array_equal(before.image_HWC, plain(split, 0, 96).image_HWC)
    assert not np.array_equal(after.image_HWC, before.image_HWC)


def test_rare_classes_are_drawn_as_often_as_common_ones():
    cutouts = Cutouts([*images(split_of([0] * 40 + [1])), *images(split_of([2]))])
    rng = np.random.default_rng(0)
    drawn = Counter(cutouts.draw(0.1, rng).label for _ in range(600))
    assert set(drawn) == {0, 1, 2}
    assert all(150 <= count <= 250 for count in drawn.values())


def test_uncertain_boxes_are_never_pasted():
    _, after = paste(split_of([0, 1, 2], ignore=[0, 1, 0]), 30, 0)
    assert 1 not in after.labels


def test_without_a_box_there_is_nothing_to_paste():
    before, after = paste(split_of([0], ignore=[1]), 8, 0)
    assert np.array_equal(after.image_HWC, before.image_HWC)
    assert np.array_equal(after.labels, before.labels)
