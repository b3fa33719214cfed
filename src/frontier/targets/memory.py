"""Peak memory of a model: what a process needs that loads it and answers queries."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from frontier.targets.base import Target
from frontier.targets.measure import random_feeds

QUERIES = 3  # the arena of a runtime has grown to its size by then


def measure_memory_mb(artifacts: list[Path], target: Target, threads: int) -> list[float]:
    """Peak resident megabytes of each model, in a fresh process of its own."""
    spawn = multiprocessing.get_context("spawn")
    found = []
    for artifact in artifacts:
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            found.append(fresh.submit(_peak_mb, target, artifact, threads).result())
    return found


def _peak_mb(target: Target, artifact: Path, threads: int) -> float:
    session = target.load(artifact, threads)
    feeds = random_feeds(session)
    for _ in range(QUERIES):
        session.run(feeds)
    # not getrusage: that starts at what the parent had when it forked
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1000
