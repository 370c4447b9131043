"""The law of the resolution: a floor, and noise that falls with the light."""

from __future__ import annotations

import numpy as np
import pytest

from arraycal.calib.fit.noise import _positive, smooth_shape

VALUES = np.log(np.array([100.0, 200.0, 400.0, 800.0]))


def law(floor: float, counting: float) -> np.ndarray:
    return np.asarray(floor + counting * 100 / np.exp(VALUES))


def test_floor_and_counting_noise_are_found_and_carried_to_where_nothing_is_selected() -> None:
    variance, rows = np.array([law(0.5, 2.0)]), np.array([[0.0, 1e4, 1e4, 1e4]])
    # What bins without rows contain must not matter.
    variance[0, 0] = 1e-3
    found = smooth_shape(variance, rows, VALUES)
    np.testing.assert_allclose(found[0], law(0.5, 2.0), rtol=1e-6)


def test_each_distance_has_its_own_floor_with_enough_rows() -> None:
    variance = np.array([law(0.5, 2.0), law(1.5, 2.0)])
    found = smooth_shape(variance, np.full((2, 4), 1e5), VALUES)
    np.testing.assert_allclose(found, variance, rtol=0.02)


def test_a_distance_with_few_rows_is_like_the_others() -> None:
    variance = np.array([law(0.5, 2.0), law(0.0, 8.0)])
    rows = np.array([[1e5] * 4, [1.0] * 4])
    found = smooth_shape(variance, rows, VALUES)
    np.testing.assert_allclose(found[1], law(0.5, 2.0), rtol=0.2)


def test_no_part_is_negative() -> None:
    # Noise that grows with the light is no counting noise: the best law is a floor.
    found = smooth_shape(np.array([[1.0, 1.2, 1.4, 1.6]]), np.full((1, 4), 1e4), VALUES)
    np.testing.assert_allclose(found, found[0, 0], rtol=1e-6)
    assert 1.0 < found[0, 0] < 1.6


def test_without_any_row_everything_is_alike() -> None:
    found = smooth_shape(np.full((2, 4), 7.0), np.zeros((2, 4)), VALUES)
    assert found == pytest.approx(np.ones((2, 4)))


def test_it_does_not_run_away_far_below_what_is_recorded() -> None:
    faint = np.append(np.log(1e-3), VALUES)
    rows = np.array([[0.0, 1e4, 1e4, 1e4, 1e4]])
    variance = np.array([[0.0, *law(0.5, 2.0)]])
    found = smooth_shape(variance, rows, faint)
    # No more than REACH = 3 e-folds below the typical size of 283 p.e.
    assert found[0, 0] == pytest.approx(0.5 + 2.0 * 100 / 282.84 * np.exp(3.0), rel=1e-3)


def test_fifty_rows_count_as_much_for_a_floor_as_all_of_the_type() -> None:
    # A distance with 50 rows so bright that they tell of the floor alone, 2 % above that of a
    # hundred million others: half of it is believed.
    values = np.array([0.0, 20.0])
    variance, rows = np.array([[1.0, 1.0], [1.0, 1.02]]), np.array([[5e7, 5e7], [0.0, 50.0]])
    found = smooth_shape(variance, rows, values)
    assert found[1, 1] == pytest.approx(1.01, abs=2e-4)
    np.testing.assert_allclose(found[0], 1.0, rtol=1e-5)


@pytest.mark.parametrize(("share", "found"), [(1e-3, 1.0), (1.5e-9, 1.0), (0.5e-9, 0.5), (0, 0.0)])
def test_a_part_that_data_hardly_tell_is_pulled_to_zero_and_does_not_run_away(
    share: float, found: float
) -> None:
    # Both parts are 1; of the second the data tell that share of what they tell of the first.
    matrix = np.diag([1.0, share])
    np.testing.assert_allclose(_positive(matrix, np.diag(matrix)), [1.0, found], rtol=1e-6)
