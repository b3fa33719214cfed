"""Images a second of `ingest`'s checks beside bare decoding by the same library.

A check reads a file, takes its SHA-256, decodes all of its bytes (a JPEG's to a grey sketch, see
`decode_image`) and takes the perceptual hash. It stands beside decoding to grey, the least that
would tell whether a file is whole, and to RGB, what a loader does; all run on
the same processes, in turn, so that a drift of the machine meets all alike. Below `LEAST` of the
rate of decoding to grey it fails.
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

SHARD = 256  # images, as in `ingest`
LEAST = 0.8


def grey(root: Path, file_names: Sequence[str]) -> int:
    for name in file_names:
        image = Image.open(root / name)
        image.draft("L", image.size)
        image.load()
    return len(file_names)


def colour(root: Path, file_names: Sequence[str]) -> int:
    for name in file_names:
        Image.open(root / name).load()
    return len(file_names)


KINDS = (probe_shard, grey, colour)


def seconds(work: Callable, shards: list[tuple], workers: Workers) -> float:
    start = time.perf_counter()
    for _ in run(work, shards, workers):
        pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="a folder of JPEG files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--repeat", type=int, default=6, help="times each image, in a block")
    given = parser.parse_args()
    if not given.images.is_dir():
        parser.error(f"--images {given.images}: no such folder; name one (DATA=... after make)")
    names = [p.relative_to(given.images).as_posix() for p in given.images.rglob("*.jpg")]
    names = sorted(names) * given.repeat
    random.Random(0).shuffle(names)
    shards = [(given.images, names[i : i + SHARD]) for i in range(0, len(names), SHARD)]
    workers = Workers(backend="local", jobs=given.jobs, address=None)
    times = np.empty((given.blocks, len(KINDS)))
    for block in range(-1, given.blocks):  # the first one warms up, and its row is overwritten
        for turn in range(len(KINDS)):
            kind = (block + turn) % len(KINDS)
            times[block, kind] = seconds(KINDS[kind], shards, workers)
    rates = len(names) / np.median(times, axis=0)
    print(f"{len(names)} images, {given.jobs} processes: checked {rates[0]:.0f}/s")
    shares = [share(times[:, kind] / times[:, 0]) for kind in (1, 2)]
    for name, rate, (middle, low, high) in zip(("grey", "RGB"), rates[1:], shares, strict=True):
        print(f"  {middle:.3f} [{low:.3f}, {high:.3f}] of decoding to {name}, {rate:.0f}/s")
    if shares[0][0] < LEAST:
        raise SystemExit(f"below {LEAST} of the bare rate")


def share(ratio: np.ndarray) -> tuple[float, float, float]:
    """Median and its 95 % interval, by bootstrap over blocks."""
    draws = np.random.default_rng(0).choice(ratio, (2000, len(ratio)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(ratio)), float(low), float(high)


if __name__ == "__main__":
    main()
