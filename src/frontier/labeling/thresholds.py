"""Score thresholds per class, chosen on labelled images, and what to expect above them.

A detection is right if it takes a still free true box of its class at IoU >= 0.5, best score
first; one in a crowd is neither right nor wrong. Legend: N detections, I images, C classes.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frontier.matching import match, scenes
from frontier.metrics import Detections, GroundTruth

FOLDS = 5
Z = 1.96
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Judged(NamedTuple):
    """Detections that count, `[N]` each, and the true boxes `[I, C]` of every image and class."""

    scores: Floats
    labels: Ints
    right: Flags
    image: Ints
    truth: Ints

    def of(self, images: Flags) -> "Judged":
        """Only those of some images, `[I]`."""
        keep = images[self.image]
        rows = (self.scores[keep], self.labels[keep], self.right[keep], self.image[keep])
        return Judged(*rows, np.where(images[:, None], self.truth, 0))


class Share(NamedTuple):
    """A share with its 95 % interval; all None where nothing was there to count."""

    value: float | None
    low: float | None
    high: float | None


class Threshold(NamedTuple):
    """Score from which a class is sure, and the precision and recall to expect of it.

    `score` is None where no score reaches the wanted precision: nothing of that class is sure.
    """

    score: float | None
    precision: Share
    recall: Share


def judged(truth: GroundTruth, found: Detections, may_be_sure: Flags | None = None) -> Judged:
    """Match detections with the labels.

    Args:
        may_be_sure: `[N]`, those that a threshold decides about; None means all. The others still
            take part in the matching, as they do in labelling.
    """
    sure = np.ones(len(found.scores), bool) if may_be_sure is None else may_be_sure
    pictures = scenes(truth, found)
    # the detections of each scene, in the order that `scenes` gives them
    order = np.argsort(found.image_id, kind="stable")
    order = order[np.isin(found.image_id[order], truth.image_ids)]
    place = {image_id: index for index, image_id in enumerate(truth.image_ids.tolist())}
    order = order[np.argsort([place[i] for i in found.image_id[order].tolist()], kind="stable")]
    matches = [match(scene) for scene in pictures]
    none = np.zeros(0, bool)
    counts = np.concatenate([none, *(m.counts for m in matches)]) & sure[order]
    right = np.concatenate([none, *(m.right for m in matches)])
    image = np.repeat(np.arange(len(pictures)), [len(s.scores) for s in pictures])
    totals = [np.bincount(s.truth_labels[~s.crowd], minlength=truth.num_classes) for s in pictures]
    return Judged(
        found.scores[order][counts].astype(np.float64),
        found.labels[order][counts],
        right[counts],
        image[counts],
        np.array(totals, np.int64).reshape(len(pictures), truth.num_classes),
    )


def joined(parts: list[Judged]) -> Judged:
    """Those of several splits as one."""
    firsts = np.cumsum([0, *(len(part.truth) for part in parts)])
    pairs = zip(parts, firsts[:-1], strict=True)
    moved = [part._replace(image=part.image + first) for part, first in pairs]
    return Judged(*(np.concatenate(columns) for columns in zip(*moved, strict=True)))


def choose(seen: Judged, precision: float, beta: float, seed: int) -> list[Threshold]:
    """One threshold per class: of the scores at which precision is `precision`, the best F-beta.

    What to expect is counted on images that had no part in the choice: a fifth at a time, with
    thresholds chosen on the rest (cross-validation by images), under Wilson's interval.

    Reference: van Rijsbergen 1979, "Information Retrieval", chapter 7; Wilson 1927.
    """
    images, classes = seen.truth.shape
    fold = np.random.default_rng(seed).permutation(images) % FOLDS
    hits, kept = np.zeros((2, classes), np.int64)
    for number in range(FOLDS):
        scores = _scores(seen.of(fold != number), precision, beta)
        rest = seen.of(fold == number)
        sure = rest.scores >= scores[rest.labels]
        kept += np.bincount(rest.labels[sure], minlength=classes)
        hits += np.bincount(rest.labels[sure & rest.right], minlength=classes)
    totals = seen.truth.sum(axis=0)
    return [
        Threshold(
            None if math.isinf(score) else score,
            share(int(hits[label]), int(kept[label])),
            share(int(hits[label]), int(totals[label])),
        )
        for label, score in enumerate(_scores(seen, precision, beta).tolist())
    ]


def _scores(seen: Judged, precision: float, beta: float) -> Floats:
    """The threshold `[C]` of each class; infinite where there is none."""
    totals = seen.truth.sum(axis=0)
    found = np.full(len(totals), np.inf)
    for label in np.unique(seen.labels).tolist():
        own = seen.labels == label
        found[label] = best_score(seen.scores[own], seen.right[own], totals[label], precision, beta)
    return found


def best_score(scores: Floats, right: Flags, total: int, precision: float, beta: float) -> float:
    """The score with the best F-beta among those whose precision suffices; infinite if none does.

    Args:
        total: true boxes of the class.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(right[order])
    counts = np.arange(1, len(order) + 1)
    whole = np.append(np.diff(ordered) < 0, True)  # a threshold splits no equal scores
    fine = whole & (hits >= precision * counts) & (hits > 0)
    if not fine.any():
        return math.inf
    f_beta = (1 + beta**2) * hits / (counts + beta**2 * max(total, 1))
    return float(ordered[np.where(fine, f_beta, -1.0).argmax()])


def share(hits: int, count: int) -> Share:
    return Share(hits / count, *wilson(hits, count)) if count else Share(None, None, None)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927)."""
    part = hits / count
    centre = (part + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(part * (1 - part) / count + Z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)
