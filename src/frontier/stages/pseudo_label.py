"""The teacher labels the unlabelled images; sure boxes are kept, doubtful ones become ignored."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frontier import tracking
from frontier.boxes import Letterbox
from frontier.data.catalog import Catalog
from frontier.data.drawing import jpeg
from frontier.data.loading.packing import PackedSplit, load_meta, load_split
from frontier.files import atomic_write, read_json, write_json
from frontier.labeling import exhibits
from frontier.labeling.labelling import Answer, Question, ask
from frontier.labeling.leakage import hashes, leaks
from frontier.labeling.pseudo import Labels, Verdicts, label_images
from frontier.labeling.review import verdicts
from frontier.labeling.thresholds import Threshold, choose, joined, judged
from frontier.params import Evaluate, Ingest, PseudoLabel, Run, Section, Workers
from frontier.stages import Inputs
from frontier.training.loop import training_device

LABELLED = ("holdout", "val")  # not trained on: thresholds are chosen there
MEASURING = ("holdout", "val", "test")  # nothing that looks like these may be learned from


class Params(Section):
    run: Run
    ingest: Ingest
    workers: Workers
    pseudo_label: PseudoLabel
    evaluate: Evaluate


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack, own = inputs.path("pack/main"), params.pseudo_label
    meta = load_meta(pack)
    if not meta.splits.get("unlabelled"):
        skipped = {
            "status": "skipped",
            "reason": "the dataset has no unlabelled images; "
            "add a folder of them by `frontier run --unlabelled DIR`",
        }
        write_json(out / "audit.json", skipped)
        return {"images_kept": 0}
    device = training_device(params.run)

    def asked(split: str) -> Answer:
        teacher = str(inputs.path("teacher"))
        question = Question(
            teacher,
            str(pack),
            split,
            own.flip_iou,
            str(device),
            params.run.threads,
            params.evaluate,
        )
        return ask(question, inputs.work, params.workers)

    seen = []
    for name in LABELLED:
        answer = asked(name)
        seen.append(judged(load_split(pack, name), answer.found, answer.twice))
    thresholds = choose(joined(seen), own.precision, own.beta, params.run.seed)
    unlabelled, answer = load_split(pack, "unlabelled"), asked("unlabelled")
    measuring = [hashes(load_split(pack, name)) for name in MEASURING if meta.splits.get(name)]
    refused = leaks(hashes(unlabelled), measuring, params.ingest.look_alike_bits)
    names = [entry["name"] for entry in meta.classes]
    catalog = Catalog.load(inputs.path("ingest/catalog")).split("unlabelled")
    file_names = dict(zip(catalog.image_ids.tolist(), catalog.file_names, strict=True))
    said = _verdicts(inputs.path("review.json"), unlabelled, answer, file_names, names)
    labels = label_images(
        unlabelled, answer, thresholds, own.ignore_above, said=said, refused=refused
    )
    labels.split.save_targets(out / "pseudo.safetensors")
    _exhibit(unlabelled, answer, labels, thresholds, file_names, names, out)
    counts = _counts(unlabelled, labels, refused, said)
    write_json(
        out / "audit.json", _audit(own, names, thresholds, counts, refused, file_names, unlabelled)
    )
    return {name: float(value) for name, value in counts.items()}


def _verdicts(
    path: Path,
    split: PackedSplit,
    answer: Answer,
    file_names: dict[int, str],
    names: Sequence[str],
) -> Verdicts:
    """A person's verdicts, their boxes moved from the image into the stored square."""
    place = {file_names[image_id]: i for i, image_id in enumerate(split.image_ids.tolist())}
    rows = []
    for row in read_json(path)["verdicts"]:
        if row["image"] in place:
            height, width = split.sizes_hw[place[row["image"]]].tolist()
            box = np.array([row["box_xyxy"]], np.float32)
            square = Letterbox((height, width), split.image_size).to_square(box)[0]
            rows.append({**row, "box_xyxy": square.tolist()})
    image_ids = {name: int(split.image_ids[i]) for name, i in place.items()}
    return Verdicts(*verdicts(rows, answer.found, image_ids, names))


def _counts(
    split: PackedSplit, labels: Labels, refused: dict[int, str], said: Verdicts
) -> dict[str, int]:
    return {
        "images_in": len(split),
        "images_kept": len(labels.split),
        "images_refused": len(refused),
        "images_unsure": len(split) - len(labels.split) - len(refused),
        "boxes_kept": int(labels.sure.sum()),
        "boxes_ignored": int(labels.doubtful.sum()),
        "boxes_accepted": int(said.accepted.sum()),
        "boxes_struck": int(said.struck.sum()),
    }


def _audit(
    own: PseudoLabel,
    names: Sequence[str],
    thresholds: Sequence[Threshold],
    counts: dict[str, int],
    refused: dict[int, str],
    file_names: dict[int, str],
    split: PackedSplit,
) -> dict[str, Any]:
    by_class = dict(zip(names, thresholds, strict=True))
    return {
        "status": "done",
        "reason": f"wanted precision {own.precision:g}, best F{own.beta:g} beyond it, chosen on "
        "holdout and val; what to expect was counted on images that had no part in the choice",
        "thresholds": {name: own.score for name, own in by_class.items()},
        "precision": {name: list(own.precision) for name, own in by_class.items()},
        "recall": {name: list(own.recall) for name, own in by_class.items()},
        "counts": counts,
        "refused": dict(Counter(refused.values())),
        "refused_images": [
            {"image": file_names[int(split.image_ids[place])], "code": code}
            for place, code in sorted(refused.items())
        ],
    }


def _exhibit(
    split: PackedSplit,
    answer: Answer,
    labels: Labels,
    thresholds: Sequence[Threshold],
    file_names: dict[int, str],
    names: Sequence[str],
    out: Path,
) -> None:
    """`boxes.json`, what a review lists, and a sheet of the images whose labels are least sure."""
    found = answer.found
    write_json(
        out / "boxes.json", exhibits.rows(split, found, labels, thresholds, file_names, names)
    )
    shown = exhibits.least_sure(found, labels, thresholds)[: exhibits.SHOWN]
    if shown:
        drawn = exhibits.picture(split, found, labels, shown, names)
        atomic_write(out / "examples.jpg", jpeg(drawn))
        tracking.log_artifact(out / "examples.jpg", "figures")
