"""Train the largest network on the real labels; it teaches the ones that follow."""

from pathlib import Path

from frontier import tracking
from frontier.data.packing import load_meta, load_split
from frontier.files import write_json
from frontier.metrics import coco_metrics
from frontier.models.detector import Detector, load_detector, save_detector
from frontier.models.inference import detect, truth_of
from frontier.models.transfer import transfer
from frontier.params import Run, Section, Space, Teacher, Train
from frontier.stages import Inputs
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.scoring import held_out_score
from frontier.training.sources import Sides, batch_source, settle


class Params(Section):
    run: Run
    space: Space
    train: Train
    teacher: Teacher


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/main")
    device = training_device(params.run)
    pretrained = load_detector(inputs.path("pretrain"))
    classes = load_meta(pack).classes
    detector = Detector(pretrained.architecture, len(classes))
    kept = transfer(pretrained, detector, classes)
    tracking.log_params({"classes_kept_from_pretraining": ", ".join(kept) or "none"})
    detector.to(device)
    split = load_split(pack, "train")
    sides = Sides(tuple(params.space.image_sizes), params.run.seed + 1)
    source = batch_source([split], params.train, params.run, sides)
    backward = supervised(detector, params.train)
    score = held_out_score(split, load_split(pack, "holdout"), detector.architecture.image_side)
    task = Task(detector, backward, source, params.train, params.run, inputs.work, score)
    history = train(task, params.teacher)
    settle(detector, split, detector.architecture.image_side)
    save_detector(detector, classes, out)
    write_history(history, out / "history.csv")
    validation = load_split(pack, "val")
    found = detect(detector.deploy().to(device), validation, detector.architecture.image_side)
    quality = coco_metrics(truth_of(validation), found)
    write_json(out / "quality.json", quality)
    return {"AP": quality["AP"], "AP50": quality["AP50"], "loss": history[-1]["loss"]}
