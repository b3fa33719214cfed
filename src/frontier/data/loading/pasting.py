"""Copy-paste: objects of the training set on the free ground of other images.

Small data has few objects a picture and much empty ground; pasting shows more objects a step, in
new surroundings, and rare classes as often as common ones.

Reference: Ghiasi et al. 2021, "Simple Copy-Paste" (arXiv:2012.07177), here with boxes for masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from frontier.boxes import Floats, iou
from frontier.data.loading.packing import PackedSplit
from frontier.data.loading.transforms import Sample, jitter_hsv
from frontier.params import Augment

MIN_SIDE_PX = 4  # smaller cutouts show nothing
PLACES = 8  # tried at random before a cutout is left out

Pixels = npt.NDArray[np.uint8]


class Cutout(NamedTuple):
    """An object with its surroundings: `[h, w, 3]`, its box in these pixels, its label.

    `stored_side` is the side of the square it was cut out of.
    """

    image_HWC: Pixels
    box_xyxy: Floats
    label: int
    stored_side: int


class Cutouts:
    """Every certain box of some images, drawn class by class."""

    def __init__(self, sources: Sequence[tuple[PackedSplit, int]]) -> None:
        """The boxes of image i of a split, for each (split, i)."""
        self.sources = sources
        found = np.concatenate([self._rows(which) for which in range(len(sources))])
        self.by_class = [found[found[:, 2] == label] for label in np.unique(found[:, 2])]

    def _rows(self, which: int) -> npt.NDArray[np.int64]:
        """(source, box, label) of each of its boxes that is worth cutting out, `[n, 3]`."""
        split, i = self.sources[which]
        boxes, labels, ignore = split.targets(i)
        solid = (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX).all(axis=1)
        rows = np.flatnonzero(solid & (ignore == 0))
        return np.stack([np.full_like(rows, which), rows, labels[rows]], axis=1)

    def draw(self, margin: float, rng: np.random.Generator) -> Cutout | None:
        """One of a class drawn evenly; None where there is no box at all.

        Args:
            margin: of the box's longer side, cut out with it; it fades into the ground.
        """
        if not self.by_class:
            return None
        of_class = self.by_class[int(rng.integers(len(self.by_class)))]
        which, row, label = of_class[int(rng.integers(len(of_class)))].tolist()
        split, i = self.sources[which]
        image, box = split.images[i], split.targets(i)[0][row]
        around = margin * float((box[2:] - box[:2]).max())
        outer = np.array([*np.floor(box[:2] - around), *np.ceil(box[2:] + around)])
        left, top, right, bottom = outer.clip(0, split.image_size).astype(int)
        corner = np.array([left, top, left, top], np.float32)
        return Cutout(image[top:bottom, left:right], box - corner, label, split.image_size)


def pasted(
    sample: Sample,
    cutouts: Cutouts,
    count: int,
    side: int,
    augment: Augment,
    rng: np.random.Generator,
) -> Sample:
    """The sample with up to `count` objects more, none over another.

    Args:
        side: of the image, pixels.
        augment: its ranges of scale, flip and colour, drawn for each object by itself.
    """
    image = sample.image_HWC.copy()
    boxes, labels = sample.boxes_xyxy, [*sample.labels]
    for _ in range(count):
        cutout = cutouts.draw(augment.paste_margin, rng)
        if cutout is None:
            break
        cutout = _varied(cutout, side / cutout.stored_side, augment, rng)
        corner = _free_place(cutout, boxes, side, rng)
        if corner is None:
            continue
        _blend(image, cutout, corner)
        box = cutout.box_xyxy + np.tile(corner, 2)
        boxes = np.concatenate([boxes, box[None].astype(np.float32)])
        labels.append(cutout.label)
    ignore = np.concatenate([sample.ignore, np.zeros(len(labels) - len(sample.labels), bool)])
    return Sample(image, boxes, np.array(labels, np.int64), ignore)


def _varied(cutout: Cutout, ratio: float, augment: Augment, rng: np.random.Generator) -> Cutout:
    height, width = cutout.image_HWC.shape[:2]
    scale = ratio * rng.uniform(*augment.scales)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = cv2.resize(cutout.image_HWC, size, interpolation=cv2.INTER_CUBIC)
    image = jitter_hsv(np.asarray(image, np.uint8), augment.hsv, rng)
    box = cutout.box_xyxy * np.tile([size[0] / width, size[1] / height], 2)
    if rng.uniform() < augment.flip:
        image = image[:, ::-1]
        box = np.array([size[0] - box[2], box[1], size[0] - box[0], box[3]])
    return cutout._replace(image_HWC=image, box_xyxy=box.astype(np.float32))


def _free_place(
    cutout: Cutout, boxes_xyxy: Floats, side: int, rng: np.random.Generator
) -> npt.NDArray[np.int64] | None:
    """A corner (x, y) at which the object covers no box, or None."""
    height, width = cutout.image_HWC.shape[:2]
    if max(height, width) >= side or min(height, width) < MIN_SIDE_PX:
        return None
    corners = rng.integers(0, [side - width, side - height], (PLACES, 2))
    candidates = cutout.box_xyxy + np.tile(corners, 2).astype(np.float32)
    free = iou(candidates, boxes_xyxy).max(axis=1, initial=0.0) == 0
    return corners[int(free.argmax())] if free.any() else None


def _blend(image_HWC: Pixels, cutout: Cutout, corner: npt.NDArray[np.int64]) -> None:
    """Lay the cutout on the image in place: opaque on its box, fading towards its edge."""
    height, width = cutout.image_HWC.shape[:2]
    x1, y1, x2, y2 = cutout.box_xyxy
    opacity = np.minimum.outer(_ramp(height, y1, y2), _ramp(width, x1, x2))[..., None]
    x, y = corner
    ground = image_HWC[y : y + height, x : x + width]
    ground[:] = ground + opacity * (cutout.image_HWC.astype(np.float32) - ground)


def _ramp(length: int, first: float, last: float) -> Floats:
    """1 between the edges of the box, falling linearly to 0 at the ends of the cutout."""
    centres = np.arange(length, dtype=np.float32) + 0.5
    before = centres / max(first, 0.5)
    after = (length - centres) / max(length - last, 0.5)
    ramp: Floats = np.minimum(np.minimum(before, after), 1).astype(np.float32)
    return ramp
