"""How long a training lasts: its own steps, or what its share of `train.budget_s` affords.

Seconds become a step count once, from timed steps of the training itself, and the count is kept
beside the checkpoints. From then on steps alone end the training: warm-up and decay know where
they end, and a resumed training ends where the first would have.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from frontier import tracking
from frontier.data.loader import AHEAD
from frontier.files import read_json, write_json
from frontier.params import Length, Run, Train
from frontier.training import ranks
from frontier.training.loop import Row, Score, TensorBatch, Terms, Training
from frontier.training.sources import BatchSource, Sides

TIMING_SHARE = 0.05  # of a training's seconds may go into timing it, once the least is done
LEAST_TIMED = 4  # steps, and every side once
MOST_TIMED = 16  # steps, and every side four times
ENDLESS = 10**9


class TrainingPlan(NamedTuple):
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Task:
    """A training but for its length.

    Attributes:
        backward: see `Training`.
        work: folder for checkpoints and the plan.
        score: see `Training.fit`; None where no image is held out.
    """

    module: nn.Module
    backward: Callable[[TensorBatch], Terms]
    source: BatchSource
    recipe: Train
    run: Run
    work: Path
    score: Score | None = None

    def training(self, steps: int, work: Path) -> Training:
        return Training(self.module, self.recipe, steps, work, self.run, self.backward)


def train(task: Task, length: Length) -> list[Row]:
    """Plan the training, or take up its plan, and train to the end; see `Training.fit`."""
    plan = plan_of(task, length)
    tracking.log_params({f"plan.{name}": value for name, value in plan._asdict().items()})
    training = task.training(plan.steps, task.work)
    return training.fit(task.source, task.source.epoch_steps, task.score)


def plan_of(task: Task, length: Length) -> TrainingPlan:
    """The plan of `task`; measured at most once, then read from its work folder."""
    batch_size = task.source.batch_size
    if task.recipe.budget_s is None:
        return TrainingPlan(length.steps, batch_size)
    path = task.work / "plan.json"
    if ranks.agreed([path.is_file()])[0]:
        return TrainingPlan(**read_json(path))
    seconds = task.recipe.budget_s * length.share
    with _untouched(task.module):
        steps = int(ranks.agreed([_affordable_steps(task, seconds)])[0])
    plan = TrainingPlan(steps, batch_size)
    if ranks.rank() == 0:
        write_json(path, plan._asdict())
        print(f"{plan.steps} steps of {plan.batch_size} images for {seconds:g} s", flush=True)
    return plan


@contextlib.contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Puts weights, buffers, gradients, mode and random state back to where they were."""
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    mode, device = module.training, next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            module.load_state_dict(state)
            module.zero_grad(set_to_none=True)
            module.train(mode)


def _affordable_steps(task: Task, seconds: float) -> int:
    """Times the task on a training of its own; what that takes counts in `seconds`."""
    started = clock(task.run)
    task.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=task.work) as scratch:
        training = task.training(ENDLESS, Path(scratch))
        training.module.train()
        step_s = _step_seconds(training, task, seconds * TIMING_SHARE)
        before = clock(task.run)
        training.save()
        between_s = (clock(task.run) - before) / task.recipe.checkpoint_every
        if task.score and task.recipe.score_every and ranks.rank() == 0:
            before = clock(task.run)
            training.score(task.score)
            epochs = task.recipe.score_every
            between_s += (clock(task.run) - before) / (epochs * task.source.epoch_steps)
    left = seconds - (clock(task.run) - started)
    return affordable(left, step_s, between_s, task.source.sides)


def affordable(
    seconds: float, step_s: Mapping[int, float], between_s: float, side_of: Callable[[int], int]
) -> int:
    """Steps that fit into `seconds`, at least one.

    Args:
        step_s: seconds of a step by input side.
        between_s: seconds a step beside, for what happens every so many steps.
        side_of: the side of each step; the real sequence, since few draws are no fair mixture.
    """
    steps, spent = 0, 0.0
    while (spent := spent + step_s[side_of(steps)] + between_s) <= seconds:
        steps += 1
    return max(1, steps)


def _step_seconds(training: Training, task: Task, limit_s: float) -> dict[int, float]:
    """Mean seconds of a step by input side, loading included, on batches of every side in turn."""
    choices = task.source.sides.choices
    source = replace(task.source, sides=Sides(choices))
    # the first batches lie ready and would hide what loading takes
    warmup = max(len(choices), task.source.workers + AHEAD + 1)
    least = warmup + max(LEAST_TIMED, len(choices))
    most = warmup + max(MOST_TIMED, 4 * len(choices))
    times: dict[int, list[float]] = {side: [] for side in choices}
    started = last = clock(task.run)
    for step, batch in enumerate(source(0, most)):
        training.advance(batch)
        now = clock(task.run)
        if step >= warmup:
            times[source.sides(step)].append(now - last)
        last = now
        if step + 1 >= least and ranks.agreed([now - started > limit_s])[0]:
            break
    return {side: sum(own) / len(own) for side, own in times.items()}


def clock(run: Run) -> float:
    """Seconds, once the device has done what it was given."""
    if run.device != "cpu" and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
