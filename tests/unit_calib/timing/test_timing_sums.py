"""Sums over pairs of stamps and groups of telescopes, beside slow and obvious versions."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib.timing import solve
from arraycal.calib.timing.sums import pair_products, pairs


class FakeShowers(SimpleNamespace):
    """What the sums need of showers."""

    def spread(self, values):
        return np.repeat(values, np.diff(self.start))


def showers_of(counts, n_telescopes, rng):
    telescope = [rng.permutation(n_telescopes)[:count] for count in counts]
    start = np.append(0, np.cumsum(counts)).astype(np.intp)
    shower = np.repeat(np.arange(len(counts)), counts)
    return FakeShowers(start=start, shower=shower, telescope=np.concatenate(telescope))


multiplicities = st.lists(st.integers(1, 7), min_size=1, max_size=12)


@given(multiplicities)
def test_every_two_stamps_of_a_shower_are_a_pair_once(counts):
    showers = showers_of(counts, 7, np.random.default_rng(1))
    found = [
        (one, two)
        for first, second in pairs(showers)
        for one, two in zip(first.tolist(), second.tolist(), strict=True)
    ]
    expected = [
        (one, two)
        for low, high in zip(showers.start[:-1], showers.start[1:], strict=True)
        for one in range(low, high)
        for two in range(one + 1, high)
    ]
    assert sorted(found) == expected


@given(multiplicities, st.integers(0, 1000))
def test_products_of_pairs_are_those_of_all_stamps_of_a_shower(counts, seed):
    rng = np.random.default_rng(seed)
    showers, n, n_groups = showers_of(counts, 7, rng), 7, 3
    group = rng.integers(n_groups, size=len(counts))
    value = rng.standard_normal(len(showers.telescope))
    link = showers.spread(group * n) + showers.telescope
    found = pair_products(showers, link, (n_groups, n), [(value, value), (value, 2.0 * value)])
    expected = np.zeros((n_groups, n, n))
    for number, of in enumerate(group):
        rows = slice(showers.start[number], showers.start[number + 1])
        own = np.zeros(n)
        own[showers.telescope[rows]] = value[rows]
        expected[of] += np.outer(own, own)
    assert found[0] == pytest.approx(expected, abs=1e-12)
    assert found[1] == pytest.approx(2.0 * expected, abs=1e-12)


def linked(n, *chains):
    block = np.zeros((n, n))
    for chain in chains:
        for one, two in itertools.pairwise(chain):
            block[one, two] = block[two, one] = -1.0
    return block


def test_the_largest_group_of_a_chunk_counts_and_of_equal_ones_the_first():
    chunks = [
        linked(6, (0, 1), (5, 4, 3, 2)),
        linked(6, (4, 5), (1, 2)),
        linked(6),
        linked(6, (0, 2, 4, 1, 3, 5)),
    ]
    present = solve._present(np.array(chunks))
    assert [np.flatnonzero(row).tolist() for row in present] == [
        [2, 3, 4, 5],
        [1, 2],
        [],
        [0, 1, 2, 3, 4, 5],
    ]
