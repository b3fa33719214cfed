"""What a training is planned to be: its steps and its batch size, where a user left them open.

Seconds become a step count once, from timed steps of the training itself, and the count is kept
beside the checkpoints. From then on steps alone end the training: warm-up and decay know where
they end, and a resumed training ends where the first would have.
"""

import contextlib
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import nn

from frontier import tracking
from frontier.data.loading.loader import AHEAD
from frontier.errors import OutOfMemory, UsageError
from frontier.files import read_json, write_json
from frontier.params import Length, Run, Train
from frontier.training import memory, ranks
from frontier.training.loop import Row, Score, TensorBatch, Terms, Training
from frontier.training.sources import BatchSource, Sides

TIMING_SHARE = 0.05  # of a training's seconds may go into timing it, once the least is done
LEAST_TIMED = 4  # steps, and every side once
MOST_TIMED = 48  # steps, and every side four times
LEAST_STEPS = 20  # of a budget; fewer train nothing, and most of it went into timing them
OFF_BY = 0.05  # of a budget; more is worth a warning
PROBED = (2, 4)  # images per rank
ROOM = 0.8  # of the free memory: other sides, other batches and the loader need some too
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

    def of_size(self, batch_size: int) -> Self:
        return replace(self, source=replace(self.source, batch_size=batch_size))

    def training(self, steps: int, work: Path) -> Training:
        return Training(self.module, self.recipe, steps, work, self.run, self.backward)


def train(task: Task, length: Length) -> list[Row]:
    """Plan the training, or take up its plan, and train to the end; see `Training.fit`.

    Raises:
        OutOfMemory: names peak, batch size and the batch size that fits; checkpoints are whole.
    """
    try:
        plan = plan_of(task, length)
        low, high = task.source.augment.scales
        planned = {**plan._asdict(), "scale": f"{low:g} to {high:g}"}
        tracking.log_params({f"plan.{name}": value for name, value in planned.items()})
        task = task.of_size(plan.batch_size)
        training = task.training(plan.steps, task.work)
        with _compared(task, plan.steps - training.step):
            return training.fit(task.source, task.source.epoch_steps, task.score)
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
    raise _out_of_memory(task)


def plan_of(task: Task, length: Length) -> TrainingPlan:
    """The plan of `task`; measured at most once, then read from its work folder.

    Raises:
        UsageError: the budget buys too few steps; names one that would do.
    """
    budget_s, batch_size = task.recipe.budget_s, task.source.batch_size
    if budget_s is None and batch_size:
        return TrainingPlan(length.steps, batch_size)
    path = task.work / "plan.json"
    if ranks.agreed([path.is_file()])[0]:
        record = read_json(path)
        return TrainingPlan(record["steps"], record["batch_size"])
    plan, planned = _measured_plan(task, length)
    if ranks.rank() == 0:
        write_json(path, {**plan._asdict(), **planned})
        of = f" for {planned['planned_s']:g} s" if planned else ""
        print(f"plan: {plan.steps} steps of {plan.batch_size} images{of}", flush=True)
    return plan


def _measured_plan(task: Task, length: Length) -> tuple[TrainingPlan, dict[str, float]]:
    """The plan; with a budget also its seconds, and those that measuring took of them."""
    started = clock(task.run)
    with _untouched(task.module):
        batch_size = task.source.batch_size
        if not batch_size:
            batch_size = int(ranks.agreed([_fitting_batch(task, task.recipe.max_batch_size)])[0])
        if task.recipe.budget_s is None:
            return TrainingPlan(length.steps, batch_size), {}
        seconds = task.recipe.budget_s * length.share
        measured = _affordable_steps(task.of_size(batch_size), started, seconds)
        steps, needed_s = ranks.agreed(measured)
    if steps < LEAST_STEPS:
        raise _too_small(task.recipe.budget_s, length.share, steps, needed_s)
    planned = {"planned_s": seconds, "planning_s": clock(task.run) - started}
    return TrainingPlan(int(steps), batch_size), planned


def _too_small(budget_s: float, share: float, steps: float, needed_s: float) -> UsageError:
    told = (
        f"train.budget_s: {budget_s:g} s with a share of {share:g} buys a training of {steps:.0f} "
        f"steps, of at least {LEAST_STEPS}"
    )
    if not share:
        return UsageError(f"{told}; give it a share")
    least = math.ceil(1.2 * needed_s / share)  # timed anew, it may be a little slower
    return UsageError(f"{told}; set train.budget_s={least} or more, or null to give steps")


@contextlib.contextmanager
def _compared(task: Task, steps: int) -> Iterator[None]:
    """Beside the planned seconds write those taken; a resumed training is told by its last part.

    Args:
        steps: of the plan's, those that are still to be trained.
    """
    started = clock(task.run)
    yield
    path = task.work / "plan.json"
    if task.recipe.budget_s is None or not steps or ranks.rank() > 0:
        return
    record = read_json(path)
    a_step = (clock(task.run) - started) / steps
    took_s = record["planning_s"] + a_step * record["steps"]
    off_by = took_s / record["planned_s"] - 1
    write_json(path, {**record, "took_s": took_s, "off_by": off_by})
    tracking.log_metrics({"budget_took_s": took_s, "budget_off_by": off_by}, record["steps"])
    if abs(off_by) > OFF_BY:
        tracking.log_warning(
            f"train.budget_s: planned {record['planned_s']:.0f} s, took {took_s:.0f} s "
            f"({off_by:+.0%}): the machine was busier or idler than while steps were timed; "
            "leave it to one run at a time"
        )


