"""Stamps that come from no clock, and clocks that leap: who gets a number, and who is spared."""

import re

import numpy as np
import polars as pl
import pytest
from toy_stamps import TimingToy, toy_setup, toy_stamps, toy_timing_array

from arraycal.calib.errors import CannotCompute
from arraycal.calib.stamps.front import C_M_PER_NS, direction
from arraycal.calib.timing.answer import answer
from arraycal.calib.timing.showers import prepare_stamps
from arraycal.config.models import CalculateTimingCalibrationOptions

ARRAY = toy_timing_array()
N = len(ARRAY)
START_S = 1_700_000_000
SECOND = 4_000_000_000
TRUTH = 5.0 * np.random.default_rng(7).standard_normal(N)
#: The telescope that is damaged, and its place.
BAD, PLACE = 5, 4


def solve(frame, *, compensated=False, **options):
    windows = [prepare_stamps(frame, toy_setup(ARRAY, compensated=compensated))]
    return answer(
        lambda: windows,
        ARRAY,
        CalculateTimingCalibrationOptions(**options),
        compensated=compensated,
    )


def stamps(seed=8, **changes):
    return toy_stamps(TimingToy(TRUTH, n_showers=1500, duration_s=800.0, **changes), ARRAY, seed)


def noisy(frame, width_ns, part=1.0, tel_id=BAD, seed=3):
    """Add times between 0 and a width to a part of the stamps of a telescope, or of all."""
    rng = np.random.default_rng(seed)
    late = (4 * width_ns * rng.random(len(frame))).astype(np.int64)
    chosen = rng.random(len(frame)) < part
    if tel_id is not None:
        chosen &= frame["tel_id"].to_numpy() == tel_id
    return frame.with_columns(delay_quarters=pl.col("delay_quarters") + pl.Series(late * chosen))


def errors_of_others(found):
    others = np.delete(np.arange(N), PLACE)
    value = found.offset_ns[found.nodes.newest[others]]
    return value - TRUTH[others] + TRUTH[others].mean()


# A uniform distribution of 200 ns has an rms of 58 ns.
@pytest.mark.parametrize("width_ns", [200.0, 10_000.0, 1e9])
def test_stamps_of_one_telescope_that_come_from_no_clock_cost_no_other_its_precision(width_ns):
    found = solve(noisy(stamps(), width_ns))
    newest = found.nodes.newest
    assert np.isnan(found.offset_ns[newest[PLACE]])
    error = np.sqrt(np.diag(found.covariance))[np.delete(newest, PLACE)]
    # 1500 showers of 5 in 13 telescopes, 1.5 ns a stamp: below 0.1 ns.
    assert np.all(error < 0.15)
    assert np.std(errors_of_others(found)) < 0.15
    assert np.abs(errors_of_others(found)).max() < 0.5


def test_half_of_the_stamps_of_a_telescope_are_enough_where_the_others_are_no_times():
    found = solve(noisy(stamps(), 1e9, part=0.4))
    newest = found.nodes.newest
    assert np.isfinite(found.offset_ns[newest]).all()
    rest = found.offset_ns[newest] - TRUTH + TRUTH.mean()
    assert np.abs(rest).max() < 0.5


@pytest.mark.parametrize("width_ns", [200.0, 10_000.0, 1e9])
def test_stamps_that_come_from_no_clocks_give_no_number(width_ns):
    found = solve(noisy(stamps(), width_ns, tel_id=None))
    assert not np.isfinite(found.offset_ns).any()


def test_an_offset_with_a_large_error_is_not_given_and_does_not_blur_the_zero():
    # 60 showers at 15 ns are an error of 2 ns; the limit is put below.
    few = stamps().filter((pl.col("tel_id") != BAD) | (pl.col("event_id") < 200))
    found = solve(noisy(few, 50.0), max_error=1.0)
    newest = found.nodes.newest
    assert list(found.vague) == [newest[PLACE]]
    assert found.vague[newest[PLACE]] > 1.0
    assert np.isnan(found.offset_ns[newest[PLACE]])
    assert np.isfinite(found.offset_ns[np.delete(newest, PLACE)]).all()
    assert np.nanmax(np.diag(found.covariance)) < 0.15**2


def test_a_telescope_compared_with_itself_is_no_measurement():
    # Only two are left with enough showers, one of them noisy.
    frame = stamps().filter(pl.col("tel_id").is_in([1, 2, BAD]))
    frame = frame.filter(pl.len().over("event_id") >= 3)
    found = solve(noisy(noisy(frame, 1e6), 1e6, tel_id=2), min_events=2, min_common_events=2)
    assert not np.isfinite(found.offset_ns).any()
    assert not found.anchored


def leaping(frame):
    late = (pl.col("tel_id") == BAD) & (pl.col("shower_s") >= START_S + 400)
    return frame.with_columns(delay_quarters=pl.col("delay_quarters") + SECOND * late)


def test_a_clock_that_leaps_does_not_hide_the_plane_wave():
    with pytest.raises(CannotCompute, match=r"slope of [+-](1\.0|0\.9)\d+ \+- 0\.0"):
        solve(leaping(stamps(compensated=True)))


