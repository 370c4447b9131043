"""Closure of corrected stamps: the clocks of a corrected block agree, and integers stay exact."""

import shutil

import h5py
import numpy as np
import pytest

from arraycal.calib.apply.block import apply_to_block
from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.monitoring.read_coefficients import read_coefficients
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.publish.writing import publish
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.calib.simulation.settings import ClockSettings
from arraycal.config import load_configuration

TRIGGER = "/dl1/event/telescope/trigger"
QUARTERS_PER_S = 4_000_000_000
#: So late that one stamp in twenty falls into the next second.
LATE, LATE_NS = 3, 5e7


def calibrated(blocks, cache):
    configuration = load_configuration(preset="timing-cross")
    rows = [rows_of_block(block, TIMING_CROSS, configuration, cache) for block in blocks]
    return calibrate(rows, TIMING_CROSS, configuration)


def with_corrected_times(block, output, folder):
    """Copy of a block whose stamps are the corrected ones."""
    copy = folder / "copy.h5"
    shutil.copy(block, copy)
    with open_file(output) as source, h5py.File(copy, "r+") as file:
        rows = file[TRIGGER][:]
        rows["time"] = require_table(source, TRIGGER, output).read()["time_corrected"]
        file[TRIGGER][:] = rows
    return copy


def corrected_by_itself(folder, settings):
    """Result for a block, and the block before and after its correction by that result."""
    simulate_night(folder, settings)
    (block,) = folder.glob("*.dl2.h5")
    result = calibrated([block], folder / "cache")
    published = publish(result, TIMING_CROSS, folder / "out", overwrite=False)
    output = folder / "block.corrected.h5"
    coefficients = read_coefficients(published.monitoring)
    outcome = apply_to_block(block, coefficients, output, {"command": "test"}, folder / "cache")
    assert outcome.status == "ok"
    return result, block, output, outcome


def quarters(time):
    """Quarter nanoseconds since the beginning of the night; exact."""
    whole = time.astype(np.int64)
    return (whole[:, 0] - whole[:, 0].min()) * QUARTERS_PER_S + whole[:, 1]


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """Truth and result of two blocks, and a third one before and after its correction."""
    folder = tmp_path_factory.mktemp("clocks")
    settings = SimulationSettings(
        array="north",
        n_blocks=3,
        n_showers=4000,
        seed=11,
        clocks=ClockSettings(offset_scatter_ns=5.0, offset_ns={LATE: LATE_NS}),
    )
    truth = simulate_night(folder, settings)
    *before, last = sorted(folder.glob("*.dl2.h5"))
    result = calibrated(before, folder / "cache")
    published = publish(result, TIMING_CROSS, folder / "out", overwrite=False)
    output = folder / "last.corrected.h5"
    outcome = apply_to_block(
        last,
        read_coefficients(published.monitoring),
        output,
        {"command": "test"},
        folder / "cache",
    )
    assert outcome.complete
    return truth, result, last, output


def test_corrected_stamps_are_exact_and_carry_over_seconds(corrected):
    _, result, last, output = corrected
    offset = dict(result.telescopes.select("tel_id", "value").iter_rows())
    with open_file(last) as one, open_file(output) as two:
        measured = require_table(one, TRIGGER, last).read()
        found = require_table(two, TRIGGER, output).read()
    assert found["time"].tolist() == measured["time"].tolist()
    shift = quarters(np.vstack([found["time_corrected"], found["time"]]))
    shift = shift[: len(found)] - shift[len(found) :]
    expected = np.array([-round(4 * offset[tel_id]) for tel_id in found["tel_id"].tolist()])
    assert np.abs(shift - expected).max() <= 1  # a tie between two quarters may go either way
    assert (np.unique(shift).size) <= 13
    seconds = found["time"][:, 0].astype(int) - found["time_corrected"][:, 0].astype(int)
    late = found["tel_id"] == LATE
    assert set(seconds[late].tolist()) == {0, 1}
    assert 0.03 < seconds[late].mean() < 0.08
    assert (found["time_corrected"][:, 1] < QUARTERS_PER_S).all()


def test_the_clocks_of_a_corrected_block_agree(corrected, tmp_path):
    truth, result, last, output = corrected
    copy = with_corrected_times(last, output, tmp_path)
    first, uncorrected, again = (
        found.telescopes.sort("tel_id")
        for found in (result, calibrated([last], tmp_path), calibrated([copy], tmp_path))
    )
    true = np.array([truth.clock_offset_ns[tel_id] for tel_id in first["tel_id"]])
    # The late one is no part of the mean.
    zero = true[first["tel_id"].to_numpy() != LATE].mean()
    assert np.abs(uncorrected["value"].to_numpy() - true + zero).max() < 0.8
    assert result.fit["gauge"] == f"mean without telescope {LATE}, far off"
    # Mean 0 in both, and what is left is the error of the two measurements.
    value, error = (
        again["value"].to_numpy(),
        np.hypot(*(t["error"].to_numpy() for t in (first, again))),
    )
    assert np.abs(value).max() < 0.5
    # A quarter of a nanosecond is rounded away: 0.07 ns.
    pulls = value / np.hypot(error, 0.25 / np.sqrt(12))
    assert np.sqrt(np.mean(pulls**2)) < 1.6  # 12 degrees of freedom know it to 20 %


#: The clock that jumps, when (s since the first stamp, about) and by how much.
JUMPING, JUMP_NS = 3, 20.0


@pytest.fixture(scope="module")
def jumped(tmp_path_factory):
    """Result for a block with a jump, and the block before and after its correction."""
    folder = tmp_path_factory.mktemp("jump")
    settings = SimulationSettings(
        array="north",
        n_blocks=1,
        n_showers=2500,
        seed=41,
        clocks=ClockSettings(steps=((JUMPING, 600.0, JUMP_NS),)),
    )
    return corrected_by_itself(folder, settings)


