"""Look-alikes: all pairs that brute force finds, groups that no split divides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier.data import duplicates
from frontier.data.duplicates import groups, near_pairs, split_groups

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def family(seed: int, count: int, flips: int) -> np.ndarray:
    """Hashes `[count, 32]` around a few centres, up to `flips` bits away, some of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (max(count // 6, 1), 256), dtype=np.uint8)
    bits = centres[rng.integers(len(centres), size=count)]
    for row in bits:
        row[rng.choice(256, rng.integers(flips + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


def brute_force(hashes: np.ndarray, radius: int) -> set[tuple[int, int]]:
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2, dtype=int)
    first, second = np.nonzero(np.triu(distance <= radius, 1))
    return {*zip(first.tolist(), second.tolist(), strict=True)}


def as_sets(group: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(group == g).tolist()) for g in range(group.max() + 1)}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 120),
    radius=st.sampled_from([0, 1, 3, 4, 7, 12, 16, 31]),
)
def test_pairs_are_those_of_brute_force(seed: int, count: int, radius: int) -> None:
    hashes = np.unique(family(seed, count, radius), axis=0)
    pairs, remarks = near_pairs(hashes, radius)
    assert [*map(tuple, pairs.tolist())] == sorted(brute_force(hashes, radius))
    assert remarks == []


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 120))
def test_groups_are_those_of_brute_force_in_any_order(seed: int, count: int) -> None:
    hashes = family(seed, count, 9)
    expected = groups(count, np.array(sorted(brute_force(hashes, 12)), np.int64).reshape(-1, 2))
    order = np.random.default_rng(seed).permutation(count)
    for hashes_now, back in [(hashes, np.arange(count)), (hashes[order], np.argsort(order))]:
        group = groups(count, near_pairs(hashes_now, 12)[0])
        assert as_sets(group[back]) == as_sets(expected)


def test_groups_count_from_their_first_member() -> None:
    pairs = np.array([[1, 4], [2, 3], [4, 5]])
    assert groups(7, pairs).tolist() == [0, 1, 2, 2, 1, 1, 3]


def test_equal_hashes_stand_beside_their_first() -> None:
    hashes = np.zeros((5000, 32), np.uint8)
    hashes[::2] = 255
    pairs, _ = near_pairs(hashes, 12)
    assert len(pairs) == 4998
    assert {*pairs[:, 0].tolist()} == {0, 1}
    assert {*pairs[:, 1].tolist()} == {*range(2, 5000)}


def test_what_is_like_a_first_is_paired_with_all_that_equal_it() -> None:
    hashes = np.zeros((6, 32), np.uint8)
    hashes[[1, 3, 4], 0] = 1
    hashes[5] = 255
    pairs, remarks = near_pairs(hashes, 12)
    own = {(0, 2), (1, 3), (1, 4)}
    across = {(0, 1), (0, 3), (0, 4), (1, 2)}
    assert {*map(tuple, pairs.tolist())} == own | across
    assert len(pairs) == 7
    assert remarks == []


def test_a_crowd_is_reported_and_its_neighbours_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "CROWD", 100)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (1000, 32), dtype=np.uint8)
    hashes[:600, :29] = 7  # 300 pairs whose rest differs in a bit
    hashes[1:600:2] = hashes[:600:2]
    hashes[1:600:2, 31] ^= 1
    pairs, remarks = near_pairs(hashes, 3)
    found = {*map(tuple, pairs.tolist())}
    assert [r.code for r in remarks] == ["crowded-hashes"]
    assert "600 of" in remarks[0].message
    assert found <= brute_force(hashes, 3)
    assert {(i, i + 1) for i in range(0, 600, 2)} <= found


def test_too_many_pairs_leave_the_groups_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = family(0, 400, 6)
    whole, _ = near_pairs(hashes, 12)
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 1)
    thinned, remarks = near_pairs(hashes, 12)
    assert [r.code for r in remarks] == ["many-duplicates"]
    assert len(thinned) < len(whole)
    assert {*map(tuple, thinned.tolist())} <= {*map(tuple, whole.tolist())}
    assert groups(400, thinned).tolist() == groups(400, whole).tolist()


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=3, max_size=60), seed=st.integers(0, 99))
def test_no_group_straddles_and_no_split_is_empty(sizes: list[int], seed: int) -> None:
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    names = split_groups(group, SHARES, seed)
    assert {*names.tolist()} == {*SHARES}
    for number in range(len(sizes)):
        assert len({*names[group == number].tolist()}) == 1
    for name, share in SHARES.items():
        assert abs((names == name).sum() - share * len(group)) <= 2 * max(sizes)


def test_a_split_is_seeded() -> None:
    group = np.arange(1000)
    first = split_groups(group, SHARES, 0)
    assert (split_groups(group, SHARES, 0) == first).all()
    assert (split_groups(group, SHARES, 1) != first).any()
    assert [(first == name).sum() for name in SHARES] == [700, 150, 150]
