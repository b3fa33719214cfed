"""Slow, obvious second implementations of boxes and assigner: one image, box and anchor a time."""

import numpy as np
import torch

from frontier.models.decoding import anchor_points
from frontier.params import Assigner
from frontier.training.assigner import assign

VARIFOCAL = {"background": 0.75, "focus": 2.0, "max_class_weight": 8.0}
ASSIGNER = Assigner(top_k=13, score_power=1, iou_power=6, min_reach_px=12.0)
TOP_K = 13  # anchors a box, as in PP-YOLOE; spelled here so that another number is an error


def boxes(count: int, generator: torch.Generator, side: float = 64) -> torch.Tensor:
    corners = torch.rand(count, 2, generator=generator) * side * 0.6
    return torch.cat([corners, corners + 4 + torch.rand(count, 2, generator=generator) * 24], 1)


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def slow_giou(a, b):
    iou = slow_iou(a, b)
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])  # noqa: E731
    inter = iou / (1 + iou) * (area(a) + area(b))
    union = area(a) + area(b) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return iou - (hull - union) / hull


def slow_reach(box):
    """Is a point within the box, or within 6 px of its middle where the box is smaller?"""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = max(box[2] - box[0], 12), max(box[3] - box[1], 12)
    return lambda a, b: abs(a - x) < width / 2 and abs(b - y) < height / 2


def slow_assign(scores, predicted, centres, truth, labels, ignore):
    """One image, one box and one anchor at a time: owners, target scores and shares."""
    anchors = len(centres)
    wanted = {}  # anchor -> (iou, box)
    align = np.zeros((len(truth), anchors))
    overlap = np.zeros((len(truth), anchors))
    for m, box in enumerate(truth):
        overlap[m] = [slow_iou(box, p) for p in predicted]
        learns = labels[m] >= 0 and not ignore[m]
        inside = [a for a in range(anchors) if learns and slow_reach(box)(*centres[a])]
        align[m] = -1
        for a in inside:
            relative = overlap[m, a] / max(overlap[m, i] for i in inside)
            align[m, a] = scores[a][labels[m]] * relative**6
        best = sorted(range(anchors), key=lambda a: -align[m, a])[:TOP_K]
        for a in best:
            if align[m, a] >= 0 and overlap[m, a] > wanted.get(a, (-1,))[0]:
                wanted[a] = (overlap[m, a], m)
    target, share = np.zeros(anchors), np.zeros(anchors)
    for m in range(len(truth)):
        own = [a for a, (_, box) in wanted.items() if box == m]
        if own:
            top, best_iou = max(align[m, a] for a in own), max(overlap[m, a] for a in own)
            for a in own:
                share[a] = align[m, a] / top
                target[a] = share[a] * best_iou
    return {a: m for a, (_, m) in wanted.items()}, target, share


def assign_one(box, predicted, score=0.01, rules=ASSIGNER):
    """The assignment of one box of one class among the anchors of a 64 px input."""
    centres, _ = anchor_points(64)
    return assign(
        torch.full((1, len(centres), 1), score), predicted[None], centres,
        torch.tensor([[box]]), torch.tensor([[0]]), torch.tensor([[False]]),
        rules,
    )  # fmt: skip
