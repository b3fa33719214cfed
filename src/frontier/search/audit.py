"""The audit of shared weights: do they rank networks as training each alone would?

Reference: Yu et al. 2020, "Evaluating the Search Phase of Neural Architecture Search"
(arXiv:1902.08142): ranks of shared weights must be compared with those of networks trained alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frontier import tracking
from frontier.data.loading.packing import PackedSplit
from frontier.files import append_json_lines, read_json_lines
from frontier.metrics import bootstrap_ap
from frontier.models.architecture import Architecture
from frontier.models.detector import Detector
from frontier.models.inference import detect, truth_of
from frontier.params import Evaluate, Length, Run, Search, Train
from frontier.search.accuracy import BOOTSTRAP_SAMPLES
from frontier.search.quality import rank_quality, regret
from frontier.search.strategies import spread
from frontier.training.loop import training_device
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.sources import Sides, batch_source, settle

TOP = 3  # the best so many by shared weights, whose best is compared with the best of all


@dataclass(frozen=True)
class Auditor:
    """Trains networks alone, as students are but without a teacher, and scores them.

    Attributes:
        folder: keeps each network's training and result, so that a killed audit goes on.
    """

    search: Search
    recipe: Train
    run: Run
    rules: Evaluate
    train: PackedSplit
    holdout: PackedSplit
    folder: Path

    def audit(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """Networks of a finished search, evenly over latency, trained alone.

        Args:
            document: the content of `search.json`.

        Returns:
            One row a network, Kendall's tau over all and within quarters of latency, and the AP
            lost by trusting shared weights (`regret`); None where no audit is asked for.
        """
        if not self.search.audit_networks:
            return None
        timed = sorted(document["timed"], key=lambda row: row["latency_p50_ms"])
        shared = {row["architecture"]: row for row in timed}
        chosen = spread([*shared], self.search.audit_networks)
        rows = []
        for number, code in enumerate(chosen):
            tracking.log_progress(number, len(chosen), "networks trained alone")
            alone = self._alone(Architecture.parse(code), number)
            own = {key: shared[code][key] for key in ("AP", "latency_p50_ms")}
            rows.append({"architecture": code, **own, **alone})
        believed, true, ms = (
            np.array([row[key] for row in rows]) for key in ("AP", "AP_alone", "latency_p50_ms")
        )
        ranks = rank_quality(believed, true, ms)
        steps = self.search.audit_steps
        return {"networks": rows, "steps": steps, **ranks, **regret(believed, true, ms, TOP)}

    def _alone(self, architecture: Architecture, number: int) -> dict[str, Any]:
        journal = self.folder / "audit.jsonl"
        known = {row["architecture"]: row for row in read_json_lines(journal)}
        if architecture.code not in known:
            ap, low, high = self._trained(architecture, number)
            row = {
                "architecture": architecture.code,
                "AP_alone": ap,
                "AP_alone_interval": [low, high],
            }
            append_json_lines(journal, [row])
            known[architecture.code] = row
        return dict(known[architecture.code])

    def _trained(self, architecture: Architecture, number: int) -> tuple[float, float, float]:
        torch.manual_seed(self.run.seed)
        device = training_device(self.run)
        detector = Detector(architecture, self.train.num_classes).to(device)
        recipe = self.recipe.model_copy(update={"budget_s": None})
        source = batch_source([self.train], recipe, self.run, Sides((architecture.image_side,)))
        work = self.folder / f"alone{number}"
        work.mkdir(exist_ok=True)
        task = Task(detector, supervised(detector, recipe), source, recipe, self.run, work)
        train(task, Length(steps=self.search.audit_steps, share=1.0))
        settle(detector, self.train, architecture.image_side)
        deployed = detector.deploy().to(device)
        found = detect(deployed, self.holdout, architecture.image_side, self.rules)
        return bootstrap_ap(truth_of(self.holdout), found, BOOTSTRAP_SAMPLES)
