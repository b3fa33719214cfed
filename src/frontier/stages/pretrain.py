"""Pretrain the largest network of the space on an Objects365-format dataset."""

from pathlib import Path

from frontier.data.loading.packing import load_meta, load_split
from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector, save_detector
from frontier.params import Evaluate, Pretrain, Run, Section, Space, Train
from frontier.stages import Inputs
from frontier.training.compiling import compile_on_gpu
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import supervised
from frontier.training.scoring import held_out_score
from frontier.training.sources import Sides, batch_source, settle


class Params(Section):
    run: Run
    space: Space
    train: Train
    pretrain: Pretrain
    evaluate: Evaluate


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/pretrain")
    device = training_device(params.run)
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    classes = load_meta(pack).classes
    detector = Detector(space.largest, len(classes)).to(device)
    compile_on_gpu(detector, params.run)
    split = load_split(pack, "train")
    sides = Sides(space.image_sides, params.run.seed)
    source = batch_source([split], params.train, params.run, sides)
    backward = supervised(detector, params.train)
    side, most = space.largest.image_side, params.train.score_images
    score = held_out_score(split, load_split(pack, "holdout"), side, most, params.evaluate)
    task = Task(detector, backward, source, params.train, params.run, inputs.work, score)
    history = train(task, params.pretrain)
    settle(detector, split, side)
    save_detector(detector, classes, out)
    write_history(history, out / "history.csv")
    return {"steps": history[-1]["step"], "loss": history[-1]["loss"]}
