import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from arraycal.calib.checks.changepoint import excess_scatter, find_step, find_steps, scan_p_value


def series(rng, n, step=0.0, at=0, slope=0.0):
    """Values, errors and times of n unequal measurements at unequal times."""
    errors = rng.uniform(0.005, 0.02, n)
    times = np.cumsum(rng.integers(1, 4, n)).astype(float)
    truth = step * (np.arange(n) >= at) + slope * times
    return truth + errors * rng.standard_normal(n), errors, times


def best_step(values, errors, times=None):
    step = find_step(values, errors, times=times)
    assert step is not None
    return step


def slow_scan(values, errors, times=None):
    """Drop of chi-square, step size and its error at every place, by plain least squares."""
    columns = [np.ones(len(values))] + ([] if times is None else [times - times.mean()])
    weight = 1 / errors[:, None]

    def least_squares(*extra):
        design = np.stack([*columns, *extra], axis=1) * weight
        solution = np.linalg.lstsq(design, values / errors, rcond=None)[0]
        chi2 = np.sum((values / errors - design @ solution) ** 2)
        return chi2, solution[-1], np.sqrt(np.linalg.inv(design.T @ design)[-1, -1])

    null = least_squares()[0]
    result = []
    for place in range(1, len(values)):
        chi2, size, error = least_squares((np.arange(len(values)) >= place).astype(float))
        result.append((null - chi2, size, error))
    return np.array(result)


@given(st.integers(4, 25), st.integers(0, 2**31), st.booleans())
def test_the_best_place_is_that_of_plain_least_squares(n, seed, with_line):
    values, errors, times = series(np.random.default_rng(seed), n, step=0.03, at=n // 2)
    times = times if with_line else None
    # At the first and the last place of a line, a point is fitted by itself: still least squares.
    expected = slow_scan(values, errors, times)
    step = best_step(values, errors, times=times)
    assert expected[step.index - 1, 0] == pytest.approx(expected[:, 0].max(), rel=1e-7)
    assert step.size == pytest.approx(expected[step.index - 1, 1], rel=1e-6)
    assert step.error == pytest.approx(expected[step.index - 1, 2], rel=1e-6)
    near = np.flatnonzero(expected[:, 0] > expected[:, 0].max() - 3.84) + 1
    assert (step.first, step.last) == (near.min(), near.max())


def test_one_place_has_the_p_value_of_a_single_gaussian():
    # Two points with errors of 0.6 and 0.8: the difference has an error of 1.
    step = best_step(np.array([0.0, 2.5]), np.array([0.6, 0.8]))
    assert (step.index, step.size, step.error) == (1, pytest.approx(2.5), pytest.approx(1.0))
    assert step.p_value == pytest.approx(2 * norm.sf(2.5), rel=1e-9)


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("z", [0.5, 2.0, 4.0, 6.0])
def test_the_p_value_of_two_places_is_that_of_the_bivariate_gaussian(z, rho):
    covariance = np.array([[1, rho], [rho, 1]])
    limit = np.full(2, z)
    inside = multivariate_normal.cdf(limit, np.zeros(2), covariance, lower_limit=-limit)
    assert scan_p_value(z, np.array([rho])) == pytest.approx(1 - inside, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize("with_line", [False, True])
def test_false_alarms_are_no_more_frequent_than_promised(with_line):
    rng = np.random.default_rng(5)
    n_series, alpha = 3000, 0.05
    alarms = 0
    for _ in range(n_series):
        values, errors, times = series(rng, 20, slope=0.01 if with_line else 0.0)
        alarms += best_step(values, errors, times=times if with_line else None).p_value <= alpha
    expected, spread = alpha * n_series, np.sqrt(alpha * n_series)
    # The bound is an upper one, and would be of no use if it were far off.
    assert 0.6 * expected - 3 * spread < alarms < expected + 3 * spread


def test_the_size_of_a_step_is_unbiased_and_its_error_right():
    rng = np.random.default_rng(6)
    pulls, places = [], []
    for _ in range(400):
        values, errors, _ = series(rng, 30, step=0.08, at=12)
        (step,) = find_steps(values, errors)
        pulls.append((step.size - 0.08) / step.error)
        places.append(step.first <= 12 <= step.last)
    # 400 pulls: mean within 1/20, width within 1/28; three times that.
    assert abs(np.mean(pulls)) < 3 / 20
    assert abs(np.std(pulls) - 1) < 3 / 28
    assert np.mean(places) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


def test_several_steps_are_all_found_where_they_are():
    rng = np.random.default_rng(7)
    values, errors, _ = series(rng, 60)
    values += np.repeat([0.0, 0.1, 0.1, -0.05], 15) + 0.2 * (np.arange(60) >= 50)
    steps = find_steps(values, errors)
    assert [step.index for step in steps] == [15, 45, 50]
    for step, truth in zip(steps, (0.1, -0.15, 0.2), strict=True):
        assert abs(step.size - truth) < 4 * step.error


def test_a_straight_line_is_no_step_when_times_are_given():
    rng = np.random.default_rng(8)
    values, errors, times = series(rng, 40, slope=0.01)
    assert find_steps(values, errors)
    assert find_steps(values, errors, times=times) == ()
    values += 0.1 * (np.arange(40) >= 25)
    (step,) = find_steps(values, errors, times=times)
    assert step.first <= 25 <= step.last
    assert abs(step.size - 0.1) < 4 * step.error


@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-5, 5))
def test_units_and_origin_do_not_matter(seed, scale, shift):
    values, errors, _ = series(np.random.default_rng(seed), 12, step=0.03, at=5)
    one = best_step(values, errors)
    two = best_step(scale * values + shift, scale * errors)
    assert two.size == pytest.approx(scale * one.size, rel=1e-6)
    assert two.p_value == pytest.approx(one.p_value, rel=1e-6)