def _fitting_batch(task: Task, at_most: int) -> int:
    """The largest power of two whose peak, extrapolated from two small batches, leaves room.

    Raises:
        OutOfMemory: none does.
    """
    device = next(task.module.parameters()).device
    few, more = (images * ranks.count() for images in PROBED)
    growth = memory.Growth(device)  # first: it gives back what is then free
    free = memory.free_bytes(device)
    with _rehearsal(task) as training:
        peaks = [_peak_of(training, task, images, growth) for images in (few, more)]
    an_image = (peaks[1] - peaks[0]) / (more - few)
    fitting = [
        size
        for size in (1 << power for power in range(at_most.bit_length()))
        if size <= min(at_most, task.source.images)
        and size % ranks.count() == 0
        and peaks[0] + an_image * (size - few) <= ROOM * free
    ]
    if not fitting:
        raise OutOfMemory(
            f"train.batch_size: no batch fits; {few} images took {_gb(peaks[0])} of {_gb(free)} "
            "free; lower space.image_sizes or space.interface_width, or free memory"
        )
    return fitting[-1]


def _peak_of(training: Training, task: Task, images: int, growth: memory.Growth) -> int:
    """The peak once two steps of so many images of the largest side were taken."""
    largest = Sides((max(task.source.sides.choices),))
    for batch in replace(task.source, sides=largest, batch_size=images)(0, 2):
        training.advance(batch)
    return growth.bytes()


def _out_of_memory(task: Task) -> OutOfMemory:
    peak = memory.peak_bytes(next(task.module.parameters()).device)
    size = task.source.batch_size
    told = f"out of memory at a peak of {_gb(peak)} with train.batch_size {size or 'auto'}"
    fits = _fitting_after_failure(task, (size or task.recipe.max_batch_size) // 2)
    if fits and ranks.count() > 1:
        advice = f"try train.batch_size={fits}, which was not measured, or auto"
    elif fits:
        advice = f"{fits} would fit; set train.batch_size={fits}, or auto"
    else:
        advice = "no smaller one would fit; lower space.image_sizes or space.interface_width"
    return OutOfMemory(f"{told}; {advice}; checkpoints are whole")


def _fitting_after_failure(task: Task, at_most: int) -> int:
    """0 where none fits; with several ranks half, since the others are past measuring."""
    if ranks.count() > 1:
        return at_most
    try:
        with _untouched(task.module):
            return _fitting_batch(task, at_most)
    except (OutOfMemory, MemoryError, RuntimeError):
        return 0


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


@contextlib.contextmanager
def _rehearsal(task: Task) -> Iterator[Training]:
    """A training of the task with an optimizer and a folder of its own."""
    task.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=task.work) as folder:
        training = task.training(ENDLESS, Path(folder))
        training.module.train()
        yield training


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


def _affordable_steps(task: Task, started: float, seconds: float) -> tuple[int, float]:
    """Times the task on a training of its own; `seconds` run since `started`.

    Returns:
        the steps, and the seconds with which they would be `LEAST_STEPS`.
    """
    with _rehearsal(task) as training:
        step_s = _step_seconds(training, task, seconds * TIMING_SHARE)
        before = clock(task.run)
        training.save()
        between_s = (clock(task.run) - before) / task.recipe.checkpoint_every
        if task.score and task.recipe.score_every and ranks.rank() == 0:
            before = clock(task.run)
            training.score(task.score)
            epochs = task.recipe.score_every
            between_s += (clock(task.run) - before) / (epochs * task.source.epoch_steps)
    sides, gone = task.source.sides, clock(task.run) - started
    least = sum(step_s[sides(step)] + between_s for step in range(LEAST_STEPS))
    return affordable(seconds - gone, step_s, between_s, sides), gone + least


def affordable(
    seconds: float, step_s: Mapping[int, float], between_s: float, side_of: Callable[[int], int]
) -> int:
    """Steps that fit into `seconds`.

    Args:
        step_s: seconds of a step by input side.
        between_s: seconds a step beside, for what happens every so many steps.
        side_of: the side of each step; the real sequence, since few draws are no fair mixture.
    """
    steps, spent = 0, 0.0
    while (spent := spent + step_s[side_of(steps)] + between_s) <= seconds:
        steps += 1
    return steps


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
    # endless, so that loading goes on beside the last timed step as it does in training
    for step, batch in enumerate(source(0, ENDLESS)):
        training.advance(batch)
        now = clock(task.run)
        if step >= warmup:
            times[source.sides(step)].append(now - last)
        last = now
        enough = step + 1 >= most or (step + 1 >= least and now - started > limit_s)
        if ranks.agreed([enough])[0]:
            break
    return {side: sum(own) / len(own) for side, own in times.items()}


def clock(run: Run) -> float:
    """Seconds, once the device has done what it was given."""
    if run.device != "cpu" and torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
