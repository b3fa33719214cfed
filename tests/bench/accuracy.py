"""AP of one network trained from random weights within a wall-clock budget, by recipe and seed.

    python tests/bench/accuracy.py --data DIR --set train.budget_s=1200 --seeds 0 1 2 [--test]

The recipe is that of the preset, with what `--set` changes. A budget becomes a step count; the
training then ends by steps. The exported network is scored in ONNX Runtime by the rules of
`evaluate`, on images packed at its side. `--test` also scores the test split: once, when the recipe
has been chosen on val. `--save DIR` keeps each seed's network for `int8.py`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
import torch
from network import add_network, chosen_network
from photos import coco_folder, packed

from frontier.data.loading.packing import PackedSplit
from frontier.files import read_json
from frontier.metrics import coco_metrics, per_class_ap
from frontier.models.architecture import Architecture
from frontier.models.detector import Detector, cost, save_detector
from frontier.params import Length, Params
from frontier.quantization.sensitivity import Judge
from frontier.targets.network import export_network
from frontier.training.loop import training_device
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.sources import Sides, batch_source, settle
from pipelines.settings import Request, merge

ROOT = Path(__file__).parents[2]
Splits = dict[str, PackedSplit]


def trained(
    params: Params, chosen: Architecture, splits: Splits, steps: int
) -> tuple[Detector, dict[str, Any]]:
    """The trained network, and the steps and seconds it took, planning included."""
    device = training_device(params.run)
    torch.manual_seed(params.run.seed)
    detector = Detector(chosen, splits["train"].num_classes).to(device)
    sides = Sides((chosen.image_side,))
    source = batch_source([splits["train"]], params.train, params.run, sides)
    backward = supervised(detector, params.train)
    with tempfile.TemporaryDirectory() as work:
        task = Task(detector, backward, source, params.train, params.run, Path(work))
        start = time.perf_counter()
        history = train(task, Length(steps=steps, share=1.0))
        seconds = time.perf_counter() - start
    settle(detector, splits["train"], chosen.image_side)
    return detector, {"steps": history[-1]["step"], "seconds": round(seconds)}


def exported(detector: Detector) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        export_network(detector.deploy(), detector.architecture.image_side, path)
        return onnx.load(path)


def scores(model: onnx.ModelProto, split: PackedSplit, params: Params) -> dict[str, Any]:
    found = Judge(split, split.image_size, params.run.threads, params.evaluate).detections(model)
    quality = coco_metrics(split, found)
    shown = {key: round(quality[key], 4) for key in ("AP", "AP50", "AP75")}
    return {**shown, "classes": [round(ap, 3) for ap in per_class_ap(split, found)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=coco_folder, required=True, help="a folder in COCO layout")
    add_network(parser)
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="A.B=C")
    parser.add_argument("--steps", type=int, help="instead of train.budget_s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--save", type=Path, help="a folder that is not there yet")
    given = parser.parse_args()
    recipe = merge(ROOT, Request(preset=given.preset, assignments=given.changes)).params
    if (given.steps is None) == (recipe.train.budget_s is None):
        parser.error("say how long: either --steps N or --set train.budget_s=SECONDS")
    if given.save and given.save.exists():
        parser.error(f"--save {given.save}: is there already; name a new folder")

    chosen = chosen_network(given)
    names = ["train", "val", "test"] if given.test else ["train", "val"]
    splits = {name: packed(given.data, name, chosen.image_side) for name in names}
    for seed in given.seeds:
        wanted = [*given.changes, "train.checkpoint_every=1000000000", f"run.seed={seed}"]
        params = merge(ROOT, Request(preset=given.preset, assignments=wanted)).params
        detector, took = trained(params, chosen, splits, given.steps or 1)
        _, gmac = cost(detector.deploy().network, chosen.image_side)
        row = {"network": chosen.code, "seed": seed, **took, "gmac": round(gmac, 3)}
        model = exported(detector)
        row |= {name: scores(model, splits[name], params) for name in names[1:]}
        print(json.dumps({**row, "set": given.changes}), flush=True)
        if given.save:
            folder = given.save / f"seed{seed}"
            folder.mkdir(parents=True)
            instances = read_json(given.data / "annotations" / "instances_train.json")
            classes = sorted(instances["categories"], key=lambda c: c["id"])
            save_detector(detector, classes, folder)


if __name__ == "__main__":
    main()
