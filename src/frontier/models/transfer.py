"""Carrying trained weights to a detector with other classes."""

from typing import Any

import torch

from frontier.models.detector import Detector, LoadedDetector


def transfer(source: LoadedDetector, target: Detector, classes: list[dict[str, Any]]) -> list[str]:
    """Copy every weight of `source` to `target`, a detector of the same architecture.

    Class rows go by name: a name that both know keeps its weights, others stay as initialised.

    Returns:
        The class names whose weights were kept.
    """
    known = {entry["name"]: row for row, entry in enumerate(source.classes)}
    pairs = [(row, known[c["name"]]) for row, c in enumerate(classes) if c["name"] in known]
    state = source.module.state_dict()
    with torch.no_grad():
        for name, value in target.state_dict().items():
            if ".class_pred." in name:
                for row, origin in pairs:
                    value[row] = state[name][origin]
            else:
                value.copy_(state[name])
    return [classes[row]["name"] for row, _ in pairs]
