"""Accuracy of subnets: measured after recalibration, and predicted from what was measured."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from frontier.data.loading.packing import PackedSplit, load_split
from frontier.data.workers import run
from frontier.files import append_json_lines, read_json_lines
from frontier.metrics import bootstrap_ap
from frontier.models.architecture import Architecture, SearchSpace
from frontier.models.detector import Detector, cost
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import Supernet, load_supernet, recalibrate
from frontier.params import Evaluate, Workers
from frontier.search.features import Genes, features, genes_of
from frontier.training.sources import plain_images

BOOTSTRAP_SAMPLES = 60
FOLDS = 5


@dataclass(frozen=True)
class Evaluation:
    """One architecture's measured accuracy on the held-out split; AP in 0..1.

    Attributes:
        AP_before: with batch-norm statistics as they were initialised, which shows what
            recalibration is worth; of the networks that every search starts from, None of others.
    """

    architecture: str
    AP: float
    AP_interval: tuple[float, float]
    gmac: float
    parameters: int
    AP_before: float | None = None


@dataclass(frozen=True)
class Place:
    """Where subnets are scored: everything a worker needs, on whatever machine.

    Attributes:
        rules: which boxes are kept, as `evaluate` has it.
        batches: training batches that batch norms are estimated on.
        device: as torch names it.
    """

    supernet: Path
    pack: Path
    rules: Evaluate
    batches: int
    device: str


class Evaluator:
    """Extracts, recalibrates and scores subnets; remembers each answer on disk.

    Args:
        workers: who scores: a cluster's workers each take a subnet; here the threads of torch
            share one after the other.
        journal: JSON lines, one per evaluation; a torn last line is dropped.
    """

    def __init__(self, place: Place, workers: Workers, journal: Path) -> None:
        here = workers.model_copy(update={"jobs": 1})
        self.place, self.workers, self.journal = place, here, journal
        self.supernet = _opened(place).supernet
        self.known = _read(journal)

    def evaluate(self, architectures: list[Architecture]) -> Iterator[Evaluation]:
        """One evaluation each, in order, as soon as it is there."""
        new = [a.code for a in dict.fromkeys(architectures) if a.code not in self.known]
        results = run(score, ((self.place, code) for code in new), self.workers)
        for architecture in architectures:
            if architecture.code not in self.known:
                evaluation = next(results)
                self.known[architecture.code] = evaluation
                append_json_lines(self.journal, [asdict(evaluation)])
            yield self.known[architecture.code]


class _Opened(NamedTuple):
    """What a process holds of a place."""

    supernet: Supernet
    train: PackedSplit
    holdout: PackedSplit
    images: dict[int, list[torch.Tensor]]


@lru_cache(maxsize=1)
def _opened(place: Place) -> _Opened:
    supernet, _ = load_supernet(place.supernet)
    train, holdout = (load_split(place.pack, name) for name in ("train", "holdout"))
    return _Opened(supernet.to(place.device), train, holdout, {})


def score(place: Place, code: str) -> Evaluation:
    """Measure one subnet."""
    architecture, held = Architecture.parse(code), _opened(place)
    detector = held.supernet.extract(architecture).to(place.device)
    before = None
    if architecture in held.supernet.space.seeds():
        before = _bootstrapped(detector, place)[0]
    side = architecture.image_side
    if side not in held.images:
        device = torch.device(place.device)
        held.images[side] = plain_images(held.train, side, place.batches, device)
    recalibrate(detector, held.images[side])
    ap, low, high = _bootstrapped(detector, place)
    parameters, gmac = cost(detector.deploy().to(place.device), side)
    return Evaluation(code, ap, (low, high), gmac, parameters, before)


def _bootstrapped(detector: Detector, place: Place) -> tuple[float, float, float]:
    """AP on the held-out images, and the ends of its interval."""
    holdout = _opened(place).holdout
    deployed = detector.deploy().to(place.device)
    found = detect(deployed, holdout, detector.architecture.image_side, place.rules)
    return bootstrap_ap(truth_of(holdout), found, BOOTSTRAP_SAMPLES)


def _read(journal: Path) -> dict[str, Evaluation]:
    rows = read_json_lines(journal)
    found = [Evaluation(**{**row, "AP_interval": tuple(row["AP_interval"])}) for row in rows]
    return {evaluation.architecture: evaluation for evaluation in found}


class AccuracyPredictor:
    """Gradient-boosted trees from code features to AP, refit whenever evaluations are added."""

    def __init__(self, space: SearchSpace, evaluated: list[tuple[Architecture, float]]) -> None:
        from sklearn.ensemble import GradientBoostingRegressor

        self.space = space
        self.model = GradientBoostingRegressor(
            n_estimators=80, max_depth=3, learning_rate=0.1, subsample=0.8, random_state=0
        )
        architectures, ap = zip(*evaluated, strict=True)
        self.model.fit(features(space, genes_of(space, [*architectures])), ap)

    def predict(self, genes_NG: Genes) -> npt.NDArray[np.float64]:
        """AP in 0..1, `[N]`."""
        return np.asarray(self.model.predict(features(self.space, genes_NG)))

    def out_of_fold(self, evaluated: list[tuple[Architecture, float]]) -> npt.NDArray[np.float64]:
        """AP of each as predicted by a fit on the others, in `FOLDS` parts, `[N]`."""
        from sklearn.base import clone
        from sklearn.model_selection import KFold, cross_val_predict

        architectures, ap = zip(*evaluated, strict=True)
        inputs = features(self.space, genes_of(self.space, [*architectures]))
        folds = KFold(min(FOLDS, len(ap)), shuffle=True, random_state=0)
        return np.asarray(cross_val_predict(clone(self.model), inputs, ap, cv=folds))