def test_a_clock_that_leaps_is_no_reason_to_doubt_the_right_convention():
    found = solve(leaping(stamps()))
    assert not found.checks.unchecked
    assert abs(found.checks.slope) < 5 * found.checks.slope_error < 0.2


@pytest.mark.parametrize("compensated", [True, False])
def test_a_stray_telescope_does_not_cost_the_test_of_the_convention(compensated):
    # Two telescopes have stamps in a few showers of their own, tied to no other telescope.
    frame = stamps(compensated=compensated)
    stray = frame["tel_id"].is_in([1, 2]).to_numpy()
    own = frame["event_id"].to_numpy() % 100 == 0
    cut = frame.filter(pl.Series(stray == own)).filter(pl.len().over("event_id") >= 2)
    found = solve(cut, compensated=compensated)
    assert found.checks.n_tested == N - 2
    assert not found.checks.unchecked
    with pytest.raises(CannotCompute, match=r"slope of [+-](1\.0|0\.9)"):
        solve(cut, compensated=not compensated)


def mixed(frames):
    """Blocks after each other."""
    frame = pl.concat(frames)
    windows = [prepare_stamps(frame, toy_setup(ARRAY))]
    return answer(lambda: windows, ARRAY, CalculateTimingCalibrationOptions(), compensated=False)


def test_one_block_in_the_other_convention_is_named():
    frames = [
        toy_stamps(
            TimingToy(TRUTH, compensated=number == 2), ARRAY, number, obs_id=number,
            start_s=START_S + 1000 * number,
        )
        for number in (1, 2, 3)
    ]  # fmt: skip
    with pytest.raises(CannotCompute, match=r"offsets of block 2 follow .*slope of \+(1\.0|0\.9)"):
        mixed(frames)


def test_stamps_freed_of_a_part_of_the_plane_wave_are_refused():
    half = stamps()
    wave = np.asarray(ARRAY.positions_m) @ direction(np.array(70.0), np.array(40.0)) / C_M_PER_NS
    late = pl.col("tel_id").replace_strict(dict(zip(ARRAY.tel_ids, 2 * wave, strict=True)))
    moved = half.with_columns(delay_quarters=pl.col("delay_quarters") + late.round().cast(pl.Int64))
    with pytest.raises(CannotCompute, match=r"a part of the plane wave .*slope of \+0\.[45]"):
        solve(moved)


def with_offsets(offset_ns):
    return toy_stamps(TimingToy(offset_ns, n_showers=1500, duration_s=800.0), ARRAY, 8)


def test_clocks_that_hide_the_plane_wave_give_numbers_only_if_the_convention_is_stated():
    scattered = with_offsets(100 * TRUTH)
    unstated = solve(scattered)
    (reason,) = unstated.contradictions
    assert "errors away" in reason
    assert "set CalculateTimingCalibration.time_convention" in reason
    assert not np.isfinite(unstated.offset_ns).any()
    stated = solve(scattered, time_convention="raw")
    assert stated.checks.unchecked
    assert not stated.contradictions
    assert np.isfinite(stated.offset_ns).all()


def jumping(frame, tel_ids):
    late = pl.col("tel_id").is_in(tel_ids) & (pl.col("shower_s") >= START_S + 400)
    size = 40 * (pl.col("tel_id") % 5 + 1) * (1 - 2 * (pl.col("tel_id") % 2))
    return frame.with_columns(delay_quarters=pl.col("delay_quarters") + size * late)


def test_jumps_of_most_clocks_are_believed_of_none():
    (reason,) = solve(jumping(stamps(), range(1, 10))).contradictions
    assert re.match(r"\d+ of 13 clocks jump or drift", reason)
    # A third of them: resynchronised, for instance.
    found = solve(jumping(stamps(), range(1, 5)))
    assert not found.contradictions
    assert sorted(ARRAY.tel_ids[tel] for tel in found.jumps) == [1, 2, 3, 4]


@pytest.mark.parametrize("compensated", [True, False])
def test_a_dead_clock_costs_itself_and_not_the_test_of_the_convention(compensated):
    frame = stamps(compensated=compensated)
    own = pl.col("tel_id") == BAD
    # It stands still: every stamp is the same, seconds from the showers.
    still = -(pl.col("shower_s") - START_S) * SECOND - pl.col("shower_quarters")
    random = pl.Series(np.random.default_rng(9).integers(0, SECOND, len(frame)))
    for stamp in (still, random):
        dead = frame.with_columns(
            delay_quarters=pl.when(own).then(stamp).otherwise("delay_quarters")
        )
        found = solve(dead, compensated=compensated)
        assert not found.checks.unchecked
        newest = found.nodes.newest
        assert np.isnan(found.offset_ns[newest[PLACE]])
        assert np.std(errors_of_others(found)) < 0.15
        assert not set(found.jumps) - {PLACE}
        with pytest.raises(CannotCompute, match=r"slope of [+-](1\.0|0\.9)"):
            solve(dead, compensated=not compensated)
