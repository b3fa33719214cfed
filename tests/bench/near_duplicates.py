"""Near-duplicates among as many hashes as Objects365 has images: pairs planted, all to be found.

Two datasets: hashes as even as those of photos are, and a strange one, where a fifth are equal, a
fifth lie around a few hundred common ones (frames of fixed cameras), and a fifth share half their
bits (drawings on white).
"""

import argparse
import resource
import time

import numpy as np

from frontier.data.duplicates import groups, near_pairs

IMAGES, PLANTED = 1_742_292, 1_000
MOST_S = 300
BITS = 256
CAMERAS, CAMERA_FLIPS = 400, 4


def even(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 256, (count, BITS // 8), dtype=np.uint8)


def strange(rng: np.random.Generator, count: int) -> np.ndarray:
    hashes, fifth = even(rng, count), count // 5
    hashes[:fifth] = hashes[0]
    scenes = even(rng, CAMERAS)
    frames = scenes[rng.integers(CAMERAS, size=fifth)]
    hashes[fifth : 2 * fifth] = flipped(rng, frames, rng.integers(CAMERA_FLIPS + 1, size=fifth))
    hashes[2 * fifth : 3 * fifth, ::2] = 0
    return hashes


def flipped(rng: np.random.Generator, hashes: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """The same hashes, each with so many bits changed."""
    changed = hashes.copy()
    rows = np.arange(len(hashes))
    places = rng.permuted(np.tile(np.arange(BITS, dtype=np.int16), (len(hashes), 1)), axis=1)
    for number in range(int(distances.max(initial=0))):
        own = rows[distances > number]
        place = places[own, number]
        changed[own, place // 8] ^= (1 << (place % 8)).astype(np.uint8)
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--radius", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    missed = []
    for make in (even, strange):
        rng = np.random.default_rng(given.seed)
        hashes = make(rng, given.images)
        # both halves from the last two fifths, where the strange dataset is like the even one
        chosen = rng.choice(2 * (given.images // 5), 2 * PLANTED, replace=False)
        first, second = given.images - 1 - chosen.reshape(2, -1)
        distances = rng.integers(given.radius + 1, size=PLANTED)
        hashes[second] = flipped(rng, hashes[first], distances)
        start = time.perf_counter()
        pairs, remarks = near_pairs(hashes, given.radius)
        group = groups(given.images, pairs)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        listed = {*map(tuple, np.sort(pairs, axis=1).tolist())}
        wanted = {*map(tuple, np.sort(np.stack([first, second], 1), axis=1).tolist())}
        print(
            f"{make.__name__}: {len(wanted & listed)} of {PLANTED} planted pairs found, "
            f"{len(pairs)} pairs in all, {group.max() + 1} groups; {seconds:.0f} s, "
            f"peak {peak:.2f} GiB",
            *(f"\n  {remark}" for remark in remarks),
            flush=True,
        )
        if len(wanted & listed) < PLANTED or seconds > MOST_S:
            missed.append(f"{make.__name__}: pairs are missing, or more than {MOST_S} s")
    if missed:
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
