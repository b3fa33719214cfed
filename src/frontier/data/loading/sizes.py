"""How much closer some pictures were taken than others, told by the sizes of their boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from frontier.boxes import area
from frontier.data.loading.packing import PackedSplit

Array = npt.NDArray[Any]

LEAST_SPREAD = 0.05  # less is less than a pixel of an object of 20 px
MOST_SPREAD = 0.5


def scale_range(splits: Sequence[PackedSplit]) -> tuple[float, float]:
    """What `train.augment.scale: auto` stands for: as much as the pictures themselves differ.

    Pictures of a microscope, all of one magnification, are not scaled at all and stay sharp;
    photos of everything are halved and half as large again.
    """
    spread = min(distance_spread(splits), MOST_SPREAD)
    if spread < LEAST_SPREAD:
        return 1.0, 1.0
    return round(1 - spread, 2), round(1 + spread, 2)


def distance_spread(splits: Sequence[PackedSplit]) -> float:
    """Standard deviation, between images, of the logarithm of box sides in relation to their class.

    The variance between images of a one-way random-effects model: objects of one picture differ
    too, and the mean of a few of them says little of its distance. Where no image has two boxes,
    the two cannot be told apart and all counts.

    Reference: Searle, Casella and McCulloch, "Variance Components" (1992), section 3.6 (unequal
    numbers in the classes).
    """
    sizes, images = _relative_sizes(splits)
    _, image, count = np.unique(images, return_inverse=True, return_counts=True)
    groups, total = len(count), len(sizes)
    if groups < 2:
        return 0.0
    means = np.bincount(image, sizes) / count
    between = float((count * (means - sizes.mean()) ** 2).sum()) / (groups - 1)
    inside = float(((sizes - means[image]) ** 2).sum()) / max(total - groups, 1)
    per_image = (total - float((count**2).sum()) / total) / (groups - 1)
    return float(np.sqrt(max(between - inside, 0.0) / per_image))


def _relative_sizes(splits: Sequence[PackedSplit]) -> tuple[Array, Array]:
    """Log sides of certain boxes over the median of their class, and the number of their image."""
    sizes, labels, images, first = [], [], [], 0
    for split in splits:
        sides = np.sqrt(area(split.boxes_xyxy.astype(np.float64)) / split.image_size**2)
        sure = (split.ignore == 0) & (sides > 0)
        image = np.repeat(np.arange(len(split)), np.diff(split.offsets))
        sizes.append(np.log(sides[sure]))
        labels.append(split.labels[sure])
        images.append(image[sure] + first)
        first += len(split)
    log_sides = pd.Series(np.concatenate(sizes))
    usual = log_sides.groupby(np.concatenate(labels)).transform("median")
    return (log_sides - usual).to_numpy(), np.concatenate(images)
