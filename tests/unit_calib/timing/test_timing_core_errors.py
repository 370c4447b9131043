"""Errors of reconstructed cores in the equations of front and walk: the terms themselves."""

import numpy as np
import polars as pl
import pytest
from toy_stamps import TRUE_SCALE, TimingToy, toy_setup, toy_stamps, toy_timing_array

from arraycal.calib.stamps.front import arrival_ns, core_slopes, front
from arraycal.calib.timing.residuals import FrontModel, stamp_residuals
from arraycal.calib.timing.showers import prepare_stamps
from arraycal.calib.timing.sums import sums

ARRAY = toy_timing_array()
N = len(ARRAY)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_derivatives_by_the_core_are_those_of_the_front(axis):
    rng = np.random.default_rng(axis)
    position = rng.uniform(-300, 300, (20, 3)) * (1, 1, 0.05)
    core = rng.uniform(-300, 300, (20, 3)) * (1, 1, 0)
    towards = np.array([0.3, -0.2, np.sqrt(1 - 0.13)]) * np.ones((20, 1))
    radius = np.full(20, 9000.0)
    moved = np.zeros(3)
    moved[axis] = step = 0.5

    def at(shift):
        return np.stack(arrival_ns(front(position, core + shift, towards), radius, 0.3))

    relative = (position - core)[:, :2].T
    found = core_slopes(front(position, core, towards), relative, towards[:, :2].T, radius, 0.3)
    # Central differences: wrong by step^2 / (6 R^2) of themselves.
    expected = (at(moved) - at(-moved)) / (2 * step)
    assert np.stack([part[axis] for part in found]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def one_chunk(frame, core_error_m):
    """Sums with the true front and without walk, as if the cores had that error."""
    showers = prepare_stamps(frame, toy_setup(ARRAY, core_error_m=core_error_m))
    model = FrontModel(
        offset_ns=np.zeros((1, N)),
        log_scale=float(np.log(TRUE_SCALE)),
        walk_ns=np.zeros(2),
        sigma_ns=np.full(N, 2.0),
        clip=np.inf,
        columns=("curvature", "walk"),
    )
    chunk = np.zeros(len(showers), np.intp)
    return sums(showers, chunk, 1, stamp_residuals(showers, chunk, model), N)


def test_sums_with_errors_of_the_cores_are_those_of_the_true_cores():
    error, n_showers = 20.0, 6000
    toy = TimingToy(
        np.zeros(N), n_showers=n_showers, jitter_ns=(0.0, 0.0), walk_ns=0.0, core_error_m=0.0,
        direction_error_deg=0.0, h_max_error=0.0, outliers=0.0,
    )  # fmt: skip
    true = toy_stamps(toy, ARRAY, 3)
    rng = np.random.default_rng(4)
    shift = pl.DataFrame(
        {"event_id": np.arange(1, n_showers + 1)}
        | {axis: error * rng.standard_normal(n_showers) for axis in "xy"}
    )
    found = true.join(shift, on="event_id", maintain_order="left").with_columns(
        core_x_m=pl.col("core_x_m") + pl.col("x"), core_y_m=pl.col("core_y_m") + pl.col("y")
    )
    right, wrong, freed = one_chunk(true, None), one_chunk(found, None), one_chunk(found, error)
    square = right.matrix[0, N, N]
    # The errors add 6 %; 6000 showers know what is left to 2 sqrt(0.06 / 6000), 0.6 %.
    assert wrong.matrix[0, N, N] / square > 1.04
    assert freed.matrix[0, N, N] / square == pytest.approx(1.0, abs=0.02)
    # The step of ln(radius) that the gradient asks for, 0 at the true front.
    assert wrong.vector[0, N] / square > 0.04
    assert freed.vector[0, N] / square == pytest.approx(0.0, abs=0.015)
    # Nothing else changes.
    assert np.array_equal(freed.matrix[0, :N], wrong.matrix[0, :N])
    assert np.array_equal(freed.vector[0, :N], wrong.vector[0, :N])


def test_stated_errors_and_those_of_the_stamps_are_the_same():
    frame = toy_stamps(TimingToy(np.zeros(N), n_showers=50), ARRAY, 5)
    own = [pl.lit(15.0).alias(f"core_error_{axis}_m") for axis in "xy"]
    stated, stamped = one_chunk(frame, 15.0), one_chunk(frame.with_columns(own), None)
    assert np.array_equal(stated.matrix, stamped.matrix)
    assert np.array_equal(stated.meat, stamped.meat)
