"""Train one set of weights that every architecture of the space shares.

It starts from the teacher, which is the trained largest network: large first, then shrink.
"""

from pathlib import Path

from frontier.models.architecture import SearchSpace
from frontier.models.detector import load_detector
from frontier.models.supernet import Supernet, save_supernet
from frontier.params import Run, Section, Space, Train
from frontier.params import Supernet as SupernetParams
from frontier.stages import Inputs
from frontier.training.loop import Training, training_device, write_history
from frontier.training.recipes import sandwich
from frontier.training.sources import batch_source, labelled_splits, random_side


class Params(Section):
    run: Run
    space: Space
    train: Train
    supernet: SupernetParams


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    device = training_device(params.run)
    space = SearchSpace(params.space.interface_width, tuple(params.space.image_sizes))
    teacher = load_detector(inputs.path("teacher"))
    supernet = Supernet(space, len(teacher.classes))
    supernet.load_largest(teacher.module)
    supernet.to(device)
    backward = sandwich(
        supernet,
        params.train,
        params.supernet.random_subnets,
        params.supernet.distill_weight,
        params.run.seed,
    )
    training = Training(
        supernet, params.train, params.supernet.steps, inputs.work, params.run, backward
    )
    splits = labelled_splits(inputs.path("pack/main"), inputs.path("pseudo_label"))
    side = random_side(space.image_sides, params.run.seed + 2)
    history = training.fit(batch_source(splits, params.train, params.run, side))
    save_supernet(supernet, teacher.classes, out)
    write_history(history, out / "history.csv")
    last = history[-1]
    return {"loss": last["loss"], "subnet_loss": last["subnet_loss"]}
