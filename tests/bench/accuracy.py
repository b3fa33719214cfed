"""AP of one network trained from random weights within a wall-clock budget, by recipe and seed.

    python tests/bench/accuracy.py --data DIR --budget 1200 --seeds 0 1 2 [--test]

The budget becomes a step count as in `train.budget_s`; the training then ends by steps.
`--test` also scores the test split: once, when the recipe has been chosen on val.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from photos import packed

from frontier.metrics import coco_metrics, per_class_ap
from frontier.models.architecture import Architecture, yolo_nas
from frontier.models.detector import Detector, cost
from frontier.models.inference import detect, truth_of
from frontier.params import Length, Params, load_params
from frontier.training.loop import training_device
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.sources import Sides, batch_source, settle

ROOT = Path(__file__).parents[2]


def architecture(name: str, side: int) -> Architecture:
    """`s0.5` is YOLO-NAS-S at interface width .5; anything longer is an architecture code."""
    return Architecture.parse(name) if "-" in name else yolo_nas(name[0], float(name[1:]), side)


def trained(params: Params, given: argparse.Namespace, splits: dict) -> tuple[Detector, int, float]:
    """The trained network, its steps and the seconds they took, planning included."""
    device = training_device(params.run)
    torch.manual_seed(params.run.seed)
    detector = Detector(architecture(given.network, given.side), splits["train"].num_classes)
    detector.to(device)
    source = batch_source([splits["train"]], params.train, params.run, Sides((given.side,)))
    backward = supervised(detector, params.train)
    with tempfile.TemporaryDirectory() as work:
        task = Task(detector, backward, source, params.train, params.run, Path(work))
        start = time.perf_counter()
        history = train(task, Length(steps=given.steps or 1, share=1.0))
        seconds = time.perf_counter() - start
    settle(detector, splits["train"], given.side)
    return detector, history[-1]["step"], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in COCO layout")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--network", default="l0.25")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--budget", type=float, help="seconds of training")
    length.add_argument("--steps", type=int, help="instead of a budget")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, help="1 lets several trainings share a machine")
    parser.add_argument("--recipe", default="{}", help="changes to the recipe, as JSON")
    parser.add_argument("--test", action="store_true")
    given = parser.parse_args()

    base = load_params(ROOT / "params.yaml")
    values = base.train.model_dump() | {"checkpoint_every": 10**9, "budget_s": given.budget}
    changes = json.loads(given.recipe)
    values["augment"] |= changes.pop("augment", {})
    recipe = type(base.train)(**values | changes)
    scored = ["val", "test"] if given.test else ["val"]
    splits = {name: packed(given.data, name, given.side) for name in ["train", *scored]}
    for seed in given.seeds:
        threads = given.threads or base.run.threads
        run = base.run.model_copy(update={"seed": seed, "threads": threads})
        params = base.model_copy(update={"run": run, "train": recipe})
        detector, steps, seconds = trained(params, given, splits)
        row = {"network": given.network, "seed": seed, "steps": steps, "recipe": given.recipe}
        row["seconds"] = round(seconds)
        deployed = detector.deploy()
        row["gmac"] = round(cost(deployed.network, given.side)[1], 3)
        for name in scored:
            truth = truth_of(splits[name])
            found = detect(deployed, splits[name], given.side)
            quality = coco_metrics(truth, found)
            row[name] = {key: round(quality[key], 4) for key in ("AP", "AP50")}
            row[name]["classes"] = [round(ap, 3) for ap in per_class_ap(truth, found)]
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
