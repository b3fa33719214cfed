"""Memory of a training: what is free, the most that was taken, and whether it ran out."""

import ctypes
import resource
from pathlib import Path

import psutil
import torch

from frontier.training import cgroup, ranks


def free_bytes(device: torch.device) -> int:
    """What this process may still take: of the GPU, or its rank's part of the machine's memory.

    In a container that is what its limit leaves; beyond it the kernel kills without a word.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = int(psutil.virtual_memory().available)
    contained = cgroup.free_bytes()
    free = (free if contained is None else min(free, contained)) // ranks.count()
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return min(free, limit - int(psutil.Process().memory_info().vms))


def peak_bytes(device: torch.device) -> int:
    """The most memory since the last `Growth`: of tensors on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Growth:
    """The most memory that came on top of what was held when this was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._start = torch.cuda.memory_allocated(device)
        else:
            _give_back_what_is_free()
            # the kernel keeps the peak itself, and starts anew when asked (proc(5), clear_refs)
            Path("/proc/self/clear_refs").write_text("5")
            self._start = psutil.Process().memory_info().rss

    def bytes(self) -> int:
        return peak_bytes(self.device) - self._start


def _give_back_what_is_free() -> None:
    """Pages that malloc keeps for later: what is taken from them next would not be seen to grow."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; others keep few
    if trim is not None:
        trim(0)


def ran_out(error: BaseException) -> bool:
    """Is this what torch, its CPU allocator, or Python say when memory is short?"""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("can't allocate memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
