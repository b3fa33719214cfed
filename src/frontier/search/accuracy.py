"""Accuracy of subnets: measured after recalibration, and predicted from what was measured."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from frontier.data.loading.packing import PackedSplit
from frontier.metrics import bootstrap_ap
from frontier.models.architecture import Architecture, SearchSpace
from frontier.models.detector import Detector, cost
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import Supernet, recalibrate
from frontier.training.sources import plain_images

BOOTSTRAP_SAMPLES = 60


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
        journal: JSON lines, one per evaluation; a torn last line is dropped.
    """

    def __init__(
        self,
        supernet: Supernet,
        train: PackedSplit,
        holdout: PackedSplit,
        recalibration_batches: int,
        journal: Path,
        device: torch.device,
    ) -> None:
        self.supernet, self.train, self.holdout = supernet, train, holdout
        self.count, self.journal, self.device = recalibration_batches, journal, device
        self.known = _read(journal)
        self._images: dict[int, list[torch.Tensor]] = {}

    def evaluate(self, architecture: Architecture) -> Evaluation:
        if architecture.code not in self.known:
            evaluation = self._measure(architecture)
            self.known[architecture.code] = evaluation
            with self.journal.open("a") as file:
                file.write(json.dumps(asdict(evaluation)) + "\n")
        return self.known[architecture.code]

    def extract(self, architecture: Architecture) -> Detector:
        """The subnet as a detector of its own, its batch norms estimated on training images."""
        detector = self.supernet.extract(architecture).to(self.device)
        return recalibrate(detector, self._recalibration_images(architecture.image_side))

    def _measure(self, architecture: Architecture) -> Evaluation:
        side = architecture.image_side
        deployed = self.extract(architecture).deploy().to(self.device)
        found = detect(deployed, self.holdout, side)
        ap, low, high = bootstrap_ap(truth_of(self.holdout), found, BOOTSTRAP_SAMPLES)
        parameters, gmac = cost(deployed, side)
        return Evaluation(architecture.code, ap, (low, high), gmac, parameters)

    def _recalibration_images(self, side: int) -> list[torch.Tensor]:
        if side not in self._images:
            self._images[side] = plain_images(self.train, side, self.count, self.device)
        return self._images[side]


def _read(journal: Path) -> dict[str, Evaluation]:
    known: dict[str, Evaluation] = {}
    if not journal.is_file():
        return known
    whole = [line for line in journal.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    journal.write_text("".join(whole))  # a torn last line would swallow the next one
    for line in whole:
        row = json.loads(line)
        row["AP_interval"] = tuple(row["AP_interval"])
        known[row["architecture"]] = Evaluation(**row)
    return known


def features(space: SearchSpace, architecture: Architecture) -> npt.NDArray[np.float64]:
    """The one-hot code and a cost proxy per stage: what both predictors see."""
    vector = space.encode(architecture)
    one_hot = np.concatenate(
        [np.eye(count)[choice] for count, choice in zip(space.genes(), vector, strict=True)]
    )
    area = (architecture.image_side / 256) ** 2
    costs = [
        area * s.depth * s.hidden**2 * (0.12 if s.block == "d" else 1.0) / 1e5
        for s in architecture.stages
    ]
    return np.concatenate([one_hot, costs, [sum(costs), area, architecture.head_width * area]])


class AccuracyPredictor:
    """Gradient-boosted trees from code features to AP, refit whenever evaluations are added."""

    def __init__(self, space: SearchSpace, evaluations: list[Evaluation]) -> None:
        from sklearn.ensemble import GradientBoostingRegressor

        self.space = space
        self.model = GradientBoostingRegressor(
            n_estimators=80, max_depth=3, learning_rate=0.1, subsample=0.8, random_state=0
        )
        inputs = [features(space, Architecture.parse(e.architecture)) for e in evaluations]
        self.model.fit(np.stack(inputs), [e.AP for e in evaluations])

    def predict(self, architectures: list[Architecture]) -> npt.NDArray[np.float64]:
        inputs = np.stack([features(self.space, a) for a in architectures])
        return np.asarray(self.model.predict(inputs))
