"""From a teacher's detections to labels: sure boxes, regions that nobody is sure of, nothing.

Legend: N detections, I images.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.data.loading.packing import PackedSplit, stack_targets
from frontier.labeling.agreement import rows_by_image
from frontier.labeling.labelling import Answer
from frontier.labeling.thresholds import Threshold

Flags = npt.NDArray[np.bool_]


class Verdicts(NamedTuple):
    """What a person said of the detections, `[N]` each."""

    accepted: Flags
    struck: Flags


class Labels(NamedTuple):
    """What became of the detections, `[N]` each, and of the images.

    Attributes:
        sure: kept as labels.
        doubtful: became regions that training ignores.
        split: the images with something sure, and their boxes.
    """

    sure: Flags
    doubtful: Flags
    split: PackedSplit


def label_images(
    split: PackedSplit,
    answer: Answer,
    thresholds: Sequence[Threshold],
    ignore_above: float,
    *,
    said: Verdicts,
    refused: Collection[int] = (),
) -> Labels:
    """Keep images with at least one sure box; boxes between doubt and sure become `ignore`.

    Sure is what reaches its class's threshold and was seen in both looks, or what a person
    accepted. What a person struck is nothing.

    Args:
        refused: places of images that are left out.
    """
    found = answer.found
    scores = np.array([np.inf if t.score is None else t.score for t in thresholds])
    sure = ((found.scores >= scores[found.labels]) & answer.twice | said.accepted) & ~said.struck
    # a box below `ignore_above` that its class's threshold would keep, but seen once, is in doubt
    least = np.minimum(scores[found.labels], ignore_above)
    doubtful = ~sure & (found.scores >= least) & ~said.struck
    indices, parts, used = [], [], np.zeros(len(sure), bool)
    own = rows_by_image(found)
    for index, image_id in enumerate(split.image_ids.tolist()):
        rows = own.get(image_id, np.zeros(0, np.int64))
        rows = rows[(sure | doubtful)[rows]]
        if index not in refused and sure[rows].any():
            indices.append(index)
            used[rows] = True
            parts.append((found.boxes_xyxy[rows], found.labels[rows], ~sure[rows]))
    kept = split.with_targets(indices, *stack_targets(parts))
    return Labels(sure & used, doubtful & used, kept)
