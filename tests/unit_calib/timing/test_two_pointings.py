"""Offsets of two pointings: their difference tells what clocks of large offsets hide."""

import numpy as np
import pytest
from toy_stamps import toy_timing_array

from arraycal.calib.errors import CannotCompute
from arraycal.calib.stamps.front import C_M_PER_NS, direction
from arraycal.calib.timing.convention.plane_wave_test import (
    PointingOffsets,
    _compare,
    check_convention,
)

ARRAY = toy_timing_array()
N = len(ARRAY)
POSITIONS = np.asarray(ARRAY.positions_m)
ONE, OTHER = direction(np.array([50.0, 70.0]), np.array([40.0, 220.0]))
#: So large that no slope against a plane wave of 300 ns can be told.
CLOCKS_NS = 30_000.0 * np.random.default_rng(1).standard_normal(N)
ERROR_NS = 0.1


def solutions(difference):
    """Offsets of the same clocks from two pointings, the first larger by a difference."""
    error, noise = np.full(N, ERROR_NS), ERROR_NS * np.random.default_rng(2).standard_normal((2, N))
    return [
        PointingOffsets(ONE, CLOCKS_NS + difference + noise[0], error, 1000.0),
        PointingOffsets(OTHER, CLOCKS_NS + noise[1], error, 1000.0),
    ]


def tilt(gradient):
    """Delays of a plane tilted by a gradient along x."""
    return gradient * POSITIONS[:, 0] / C_M_PER_NS


@pytest.mark.parametrize("compensated", [False, True])
def test_the_same_offsets_from_two_pointings_confirm_the_convention(compensated):
    found = check_convention(solutions(0.0), ARRAY, compensated=compensated)
    assert found.unchecked == ""
    assert found.n_pointings == 2
    # The difference has errors of 0.1 ns sqrt(2); those of a plane through it are both gradients'.
    design = np.column_stack([POSITIONS[:, :2] / C_M_PER_NS, np.ones(N)])
    expected = np.sqrt(2 * ERROR_NS**2 * np.trace(np.linalg.inv(design.T @ design)[:2, :2]))
    # 10 degrees of freedom: their chi2 is within a factor 2 of them, and counts if above.
    assert np.radians(found.tilt_error_deg) == pytest.approx(expected, rel=0.5)
    assert np.radians(found.tilt_error_deg) >= expected * (1 - 1e-9)
    assert found.tilt_deg < 4 * found.tilt_error_deg


def test_one_pointing_tells_nothing_of_such_clocks():
    found = check_convention(solutions(0.0)[:1], ARRAY, compensated=False)
    assert "second pointing" in found.unchecked
    assert np.isnan(found.tilt_deg)


def test_a_difference_that_is_that_of_the_plane_waves_is_refused():
    # Taken as raw, compensated stamps lack n . r / c of each pointing, or have it twice.
    for sign in (-1, 1):
        wave = sign * POSITIONS @ (ONE - OTHER) / C_M_PER_NS
        with pytest.raises(CannotCompute, match=r"differences .* two pointings .* plane wave"):
            check_convention(solutions(wave), ARRAY, compensated=False)


def test_a_tilt_is_measured_and_refused_if_no_pointing_is_that_wrong():
    # 5 mrad are 0.29 deg, a pointing may be off by so much; 20 mrad are 1.15 deg.
    found = check_convention(solutions(tilt(0.005)), ARRAY, compensated=False)
    assert found.tilt_deg == pytest.approx(np.degrees(0.005), abs=4 * found.tilt_error_deg)
    with pytest.raises(CannotCompute, match=r"tilt by 1\.1[45] .* deg"):
        check_convention(solutions(tilt(0.02)), ARRAY, compensated=False)


@pytest.mark.parametrize(("errors", "refused"), [(4.8, False), (5.2, True), (8.0, True)])
def test_a_tilt_is_refused_from_five_errors_on(errors, refused):
    def compared(difference, error_ns):
        error = np.full(N, error_ns)
        return _compare(
            PointingOffsets(ONE, difference, error, 1000.0),
            PointingOffsets(OTHER, np.zeros(N), error, 1000.0),
            POSITIONS,
            "",
        )

    # Errors of a plane without scatter are those of the offsets.
    _, per_ns = compared(np.zeros(N), 1.0)
    error_ns = np.degrees(0.02) / errors / per_ns
    if refused:
        with pytest.raises(CannotCompute, match=r"tilt by 1\.15"):
            compared(tilt(0.02), error_ns)
    else:
        assert compared(tilt(0.02), error_ns) == pytest.approx(
            (np.degrees(0.02), np.degrees(0.02) / errors)
        )