def test_stamps_before_and_after_a_jump_have_their_own_offset_to_the_integer(jumped):
    result, _, output, outcome = jumped
    intervals = result.extras["intervals"].filter(tel_id=JUMPING).sort("start_s")
    first, second = intervals["offset_ns"]
    assert second - first == pytest.approx(JUMP_NS, abs=0.5)
    with open_file(output) as file:
        rows = require_table(file, TRIGGER, output).read()
    rows = rows[rows["tel_id"] == JUMPING]
    done = rows["time_corrected"].any(axis=1)
    # Whole seconds tell the sides of the jump: none of the intervals ends within these.
    seconds = rows["time"][:, 0].astype(int)
    before, after = seconds <= intervals["stop_s"][0] - 1, seconds >= intervals["start_s"][1] + 1
    shift = quarters(np.vstack([rows["time_corrected"][done], rows["time"][done]]))
    shift = shift[: done.sum()] - shift[done.sum() :]
    assert set(shift[before[done]].tolist()) == {-round(4 * first)}
    assert set(shift[after[done]].tolist()) == {-round(4 * second)}
    counts = outcome.counts.filter(tel_id=JUMPING).row(0, named=True)
    assert counts["uncorrected"] == np.count_nonzero(~done) < 0.01 * len(rows)
    assert counts["reason"].endswith("none outside; its intervals: 2")
    within = (seconds > intervals["start_s"][0]) & (seconds + 1 < intervals["stop_s"][1])
    gap = (seconds >= intervals["stop_s"][0] - 1) & (seconds <= intervals["start_s"][1])
    assert done[within & ~gap].all()
    assert outcome.counts.filter(outcome.counts["tel_id"] != JUMPING)["uncorrected"].sum() == 0
    assert any("telescope 3 jumped" in remark for remark in outcome.remarks)


def test_both_sides_of_a_jump_agree_once_they_are_corrected(jumped, tmp_path):
    result, block, output, _ = jumped
    again = calibrated([with_corrected_times(block, output, tmp_path)], tmp_path)
    assert len(result.extras["steps"]) == 1
    assert again.extras["steps"].is_empty()
    at = result.extras["steps"]["time_s"][0]
    past = again.extras["history"].filter(tel_id=JUMPING)
    sides = []
    for side in (past.filter(past["stop_s"] < at), past.filter(past["start_s"] > at)):
        weight = side["error_ns"].to_numpy() ** -2.0
        assert len(weight) >= 1
        sides.append((np.average(side["offset_ns"], weights=weight), weight.sum() ** -0.5))
    (one, one_error), (two, two_error) = sides
    error = np.hypot(one_error, two_error)
    assert error < 0.3
    assert abs(one - two) < 3 * np.hypot(error, 0.25 / np.sqrt(6))  # both rounded to quarters
    assert np.abs(again.telescopes["value"].to_numpy()).max() < 0.5


#: The clock that drifts, and by how much: 6 ns in the block.
DRIFTING, DRIFT_NS_PER_H = 5, 6.0


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    """Truth and result for a block with a drift, and the block before and after its correction."""
    folder = tmp_path_factory.mktemp("drift")
    settings = SimulationSettings(
        array="north",
        n_blocks=1,
        n_showers=4000,
        seed=43,
        block_duration_s=3600.0,
        clocks=ClockSettings(drift_ns_per_h={DRIFTING: DRIFT_NS_PER_H}),
    )
    return corrected_by_itself(folder, settings)


def test_stamps_of_a_drifting_clock_have_the_offset_of_their_time(drifted):
    result, _, output, outcome = drifted
    line = result.extras["intervals"].filter(tel_id=DRIFTING).row(0, named=True)
    assert line["drift_ns_per_h"] == pytest.approx(DRIFT_NS_PER_H, abs=1.5)
    others = result.extras["intervals"].filter(result.extras["intervals"]["tel_id"] != DRIFTING)
    assert (others["drift_ns_per_h"] == 0).all()
    with open_file(output) as file:
        rows = require_table(file, TRIGGER, output).read()
    rows = rows[rows["tel_id"] == DRIFTING]
    done = rows["time_corrected"].any(axis=1)
    shift = quarters(np.vstack([rows["time_corrected"][done], rows["time"][done]]))
    shift = shift[: done.sum()] - shift[done.sum() :]
    hours = (rows["time"][done, 0].astype(float) + 0.5 - line["reference_s"]) / 3600
    expected = -4 * (line["offset_ns"] + line["drift_ns_per_h"] * hours)
    assert np.abs(shift - expected).max() <= 0.51 + 4 * DRIFT_NS_PER_H / 3600
    assert np.ptp(shift) >= 4 * 0.9 * DRIFT_NS_PER_H
    assert np.count_nonzero(~done) < 0.01 * len(rows)
    assert any(f"telescope {DRIFTING} drifts by" in remark for remark in outcome.remarks)


def test_a_clock_whose_drift_was_taken_out_keeps_time(drifted, tmp_path):
    result, block, output, _ = drifted
    again = calibrated([with_corrected_times(block, output, tmp_path)], tmp_path)
    before, after = (
        found.telescopes.filter(tel_id=DRIFTING).row(0, named=True) for found in (result, again)
    )
    assert before["flag"] == "drift"
    assert after["flag"] == "ok"
    assert abs(after["drift"]) < 3 * after["drift_error"] < 0.3 * DRIFT_NS_PER_H
    assert np.abs(again.telescopes["value"].to_numpy()).max() < 0.5
