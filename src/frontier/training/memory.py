"""Memory of a training: what is free, the most that was taken, and whether it ran out."""

import contextlib
import resource
import threading
from collections.abc import Iterator

import psutil
import torch

from frontier.training import ranks

SAMPLED_S = 0.002


def free_bytes(device: torch.device) -> int:
    """What this process may still take: of the GPU, or its rank's part of the machine's memory."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = int(psutil.virtual_memory().available) // ranks.count()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, limit - int(psutil.Process().memory_info().vms))


def peak_bytes(device: torch.device) -> int:
    """The most memory so far: of tensors on a GPU, resident of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Growth:
    """The most memory that came on top of what was held at the start of `watched`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._process = psutil.Process()
        self._start = self._most = self._held()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """On a CPU a thread watches: the kernel's own peak may be older than this."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            yield
            return
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def bytes(self) -> int:
        if self.device.type == "cuda":
            self._most = peak_bytes(self.device)
        return self._most - self._start

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(SAMPLED_S):
            self._most = max(self._most, self._held())

    def _held(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return int(self._process.memory_info().rss)


def ran_out(error: BaseException) -> bool:
    """Is this what torch, its CPU allocator, or Python say when memory is short?"""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("can't allocate memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
