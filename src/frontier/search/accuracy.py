"""Accuracy of subnets: measured after recalibration, and predicted from what was measured."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

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


class Scorer:
    """Extracts, recalibrates and scores subnets.

    Args:
        rules: which boxes are kept, as `evaluate` has it.
        batches: training batches that batch norms are estimated on.
    """

    def __init__(
        self,
        supernet: Supernet,
        train: PackedSplit,
        holdout: PackedSplit,
        rules: Evaluate,
        batches: int,
        device: torch.device,
    ) -> None:
        self.supernet, self.train, self.holdout = supernet.to(device), train, holdout
        self.rules, self.batches, self.device = rules, batches, device
        self._images: dict[int, list[torch.Tensor]] = {}

    def score(self, architecture: Architecture) -> Evaluation:
        detector = self.supernet.extract(architecture).to(self.device)
        starts = architecture in self.supernet.space.seeds()
        before = self._bootstrapped(detector)[0] if starts else None
        ap, low, high = self._bootstrapped(self.recalibrated(detector))
        parameters, gmac = cost(detector.deploy().to(self.device), architecture.image_side)
        return Evaluation(architecture.code, ap, (low, high), gmac, parameters, before)

    def recalibrated(self, detector: Detector) -> Detector:
        """The detector, its batch norms estimated on training images."""
        side = detector.architecture.image_side
        if side not in self._images:
            self._images[side] = plain_images(self.train, side, self.batches, self.device)
        return recalibrate(detector, self._images[side])

    def _bootstrapped(self, detector: Detector) -> tuple[float, float, float]:
        """AP on the held-out images, and the ends of its interval."""
        deployed = detector.deploy().to(self.device)
        side = detector.architecture.image_side
        found = detect(deployed, self.holdout, side, self.rules)
        return bootstrap_ap(truth_of(self.holdout), found, BOOTSTRAP_SAMPLES)


@dataclass(frozen=True)
class Place:
    """Where a worker finds what it needs to score subnets, on whatever machine; see `Scorer`.

    Attributes:
        device: as torch names it.
    """

    supernet: Path
    pack: Path
    rules: Evaluate
    batches: int
    device: str


@lru_cache(maxsize=1)
def _scorer(place: Place) -> Scorer:
    supernet, _ = load_supernet(place.supernet)
    train, holdout = (load_split(place.pack, name) for name in ("train", "holdout"))
    device = torch.device(place.device)
    return Scorer(supernet, train, holdout, place.rules, place.batches, device)


def _score(place: Place, code: str) -> Evaluation:
    return _scorer(place).score(Architecture.parse(code))


class Evaluator:
    """Has subnets scored, and remembers each answer on disk.

    Args:
        workers: who scores: a cluster's workers each take a subnet; here the threads of torch
            share one after the other.
        journal: JSON lines, one per evaluation; a torn last line is dropped.
    """

    def __init__(self, place: Place, workers: Workers, journal: Path) -> None:
        self.place, self.journal = place, journal
        self.workers = workers.model_copy(update={"jobs": 1})
        self.supernet = _scorer(place).supernet
        self.known = _read(journal)

    def evaluate(self, architectures: list[Architecture]) -> Iterator[Evaluation]:
        """One evaluation each, in order, as soon as it is there."""
        new = [a.code for a in dict.fromkeys(architectures) if a.code not in self.known]
        results = run(_score, ((self.place, code) for code in new), self.workers)
        for architecture in architectures:
            if architecture.code not in self.known:
                evaluation = next(results)
                self.known[architecture.code] = evaluation
                append_json_lines(self.journal, [asdict(evaluation)])
            yield self.known[architecture.code]


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
