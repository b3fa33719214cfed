"""Pretrain the largest network of the space on an Objects365-format dataset."""

from pathlib import Path

from frontier.data.packing import load_meta, load_split
from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector, save_detector
from frontier.params import Pretrain, Run, Section, Space, Train
from frontier.stages import Inputs
from frontier.training.loop import Training, training_device, write_history
from frontier.training.recipes import supervised
from frontier.training.sources import batch_source, random_side, settle


class Params(Section):
    run: Run
    space: Space
    train: Train
    pretrain: Pretrain


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    pack = inputs.path("pack/pretrain")
    device = training_device(params.run)
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    classes = load_meta(pack).classes
    detector = Detector(space.largest, len(classes)).to(device)
    training = Training(
        detector,
        params.train,
        params.pretrain.steps,
        inputs.work,
        params.run,
        supervised(detector, params.train),
    )
    side = random_side(space.image_sides, params.run.seed)
    split = load_split(pack, "train")
    history = training.fit(batch_source([split], params.train, params.run, side))
    settle(detector, split, space.largest.image_side)
    save_detector(detector, classes, out)
    write_history(history, out / "history.csv")
    return {"steps": params.pretrain.steps, "loss": history[-1]["loss"]}
