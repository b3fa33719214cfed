"""One training loop for every network here: finite check, clipping, EMA, schedule, exact resume."""

import contextlib
import copy
import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frontier import tracking
from frontier.data.loading.loader import Batch
from frontier.errors import NonFiniteLoss
from frontier.models.decoding import anchor_points
from frontier.params import Run, Train
from frontier.training import ranks
from frontier.training.checkpoint import Checkpoint, load_newest, save
from frontier.training.losses import Grid
from frontier.training.optimizer import optimizers
from frontier.training.pace import Pace

PROGRESS_EVERY = 10  # steps
Terms = dict[str, Tensor]
Row = dict[str, float]
Score = Callable[[Any], float]  # of a module like the one trained


class TensorBatch:
    """A batch on the training device: images in 0..1 channels-last, targets, anchor grid."""

    def __init__(
        self, batch: Batch, device: torch.device, step: int, progress: float = 0.0
    ) -> None:
        images = torch.from_numpy(batch.images_BHWC).to(device)
        self.images_BCHW = (images.permute(0, 3, 1, 2).float() / 255.0).contiguous(
            memory_format=torch.channels_last
        )
        self.boxes_xyxy = torch.from_numpy(batch.boxes_xyxy).to(device)
        self.labels = torch.from_numpy(batch.labels).to(device)
        self.ignore = torch.from_numpy(batch.ignore).to(device)
        self.names = [f"{o} {i}" for o, i in zip(batch.origins, batch.image_ids, strict=True)]
        self.step, self.progress = step, progress  # of the training, 0 to 1
        centres, strides = anchor_points(self.images_BCHW.shape[-1])
        self.grid = Grid(centres.to(device), strides.to(device))


def training_device(run: Run) -> torch.device:
    """The device to train on; also fixes threads and determinism for this process."""
    torch.manual_seed(run.seed)
    torch.set_num_threads(run.threads)
    if run.device == "cpu" or (run.device == "auto" and not torch.cuda.is_available()):
        torch.use_deterministic_algorithms(True)
        # filling fresh memory guards against reading it unwritten; it costs 15 % of a step here
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return torch.device("cpu")
    return ranks.own_gpu()


