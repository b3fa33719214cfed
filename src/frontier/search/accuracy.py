"""Accuracy of subnets: measured after recalibration, and predicted from what was measured."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from frontier.data.loading.packing import PackedSplit
from frontier.files import append_json_lines, read_json_lines
from frontier.metrics import bootstrap_ap
from frontier.models.architecture import Architecture, SearchSpace
from frontier.models.detector import Detector, cost
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import Supernet, recalibrate
from frontier.params import Evaluate
from frontier.search.features import Genes, features, genes_of
from frontier.training.sources import plain_images

BOOTSTRAP_SAMPLES = 60
FOLDS = 5


@dataclass(frozen=True)
class Evaluation:
    """One architecture's measured accuracy on the held-out split; AP in 0..1."""

    architecture: str
    AP: float
    AP_interval: tuple[float, float]
    gmac: float
    parameters: int


class Evaluator:
    """Extracts, recalibrates and scores subnets; remembers each answer on disk.

    Args:
        rules: which boxes are kept, as `evaluate` has it.
        journal: JSON lines, one per evaluation; a torn last line is dropped.
    """

    def __init__(
        self,
        supernet: Supernet,
        train: PackedSplit,
        holdout: PackedSplit,
        rules: Evaluate,
        recalibration_batches: int,
        journal: Path,
        device: torch.device,
    ) -> None:
        self.supernet, self.train, self.holdout = supernet, train, holdout
        self.rules = rules
        self.count, self.journal, self.device = recalibration_batches, journal, device
        self.known = _read(journal)
        self._images: dict[int, list[torch.Tensor]] = {}

    def evaluate(self, architecture: Architecture) -> Evaluation:
        if architecture.code not in self.known:
            evaluation = self._measure(architecture)
            self.known[architecture.code] = evaluation
            append_json_lines(self.journal, [asdict(evaluation)])
        return self.known[architecture.code]

    def extract(self, architecture: Architecture) -> Detector:
        """The subnet as a detector of its own, its batch norms estimated on training images."""
        detector = self.supernet.extract(architecture).to(self.device)
        return recalibrate(detector, self._recalibration_images(architecture.image_side))

    def _measure(self, architecture: Architecture) -> Evaluation:
        side = architecture.image_side
        deployed = self.extract(architecture).deploy().to(self.device)
        found = detect(deployed, self.holdout, side, self.rules)
        ap, low, high = bootstrap_ap(truth_of(self.holdout), found, BOOTSTRAP_SAMPLES)
        parameters, gmac = cost(deployed, side)
        return Evaluation(architecture.code, ap, (low, high), gmac, parameters)

    def _recalibration_images(self, side: int) -> list[torch.Tensor]:
        if side not in self._images:
            self._images[side] = plain_images(self.train, side, self.count, self.device)
        return self._images[side]


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
