"""Images a second of the training loop beside its floor: `make bench-train`.

The floor is forward, backward and optimizer step of the bare network on one synthetic batch. What
the loop adds comes on in three layers (assigner and losses; finite check, clipping and EMA; loading
and augmentation), timed in interleaved blocks, so that a drift of the machine meets all alike; so
is a large matrix product, the most that the device gives (on CUDA in bfloat16, by its own clock).
The operations of forward and backward are counted one by one, for the share of that which they
reach. Exits with 1 where the loop takes more than `BAR` of the floor's time.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from network import add_network, chosen_network
from photos import coco_folder, packed
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from frontier.data.loading.loader import AHEAD
from frontier.models.architecture import Architecture
from frontier.models.detector import Detector, cost
from frontier.params import Params
from frontier.training.compiling import compile_on_gpu
from frontier.training.loop import TensorBatch, Training, training_device
from frontier.training.recipes import supervised
from frontier.training.sources import Sides, batch_source
from pipelines.settings import Request, merge

ROOT = Path(__file__).parents[2]
STEPS = 4  # of each layer in a block
BAR = 1.15  # the loop's time over the floor's, median of the blocks
SQUARE = {"cpu": 2048, "cuda": 8192}  # rows and columns of the matrices


class Layers:
    """The same network trained four ways, each a layer more than the one before."""

    def __init__(self, data: Path, chosen: Architecture, batch: int, params: Params) -> None:
        self.recipe = params.train.model_copy(update={"batch_size": batch})
        device = training_device(params.run)
        side = chosen.image_side
        split = packed(data, "train", side)
        torch.manual_seed(0)
        self.detector = Detector(chosen, split.num_classes).to(device)
        self.training = Training(
            self.detector, self.recipe, 10**6, Path(tempfile.mkdtemp()), params.run,
            supervised(self.detector, self.recipe),
        )  # fmt: skip
        self.detector.train()
        self.batches = batch_source([split], self.recipe, params.run, Sides((side,)))(0, 10**6)
        self.batch = TensorBatch(next(self.batches), device, 0)
        self.device, self.run = device, params.run
        self.square = torch.rand([SQUARE[device.type]] * 2, device=device)
        if device.type == "cuda":
            self.square = self.square.bfloat16()
        self.product_flops = 2 * len(self.square) ** 3
        self.flops = flops_of(self._learn)  # before: nobody counts what compiled kernels do
        compile_on_gpu(self.detector, params.run)

    def product(self) -> None:
        with self._precision():
            self.square @ self.square

    def floor(self) -> None:
        self._zero()
        self._learn()
        self._update()

    def _learn(self) -> None:
        with self._precision():
            outputs = self.detector(self.batch.images_BCHW)
            (outputs.logits.mean() + outputs.bins.mean()).backward()

    def losses(self) -> None:
        self._zero()
        with self._precision():
            self.training.backward(self.batch)
        self._update()

    def guarded(self) -> None:
        self.training._train_step(self.batch, self.recipe.learning_rate)

    def use_up(self) -> None:
        """Those batches that lie ready since other layers ran: they hide what loading takes."""
        self._whole(self.run.loader_workers + AHEAD + 1)

    def whole(self) -> None:
        self._whole(STEPS)

    def _whole(self, steps: int) -> None:
        for batch in islice(self.batches, steps):
            self.training._train_step(TensorBatch(batch, self.device, 0), self.recipe.learning_rate)

    def _precision(self) -> torch.autocast:
        narrow = self.run.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=narrow)

    def _zero(self) -> None:
        for optimizer in self.training.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def _update(self) -> None:
        for optimizer in self.training.optimizers.values():
            optimizer.step()


def flops_of(work: Callable[[], None]) -> int:
    """Of its convolutions and matrix products; a multiply-add is two operations."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def seconds(work: Callable[[], None], times: int) -> float:
    if torch.cuda.is_available():
        return _device_seconds(work, times)
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / STEPS


def _device_seconds(work: Callable[[], None], times: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=coco_folder, required=True, help="a folder in COCO layout")
    add_network(parser)
    parser.add_argument("--set", dest="changes", nargs="+", default=[], metavar="A.B=C")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--blocks", type=int, default=8)
    given = parser.parse_args()

    chosen = chosen_network(given)
    params = merge(ROOT, Request(assignments=given.changes)).params
    layers = Layers(given.data, chosen, given.batch, params)
    _, gmac = cost(layers.detector.deploy().network, chosen.image_side)
    layers.detector.train()
    names = ["product", "floor", "losses", "guarded", "whole"]
    times = np.empty((given.blocks, len(names)))
    for block in range(-1, given.blocks):  # the first one warms up
        for column, name in enumerate(names):
            work = getattr(layers, name)
            if name == "whole":
                layers.use_up()
            times[block, column] = seconds(work, 1 if name == "whole" else STEPS)
    ratio = _show(times, given.batch, gmac, layers)
    if ratio > BAR:
        sys.exit(f"the loop takes {ratio:.3f} of the floor's time, more than {BAR}")


def _show(columns: np.ndarray, batch: int, gmac: float, layers: Layers) -> float:
    """Prints all, and returns the loop's time over the floor's."""
    product, times = np.median(columns[:, 0]), columns[:, 1:]
    shown = {
        "floor: forward, backward, step": times[:, 0],
        "+ assigner and losses": times[:, 1] - times[:, 0],
        "+ finite check, clipping, EMA": times[:, 2] - times[:, 1],
        "+ loading and augmentation": times[:, 3] - times[:, 2],
        "the whole loop": times[:, 3],
    }
    table = Table("part", "ms a step", "of the floor", title=f"{gmac:.2f} GMAC, batch {batch}")
    floor = np.median(times[:, 0])
    for name, values in shown.items():
        middle = np.median(values)
        table.add_row(name, f"{middle * 1e3:.0f}", f"{middle / floor:.1%}")
    ratio = times[:, 3] / times[:, 0]
    draws = np.random.default_rng(0).choice(ratio, (2000, len(ratio)))
    low, high = np.percentile(np.median(draws, 1), [2.5, 97.5])
    console = Console()
    console.print(table)
    console.print(
        f"{batch / np.median(times[:, 3]):.1f} images/s against {batch / floor:.1f} at the floor; "
        f"the loop takes {np.median(ratio):.3f} [{low:.3f}, {high:.3f}] of the floor's time"
    )
    reached, most = layers.flops / 1e9, layers.product_flops / 1e9 / product
    whole = np.median(times[:, 3])
    console.print(
        f"{reached / floor:.0f} GFLOP/s at the floor and {reached / whole:.0f} in the loop, "
        f"{reached / floor / most:.0%} and {reached / whole / most:.0%} of the {most:.0f} of a "
        "matrix product"
    )
    return float(np.median(ratio))


if __name__ == "__main__":
    main()
