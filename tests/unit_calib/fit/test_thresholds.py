"""Thresholds against the distance: between the bins, and beyond the last that has enough rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.model import Model
from arraycal.calib.fit.selection import type_threshold_at
from arraycal.calib.fit.showers import IMPACT_CENTRES_M, IMPACT_EDGES_M, prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import OWN_EDGES, TURN_ON_EDGES, empty_summary
from arraycal.calib.fit.thresholds import MIN_TURN_ON_ROWS, own_offsets, thresholds

SUBARRAY = toy_subarray(3)
START = Model.initial(SUBARRAY, variance=0.04, margin=2.5)
N_BINS = len(IMPACT_CENTRES_M)


def climbing(distance_m: np.ndarray) -> np.ndarray:
    """Flat in the light pool, then 0.01 in ln(value) per metre."""
    return -2.0 + 0.01 * np.maximum(distance_m - 150.0, 0.0)


def found(rows_by_bin: np.ndarray) -> np.ndarray:
    """Thresholds from histograms of showers that fall as exp(-1.7 ln E) above `climbing`."""
    turn_on = np.zeros((1, N_BINS, len(TURN_ON_EDGES) + 1))
    rng = np.random.default_rng(3)
    for index, (threshold, rows) in enumerate(
        zip(climbing(IMPACT_CENTRES_M), rows_by_bin, strict=True)
    ):
        y = rng.exponential(1 / 1.7, int(rows)) + threshold
        turn_on[0, index] = np.bincount(np.digitize(y, TURN_ON_EDGES), minlength=turn_on.shape[2])
    return np.asarray(
        thresholds(replace(empty_summary(START), turn_on=turn_on), SUBARRAY, "auto")[0]
    )


def test_sparse_bins_follow_the_trend_of_those_with_enough_rows() -> None:
    many = np.full(N_BINS, 20_000)
    reference = found(many)
    # The smoothing over five bins of 0.1 moves every edge alike, by less than its width.
    shift = np.median(reference - climbing(IMPACT_CENTRES_M))
    assert abs(shift) < 0.25
    far, gap = IMPACT_CENTRES_M > 400, (IMPACT_CENTRES_M > 200) & (IMPACT_CENTRES_M < 260)
    sparse = found(np.where(far | gap, MIN_TURN_ON_ROWS // 20, many))
    expected = climbing(IMPACT_CENTRES_M) + shift
    np.testing.assert_allclose(sparse[gap], expected[gap], atol=0.1)
    # In line from three bins that are known to 0.03 each over 80 m: 0.05 at 100 m, 0.25 at 450 m.
    np.testing.assert_allclose(sparse[far], expected[far], atol=0.3)


def test_bins_that_are_all_sparse_borrow_from_their_neighbours() -> None:
    result = found(np.full(N_BINS, MIN_TURN_ON_ROWS // 5))
    assert np.all(np.isfinite(result))
    # Five bins make one: what is found lies between their thresholds.
    assert result[0] == pytest.approx(-2.0, abs=0.3)


def test_empty_bins_borrow_from_both_sides() -> None:
    alone = np.zeros(N_BINS)
    alone[3] = 2 * MIN_TURN_ON_ROWS
    result = found(alone)
    assert np.isfinite(result[3])
    assert result.tolist() == [result[3]] * N_BINS


def test_thresholds_between_the_middles_of_bins_lie_in_between() -> None:
    pairs = toy_pairs(Toy([0.0] * 3, [0.2] * 3, 200, 3), 1)
    showers = prepare_pairs(pairs, SUBARRAY)
    # Within the middles of the first and the last bin; one row without a distance.
    impact = np.linspace(IMPACT_CENTRES_M[0], IMPACT_CENTRES_M[-1], len(showers.y))
    impact[7] = np.nan
    showers = replace(showers, impact_m=impact, impact_bin=np.digitize(impact, IMPACT_EDGES_M))
    linear = 0.01 * IMPACT_CENTRES_M
    used = replace(START, threshold=linear[None, :])
    expected = np.where(np.isnan(impact), linear[-1], 0.01 * impact)
    np.testing.assert_allclose(type_threshold_at(showers, used), expected, rtol=1e-12)
    assert np.all(np.isneginf(type_threshold_at(showers, START)))


def test_the_steep_side_of_a_bin_is_cut_at_its_own_threshold() -> None:
    # Two telescopes of one shower in a bin, 260 to 300 m, whose threshold climbs by 0.4 in it:
    # the same expected value clears it at 262 m and does not at 298 m.
    pairs = toy_pairs(Toy([0.0] * 3, [1e-3] * 3, 1, 2), 1)
    showers = prepare_pairs(pairs, SUBARRAY)
    linear = 0.01 * (IMPACT_CENTRES_M - 280.0)
    start = Model.initial(SUBARRAY, variance=1e-6, margin=2.5)
    used = replace(start, threshold=linear[None, :])
    kept = []
    for impact in (262.0, 298.0):
        at = np.full(2, impact)
        moved = replace(
            showers, y=np.zeros(2), impact_m=at, impact_bin=np.digitize(at, IMPACT_EDGES_M)
        )
        kept.append(summarise(moved, used).n_rows)
    assert kept == [2, 0]


def test_a_telescope_with_a_threshold_of_its_own_is_told_from_its_type() -> None:
    # 3,000 showers that fall as exp(-1.7 ln E) above each telescope's threshold.
    rng = np.random.default_rng(5)
    own = np.array([0.0, 0.25, -0.15])
    histograms = np.stack(
        [
            np.bincount(
                np.digitize(rng.exponential(1 / 1.7, 3000) + edge, OWN_EDGES),
                minlength=len(OWN_EDGES) + 1,
            )
            for edge in own
        ]
    ).astype(float)
    summary = replace(empty_summary(START), turn_on_own=histograms)
    offsets = own_offsets(summary, SUBARRAY, START.now)
    # The type's edge is that of the mixture; a peak of 250 rows puts an edge within 0.05.
    np.testing.assert_allclose(offsets - offsets[0], own, atol=0.1)
    histograms[2] *= 100 / histograms[2].sum()
    fewer = replace(summary, turn_on_own=histograms)
    assert own_offsets(fewer, SUBARRAY, START.now)[2] == 0.0


@pytest.mark.parametrize("what", ["a factor of ten", "five times as noisy"])
def test_an_edge_that_is_no_threshold_moves_none(what: str) -> None:
    edges = np.array([0.0, 0.0, math.log(10) if what == "a factor of ten" else 0.3])
    histograms = np.stack(
        [
            np.bincount(np.digitize([edge], OWN_EDGES), minlength=len(OWN_EDGES) + 1)
            for edge in edges
        ]
    )
    now = START.now
    if what == "five times as noisy":
        now = replace(now, variance=now.variance * np.array([1.0, 1.0, 5.0]))
    summary = replace(empty_summary(START), turn_on_own=histograms.astype(np.float64) * 1000)
    assert own_offsets(summary, SUBARRAY, now)[2] == 0.0


def test_a_threshold_of_its_own_is_kept_clear_of() -> None:
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 3, [1e-3] * 3, 1, 3), 1), SUBARRAY)
    showers = replace(showers, y=np.zeros(len(showers.y)))
    offset = np.array([0.0, 0.0, 0.5])
    used = replace(START, threshold=np.full_like(START.threshold, -0.8))
    # 0 clears -0.8 by 4 sigma of 0.2, and -0.3 by 1.5 where 2.5 are asked.
    assert summarise(showers, used).n_rows == 3
    assert summarise(showers, replace(used, threshold_offset=offset)).n_rows == 2


def test_two_bins_with_enough_rows_make_a_trend() -> None:
    near, far = np.searchsorted(IMPACT_CENTRES_M, [100.0, 400.0])
    rows = np.zeros(N_BINS)
    rows[[near, far]] = 20_000
    result = found(rows)
    between = slice(near, far + 1)
    line = np.interp(IMPACT_CENTRES_M[between], IMPACT_CENTRES_M[[near, far]], result[[near, far]])
    np.testing.assert_allclose(result[between], line)
    # The threshold climbs from 150 m on.
    rise = climbing(IMPACT_CENTRES_M[far]) - climbing(IMPACT_CENTRES_M[near])
    assert result[far] - result[near] == pytest.approx(rise, abs=0.1)
    np.testing.assert_allclose(result[:near], result[near])
    assert (np.diff(result[far:]) > 0).all()
