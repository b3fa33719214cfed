"""AP while training: a glance at a few held-out images, on which nothing is decided."""

from collections.abc import Callable

import numpy as np

from frontier.data.loading.packing import PackedSplit
from frontier.metrics import coco_metrics
from frontier.models.detector import Detector
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import recalibrate
from frontier.params import Evaluate
from frontier.training.sources import plain_images

RECALIBRATION_BATCHES = 2  # scoring must stay cheap beside an epoch


def held_out_score(
    train: PackedSplit, held_out: PackedSplit, side: int, most: int, rules: Evaluate
) -> Callable[[Detector], float]:
    """A function that gives the AP of a detector, whose batch norms it estimates anew.

    Args:
        train: images for batch-norm statistics, which lag behind in a short training.
        held_out: scored on up to `most` of its images, evenly spread.
        side: input side, pixels.
        rules: which boxes are kept, as `evaluate` has it.
    """
    count = min(most, len(held_out))
    few = held_out.subset(np.linspace(0, len(held_out) - 1, count).astype(np.int64))
    truth = truth_of(few)

    def score(detector: Detector) -> float:
        device = next(detector.parameters()).device
        recalibrate(detector, plain_images(train, side, RECALIBRATION_BATCHES, device))
        return coco_metrics(truth, detect(detector.deploy().to(device), few, side, rules))["AP"]

    return score
