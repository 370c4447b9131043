"""The sample that teaches the model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.showers import Showers, prepare_pairs, shower_order, together
from arraycal.calib.fit.sketch import PER_TELESCOPE, PER_TYPE, quotas, sketch

SUBARRAY = toy_subarray(5)
QUOTA = np.full(5, 100)


def windows(n: int, seed: int = 1) -> list[Showers]:
    toy = Toy([0.0] * 5, [0.2] * 5, n, 3)
    pairs = toy_pairs(toy, seed)
    edges = np.arange(0, n + 250, 250)
    parts = [
        pairs.filter(pl.col("event_id").is_between(int(a), int(b), closed="left"))
        for a, b in pairwise(edges)
    ]
    return [prepare_pairs(part, SUBARRAY) for part in parts if len(part)]


def test_few_showers_are_all_taken_as_they_are():
    some = windows(250)
    found = sketch(some, np.full(5, 1_000))
    assert found.is_all
    assert all(one is two for one, two in zip(found.showers, some, strict=True))


def test_every_telescope_has_its_quota_and_few_more():
    found = sketch(windows(5_000), QUOTA)
    assert not found.is_all
    (showers,) = found.showers
    n_events = np.bincount(showers.node)
    assert (n_events >= 100).all()
    # Three telescopes a shower, so at most three times as many.
    assert (n_events <= 300).all()


def test_a_rare_telescope_keeps_all_its_showers():
    pairs = toy_pairs(Toy([0.0] * 5, [0.2] * 5, 5_000, 3), 1)
    rare = (pl.col("tel_id_1") == 5) | (pl.col("tel_id_2") == 5)
    pairs = pairs.filter(~rare | (pl.col("event_id") % 50 == 0))
    whole = prepare_pairs(pairs, SUBARRAY)
    (showers,) = sketch([whole], QUOTA).showers
    assert 30 < (whole.node == 4).sum() < 100
    assert (showers.node == 4).sum() == (whole.node == 4).sum()


def test_the_sample_depends_on_neither_order_nor_cuts():
    some = windows(5_000)
    one = sketch(some, QUOTA).showers[0]
    two = sketch(some[::-1], QUOTA).showers[0]
    three = sketch([together(some)], QUOTA).showers[0]
    for other in (two, three):
        np.testing.assert_array_equal(np.sort(one.order), np.sort(other.order))
    # Samples of parts hold the sample of the whole.
    halves = [sketch(part, QUOTA).showers[0] for part in (some[:9], some[9:])]
    np.testing.assert_array_equal(
        np.sort(sketch(halves, QUOTA).showers[0].order), np.sort(one.order)
    )


def test_showers_put_together_are_those_of_the_parts():
    pairs = toy_pairs(Toy([0.0] * 5, [0.2] * 5, 400, 3), 1)
    low = pl.col("event_id") < 150
    parts = [
        prepare_pairs(pairs.filter(low), SUBARRAY),
        prepare_pairs(pairs.filter(~low), SUBARRAY),
    ]
    found, expected = together(parts), prepare_pairs(pairs, SUBARRAY)
    for name in (
        "node",
        "kind",
        "y",
        "impact_bin",
        "group",
        "group_start",
        "shower_start",
        "order",
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    pairs_of = [
        sorted(zip(s.first.tolist(), s.second.tolist(), strict=True)) for s in (found, expected)
    ]
    assert pairs_of[0] == pairs_of[1]


def test_numbers_of_showers_are_spread_evenly_and_never_change():
    ids = np.arange(100_000, dtype=np.int64)
    number = shower_order(np.full_like(ids, 1001), ids)
    assert len(np.unique(number)) == len(ids)
    counts = np.histogram(number.astype(float), bins=100, range=(0.0, 2.0**64))[0]
    assert np.abs(counts - 1_000).max() < 5 * np.sqrt(1_000)
    # SplitMix64 of 0, then of what is left with 0 added: reference numbers of its authors' code.
    assert shower_order(np.array([0]), np.array([0])).tolist() == [reference(0, 0)]
    assert shower_order(np.array([1001]), np.array([-1])).tolist() == [reference(1001, 2**64 - 1)]


def reference(*ids: int) -> int:
    """The same in plain integers."""
    mixed = 0
    for number in ids:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) % 2**64
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        mixed ^= mixed >> 31
    return mixed


@pytest.mark.parametrize(("n", "expected"), [(4, PER_TYPE // 4), (55, PER_TELESCOPE)])
def test_a_type_of_few_telescopes_has_more_of_each(n, expected):
    assert quotas(toy_subarray(n)).tolist() == [expected] * n
