"""Images a second of `ingest`'s checks beside bare decoding by the same library.

A check reads a file, takes its SHA-256, decodes all of it to upright RGB and takes the perceptual
hash. Both run on the same processes, in interleaved blocks, so that a drift of the machine meets
both alike.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from frontier.data.intake.probing import probe_shard
from frontier.data.workers import run
from frontier.params import Workers

SHARD = 32  # images


def bare(root: Path, file_names: Sequence[str]) -> int:
    for name in file_names:
        Image.open(root / name).load()
    return len(file_names)


def seconds(work: Callable, shards: list[tuple], workers: Workers) -> float:
    start = time.perf_counter()
    for _ in run(work, shards, workers):
        pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEG files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=1, help="times each image, in a block")
    given = parser.parse_args()
    names = [p.relative_to(given.images).as_posix() for p in given.images.rglob("*.jpg")]
    names = sorted(names) * given.repeat
    random.Random(0).shuffle(names)
    shards = [(given.images, names[i : i + SHARD]) for i in range(0, len(names), SHARD)]
    workers = Workers(backend="local", jobs=given.jobs, address=None)
    times = np.empty((given.blocks, 2))
    for block in range(-1, given.blocks):  # the first one warms up, and its row is overwritten
        order = (bare, probe_shard) if block % 2 else (probe_shard, bare)
        for work in order:
            times[block, int(work is probe_shard)] = seconds(work, shards, workers)
    rates = len(names) / np.median(times, axis=0)
    ratio = times[:, 0] / times[:, 1]
    draws = np.random.default_rng(0).choice(ratio, (2000, len(ratio)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    print(
        f"{len(names)} images, {given.jobs} processes: checked {rates[1]:.0f}/s, decoded "
        f"{rates[0]:.0f}/s: {np.median(ratio):.3f} [{low:.3f}, {high:.3f}] of the bare rate"
    )


if __name__ == "__main__":
    main()
