"""The teacher labels the unlabelled images; sure boxes are kept, doubtful ones become ignored."""

from pathlib import Path

import numpy as np

from frontier import tracking
from frontier.data.loading.packing import PackedSplit, load_meta, load_split, stack_targets
from frontier.files import write_json
from frontier.labeling.thresholds import Threshold, choose
from frontier.metrics import Detections
from frontier.models.detector import load_detector
from frontier.models.inference import detect, truth_of
from frontier.params import Evaluate, PseudoLabel, Run, Section
from frontier.stages import Inputs


class Params(Section):
    run: Run
    pseudo_label: PseudoLabel
    evaluate: Evaluate


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    meta = load_meta(pack)
    if not meta.splits.get("unlabelled"):
        skipped = {
            "status": "skipped",
            "reason": "the dataset has no unlabelled images; "
            "add a folder of them by `frontier run --unlabelled DIR`",
        }
        write_json(out / "audit.json", skipped)
        return {"images_kept": 0}
    import torch

    torch.set_num_threads(params.run.threads)
    teacher = load_detector(inputs.path("teacher"))
    deployed, side = teacher.module.deploy(), teacher.architecture.image_side
    validation = load_split(pack, "val")
    found = detect(deployed, validation, side, params.evaluate)
    thresholds = choose(truth_of(validation), found, params.pseudo_label.precision)
    unlabelled = load_split(pack, "unlabelled")
    found = detect(deployed, unlabelled, side, params.evaluate, tracking.log_progress)
    kept = label_images(unlabelled, found, thresholds, params.pseudo_label.ignore_above)
    kept.save_targets(out / "pseudo.safetensors")
    names = [entry["name"] for entry in meta.classes]
    counts = {
        "images_in": len(unlabelled),
        "images_kept": len(kept),
        "boxes_kept": int((kept.ignore == 0).sum()),
        "boxes_ignored": int((kept.ignore == 1).sum()),
    }
    audit = {
        "status": "done",
        "reason": f"wanted precision {params.pseudo_label.precision:g}, measured on val",
        "thresholds": {n: t.score for n, t in zip(names, thresholds, strict=True)},
        "precision": {
            n: [t.precision, t.low, t.high] for n, t in zip(names, thresholds, strict=True)
        },
        "recall": {n: t.recall for n, t in zip(names, thresholds, strict=True)},
        "counts": counts,
    }
    write_json(out / "audit.json", audit)
    return {name: float(value) for name, value in counts.items()}


def label_images(
    split: PackedSplit, found: Detections, thresholds: list[Threshold], ignore_above: float
) -> PackedSplit:
    """Keep images with at least one sure box; boxes between doubt and sure become `ignore`."""
    scores = [t.score for t in thresholds]
    sure_above = np.array([np.inf if score is None else score for score in scores])
    sure = found.scores >= sure_above[found.labels]
    seen = sure | (found.scores >= ignore_above)
    indices, parts = [], []
    for index, image_id in enumerate(split.image_ids):
        mine = (found.image_id == image_id) & seen
        if sure[mine].any():
            indices.append(index)
            parts.append((found.boxes_xyxy[mine], found.labels[mine], ~sure[mine]))
    return split.with_targets(indices, *stack_targets(parts))
