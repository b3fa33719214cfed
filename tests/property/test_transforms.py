"""Boxes and pixels are transformed together, there and back, whatever the augmentation.

Each image shows three bright rectangles, one in each colour channel; its boxes are theirs. What is
found bright after a transform must lie within a pixel of the transformed box.
"""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from frontier.boxes import PAD_VALUE, Letterbox
from frontier.data.loading import transforms
from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.data.loading.transforms import MIN_SIDE_PX, Sample, augmented, mixed, plain
from frontier.params import Augment

BRIGHT = (PAD_VALUE + 255) / 2  # halfway up from the ground, which is as grey as a border
STORED = st.sampled_from([96, 128, 160])
SIDES = st.sampled_from([64, 96, 160, 192])
SHARES = st.tuples(*[st.floats(0.05, 0.55)] * 2, *[st.floats(0.15, 0.4)] * 2)


@st.composite
def pictures(draw: st.DrawFn) -> PackedSplit:
    """One stored image with its three rectangles, at whole pixels."""
    stored = draw(STORED)
    inner = Letterbox((draw(st.integers(40, 200)), draw(st.integers(40, 200))), stored)
    assume(min(inner.new_hw) >= 40)
    pixels = np.full((1, stored, stored, 3), PAD_VALUE, np.uint8)
    boxes = []
    for channel in range(3):
        x, y, w, h = np.round(np.array(draw(SHARES)) * (inner.new_hw[::-1] * 2)).astype(int)
        x, y = x + inner.left, y + inner.top
        pixels[0, y : y + h, x : x + w, channel] = 255
        boxes.append([x, y, x + w, y + h])
    images = StoredImages(pixels, np.arange(1))
    sizes = np.array([inner.size_hw])
    targets = stack_targets([(boxes, range(3), [0] * 3)])
    return PackedSplit(images, 3, np.arange(1), sizes, *targets, "made/train")


@st.composite
def augmentations(draw: st.DrawFn) -> Augment:
    scale = draw(st.floats(0.5, 1.8))
    return Augment(
        scale=(scale, scale), translate=draw(st.floats(0, 0.3)), degrees=0,
        shear=0, flip=draw(st.sampled_from([0, 1])),
        hsv=(0, 0, 0), mosaic=0, mixup=0, paste=0, paste_margin=0.1,
    )  # fmt: skip


def is_empty(channel_HW: np.ndarray) -> bool:
    """Nothing bright, or less than what a box is kept for."""
    rows, columns = np.nonzero(channel_HW >= BRIGHT)
    return not len(rows) or bool(min(np.ptp(rows), np.ptp(columns)) <= MIN_SIDE_PX)


def found(channel_HW: np.ndarray, threshold: float = BRIGHT) -> np.ndarray:
    """The box around what is bright."""
    rows, columns = np.nonzero(channel_HW >= threshold)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def check(sample: Sample) -> None:
    for label in {0, 1, 2} - set(sample.labels.tolist()):
        assert is_empty(sample.image_HWC[..., label])
    tiny = (sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2] < MIN_SIDE_PX).any(1)
    assert sample.ignore[tiny].all()  # too little is left to be found
    for box, label in zip(sample.boxes_xyxy[~tiny], sample.labels[~tiny], strict=True):
        np.testing.assert_allclose(found(sample.image_HWC[..., label]), box, atol=1)


@settings(deadline=None)
@given(pictures(), SIDES)
def test_resized(split: PackedSplit, side: int) -> None:
    sample = plain(split, 0, side)
    assert len(sample.labels) == 3
    check(sample)


@settings(max_examples=200, deadline=None)
@given(pictures(), augmentations(), SIDES, st.integers(0, 2**32))
def test_augmented(split: PackedSplit, augment: Augment, side: int, seed: int) -> None:
    check(augmented([(split, 0)], side, augment, np.random.default_rng(seed)))


@settings(max_examples=200, deadline=None)
@given(pictures(), augmentations(), SIDES, st.integers(0, 2**32))
def test_there_and_back(split: PackedSplit, augment: Augment, side: int, seed: int) -> None:
    """The transform that one box tells, turned round, brings the pixels of another home."""
    sample = augmented([(split, 0)], side, augment, np.random.default_rng(seed))
    inside = (sample.boxes_xyxy > 0).all(axis=1) & (sample.boxes_xyxy < side).all(axis=1)
    assume(inside.sum() >= 2)
    first, second = sample.labels[inside][:2]
    stored, moved = split.boxes_xyxy[first], sample.boxes_xyxy[inside][0]
    if augment.flip:
        moved = moved[[2, 1, 0, 3]]
    scale = (moved[2:] - moved[:2]) / (stored[2:] - stored[:2])
    shift = moved[:2] - scale * stored[:2]
    back = (found(sample.image_HWC[..., second]) - np.tile(shift, 2)) / np.tile(scale, 2)
    back = back[[2, 1, 0, 3]] if augment.flip else back
    coarsest = max(1, 1 / np.abs(scale).min())  # a pixel of the smaller of the two
    np.testing.assert_allclose(back, split.boxes_xyxy[second], atol=coarsest)


