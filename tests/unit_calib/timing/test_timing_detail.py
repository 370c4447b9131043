"""The last pass, on a few stamps by hand: profiles, pairs, and halves of the showers."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.fit.sums.summary import RESIDUAL_EDGES
from arraycal.calib.timing.detail import (
    DISTANCE_EDGES_M,
    SIZE_EDGES,
    Profile,
    _add_pairs,
    _add_profiles,
    systematic_ns,
)
from arraycal.calib.timing.sums import empty_sums


def test_a_residual_is_counted_in_units_of_what_its_shower_leaves_of_its_noise():
    result: Any = SimpleNamespace(
        histogram=np.zeros((1, len(RESIDUAL_EDGES) - 1)),
        distance=Profile.empty(1, len(DISTANCE_EDGES_M) - 1),
        walk=Profile.empty(1, len(SIZE_EDGES) - 1),
        brightness=Profile.empty(1, len(SIZE_EDGES) - 1),
    )
    showers: Any = SimpleNamespace(
        kind=np.zeros(1, np.intp),
        place=SimpleNamespace(distance_m=np.array([30.0])),
        brightness=np.array([0.5]),
    )
    # sigma 2 ns; three quarters of the weight of its shower: sqrt(4 (1 - 3/4)) = 1 ns is left.
    found: Any = SimpleNamespace(
        weight=np.array([0.25]), share=np.array([0.75]), value=np.array([2.1])
    )
    _add_profiles(result, showers, found, SimpleNamespace(walk_ns=np.array([4.0])))  # type: ignore[arg-type]
    (place,) = np.flatnonzero(result.histogram[0])
    assert RESIDUAL_EDGES[place] < 2.1 < RESIDUAL_EDGES[place + 1]
    assert result.distance.total[0, 1] == pytest.approx(2.1)  # 20 to 40 m
    # With the walk put back: 2.1 + 4 x 0.5.
    assert result.walk.total.sum() == pytest.approx(4.1)


def test_differences_of_two_telescopes_have_a_sign_and_their_squares_none():
    result: Any = SimpleNamespace(
        pair_sum=np.zeros((2, 2)), pair_square=np.zeros((2, 2)), common=np.zeros((1, 2, 2))
    )
    # Stamps of telescope 1 come before those of telescope 0 in the first shower.
    showers: Any = SimpleNamespace(
        start=np.array([0, 2, 4]),
        shower=np.array([0, 0, 1, 1]),
        telescope=np.array([1, 0, 0, 1]),
        spread=lambda values: np.repeat(values, 2),
    )
    found: Any = SimpleNamespace(weight=np.ones(4), value=np.array([3.0, 1.0, 1.0, 6.0]))
    _add_pairs(result, showers, np.zeros(2, np.intp), 0, found)
    # Telescope 1 less telescope 0: 2 and 5.
    np.testing.assert_allclose(result.pair_sum, [[0.0, -7.0], [7.0, 0.0]])
    np.testing.assert_allclose(result.pair_square, [[0.0, 29.0], [29.0, 0.0]])
    np.testing.assert_array_equal(result.common[0], [[2.0, 2.0], [2.0, 2.0]])


def test_the_systematic_error_is_half_of_what_halves_differ_by_beyond_their_errors():
    # All showers are in the lower halves or in the upper ones: the splits are one.
    halves = empty_sums(8, 2, 0)
    contrast = np.array([[1.0, -1.0], [-1.0, 1.0]])
    for code, difference in ((0, 1.0), (7, -0.6)):
        halves.matrix[code] = 2.0 * contrast
        halves.vector[code] = 2.0 * difference * contrast[0]
        halves.meat[code] = 0.8 * contrast
        halves.n_rows[code] = halves.n_showers[code] = 101.0
    found = systematic_ns(halves, np.eye(2) - 0.5, 50.0)
    # Halves have +-0.5 and -+0.3: half of their difference is 0.4. The variance of either is
    # 0.8 / (2^2 x 4) x 101 / 100 = 0.0505, and a quarter of both together half of that.
    np.testing.assert_allclose(found, np.sqrt(0.16 - 0.02525))
    assert np.isnan(systematic_ns(halves, np.eye(2) - 0.5, 102.0)).all()
