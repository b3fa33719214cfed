"""Training on what real datasets hold: many classes or one, no boxes, very many, crowds only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from frontier.data.loading.packing import stack_targets
from frontier.models.detector import Detector
from frontier.models.supernet import Supernet
from frontier.params import Length
from frontier.training.plan import train
from frontier.training.recipes import distilled, sandwich, supervised
from tests import tiny

IMAGES = 4


def targets(boxes: int, classes: int, ignore: bool = False):
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(IMAGES):
        corner = rng.uniform(0, 90, (boxes, 2))
        size = rng.uniform(3, 38, (boxes, 2))
        labels = rng.integers(0, classes, boxes)
        parts.append((np.concatenate([corner, corner + size], 1), labels, [ignore] * boxes))
    return stack_targets(parts)


CASES = {
    "365 classes": (365, targets(6, 365)),
    "one class": (1, targets(3, 1)),
    "no box": (3, targets(0, 3)),
    "a thousand boxes": (3, targets(1000, 3)),
    "crowds only": (3, targets(4, 3, ignore=True)),
}


def backwards(kind: str, classes: int):
    torch.manual_seed(0)
    if kind == "sandwich":
        supernet = Supernet(tiny.SPACE, classes)
        return supernet, sandwich(supernet, tiny.RECIPE, 1, 1.0, seed=0)
    detector = Detector(tiny.SPACE.smallest.at(64), classes)
    if kind == "supervised":
        return detector, supervised(detector, tiny.RECIPE)
    teacher = Detector(tiny.SPACE.smallest.at(64), classes)
    return detector, distilled(detector, teacher, tiny.RECIPE, tiny.PARAMS.distill)


@pytest.mark.parametrize("kind", ["supervised", "sandwich", "distilled"])
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_finite(tmp_path, case, kind):
    classes, (offsets, boxes, labels, ignore) = CASES[case]
    split = tiny.split_of(IMAGES).with_targets(range(IMAGES), offsets, boxes, labels, ignore)
    module, backward = backwards(kind, classes)
    gradients = []

    def watched(batch):
        terms = backward(batch)
        gradients.extend(p.grad.clone() for p in module.parameters() if p.grad is not None)
        return terms

    task = tiny.task(tmp_path, score_every=0)
    source = replace(task.source, splits=[replace(split, num_classes=classes)])
    task = replace(task, module=module, backward=watched, source=source)
    history = train(task, Length(steps=2, share=1.0))
    assert all(np.isfinite(value) for row in history for value in row.values())
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    learns_boxes = case not in ("no box", "crowds only")
    assert (history[-1]["box_loss"] > 0) == learns_boxes
    assert (history[-1]["dfl_loss"] > 0) == learns_boxes
