"""How far pictures were taken from: what `train.augment.scale: auto` stands for."""

import numpy as np
import pytest

from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.data.loading.sizes import distance_spread, scale_range
from frontier.params import Augment
from frontier.training.sources import Sides, batch_source
from tests.tiny import RECIPE, RUN

SIDE = 640


def photos(between: float, inside: float, boxes: int = 8, images: int = 300) -> PackedSplit:
    """Three classes of 20, 60 and 180 px, seen from distances that spread by `between`."""
    rng = np.random.default_rng(0)
    parts = []
    for distance in np.exp(rng.normal(0, between, images)):
        labels = rng.integers(0, 3, rng.integers(1, 2 * boxes) if boxes > 1 else 1)
        sides = 20 * 3.0**labels * distance * np.exp(rng.normal(0, inside, len(labels)))
        corners = np.stack([np.zeros_like(sides), np.zeros_like(sides), sides, sides], axis=1)
        parts.append((corners.astype(np.float32), labels, np.zeros(len(labels), np.uint8)))
    pixels = StoredImages(np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros(images, np.int64))
    sizes = np.full((images, 2), SIDE)
    return PackedSplit(pixels, 3, np.arange(images), sizes, *stack_targets(parts), "made/train")


@pytest.mark.parametrize("between", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("inside", [0.05, 0.3])
def test_the_spread_of_distances_is_told_from_that_of_objects(between, inside):
    assert distance_spread([photos(between, inside)]) == pytest.approx(between, abs=0.03)


def test_one_box_an_image_tells_no_distance_apart_from_a_size():
    expected = np.hypot(0.1, 0.2)
    assert distance_spread([photos(0.1, 0.2, boxes=1)]) == pytest.approx(expected, abs=0.03)


def test_the_range_is_none_where_all_are_equally_far_and_at_most_a_half():
    assert scale_range([photos(0.01, 0.2)]) == (1.0, 1.0)
    low, high = scale_range([photos(0.2, 0.1)])
    assert low == pytest.approx(0.8, abs=0.03)
    assert low + high == pytest.approx(2)
    assert scale_range([photos(2.0, 0.1)]) == (0.5, 1.5)


def test_splits_count_together_and_uncertain_boxes_do_not():
    split = photos(0.2, 0.1)
    twice = distance_spread([split.subset(range(150)), split.subset(range(150, 300))])
    assert twice == pytest.approx(distance_spread([split]))
    parts = [split.targets(i) for i in range(len(split))]
    doubtful = [(boxes * 0.01, labels, ignore + 1) for boxes, labels, ignore in parts]
    both = [
        tuple(np.concatenate(pair) for pair in zip(a, b, strict=True))
        for a, b in zip(parts, doubtful, strict=True)
    ]
    mixed = split.with_targets(np.arange(300), *stack_targets(both))
    assert distance_spread([mixed]) == pytest.approx(distance_spread([split]))


def test_nothing_to_tell_from_is_no_spread():
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    split = photos(0.2, 0.1, images=3)
    blank = split.with_targets(np.arange(3), *stack_targets([empty] * 3))
    assert scale_range([blank]) == scale_range([split.subset([0])]) == (1.0, 1.0)


@pytest.mark.parametrize("given", ["auto", (0.7, 1.2)])
def test_a_source_settles_what_was_left_open(given):
    augment = RECIPE.augment.model_copy(update={"scale": given})
    recipe = RECIPE.model_copy(update={"augment": augment})
    split = photos(0.2, 0.1)
    found = batch_source([split], recipe, RUN, Sides((64,))).augment.scales
    assert found == (scale_range([split]) if given == "auto" else given)


@pytest.mark.parametrize(
    "wrong", ["wide", [2, 1], [0, 1], [0.5], 0.5, [0.5, True], [1, float("nan")]]
)
def test_what_is_no_range_is_refused_by_name(wrong):
    values = RECIPE.augment.model_dump() | {"scale": wrong}
    with pytest.raises(ValueError, match=r"train\.augment\.scale: must be auto or \[low, high\]"):
        Augment.model_validate(values)
