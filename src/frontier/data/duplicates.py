"""Which images look alike, told by their perceptual hashes, and splits that keep such together.

Legend: N images, M pairs of them (first < second), D distinct hashes.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csgraph

from frontier.data.formats import Problem

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]  # [D, 4], a hash of 256 bits

BITS, WORD = 256, 64
CROWD = 8_192  # hashes that share a substring and are still compared each with each
BLOCK = 4_096  # hashes looked up at a time: some 400 MB of matches at worst, all in one crowd
MOST_PAIRS = 4_000_000  # listed one by one; or twice as many as there are hashes


def near_pairs(hashes: npt.NDArray[np.uint8], radius: int) -> tuple[Ints, list[Problem]]:
    """All pairs of hashes `[N, 32]` that differ in at most `radius` bits: `[M, 2]`, sorted.

    Two such hashes agree in at least one of `radius + 1` substrings, so only those that share one
    are compared. Three bounds keep a strange dataset from taking for ever:

    - k equal hashes (blank images, say) are k - 1 pairs, each with the first of them; where that
      one is like another group's first, each is paired with the other group's all the same;
    - where more than `CROWD` share a substring, each is compared with some `CROWD` next to it in
      sorted order alone, and pairs may be missed; "crowded-hashes" says among how many;
    - where there are too many pairs, those of images that others connect already may be left out,
      which changes no group; "many-duplicates" says so.

    Args:
        radius: 0 to 31.

    Reference: Norouzi, Punjani and Fleet 2012, "Fast Search in Hamming Space with Multi-Index
    Hashing", section 2.
    """
    words = np.ascontiguousarray(hashes).view("<u8")
    order = np.lexsort(words.T)
    equal = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.append(True, ~equal)[: len(order)])
    firsts = order[starts]
    distinct = words[firsts]
    found = _Pairs(len(firsts))
    crowded = np.zeros(len(firsts), bool)
    width = min(BITS // (radius + 1), WORD - 1)
    for start in range(0, width * (radius + 1), width):
        turned = _turned(distinct, start)
        crowd = _crowd(turned, width)
        crowded |= crowd
        with _one_thread():
            for pairs in _pairs_that_share(turned, width, crowd, radius):
                found.add(pairs)
    near = found.settled()
    repeats = np.diff(np.append(starts, len(order))) - 1
    every = np.arange(len(starts))
    whole = not found.thinned and repeats[near].sum() <= found.most
    one, other = near.T
    beside = [(every, every), *([(one, other), (other, one)] if whole else [])]
    repeated = [_beside_repeats(a, b, order, starts, repeats) for a, b in beside]
    ordered = _ordered(*np.concatenate([firsts[near], *repeated]).T)
    return ordered[np.lexsort(ordered.T[::-1])], _remarks(int(crowded.sum()), not whole)


def _beside_repeats(one: Ints, other: Ints, order: Ints, starts: Ints, repeats: Ints) -> Ints:
    """The first of each group `one` beside all but the first of the group `other`, `[M, 2]`.

    Args:
        order: images, group by group.
        starts: where each group begins in it.
        repeats: how many follow the first of each group.
    """
    count = repeats[other]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    second = order[np.repeat(starts[other] + 1, count) + within]
    return np.stack([np.repeat(order[starts[one]], count), second], axis=1)


def groups(count: int, pairs: Ints) -> Ints:
    """The group `[count]` of each image, connected by `pairs` `[M, 2]`, counted from 0 in order."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, labels = csgraph.connected_components(graph, directed=False)
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group].astype(np.int64)


def split_groups(group: Ints, shares: Mapping[str, float], seed: int) -> npt.NDArray[np.str_]:
    """Names `[N]` of splits: whole groups, sizes near the `shares`, none empty if avoidable.

    The largest groups go first, each to the split that lacks most; equal ones in seeded order.

    Args:
        group: `[N]`, as `groups` numbers them.
        shares: of the images, by name; above 0.
    """
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    names = [*shares]
    lacking = [share / sum(shares.values()) * len(group) for share in shares.values()]
    empty = {*range(len(names))}
    owner = np.zeros(len(sizes), np.int64)
    for left, number in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        choice = max(empty if left <= len(empty) else range(len(names)), key=lacking.__getitem__)
        owner[number] = choice
        lacking[choice] -= int(sizes[number])
        empty.discard(choice)
    return np.array(names)[owner[group]]


