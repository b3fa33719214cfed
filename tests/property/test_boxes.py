"""Boxes and the letterbox, for any sizes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from frontier.boxes import PAD_VALUE, Letterbox, area, clip, iou, xywh_to_xyxy, xyxy_to_xywh

SIDES = st.integers(1, 3000)
SIZES = st.tuples(SIDES, SIDES)
NUMBERS = st.floats(-500, 3000, width=32)
BOXES = st.lists(st.tuples(NUMBERS, NUMBERS, st.floats(0, 900), st.floats(0, 900)), max_size=12)


@given(BOXES)
def test_formats_round_trip(boxes_xywh: list[tuple[float, ...]]) -> None:
    given_xywh = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    np.testing.assert_allclose(xyxy_to_xywh(xywh_to_xyxy(given_xywh)), given_xywh, atol=1e-2)


@given(BOXES, SIZES)
def test_clip_stays_inside_and_is_final(boxes_xywh: list[tuple[float, ...]], size_hw) -> None:
    clipped = clip(xywh_to_xyxy(boxes_xywh), size_hw)
    assert (clipped >= 0).all()
    assert (clipped[:, [1, 3]] <= size_hw[0]).all()
    assert (clipped[:, [0, 2]] <= size_hw[1]).all()
    np.testing.assert_array_equal(clip(clipped, size_hw), clipped)


@given(BOXES)
def test_iou_is_symmetric_bounded_and_one_with_itself(boxes_xywh) -> None:
    boxes = xywh_to_xyxy(boxes_xywh)
    overlap = iou(boxes, boxes)
    np.testing.assert_allclose(overlap, overlap.T, atol=1e-6)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-5)).all()
    solid = area(boxes) > 1
    np.testing.assert_allclose(np.diag(overlap)[solid], 1, atol=1e-5)


@given(SIZES, st.integers(32, 1280), st.data())
def test_letterbox_round_trip_within_a_pixel(size_hw, side, data) -> None:
    height, width = size_hw
    x1, x2 = sorted(data.draw(st.tuples(*[st.floats(0, width, width=32)] * 2)))
    y1, y2 = sorted(data.draw(st.tuples(*[st.floats(0, height, width=32)] * 2)))
    boxes = np.array([[x1, y1, x2, y2]], np.float32)
    letterbox = Letterbox(size_hw, side)
    square = letterbox.to_square(boxes)
    assert ((square >= -1e-3) & (square <= side + 1e-3)).all()
    assert np.abs(letterbox.from_square(square) - boxes).max() <= 1


@given(SIZES, st.sampled_from([32, 224, 640]))
def test_letterbox_fits_and_is_centred(size_hw, side) -> None:
    letterbox = Letterbox(size_hw, side)
    new_h, new_w = letterbox.new_hw
    assert max(new_h, new_w) == side
    assert min(new_h, new_w) >= 1
    assert abs((side - new_h - letterbox.top) - letterbox.top) <= 1
    assert abs((side - new_w - letterbox.left) - letterbox.left) <= 1


def test_letterbox_image_lies_where_its_boxes_say() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[60:120, 80:160] = 255
    letterbox = Letterbox((240, 320), 256)
    square = letterbox.image(image)
    assert (square[:32] == PAD_VALUE).all()
    x1, y1, x2, y2 = letterbox.to_square(np.array([[80, 60, 160, 120]], np.float32))[0].astype(int)
    rows, columns = np.nonzero(square[..., 0] > 200)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)
