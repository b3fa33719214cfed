"""Suspected labels shown: who comes when, boxes in the original's pixels, what is drawn."""

import numpy as np

from frontier.data.drawing import COLORS, GAP_PX
from frontier.data.loading.packing import PackedSplit, StoredImages, stack_targets
from frontier.labeling.gallery import COLUMNS, PICTURE_PX, SHOWN, Find, in_turns, picture, rows
from frontier.labeling.noise import Kind, Suspect

SIDE, NAMES = 160, ["bolt", "nut"]
LABEL, CROWD = (20.0, 40.0, 60.0, 80.0), (90.0, 60.0, 150.0, 110.0)


def split_of(images: int, first_id: int = 0) -> PackedSplit:
    """Black squares that were 640 x 320 pictures (border 40 above), a nut and a crowd each."""
    pixels = np.zeros((images, SIDE, SIDE, 3), np.uint8)
    targets = [([LABEL, CROWD], [1, 1], [0, 1])] * images
    return PackedSplit(
        StoredImages(pixels, np.arange(images)),
        len(NAMES),
        first_id + np.arange(images),
        np.tile([320, 640], (images, 1)),
        *stack_targets(targets),
        "photos/val",
    )


def find(kind: Kind, image_id: int, score: float, split: str = "val") -> Find:
    other = 0 if kind == "wrong-class" else None
    return Find(split, Suspect(kind, image_id, 1, other, LABEL, score))


def test_kinds_take_turns_and_each_is_sorted_across_splits() -> None:
    missing = [find("missing", i, 1e-6 * i, "val" if i % 2 else "holdout") for i in range(3)]
    swapped = [find("wrong-class", 7, 0.2), find("wrong-class", 3, 0.1)]
    assert in_turns([*missing[::-1], *swapped]) == [
        *(missing[0], swapped[1], missing[1], swapped[0], missing[2])
    ]


def test_rows_name_classes_and_give_boxes_in_pixels_of_the_original() -> None:
    splits = {"val": split_of(3, first_id=500)}
    (row,) = rows([find("wrong-class", 501, 0.25)], splits, NAMES)
    assert row == {
        **{"split": "val", "image_id": 501, "kind": "wrong-class", "class": "nut"},
        **{"seen_as": "bolt", "box_xyxy": [80.0, 0.0, 240.0, 160.0], "score": 0.25},
    }


def test_the_sheet_has_the_first_finds_and_no_more() -> None:
    splits = {"val": split_of(SHOWN + 5)}
    finds = [find("missing", i, 0.01) for i in range(SHOWN + 5)]
    side = PICTURE_PX + GAP_PX
    shape = (SHOWN // COLUMNS * side - GAP_PX, COLUMNS * side - GAP_PX, 3)
    assert picture(finds, splits, NAMES).shape == shape
    assert picture(finds[:1], splits, NAMES).shape == (PICTURE_PX, PICTURE_PX, 3)


def inked(kind: Kind) -> dict[str, int]:
    """Pixels of each style's colour in the picture of one suspect."""
    drawn = picture([find(kind, 0, 0.1)], {"val": split_of(1)}, NAMES)
    return {style: int((drawn == colors[0]).all(axis=-1).sum()) for style, colors in COLORS.items()}


def test_the_suspect_is_dashed_in_place_of_its_own_outline() -> None:
    """A missing label is drawn over what is there; a doubted one is not drawn twice."""
    doubted, missing = inked("badly-placed"), inked("missing")
    assert doubted["dashed"] > 0
    assert doubted["solid"] == 0
    assert missing["dashed"] > 0
    assert missing["solid"] > 0
    assert doubted["hatched"] > 0
