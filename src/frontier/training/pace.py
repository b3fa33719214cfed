"""How fast a training goes and what memory it takes: for people to read, never for results."""

import datetime
import time

import torch

from frontier.training.memory import peak_bytes


class Pace:
    """Counts from its making, or from the last `restart`; the remaining time from its making."""

    def __init__(self, device: torch.device, step: int, steps: int) -> None:
        self.device, self.first, self.steps = device, step, steps
        self.started = time.monotonic()
        self.restart()

    def restart(self) -> None:
        self.images, self.since = 0, time.monotonic()

    def numbers(self) -> dict[str, float]:
        """`images_per_s` since the last restart, `peak_memory_bytes` so far."""
        elapsed_s = time.monotonic() - self.since
        peak = float(peak_bytes(self.device))
        return {"images_per_s": self.images / elapsed_s, "peak_memory_bytes": peak}

    def told(self, numbers: dict[str, float], step: int) -> str:
        """`numbers` for the terminal, and the remaining time at the mean pace so far."""
        elapsed_s = time.monotonic() - self.started
        left_s = elapsed_s * (self.steps - step) / max(1, step - self.first)
        left = datetime.timedelta(seconds=round(left_s))
        gigabytes = numbers["peak_memory_bytes"] / 1e9
        return f"{numbers['images_per_s']:.3g} images/s  {gigabytes:.2f} GB  {left} left"