def learning_rate(step: int, steps: int, recipe: Train) -> float:
    """Linear warm-up, then cosine to `final_lr_ratio` at the last step."""
    warmup = min(recipe.warmup_steps, max(1, steps // 4))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * (recipe.final_lr_ratio + (1 - recipe.final_lr_ratio) * cosine)


class EMA:
    """Exponential moving average of parameters and batch-norm statistics.

    The decay grows with the step, `min(decay, (1 + t) / (10 + t))`, so short runs forget their
    random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {n: t for n, t in module.state_dict().items() if t.is_floating_point()}
        self.average = {name: tensor.detach().clone() for name, tensor in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            [*self.average.values()], [self.live[name] for name in self.average], 1 - decay
        )

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        state = module.state_dict()
        for name, average in self.average.items():
            state[name].copy_(average)


class Training:
    """Trains `module` for a fixed number of steps, from where its folder says it stopped.

    Args:
        module: the network; its parameters are replaced by their EMA at the end.
        recipe: batch size, learning rate, EMA, clipping.
        steps: optimizer steps in all.
        work: folder for checkpoints.
        backward: given a batch, runs forward and backward and returns the loss terms (detached).
            `total` must be among them.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Train,
        steps: int,
        work: Path,
        run: Run,
        backward: Callable[[TensorBatch], Terms],
    ) -> None:
        self.module, self.recipe, self.steps, self.work = module, recipe, steps, work
        self.device = next(module.parameters()).device
        self.precision = run.precision
        self.backward = backward
        self.optimizers = optimizers(module, recipe)
        self.ema = EMA(module, recipe.ema_decay)
        self.history: list[Row] = []
        self.step = 0
        self.sums: Terms = {}  # of the loss terms since the last row
        self.summed = 0
        self._resume()

    def fit(
        self,
        batches: Callable[[int, int], Iterator[Batch]],
        epoch_steps: int,
        score: Score | None = None,
    ) -> list[Row]:
        """Train to the last step; `batches(start, stop)` yields those of steps start to stop - 1.

        Args:
            epoch_steps: steps in which every image is seen about once.
            score: gives the AP of a copy of the module, every `score_every` epochs and at the end.

        Returns:
            One row per epoch, and one at the last step: step, epoch, lr, the mean of each loss
            term, and AP where it was scored.

        Raises:
            NonFiniteLoss: names step, images and terms; weights and EMA are as before the step.
        """
        self.module.train()
        pace = Pace(self.device, self.step, self.steps)
        for batch in batches(self.step, self.steps):
            self._sum(self.advance(batch))
            pace.images += len(batch.image_ids) * ranks.count()
            if self.step % epoch_steps == 0 or self.step == self.steps:
                self._end_epoch(epoch_steps, score, pace)
            elif self.step % PROGRESS_EVERY == 0:
                self._report(self._means()["total"])
            if self.step % self.recipe.checkpoint_every == 0 and self.step < self.steps:
                self.save()
        self._check_averages()
        self.ema.copy_to(self.module)
        self.module.eval()
        return self.history

    def advance(self, batch: Batch) -> Terms:
        """Train one step; the module must be in training mode."""
        lr = self._learning_rate(self.step)
        terms = self._train_step(self._on_device(batch), lr)
        self.step += 1
        return terms

    def _on_device(self, batch: Batch) -> TensorBatch:
        return TensorBatch(batch, self.device, self.step, self.step / max(1, self.steps - 1))

    def _learning_rate(self, step: int) -> float:
        return learning_rate(step, self.steps, self.recipe)

    def _train_step(self, batch: TensorBatch, lr: float) -> Terms:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.zero_grad(set_to_none=True)
        with self._statistics_kept_on_error():
            terms = self._finite_gradients(batch)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.ema.update(self.step)
        return terms

    @contextlib.contextmanager
    def _statistics_kept_on_error(self) -> Iterator[None]:
        """A forward pass moves batch-norm statistics; a refused step takes that back."""
        before = [buffer.clone() for buffer in self.module.buffers()]
        try:
            yield
        except Exception:
            for buffer, kept in zip(self.module.buffers(), before, strict=True):
                buffer.copy_(kept)
            raise

    def _finite_gradients(self, batch: TensorBatch) -> Terms:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            terms = self.backward(batch)
        # unseen by the loss: a box at infinity, which meets no anchor; a weight that this step's
        # subnets leave out; batch-norm statistics, which only their average passes on
        checked = {**terms, "boxes": batch.boxes_xyxy.sum(), "state": self._state_norm()}
        terms = ranks.sum_step(self.module.parameters(), checked)
        boxes, state = terms.pop("boxes"), terms.pop("state")
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.gradient_clip)
        if not torch.isfinite(norm + terms["total"] + boxes + state):
            names = ", ".join(ranks.gathered(batch.names))
            shown = {**terms, "gradient norm": norm, "sum of box corners": boxes}
            shown["norm of weights and statistics"] = state
            values = ", ".join(f"{name} {value.item():g}" for name, value in shown.items())
            raise NonFiniteLoss(
                f"step {self.step}: loss, gradient, box or weight is not finite ({values}); "
                f"images [{names}]; weights are unchanged; lower train.learning_rate or look at "
                "those images"
            )
        return terms

    @torch.no_grad()
    def _state_norm(self) -> Tensor:
        """Of all that is averaged: weights, and batch-norm statistics as this step moved them."""
        return torch.stack(torch._foreach_norm([*self.ema.live.values()])).sum()

    def _sum(self, terms: Terms) -> None:
        # in float64, which JSON carries exactly, so that a resumed mean equals an undisturbed one
        self.sums = {n: t.double() + self.sums.get(n, 0.0) for n, t in terms.items()}
        self.summed += 1

    def _means(self) -> dict[str, float]:
        return {name: float(total) / self.summed for name, total in self.sums.items()}

    def _end_epoch(self, epoch_steps: int, score: Score | None, pace: Pace) -> None:
        """Write the row; speed and memory are told, but stand in no row: rows are repeatable."""
        measured = pace.numbers()
        epoch = math.ceil(self.step / epoch_steps)
        every, last = self.recipe.score_every, self.step == self.steps
        due = every > 0 and (last or epoch % every == 0)
        means = self._means()
        numbers = {"lr": self._learning_rate(self.step - 1), "loss": means.pop("total"), **means}
        if score and due and ranks.rank() == 0:
            numbers |= self.score(score)
        self.history.append({"step": self.step, "epoch": epoch, **numbers})
        self.sums, self.summed = {}, 0
        tracking.log_metrics({"epoch": epoch, **numbers, **measured}, step=self.step)
        self._report(numbers["loss"])
        of = math.ceil(self.steps / epoch_steps)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in numbers.items())
        if ranks.rank() == 0:
            print(f"epoch {epoch}/{of}  {shown}  {pace.told(measured, self.step)}", flush=True)
        pace.restart()

    def _report(self, loss: float) -> None:
        tracking.log_progress(self.step, self.steps, f"loss {loss:.3f}")

    def score(self, score: Score) -> dict[str, float]:
        """`AP` of the averaged weights, on a copy; nothing where the images hold no box."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # building layers draws weights
            average = copy.deepcopy(self.module)
            self.ema.copy_to(average)
            ap = score(average)
        return {"AP": ap} if ap >= 0 else {}

    def _check_averages(self) -> None:
        """An optimizer's own step may overflow: that meets the averages before the next check."""
        norm = torch.stack(torch._foreach_norm([*self.ema.average.values()])).sum()
        if not torch.isfinite(norm):
            raise NonFiniteLoss(
                f"step {self.step}: weights overflowed in the optimizer's step, of finite losses "
                "and gradients; lower train.learning_rate"
            )

    def save(self) -> None:
        """Write a checkpoint from which a training with the same folder goes on; rank 0 does.

        Raises:
            NonFiniteLoss: the averages are not finite; earlier checkpoints are as they were.
        """
        self._check_averages()
        if ranks.rank() > 0:
            return
        tensors = {f"model/{n}": t for n, t in self.module.state_dict().items()}
        tensors |= {f"ema/{n}": t.clone() for n, t in self.ema.average.items()}
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": t.clone() for key, t in slots.items()}
        sums = {name: float(total) for name, total in self.sums.items()}
        state = {"history": self.history, "sums": sums, "summed": self.summed}
        save(self.work, Checkpoint(self.step, tensors, state))

    def _resume(self) -> None:
        checkpoint = load_newest(self.work)
        if checkpoint is None:
            return
        self.step, state = checkpoint.step, checkpoint.state
        self.history, self.summed = state["history"], state["summed"]
        self.sums = {n: torch.tensor(v, dtype=torch.float64) for n, v in state["sums"].items()}
        parts: dict[str, dict[str, Tensor]] = {n: {} for n in ("model", "ema", *self.optimizers)}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.module.load_state_dict(parts["model"])
        for name, average in self.ema.average.items():
            average.copy_(parts["ema"][name])
        for part, optimizer in self.optimizers.items():
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts[part].items():
                index, _, key = name.partition("/")
                slots.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def write_history(history: list[Row], path: Path) -> None:
    """`history.csv`: one line per row; a blank AP was not scored."""
    columns = [*(name for name in history[0] if name != "AP"), "AP"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
