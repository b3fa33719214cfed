"""Processes that train one network together, each on its rows of the same batches.

There is no DistributedDataParallel: it exchanges gradients within every backward, of which a
sandwich step runs several, and averages them, while the losses here are divided by sums over the
whole batch. So those sums are taken over all ranks before the backward, and gradients are summed
once, after the last one: the step is that of one process with the whole batch, but for batch-norm
statistics, which stay those of a rank's own rows. In a single process nothing here does anything.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, distributed, nn

from frontier.errors import UsageError


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Meets the other processes that torchrun started; the environment says where."""
    gpu = torch.cuda.is_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    yield
    # not after an error: the others may wait for this rank, until torchrun sees it end
    distributed.destroy_process_group()


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def own_rows(batch_size: int) -> range:
    """This rank's rows of a batch.

    Raises:
        UsageError: the batch does not divide among the ranks.
    """
    own, rest = divmod(batch_size, count())
    if rest:
        raise UsageError(
            f"train.batch_size: {batch_size} images do not divide among {count()} processes; "
            f"set a multiple of {count()}"
        )
    return range(rank() * own, (rank() + 1) * own)


def own_gpu() -> torch.device:
    """The GPU of this process on its machine.

    Raises:
        UsageError: no GPU, or more processes than GPUs.
    """
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if not gpus:
        raise UsageError(
            "run.device: cuda, but torch finds no GPU; set run.device to cpu or auto, or install "
            "the GPU's driver and a CUDA build of torch (`nvidia-smi` shows whether it is seen)"
        )
    if local >= gpus:
        raise UsageError(
            f"torchrun --nproc-per-node: more processes than the {gpus} GPU(s) of this machine; "
            "start one for each, or set run.device=cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def total(value: Tensor) -> Tensor:
    """The sum over all ranks of a tensor without gradient, such as a loss's divisor."""
    if count() == 1:
        return value
    summed = value.detach().clone()
    distributed.all_reduce(summed)
    return summed


def sum_step(parameters: Iterable[nn.Parameter], terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum gradients in place, and loss terms, over all ranks in one exchange.

    A gradient that is absent on some ranks counts as zeros there; absent everywhere, it stays so.
    """
    if count() == 1:
        return terms
    learned = [*parameters]
    device = learned[0].device
    present = torch.tensor([float(p.grad is not None) for p in learned], device=device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    values = torch.stack([value.float() for value in terms.values()])
    packed = torch.cat([present, values, *(gradient.flatten() for gradient in gradients)])
    distributed.all_reduce(packed)
    sizes = [len(learned), len(terms), *(parameter.numel() for parameter in learned)]
    present, values, *pieces = packed.split(sizes)
    for parameter, anywhere, piece in zip(learned, present.tolist(), pieces, strict=True):
        parameter.grad = piece.view_as(parameter).clone() if anywhere else None
    return dict(zip(terms, values.unbind(), strict=True))


def agreed(values: Sequence[float]) -> list[float]:
    """The values of rank 0, on every rank: what each would measure differently."""
    if count() == 1:
        return [*values]
    shared = torch.tensor(values, dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return shared.tolist()


def gathered(words: list[str]) -> list[str]:
    """Those of all ranks, in their order."""
    if count() == 1:
        return words
    parts: list[list[str]] = [[] for _ in range(count())]
    distributed.all_gather_object(parts, words)
    return [word for part in parts for word in part]


def wait_for_all() -> None:
    total(torch.zeros(1))
