"""Distil the searched student from the teacher (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frontier import tracking
from frontier.data.drawing import batch_sheet, jpeg
from frontier.data.loading.packing import load_split
from frontier.files import atomic_write, read_json
from frontier.metrics import coco_metrics
from frontier.models.architecture import Architecture
from frontier.models.blocks import fuse
from frontier.models.detector import load_detector, save_detector
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import load_supernet
from frontier.params import Distill, Evaluate, Run, Section, Train
from frontier.stages import Inputs
from frontier.training.compiling import compile_on_gpu
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import distilled
from frontier.training.scoring import held_out_score
from frontier.training.sources import BatchSource, Sides, batch_source, labelled_splits, settle

PICTURES, COLUMNS = 16, 4  # of the sheet of training images


class Params(Section):
    run: Run
    train: Train
    distill: Distill
    evaluate: Evaluate


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    chosen = read_json(inputs.path(f"search/{inputs.target}") / "search.json")["recommended"]
    architecture = Architecture.parse(chosen["architecture"])
    supernet, classes = load_supernet(inputs.path("supernet"))
    student = supernet.extract(architecture).to(device)
    compile_on_gpu(student, params.run)
    teacher = fuse(load_detector(inputs.path("teacher")).module).to(device)
    splits = labelled_splits(pack, inputs.path("pseudo_label"))
    source = batch_source(splits, params.train, params.run, Sides((architecture.image_side,)))
    _show(source, [entry["name"] for entry in classes], out)
    backward = distilled(student, teacher, params.train, params.distill)
    side, rules = architecture.image_side, params.evaluate
    score = held_out_score(
        splits[0], load_split(pack, "holdout"), side, params.train.score_images, rules
    )
    task = Task(student, backward, source, params.train, params.run, inputs.work, score)
    history = train(task, params.distill)
    settle(student, splits[0], side)
    save_detector(student, classes, out)
    write_history(history, out / "history.csv")
    validation = load_split(pack, "val")
    found = detect(student.deploy().to(device), validation, side, rules)
    quality = coco_metrics(truth_of(validation), found)
    return {"AP": quality["AP"], "AP50": quality["AP50"], "loss": history[-1]["loss"]}


def _show(source: BatchSource, names: Sequence[str], out: Path) -> None:
    """`batches.jpg`: what the training sees first, its faults easier to find than in numbers."""
    seen = [*replace(source, batch_size=PICTURES)(0, 1)]
    atomic_write(out / "batches.jpg", jpeg(batch_sheet(seen, names, PICTURES, COLUMNS)))
    tracking.log_artifact(out / "batches.jpg", "figures")
