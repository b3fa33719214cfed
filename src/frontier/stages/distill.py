"""Distil the searched student from the teacher (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frontier import tracking
from frontier.data.drawing import batch_sheet, jpeg
from frontier.data.loading.packing import PackedSplit, load_split
from frontier.files import atomic_write, read_json
from frontier.labeling.labelling import Question, ask
from frontier.metrics import Detections, coco_metrics
from frontier.models.architecture import Architecture
from frontier.models.blocks import fuse
from frontier.models.detector import holds_detector, load_detector, save_detector
from frontier.models.inference import detect, truth_of
from frontier.models.supernet import load_supernet
from frontier.params import Distill, Evaluate, Run, Section, Train, Workers
from frontier.stages import Inputs
from frontier.training.compiling import compile_on_gpu
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import distilled, distilled_from_boxes
from frontier.training.scoring import held_out_score
from frontier.training.sources import BatchSource, Sides, batch_source, labelled_splits, settle
from frontier.training.taught import Shown, with_detections

PICTURES, COLUMNS = 16, 4  # of the sheet of training images
FAINT = 0.05  # score of a detection of an ONNX teacher below which it teaches nothing


class Params(Section):
    run: Run
    train: Train
    distill: Distill
    evaluate: Evaluate
    workers: Workers


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    chosen = read_json(inputs.path(f"search/{inputs.target}") / "search.json")["recommended"]
    architecture = Architecture.parse(chosen["architecture"])
    supernet, classes = load_supernet(inputs.path("supernet"))
    student = supernet.extract(architecture).to(device)
    compile_on_gpu(student, params.run)
    side, rules = architecture.image_side, params.evaluate
    splits = labelled_splits(pack, inputs.path("pseudo_label"))
    source = batch_source(splits, params.train, params.run, Sides((side,)))
    _show(source, [entry["name"] for entry in classes], out)
    if holds_detector(inputs.path("teacher")):
        teacher = fuse(load_detector(inputs.path("teacher")).module).to(device)
        backward = distilled(student, teacher, params.train, params.distill)
    else:
        theirs = _detections(params, inputs, splits)
        source = replace(source, splits=with_detections(splits, theirs))
        shown = Shown.of(len(classes), theirs, device)
        backward = distilled_from_boxes(student, shown, params.train, params.distill)
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


def _detections(params: Params, inputs: Inputs, splits: Sequence[PackedSplit]) -> list[Detections]:
    """What an ONNX teacher finds in the images of each split; asked once, kept for a resumption."""
    pack, teacher = inputs.path("pack/main"), inputs.path("teacher")
    answers = []
    for name, split in zip(("train", "unlabelled"), splits, strict=False):
        question = Question(
            str(teacher), str(pack), name, None, "cpu", params.run.threads, params.evaluate
        )
        found = ask(question, inputs.work / "answers", params.workers).found
        found = found.only(split.image_ids)
        sure = found.scores >= FAINT
        answers.append(
            Detections(
                found.image_id[sure], found.boxes_xyxy[sure], found.scores[sure], found.labels[sure]
            )
        )
    return answers


def _show(source: BatchSource, names: Sequence[str], out: Path) -> None:
    """`batches.jpg`: what the training sees first, its faults easier to find than in numbers."""
    seen = [*replace(source, batch_size=PICTURES)(0, 1)]
    atomic_write(out / "batches.jpg", jpeg(batch_sheet(seen, names, PICTURES, COLUMNS)))
    tracking.log_artifact(out / "batches.jpg", "figures")
