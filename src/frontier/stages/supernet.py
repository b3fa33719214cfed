"""Train one set of weights that every architecture of the space shares.

It starts from the teacher, which is the trained largest network: large first, then shrink. With a
user's ONNX teacher it starts from the pretrained largest one.
"""

from pathlib import Path
from typing import Any

from frontier.data.loading.packing import load_meta, load_split
from frontier.files import write_json
from frontier.models.architecture import SearchSpace
from frontier.models.detector import Detector, holds_detector, load_detector
from frontier.models.supernet import Supernet, save_supernet
from frontier.models.transfer import transfer
from frontier.params import Evaluate, Run, Section, Space, Train
from frontier.params import Supernet as SupernetParams
from frontier.stages import Inputs
from frontier.training.loop import training_device, write_history
from frontier.training.plan import Task, train
from frontier.training.recipes import sandwich
from frontier.training.scoring import held_out_score
from frontier.training.sources import Sides, batch_source, labelled_splits


class Params(Section):
    run: Run
    space: Space
    train: Train
    supernet: SupernetParams
    evaluate: Evaluate
    architecture: str | None


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    device = training_device(params.run)
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    pack, largest = inputs.path("pack/main"), space.largest
    classes = load_meta(pack).classes
    supernet = Supernet(space, len(classes))
    supernet.load_largest(_start(inputs, classes))
    if params.architecture is not None:
        return _leave_untrained(supernet, classes, out)
    supernet.to(device)
    backward = sandwich(
        supernet,
        params.train,
        params.supernet.random_subnets,
        params.supernet.distill_weight,
        params.run.seed,
    )
    splits = labelled_splits(pack, inputs.path("pseudo_label"))
    sides = Sides(space.image_sides, params.run.seed + 2)
    source = batch_source(splits, params.train, params.run, sides)
    holdout = load_split(pack, "holdout")
    side, most = largest.image_side, params.train.score_images
    score = held_out_score(splits[0], holdout, side, most, params.evaluate)

    def score_largest(supernet: Supernet) -> float:
        return score(supernet.extract(largest).to(device))

    task = Task(supernet, backward, source, params.train, params.run, inputs.work, score_largest)
    history = train(task, params.supernet)
    save_supernet(supernet, classes, out)
    write_history(history, out / "history.csv")
    last = history[-1]
    return {"loss": last["loss"], "subnet_loss": last["subnet_loss"]}


def _leave_untrained(
    supernet: Supernet, classes: list[dict[str, Any]], out: Path
) -> dict[str, float]:
    """Nothing is to compare: the student starts from the teacher's weights, cut to its shape."""
    save_supernet(supernet, classes, out)
    reason = "`architecture` is given: nothing to search, and so no shared weights to train"
    write_json(out / "audit.json", {"status": "skipped", "reason": reason})
    return {}


def _start(inputs: Inputs, classes: list[dict[str, Any]]) -> Detector:
    """The largest network as far as it was trained."""
    if holds_detector(inputs.path("teacher")):
        return load_detector(inputs.path("teacher")).module
    pretrained = load_detector(inputs.path("pretrain"))
    detector = Detector(pretrained.architecture, len(classes))
    transfer(pretrained, detector, classes)
    return detector