def test_points_without_a_measurement_do_not_count_but_keep_their_place():
    rng = np.random.default_rng(9)
    values, errors, _ = series(rng, 20, step=0.2, at=11)
    plain = best_step(values, errors)
    gaps = [3, 9, 14]
    wide, wide_errors = np.insert(values, gaps, [np.nan, 0.5, 0.5]), np.insert(errors, gaps, 0.0)
    wide_errors[gaps[1] + 1] = np.nan
    step = best_step(wide, wide_errors)
    assert (plain.index, step.index) == (11, 13)
    assert step.size == pytest.approx(plain.size, rel=1e-12)
    assert step.p_value == pytest.approx(plain.p_value, rel=1e-12)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_points_tell_nothing(n):
    assert find_step(np.zeros(n), np.ones(n)) is None
    assert find_steps(np.zeros(n), np.ones(n)) == ()


def test_three_points_on_a_line_do_not_tell_where_a_step_is():
    assert find_step(np.array([0.0, 1, 5]), np.ones(3), times=np.arange(3.0)) is None


def test_excess_scatter_is_found_whatever_steps_and_drifts_there_are():
    rng = np.random.default_rng(10)
    found = []
    for _ in range(100):
        errors = rng.uniform(0.005, 0.015, (20, 10))
        values = np.hypot(errors, 0.02) * rng.standard_normal(errors.shape)
        values[8:, 2] += 0.3
        values[:, 3] += 0.002 * np.arange(20)
        values[4, 5] = np.nan
        found.append(excess_scatter(values, errors))
    # 188 differences, the median of whose squares is known to 13 %: 8 % of tau for one, 1 % here;
    # neighbours share a point, which makes it a little more.
    assert np.mean(found) == pytest.approx(0.02, rel=0.04)


def test_errors_that_suffice_get_nothing_added():
    rng = np.random.default_rng(11)
    errors = np.full((30, 10), 0.01)
    assert excess_scatter(0.8 * errors * rng.standard_normal(errors.shape), errors) == 0.0
    assert excess_scatter(np.zeros((1, 3)), np.ones((1, 3))) == 0.0
    assert excess_scatter(np.zeros(5), np.zeros(5)) == 0.0
