"""Clock offsets: injected truth against what comes out, jumps and contradictions."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from toy_stamps import TRUE_SCALE, TimingToy, toy_setup, toy_stamps, toy_timing_array

from arraycal.calib.errors import CannotCompute
from arraycal.calib.timing.answer import answer
from arraycal.calib.timing.shapes import CURVATURE_BIAS
from arraycal.calib.timing.showers import prepare_stamps
from arraycal.config.models import CalculateTimingCalibrationOptions

ARRAY = toy_timing_array()
N = len(ARRAY)
START_S = 1_700_000_000
POINTINGS = ((70.0, 40.0), (60.0, 150.0))


def solve(frames, *, compensated=False, array=ARRAY, **options):
    setup = toy_setup(array, compensated=compensated)
    windows = [prepare_stamps(frame, setup) for frame in frames]
    return answer(
        lambda: windows,
        array,
        CalculateTimingCalibrationOptions(**options),
        compensated=compensated,
    )


def offsets(seed):
    return 5.0 * np.random.default_rng(seed).standard_normal(N)


def in_gauge(truth, found):
    """True offsets relative to the mean of the telescopes that make the zero."""
    return truth - np.delete(truth, found.left_out).mean()


def two_pointings(truth, seed, *, compensated=False, spread_deg=0.8):
    return [
        toy_stamps(
            TimingToy(truth, pointing_deg=aim, compensated=compensated, spread_deg=spread_deg),
            ARRAY,
            seed + number,
            obs_id=number + 1,
            start_s=START_S + 1000 * number,
        )
        for number, aim in enumerate(POINTINGS)
    ]


def delayed(frame, tel_id, quarters, since_s=0):
    late = (pl.col("tel_id") == tel_id) & (pl.col("shower_s") >= START_S + since_s)
    return frame.with_columns(delay_quarters=pl.col("delay_quarters") + quarters * late)


def test_offsets_are_found_without_bias_and_with_honest_errors():
    # 800 showers of 5 telescopes, 0.1 deg direction error, 3 ns walk, 2 % outliers: the targets
    # are 0.15 ns rms, 0.1 ns bias and a pull width of 1.15.
    repeats, errors, pulls, scales = 30, [], [], []
    for seed in range(repeats):
        truth = offsets(seed)
        found = solve([toy_stamps(TimingToy(truth), ARRAY, seed + 1000)])
        assert not found.jumps
        error = found.offset_ns - (truth - truth.mean())
        errors.append(error)
        pulls.append(error / np.sqrt(np.diag(found.covariance)))
        scales.append(np.exp(found.model.log_scale))
    assert np.std(errors) < 0.15
    # The bias of 30 repeats is itself known to 0.12 / sqrt(30) = 0.02 ns.
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    assert 0.9 < np.std(pulls) < 1.15
    # Errors of h_max shrink the slope towards it; the scale takes up what is left.
    assert np.mean(scales) == pytest.approx(TRUE_SCALE, rel=0.1)


@pytest.mark.parametrize("multiplicity", [3, 8])
def test_the_errors_are_right_at_other_multiplicities(multiplicity):
    pulls = []
    for seed in range(12):
        truth = offsets(seed)
        toy = TimingToy(truth, multiplicity=multiplicity)
        found = solve([toy_stamps(toy, ARRAY, seed + 2000)])
        node = found.nodes.newest
        error = found.offset_ns[node] - truth
        error -= np.nanmean(error)
        pulls.append(error / np.sqrt(np.diag(found.covariance))[node])
    # 150 pulls know their width to 6 %.
    assert 0.8 < np.nanstd(pulls) < 1.2


def test_the_walk_is_measured():
    # 3 ns at the threshold of 50 p.e. are 1.5 ns at 100 p.e.
    found = solve([toy_stamps(TimingToy(offsets(1), n_showers=3000), ARRAY, 2)])
    assert found.model.walk_ns == pytest.approx([1.5, 1.5], abs=0.15)


def test_offsets_of_milliseconds_are_found():
    truth = offsets(3)
    truth[3] += 3e6
    truth[8] -= 7.3e4
    found = solve([toy_stamps(TimingToy(truth), ARRAY, 4)])
    assert found.left_out == (3, 8)
    error = found.offset_ns - in_gauge(truth, found)
    assert np.abs(error).max() < 0.5


@pytest.mark.parametrize("late_ns", [1000.0, -5e6])
def test_a_clock_that_is_far_off_does_not_take_the_zero_along(late_ns):
    truth = offsets(7)
    steady = solve([toy_stamps(TimingToy(truth), ARRAY, 8)])
    late = np.where(np.arange(N) == 4, late_ns, 0.0)
    found = solve([toy_stamps(TimingToy(truth + late), ARRAY, 8)])
    assert steady.left_out == ()
    assert found.left_out == (4,)
    others = np.arange(N) != 4
    moved = (found.offset_ns - steady.offset_ns)[others]
    # The one left out had -1/13 of its offset in the mean of the others.
    assert moved == pytest.approx(steady.offset_ns[4] / 12, abs=0.1)
    assert found.offset_ns[others].mean() == pytest.approx(0.0, abs=1e-9)
    assert abs(found.offset_ns - in_gauge(truth + late, found))[4] < 0.5
    assert 0 < found.covariance[4, 4] < 0.2**2


def test_clocks_that_are_merely_uneven_all_make_the_mean():
    truth = offsets(9)
    truth[2] += 45.0
    assert solve([toy_stamps(TimingToy(truth), ARRAY, 10)]).left_out == ()


@pytest.mark.parametrize("since_s", [700, 333])
def test_a_jump_of_10_ns_is_found_within_a_chunk_and_measured(since_s):
    stamps = toy_stamps(TimingToy(offsets(5), n_showers=3000, duration_s=1200.0), ARRAY, 6)
    found = solve([delayed(stamps, 6, 40, since_s)])
    ((tel, (step,)),) = found.jumps.items()
    assert ARRAY.tel_ids[tel] == 6
    assert abs(step.size - 10.0) < 4 * step.error
    at = found.plan.start_s[step.index] - START_S
    assert abs(at - since_s) < 80.0  # a chunk of 200 showers lasts 80 s
    nodes = np.flatnonzero(found.nodes.telescope == tel)
    low, high = found.offset_ns[nodes]
    assert high - low == pytest.approx(10.0, abs=0.6)


def test_a_jump_seen_with_high_precision_accuses_no_other_clock():
    # With errors far below the jump's share of the mean of all, 10 ns / 13, the others would seem
    # to jump back by that much.
    toy = TimingToy(offsets(5), n_showers=12_000, duration_s=1200.0)
    found = solve([delayed(toy_stamps(toy, ARRAY, 6), 6, 40, 600)])
    assert [ARRAY.tel_ids[tel] for tel in found.jumps] == [6]


def test_clocks_that_keep_time_do_not_jump():
    jumps = 0
    for seed in range(10):
        toy = TimingToy(offsets(seed), n_showers=2000, duration_s=1500.0)
        jumps += len(solve([toy_stamps(toy, ARRAY, seed + 50)]).jumps)
    # Ten runs with a chance of 1e-3 each.
    assert jumps == 0


def test_a_handful_of_showers_in_a_chunk_is_no_jump():
    # Some 4 showers of a telescope in a chunk, often 1: its residual is then zero, and so is the
    # error that is taken from residuals.
    jumps = 0
    for seed in range(5):
        toy = TimingToy(offsets(seed), n_showers=800, duration_s=600.0)
        found = solve([toy_stamps(toy, ARRAY, seed + 70)], chunk_duration=1.0, chunk_showers=10)
        jumps += sum(map(len, found.jumps.values()))
    assert jumps == 0


@pytest.mark.parametrize("compensated", [True, False])
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_wrong_convention_is_refused_with_the_numbers(compensated, blocks):
    frames = two_pointings(offsets(7), 8, compensated=compensated)[:blocks]
    other = "pointing_compensated" if compensated else "raw"
    with pytest.raises(
        CannotCompute, match=rf"slope of [+-](1\.0|0\.9).*time_convention={other}"
    ) as error:
        solve(frames, compensated=not compensated)
    assert "ns rms" in str(error.value)


@pytest.mark.parametrize("compensated", [True, False])
def test_one_clock_far_off_does_not_hide_a_wrong_convention(compensated):
    truth = offsets(7)
    truth[5] += 1000.0
    frames = two_pointings(truth, 8, compensated=compensated)[:1]
    with pytest.raises(CannotCompute, match=r"slope of [+-](1\.0|0\.9)"):
        solve(frames, compensated=not compensated)


def test_one_clock_far_off_is_no_reason_to_doubt_the_right_convention():
    truth = offsets(7)
    truth[5] += 1000.0
    found = solve(two_pointings(truth, 8)[:1])
    assert not found.checks.unchecked
    assert abs(found.checks.slope) < 5 * found.checks.slope_error < 0.2


@pytest.mark.parametrize("compensated", [True, False])
def test_clocks_that_scatter_like_the_plane_wave_leave_the_convention_unchecked(compensated):
    frames = two_pointings(100 * offsets(7), 8)[:1]
    found = solve(frames, compensated=compensated)
    assert re.search(
        r"\+-1 \(wrong\) is [0-3]\.\d errors away, too few to exclude it, and 0 \(right\) is "
        r"\d\.\d errors away",
        found.checks.unchecked,
    )


def test_two_pointings_check_the_convention_of_clocks_that_scatter():
    frames = two_pointings(100 * offsets(7), 8)
    assert not solve(frames).checks.unchecked
    with pytest.raises(CannotCompute, match=r"two pointings .*slope of [+-](1\.0|0\.9)"):
        solve(frames, compensated=True)


def test_few_telescopes_leave_the_convention_unchecked():
    frame = two_pointings(offsets(7), 8)[0].filter(pl.col("tel_id") <= 4)
    found = solve([frame.filter(pl.len().over("event_id") >= 3)])
    assert found.checks.unchecked == "4 telescopes are too few to tell a plane wave from offsets"


@pytest.mark.parametrize("compensated", [True, False])
def test_the_right_convention_passes_and_pointings_combine(compensated):
    truth = offsets(9)
    found = solve(two_pointings(truth, 10, compensated=compensated), compensated=compensated)
    assert found.checks.n_pointings == 2
    assert found.checks.tilt_deg < 0.1
    error = found.offset_ns[found.nodes.newest] - truth
    assert np.std(error) < 0.15


def mirrored():
    array = replace(ARRAY, positions_m=tuple((x, -y, z) for x, y, z in ARRAY.positions_m))
    return array, pl.col("core_y_m") * -1.0


@pytest.mark.parametrize("spread_deg", [0.8, 0.0])
def test_a_mirrored_axis_is_refused_with_two_pointings(spread_deg):
    array, core = mirrored()
    frames = [
        frame.with_columns(core_y_m=core)
        for frame in two_pointings(offsets(11), 12, spread_deg=spread_deg)
    ]
    with pytest.raises(CannotCompute, match=r"tilt by 3\.\d+ .*y mirrored would give"):
        solve(frames, array=array)


def test_a_mirrored_axis_is_refused_with_one_pointing_and_spread_directions():
    array, core = mirrored()
    frame = two_pointings(offsets(13), 14)[0].with_columns(core_y_m=core)
    with pytest.raises(CannotCompute, match=r"wrong way along y \(west\): coefficient [12]\.\d+"):
        solve([frame], array=array)


def test_a_telescope_an_hour_off_gets_no_number():
    stamps = delayed(toy_stamps(TimingToy(offsets(15)), ARRAY, 16), 5, 3600 * 4_000_000_000)
    found = solve([stamps])
    assert [ARRAY.tel_ids[found.nodes.telescope[node]] for node in found.far] == [5]
    known = np.isfinite(found.offset_ns)
    assert known.sum() == N - 1


def test_a_leap_second_of_one_telescope_is_a_jump():
    stamps = toy_stamps(TimingToy(offsets(17), n_showers=2000, duration_s=800.0), ARRAY, 18)
    found = solve([delayed(stamps, 5, 4_000_000_000, 400)])
    ((tel, (step,)),) = found.jumps.items()
    assert ARRAY.tel_ids[tel] == 5
    assert step.size == pytest.approx(1e9, abs=1.0)
    # Beyond belief afterwards, known before.
    assert found.nodes.newest[tel] in found.far
    assert np.isfinite(found.offset_ns[found.nodes.of[0, tel]])
    others = np.delete(found.nodes.newest, tel)
    assert np.isfinite(found.offset_ns[others]).all()


def test_the_order_of_windows_into_blocks_does_not_matter():
    stamps = toy_stamps(TimingToy(offsets(19)), ARRAY, 20)
    whole = solve([stamps])
    parts = [
        part
        for _, part in stamps.with_columns(half=pl.col("event_id") > 300).group_by(
            "half", maintain_order=True
        )
    ]
    pieces = solve([part.drop("half") for part in parts])
    assert pieces.offset_ns == pytest.approx(whole.offset_ns, abs=1e-6)


def test_with_a_reference_telescope_its_offset_is_zero_without_error():
    truth = offsets(21)
    found = solve([toy_stamps(TimingToy(truth), ARRAY, 22)], reference_telescope=4)
    place = ARRAY.index[4]
    assert found.offset_ns[place] == pytest.approx(0.0, abs=1e-9)
    assert found.covariance[place, place] == pytest.approx(0.0, abs=1e-12)
    assert np.std(found.offset_ns - (truth - truth[place])) < 0.2


def test_a_missing_reference_leaves_no_number():
    found = solve([toy_stamps(TimingToy(offsets(23)), ARRAY, 24)], reference_telescope=99)
    assert not found.anchored
    assert np.isnan(found.offset_ns).all()


def test_the_bowl_is_what_a_wrong_curvature_does_to_the_offsets():
    stamps = [toy_stamps(TimingToy(offsets(25), n_showers=3000), ARRAY, 26)]
    found = solve(stamps)
    scale = float(np.exp(found.model.log_scale))
    held = [
        solve(stamps, fit_curvature=False, curvature_scale=scale * factor).offset_ns
        for factor in (1.0, np.exp(CURVATURE_BIAS))
    ]
    # A front held too flat leaves the opposite in the offsets.
    assert held[0] - held[1] == pytest.approx(found.bowl_ns, abs=0.01)
    assert np.abs(found.bowl_ns).max() > 0.03
    assert found.bowl_ns.mean() == pytest.approx(0.0, abs=1e-9)


def test_drifts_are_measured_without_bias_and_with_honest_errors():
    # 0.3 ns/h for an hour: too little for a jump. Slopes are relative to the array.
    drift, repeats, errors, pulls = 0.3, 16, [], []
    truth = np.where(np.arange(N) == 5, drift, 0.0)
    for seed in range(repeats):
        toy = TimingToy(offsets(seed), n_showers=6000, duration_s=3600.0)
        stamps = toy_stamps(toy, ARRAY, seed + 400)
        # Rounded at random, so that quarters of nanoseconds add up to a straight line.
        dither = pl.Series(np.random.default_rng(seed).uniform(-0.5, 0.5, len(stamps)))
        added = 4 * drift * (pl.col("shower_s") - START_S) / 3600
        late = (added + dither).round().cast(pl.Int64) * (pl.col("tel_id") == 6)
        found = solve([stamps.with_columns(delay_quarters=pl.col("delay_quarters") + late)])
        slope, error = np.array(found.drift).T
        assert not found.jumps
        rest = slope - truth
        errors.append(rest - rest.mean())
        pulls.append(errors[-1] / error)
    # Errors are 0.13 ns/h: the mean of 16 is known to 0.03, the width of 208 pulls to 5 %.
    assert abs(np.mean(errors, axis=0)[5]) < 0.1
    assert np.abs(np.mean(errors, axis=0)).max() < 0.12
    assert 0.85 < np.std(pulls) < 1.15


def drifting(seed, tel_id, rate, *, hours=1.0, **changes):
    """Stamps of one clock that runs at a wrong rate (ns/h, 0 in the middle), and all offsets."""
    truth = offsets(seed)
    toy = TimingToy(truth, n_showers=6000, duration_s=3600.0 * hours, **changes)
    stamps = toy_stamps(toy, ARRAY, seed + 500)
    dither = pl.Series(np.random.default_rng(seed).uniform(-0.5, 0.5, len(stamps)))
    date = (pl.col("shower_s") + pl.col("shower_quarters") / 4e9 - START_S) / 3600
    added = (4 * rate * date + dither).round().cast(pl.Int64) * (pl.col("tel_id") == tel_id)
    return stamps.with_columns(delay_quarters=pl.col("delay_quarters") + added), truth


@pytest.mark.parametrize("rate", [5.0, 200.0])
def test_a_steady_drift_is_a_drift_and_no_staircase(rate):
    errors, pulls, slopes = [], [], []
    for seed in range(8):
        stamps, truth = drifting(seed, 6, rate)
        found = solve([stamps])
        assert not found.jumps
        assert [ARRAY.tel_ids[tel] for tel in found.drifting] == [6]
        slopes.append((found.drift[5].slope - rate) / found.drift[5].error)
        reference = (found.reference_s[5] - START_S) / 3600
        assert 0.4 < reference < 0.6
        expected = truth + np.where(np.arange(N) == 5, rate * reference, 0.0)
        # 200 ns/h are 100 ns half an hour after the start.
        assert found.left_out == ((5,) if rate > 100 else ())
        error = found.offset_ns - in_gauge(expected, found)
        errors.append(error)
        pulls.append(error / np.sqrt(np.diag(found.covariance)))
    # The error of an offset is 0.05 ns, so that the mean of 8 is known to 0.02 ns.
    assert abs(np.mean(errors, axis=0)[5]) < 0.08
    assert 0.7 < np.std(pulls) < 1.4
    # A slope is relative to the array; 8 pulls know their mean to 0.35 and their width to 25 %.
    assert abs(np.mean(slopes)) < 1.5
    assert np.std(slopes) < 2.0


def test_a_jump_of_a_clock_that_drifts_is_one_jump():
    stamps, _ = drifting(3, 6, 50.0)
    found = solve([delayed(stamps, 6, 80, 2000)])
    ((tel, (step,)),) = found.jumps.items()
    assert ARRAY.tel_ids[tel] == 6
    assert abs(step.size - 20.0) < 4 * step.error
    assert abs(found.plan.start_s[step.index] - START_S - 2000) < 120.0
    assert found.drift[tel].slope == pytest.approx(50.0, abs=1.5)


def test_a_jump_is_no_drift():
    toy = TimingToy(offsets(5), n_showers=3000, duration_s=1200.0)
    for since_s in (300, 600, 900):
        found = solve([delayed(toy_stamps(toy, ARRAY, 6), 6, 40, since_s)])
        assert not len(found.drifting)


def test_clocks_that_all_drift_are_followed():
    rates = 100.0 * np.random.default_rng(1).standard_normal(N)
    stamps, _ = drifting(4, 6, 0.0)
    date = (pl.col("shower_s") - START_S) / 3600
    rate = pl.col("tel_id").replace_strict(dict(zip(ARRAY.tel_ids, rates, strict=True)))
    late = (4 * rate * date).round().cast(pl.Int64)
    found = solve([stamps.with_columns(delay_quarters=pl.col("delay_quarters") + late)])
    rest = np.array([drift.slope for drift in found.drift]) - rates
    assert not found.jumps
    assert np.std(rest) < 0.5