@settings(deadline=None)
@given(st.tuples(pictures(), pictures()), augmentations(), SIDES, st.integers(0, 2**32))
def test_mixed(splits: tuple[PackedSplit, ...], augment: Augment, side: int, seed: int) -> None:
    """The first shows its red rectangle, the second its green one."""
    rng = np.random.default_rng(seed)
    parts = []
    for channel, split in enumerate(splits):
        sample = augmented([(split, 0)], side, augment, rng)
        image = sample.image_HWC.copy()
        image[..., 1 - channel] = 0
        own = sample.labels == channel
        parts.append(Sample(image, *(field[own] for field in sample[1:])))
    both = mixed(*parts)
    assert len(both.labels) == sum(len(part.labels) for part in parts)
    for box, label in zip(both.boxes_xyxy, both.labels, strict=True):
        np.testing.assert_allclose(found(both.image_HWC[..., label], BRIGHT / 2), box, atol=1)


@settings(deadline=None)
@given(st.integers(40, 300), st.integers(40, 300), st.sampled_from([64, 224]), SHARES)
def test_letterboxed_there_and_back(height: int, width: int, side: int, shares) -> None:
    letterbox = Letterbox((height, width), side)
    x, y, w, h = (round(v * n) for v, n in zip(shares, (width, height) * 2, strict=True))
    box = np.array([[x, y, x + w, y + h]], np.float32)
    square = letterbox.to_square(box)
    assume((square[0, 2:] - square[0, :2] >= 2).all())
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    bright = found(letterbox.image(image)[..., 0], 255 / 2)
    np.testing.assert_allclose(bright, square[0], atol=1)
    coarsest = max(1, 1 / letterbox.ratio)
    back = letterbox.from_square(bright[None].astype(np.float32))
    np.testing.assert_allclose(back, box, atol=coarsest)


@st.composite
def bends(draw: st.DrawFn) -> Augment:
    degrees, shear = draw(st.floats(0, 180)), draw(st.floats(0, 30))
    return draw(augmentations()).model_copy(update={"degrees": degrees, "shear": shear})


def with_ellipses(split: PackedSplit) -> PackedSplit:
    """The same boxes, each filled by an ellipse instead of a rectangle."""
    pixels = np.full_like(split.images.pixels, PAD_VALUE)
    rows, columns = np.mgrid[: split.image_size, : split.image_size] + 0.5
    for channel, (x1, y1, x2, y2) in enumerate(split.boxes_xyxy):
        x, y = (columns - (x1 + x2) / 2) / (x2 - x1), (rows - (y1 + y2) / 2) / (y2 - y1)
        pixels[0, x**2 + y**2 <= 0.25, channel] = 255
    return replace(split, images=StoredImages(pixels, np.arange(1)))


@settings(max_examples=200, deadline=None)
@given(pictures(), bends(), SIDES, st.integers(0, 2**32))
def test_turned_and_sheared(split: PackedSplit, augment: Augment, side: int, seed: int) -> None:
    """What is found bright of each ellipse that is seen whole is in its box, on all four sides."""
    round_ones = with_ellipses(split)
    sample = augmented([(round_ones, 0)], side, augment, np.random.default_rng(seed))
    whole = (sample.boxes_xyxy > 2).all(axis=1) & (sample.boxes_xyxy < side - 2).all(axis=1)
    for box, label in zip(sample.boxes_xyxy[whole], sample.labels[whole], strict=True):
        if min(box[2:] - box[:2]) > 8:  # the tip of a small one is less than half a pixel wide
            # beside a pixel of the output, one of the source, of which the ellipse is made
            atol = 1 + 0.75 * augment.scales[1] * side / split.image_size
            np.testing.assert_allclose(found(sample.image_HWC[..., label]), box, atol=atol)


@settings(max_examples=200, deadline=None)
@given(pictures(), bends(), st.integers(0, 2**32))
def test_bent_there_and_back(split: PackedSplit, augment: Augment, seed: int) -> None:
    """The inverse brings every corner home; the box lies within that of the mapped corners."""
    bend = transforms._bend(augment, np.random.default_rng(seed))
    affine = np.column_stack([bend, [3.0, -7.0]])
    corners = split.boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    mapped = corners @ affine[:, :2].T + affine[:, 2]
    back = (mapped - affine[:, 2]) @ np.linalg.inv(bend).T
    np.testing.assert_allclose(back, corners, atol=1e-3)
    around = mapped.reshape(-1, 4, 2)
    boxes = transforms._bent(split.boxes_xyxy, affine)
    assert (boxes[:, :2] >= around.min(axis=1) - 1e-3).all()
    assert (boxes[:, 2:] <= around.max(axis=1) + 1e-3).all()


def test_a_quarter_turn_keeps_boxes_whole() -> None:
    boxes = np.array([[10.0, 20.0, 40.0, 30.0]], np.float32)
    turned = transforms._bent(boxes, np.array([[0.0, -1.0, 50.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(turned, [[20, 10, 30, 40]], atol=1e-5)