class _Pairs:
    """Pairs of D things as they are found, each once; thinned where there are too many."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.most = max(MOST_PAIRS, 2 * count)
        self.thinned = False
        self._pairs: list[Ints] = [np.zeros((0, 2), np.int64)]
        self._size = 0
        self._group = np.arange(count)

    def add(self, pairs: Ints) -> None:
        if self.thinned:
            pairs = pairs[self._group[pairs[:, 0]] != self._group[pairs[:, 1]]]
        self._pairs.append(pairs)
        self._size += len(pairs)
        if self._size > 2 * self.most:  # every so often: many are found more than once
            self._pairs = [self.settled()]
            self._size = len(self._pairs[0])

    def settled(self) -> Ints:
        """All so far `[M, 2]`; if there are too many, as many as keep every group together."""
        first, second = np.concatenate(self._pairs).T
        code = np.sort(first * self.count + second)
        code = code[np.append(True, code[1:] != code[:-1])[: len(code)]]
        pairs = np.stack(np.divmod(code, max(self.count, 1)), axis=1)
        if len(pairs) <= self.most:
            return pairs
        self.thinned = True
        self._group = groups(self.count, pairs)
        graph = coo_array((np.ones(len(pairs)), pairs.T), (self.count, self.count))
        forest = csgraph.minimum_spanning_tree(graph.tocsr()).tocoo()
        return _ordered(forest.row.astype(np.int64), forest.col.astype(np.int64))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Blocks are small: on a busy machine, faiss's threads wait for one another far longer than
    they work."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _ordered(first: Ints, second: Ints) -> Ints:
    return np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)


def _turned(words: Words, start: int) -> Words:
    """The same hashes `[D, 4]`, with bit `start` the first."""
    whole, rest = divmod(start, WORD)
    low = np.roll(words, -whole, axis=1)
    high = np.roll(low, -1, axis=1)
    return (low >> np.uint64(rest)) | (high << np.uint64(WORD - rest))


def _crowd(words: Words, width: int) -> npt.NDArray[np.bool_]:
    """Which hashes `[D]` share their first `width` bits with too many."""
    keys = words[:, 0] & np.uint64((1 << width) - 1)
    _, bucket, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(sizes[bucket] > CROWD)


def _pairs_that_share(
    words: Words, width: int, crowd: npt.NDArray[np.bool_], radius: int
) -> Iterator[Ints]:
    """Near pairs `[M, 2]` among those with the same first `width` bits, in blocks."""
    yield from _search(faiss.IndexBinaryHash(BITS, width), words, np.flatnonzero(~crowd), radius)
    members = np.flatnonzero(crowd)
    members = members[np.lexsort(words[members].T[::-1])]
    for start in range(0, len(members), CROWD):
        chunk = members[start : start + CROWD]
        yield from _search(faiss.IndexBinaryFlat(BITS), words, chunk, radius)


def _search(index: Any, words: Words, members: Ints, radius: int) -> Iterator[Ints]:
    codes = words[members].view(np.uint8)
    index.add(codes)
    for start in range(0, len(codes), BLOCK):
        # faiss means "less than"
        limits, _, matches = index.range_search(codes[start : start + BLOCK], radius + 1)
        first = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        once = first < matches
        yield _ordered(members[first[once]], members[matches[once]])


def _remarks(crowded: int, thinned: bool) -> list[Problem]:
    remarks = []
    if crowded:
        text = (
            f"{crowded} of the different picture hashes share a part with more than {CROWD} others "
            "and were compared with some of them only; near-duplicates among them may be missed"
        )
        remarks.append(Problem("crowded-hashes", "warning", "images", text))
    if thinned:
        text = "millions of pairs look alike; only as many are listed as show every group"
        remarks.append(Problem("many-duplicates", "warning", "images", text))
    return remarks
