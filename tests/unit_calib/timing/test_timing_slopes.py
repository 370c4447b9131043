"""Slopes against the plane wave of the pointing: what they refuse, exclude and leave open."""

import re

import numpy as np
import pytest
from toy_stamps import toy_timing_array

from arraycal.calib.errors import CannotCompute
from arraycal.calib.stamps.front import C_M_PER_NS, direction
from arraycal.calib.timing.convention.plane_wave_test import PointingOffsets, check_convention
from arraycal.calib.timing.convention.slopes import (
    PointingSlope,
    _least_deviations,
    fit_slope,
)

ARRAY = toy_timing_array()
N = len(ARRAY)
AIM = direction(np.array([50.0]), np.array([40.0]))[0]
WAVE = np.asarray(ARRAY.positions_m) @ AIM / C_M_PER_NS


def solution(offset):
    return [PointingOffsets(AIM, offset, np.full(N, 0.1), 1000.0)]


def clocks(seed, scatter_ns):
    """Offsets of which no part follows the wave or the types, with exactly that scatter."""
    kinds = [ARRAY.type_codes == kind for kind in np.unique(ARRAY.type_codes)]
    design = np.column_stack([WAVE, *kinds])
    drawn = np.random.default_rng(seed).standard_normal(N)
    rest = drawn - design @ np.linalg.lstsq(design, drawn, rcond=None)[0]
    return scatter_ns * rest / np.sqrt(np.sum(rest**2) / (N - 3))


def test_the_error_of_a_slope_is_the_scatter_of_the_clocks_over_the_spread_of_the_wave():
    found = fit_slope(WAVE + clocks(1, 20.0), WAVE, ARRAY.type_codes)
    within = WAVE.copy()
    for kind in np.unique(ARRAY.type_codes):
        within[ARRAY.type_codes == kind] -= WAVE[ARRAY.type_codes == kind].mean()
    # Least squares with a constant for each type: sigma / sqrt(sum of squares about the means).
    assert found.value == pytest.approx(1.0)
    assert found.error == pytest.approx(20.0 / np.sqrt(np.sum(within**2)))
    assert found.freedom == N - 3


@pytest.mark.parametrize("share", [1.0, -1.0, 0.8, 1.3])
def test_a_slope_that_is_uncertain_but_certainly_not_0_is_refused(share):
    # With 0.11 as error 0 is 7 errors away or more, 1 at most 3.
    per_ns = fit_slope(clocks(1, 1.0), WAVE, ARRAY.type_codes).error
    offset = share * WAVE + clocks(1, 0.11 / per_ns)
    with pytest.raises(CannotCompute, match=re.escape(f"slope of {share:+.3f} +- 0.110 over")):
        check_convention(solution(offset), ARRAY, compensated=False)


def test_what_is_said_of_an_open_convention_are_the_distances_from_0_and_from_1():
    per_ns = fit_slope(clocks(1, 1.0), WAVE, ARRAY.type_codes).error
    found = check_convention(
        solution(0.4 * WAVE + clocks(1, 0.2 / per_ns)), ARRAY, compensated=False
    )
    assert found.unchecked.startswith(
        "the offsets have a slope of +0.40 +- 0.20 against the plane wave of the pointing; +-1 "
        "(wrong) is 3.0 errors away, too few to exclude it, and 0 (right) is 2.0 errors away"
    )


@pytest.mark.parametrize("scatter_ns", [5.0, 50.0, 150.0, 400.0])
def test_clocks_that_follow_the_wave_by_chance_are_not_refused(scatter_ns):
    # 600 arrays in all, of clocks from far below to far above the 300 ns of the wave.
    rng = np.random.default_rng(3)
    for _ in range(150):
        check_convention(solution(scatter_ns * rng.standard_normal(N)), ARRAY, compensated=False)


def test_with_few_telescopes_an_error_is_small_by_chance_and_proves_less():
    # Of Student's distribution with 2 and 10 degrees of freedom 8 errors are a chance of
    # 1.5e-2 and 1.2e-5.
    assert PointingSlope(1.0, 0.125, 2).chance == pytest.approx(1.5e-2, rel=0.05)
    assert PointingSlope(1.0, 0.125, 10).chance == pytest.approx(1.2e-5, rel=0.05)
    assert not PointingSlope(1.0, 0.125, 2).is_wave
    assert PointingSlope(1.0, 0.125, 10).is_wave


def test_no_slope_refuses_and_excludes_nothing():
    assert not PointingSlope().is_wave
    assert not PointingSlope().excludes_wave


def test_clocks_far_off_the_line_are_left_out_and_counted():
    offset = WAVE + clocks(1, 1.0)
    offset[3] += 1e6
    found = fit_slope(offset, WAVE, ARRAY.type_codes)
    assert found.left_out == pytest.approx(1 / N)
    assert found.freedom == N - 4
    assert fit_slope(WAVE + clocks(1, 1.0), WAVE, ARRAY.type_codes).left_out == 0.0


def test_a_line_of_least_deviations_goes_through_most_points():
    x = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    values = 3.0 + 2.0 * x
    values[1] += 5000.0
    found = _least_deviations(np.column_stack([x, np.ones(5)]), values)
    np.testing.assert_allclose(found, [2.0, 3.0], atol=1e-9)
