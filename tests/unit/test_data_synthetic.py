"""The generated data: the same bytes for a seed, boxes that fit, colours that tell nothing."""

from pathlib import Path

import numpy as np
import pytest

from frontier.data.formats.coco import Coco
from frontier.data.formats.objects365 import Objects365
from frontier.data.generated import shapes, synthetic
from frontier.files import sha256
from frontier.params import Synthetic, SyntheticPretrain


def digests(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): sha256(p) for p in paths}


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    sizes = {"train": 6, "val": 2, "test": 2, "unlabelled": 3}
    for name, seed in [("a", 5), ("b", 5), ("c", 6)]:
        (tmp_path / name).mkdir()
        synthetic.write_coco(tmp_path / name, Synthetic(seed=seed, **sizes))
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert len(a) == 13 + 3
    assert not set(a.values()) & set(c.values())
    assert len(set(a.values())) == len(a)  # no image in two splits


def test_more_images_leave_the_first_ones_alone(tmp_path: Path) -> None:
    for name, train in [("a", 3), ("b", 5)]:
        synthetic.write_objects365(
            tmp_path / name, SyntheticPretrain(source="synthetic", seed=1, train=train)
        )
    a, b = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert all(b[key] == a[key] for key in a if key.endswith(".jpg"))


@pytest.mark.parametrize("style", [synthetic.MAIN, synthetic.PRETRAIN])
def test_scenes_are_sound(style: synthetic.Style) -> None:
    counts = np.zeros(len(style.classes), int)
    sizes = set()
    for i in range(60):
        image, boxes, labels = synthetic.scene((0, 0, i), style)
        height, width = image.shape[:2]
        sizes.add((height, width))
        assert image.dtype == np.uint8
        for (x, y, w, h), label in zip(boxes, labels, strict=True):
            assert min(x, y) >= 0
            assert x + w <= width + 0.02
            assert y + h <= height + 0.02
            assert min(w, h) > 4
            assert max(w, h) <= synthetic.DIAMETER_PX[1] + 1
            counts[label] += 1
    assert (counts > 0).all()
    assert len(sizes) >= 5


def test_a_box_is_tight_around_its_shape() -> None:
    rng = np.random.default_rng(0)
    for name in shapes.ALL:
        image = np.zeros((200, 200, 3), np.uint8)
        owner = np.zeros((200, 200), np.uint8)
        (x, y, w, h), pixels = synthetic._draw_object(rng, image, owner, name, 1)
        rows, columns = np.nonzero(owner)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # a sharp tip is thinner than a pixel: it may end early, never beyond the box
        np.testing.assert_allclose(found, [x, y, x + w, y + h], atol=4)
        assert pixels == len(rows)


def test_colour_alone_does_not_decide_the_class() -> None:
    colours, labels = [], []
    for i in range(250):
        image, boxes, own = synthetic.scene((1, 0, i), synthetic.MAIN)
        for (x, y, w, h), label in zip(boxes, own, strict=True):
            centre = image[
                int(y + h / 4) : int(y + h * 0.75) + 1, int(x + w / 4) : int(x + w * 0.75) + 1
            ]
            colours.append(centre.mean((0, 1)))
            labels.append(label)
    points, classes = np.array(colours), np.array(labels)
    half = len(points) // 2
    distance = ((points[half:, None] - points[None, :half]) ** 2).sum(-1)
    accuracy = (classes[:half][distance.argmin(1)] == classes[half:]).mean()
    # a class has a typical colour, shared by neighbours on the circle and by chance with others
    assert 0.125 < accuracy < 0.65


def test_the_written_files_are_sound_coco_and_objects365(tmp_path: Path) -> None:
    synthetic.write_objects365(tmp_path, SyntheticPretrain(source="synthetic", seed=1, train=4))
    parts = list(Objects365().read(tmp_path, "train"))
    assert not any(part.problems for part in parts)
    assert sum(len(part.classes) for part in parts) >= 12
    names = [name for part in parts for name in part.images["file_name"].to_pylist()]
    assert names[0] == "images/v2/patch0/objects365_v2_00000001.jpg"
    synthetic.write_coco(tmp_path, Synthetic(seed=1, train=4, val=1, test=1, unlabelled=0))
    assert not any(part.problems for part in Coco().read(tmp_path, "train"))
