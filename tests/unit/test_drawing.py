"""Boxes on pictures: where they are, what marks them, the same bytes each time."""

import numpy as np

from frontier.data.drawing import COLORS, GAP_PX, TILE_PX, Mark, batch_sheet, jpeg, marked, sheet
from frontier.data.loading.loader import Batch

BLACK = np.zeros((60, 80, 3), np.uint8)


def inked(style: str, box: tuple[float, ...] = (10, 20, 50, 40)) -> np.ndarray:
    drawn = marked(BLACK, [Mark(box, "", style)])
    return (drawn == COLORS[style][0]).all(axis=-1)


def test_an_outline_lies_inside_its_box_and_a_picture_stays_as_it_was() -> None:
    ink = inked("solid")
    rows, columns = np.nonzero(ink)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 10, 49)
    assert not ink[22:38, 12:48].any()
    assert not BLACK.any()


def test_styles_differ_without_colour() -> None:
    solid, dashed, hatched = (inked(style) for style in ("solid", "dashed", "hatched"))
    assert 0 < dashed.sum() < solid.sum()
    assert hatched[22:38, 12:48].any()


def test_boxes_that_reach_outside_or_are_empty_are_drawn_as_far_as_they_go() -> None:
    assert inked("solid", (-10, -10, 200, 200))[0, 0]
    assert not inked("hatched", (90, 70, 120, 90)).any()
    assert not inked("dashed", (5, 5, 5, 5)).any()


def test_a_sheet_has_every_picture_in_reading_order() -> None:
    tiles = [np.full((5, 7, 3), value, np.uint8) for value in (1, 2, 3)]
    paper = sheet(tiles, columns=2)
    assert paper.shape == (10 + GAP_PX, 14 + GAP_PX, 3)
    assert (paper[:5, :7] == 1).all()
    assert (paper[:5, 7 + GAP_PX :] == 2).all()
    assert (paper[5 + GAP_PX :, :7] == 3).all()


def batch(side: int, count: int) -> Batch:
    rng = np.random.default_rng(side)
    boxes = np.tile(np.array([[2, 8, 20, 24], [0, 0, 0, 0]], np.float32), (count, 1, 1))
    return Batch(
        rng.integers(0, 255, (count, side, side, 3), dtype=np.uint8),
        boxes,
        np.tile([1, -1], (count, 1)),
        np.zeros((count, 2), bool),
        np.arange(count),
        ["photos/train"] * count,
    )


def test_batches_become_one_sheet_of_the_same_bytes() -> None:
    """Of 3 + 3 images the first 4, whatever the side of their batch; padding is no box."""
    batches = [batch(32, 3), batch(64, 3)]
    paper = batch_sheet(batches, ["a", "bolt № 2"], amount=4, columns=2)
    assert paper.shape == (2 * TILE_PX + GAP_PX, 2 * TILE_PX + GAP_PX, 3)
    again = batch_sheet(batches, ["a", "bolt № 2"], amount=4, columns=2)
    assert jpeg(paper) == jpeg(again)
    unmarked = batches[0]._replace(labels=np.full((3, 2), -1))
    other = batch_sheet([unmarked, batches[1]], ["a", "b"], amount=4, columns=2)
    changed = (paper != other).any(axis=-1)
    top = round(24 * TILE_PX / 32)
    assert changed[:top, :TILE_PX].any()
    assert not changed[top:TILE_PX, :TILE_PX].any()
