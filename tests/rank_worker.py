"""One rank of a small training, as torchrun starts it: `rank_worker.py CASE FOLDER`.

Every rank leaves its weights and the losses of its steps in FOLDER, rank 0 also its history.
"""

import itertools
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from frontier.errors import FrontierError, NonFiniteLoss
from frontier.files import write_json
from frontier.models.detector import Detector
from frontier.models.supernet import Supernet, recalibrate
from frontier.params import Length
from frontier.training import losses, plan, ranks
from frontier.training.loop import Row
from frontier.training.plan import Task, train
from frontier.training.recipes import distilled, sandwich
from frontier.training.sources import plain_images
from tests import tiny

STEPS = 8
FROZEN = ("frozen", "frozen-distilled")


def task_of(case: str, folder: Path) -> Task:
    """Four images a step over all ranks; images without a box are among them."""
    task = tiny.task(folder / "work", images=10, batch_size=4, score_every=0)
    split = tiny.split_of(10)
    task = replace(task, source=replace(task.source, splits=[split.subset(range(9))]))
    if case == "sandwich":
        torch.manual_seed(0)
        supernet = Supernet(tiny.SPACE, 3)
        return replace(
            task, module=supernet, backward=sandwich(supernet, task.recipe, 1, 1.0, seed=0)
        )
    if case.endswith("distilled"):
        torch.manual_seed(1)
        teacher = Detector(tiny.SPACE.largest.at(64), 3)
        if case in FROZEN:
            teacher.double()
        # features are standardised over a rank's own rows, as by a live batch norm
        weights = tiny.PARAMS.distill.model_copy(
            update={"feature_weight": 0.0 if case in FROZEN else 0.1}
        )
        return replace(task, backward=distilled(task.module, teacher, task.recipe, weights))
    return task


def frozen(task: Task) -> list[Row]:
    """Trains with fixed batch-norm statistics, in float64.

    In float32 the last bit soon decides which anchor gets a box, and the runs part.
    """
    assert isinstance(task.module, Detector)
    recalibrate(task.module, plain_images(task.source.splits[0], 64, 2, torch.device("cpu")))
    for norm in task.module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign,misc]
    expected = losses.expected_distances
    losses.expected_distances = lambda bins, values: expected(bins, values.to(bins.dtype))
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    task.module.double()
    save_file(task.module.state_dict(), task.work.parent / "start.safetensors")
    return train(task, Length(steps=STEPS, share=1.0))


def run(case: str, folder: Path) -> None:
    task = task_of(case, folder)
    if case == "nan":
        healthy = task.backward

        def poisoned(batch):
            terms = healthy(batch)
            if batch.step == 2 and ranks.rank() == 1:
                terms["total"] = terms["total"] * float("nan")
            return terms

        task = replace(task, backward=poisoned)
    if case == "killed":
        healthy_too = task.backward

        def dying(batch):
            if batch.step == 6:
                sys.exit(9)
            return healthy_too(batch)

        task = replace(task, backward=dying)
    if case == "budget":
        task = replace(task, recipe=task.recipe.model_copy(update={"budget_s": 50.0}))
        # a second between two looks at the clock, or two: each rank alone would plan otherwise
        looks = itertools.count()
        plan.clock = lambda run: float(next(looks) * (1 + ranks.rank()))
    if case == "odd":
        task = replace(task, source=replace(task.source, batch_size=3))
    save_file(task.module.state_dict(), folder / f"start{ranks.rank()}.safetensors")
    try:
        history = frozen(task) if case in FROZEN else train(task, Length(steps=STEPS, share=1.0))
    except NonFiniteLoss as error:
        # not to stderr: the ranks share it, and where it is unbuffered their lines mix
        (folder / f"{ranks.rank()}.error").write_text(str(error))
        dist.barrier()  # the first to end has the other killed
        sys.exit(error.exit_code)
    save_file(task.module.state_dict(), folder / f"{ranks.rank()}.safetensors")
    write_json(folder / f"{ranks.rank()}.json", history)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        if len(sys.argv) == 4:  # alone
            run(sys.argv[1], Path(sys.argv[2]))
        else:
            with ranks.joined():
                run(sys.argv[1], Path(sys.argv[2]))
    except FrontierError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
