"""Clocks from damaged nights on the command line: every fault has a name and an exit status."""

import json
import shutil

import h5py
import numpy as np
import pytest

from calib.simulation import SimulationSettings, simulate_night
from flows.cli import main

TRIGGER = "/dl1/event/telescope/trigger"
GEOMETRY = "/dl2/event/subarray/geometry/HillasReconstructor"
USABLE, USAGE, DEGRADED, UNUSABLE = 0, 2, 3, 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two blocks as they should be."""
    folder = tmp_path_factory.mktemp("whole")
    simulate_night(folder, SimulationSettings(array="north", n_blocks=2, n_showers=3000, seed=2))
    return folder


@pytest.fixture
def night(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "night")


@pytest.fixture
def run(night, tmp_path, capsys):
    """Exit status, result (or None) and all that was printed."""

    def calibrated(*more):
        output = tmp_path / "out"
        status = main(
            ["run", "timing-cross", str(night), "--output", str(output), "--direct", *more]
        )
        found = capsys.readouterr()
        assert "Traceback" not in found.out + found.err
        result = output / "result.json"
        return (
            status,
            json.loads(result.read_text()) if result.exists() else None,
            found.out + found.err,
        )

    return calibrated


def blocks(night):
    return sorted(night.glob("*.dl2.h5"))


def change(path, table, rule):
    with h5py.File(path, "r+") as file:
        rows = file[table][:]
        rule(rows)
        file[table][:] = rows


def option(key, value):
    return ["--set", f"CalculateTimingCalibration.{key}={value}"]


def flags(result):
    return {row["tel_id"]: row["flag"] for row in result["telescopes"]}


def rejected(result, rule):
    return sum(row["rows"] for row in result["rejected"] if rule in row["rule"])


def no_stamps_of(tel_id):
    def rule(rows):
        rows["time"][rows["tel_id"] == tel_id] = 0

    return rule


def test_a_block_without_the_reference_helps_the_others(night, run):
    change(blocks(night)[1], TRIGGER, no_stamps_of(1))
    status, result, _ = run(*option("reference_telescope", 1))
    assert status == USABLE
    assert set(flags(result).values()) == {"ok"}
    assert result["telescopes"][0]["value"] == pytest.approx(0.0, abs=1e-9)
    assert rejected(result, "stamp missing") > 1000


def test_no_block_with_the_reference_is_unusable(night, run):
    for path in blocks(night):
        change(path, TRIGGER, no_stamps_of(1))
    status, result, shown = run(*option("reference_telescope", 1))
    assert status == UNUSABLE
    assert set(flags(result).values()) == {"no_reference", "no_data"}
    assert "reference telescope 1 has too little data" in shown


def test_a_block_given_twice_counts_once(night, run):
    shutil.copy(blocks(night)[0], night / "again.dl2.h5")
    status, result, shown = run()
    assert status == DEGRADED
    assert sorted(row["status"] for row in result["blocks"]) == ["excluded", "ok", "ok"]
    assert "block_1001.dl2.h5" in shown


def test_stamps_that_run_backwards_are_told(night, run):
    def rule(rows):
        rows["time"][len(rows) // 2 :, 0] -= 100

    change(blocks(night)[0], TRIGGER, rule)
    status, result, _ = run()
    assert status == DEGRADED
    assert any("run backwards" in reason for reason in result["verdict"]["reasons"])


def test_reversed_stamps_are_unusable_and_cannot_be_applied(night, run, tmp_path, capsys):
    def rule(rows):
        rows["time"] = rows["time"][::-1].copy()

    for path in blocks(night):
        change(path, TRIGGER, rule)
    status, result, _ = run()
    assert status == UNUSABLE
    assert all(row["value"] is None for row in result["telescopes"])
    # What does not scatter around the front was clipped.
    assert set(flags(result).values()) <= {"noisy", "few_events", "few_common", "not_settled"}
    corrected = tmp_path / "corrected"
    arguments = ["apply", str(tmp_path / "out"), str(night), "--output", str(corrected)]
    assert main(arguments) == UNUSABLE
    assert "timing-cross is unusable: 13 telescopes" in capsys.readouterr().err
    assert not corrected.exists()


def test_a_telescope_whose_stamps_come_from_no_clock_is_named_with_the_gauge(night, run):
    def rule(rows):
        own = rows["tel_id"] == 5
        late = np.random.default_rng(4).integers(0, 40_000, own.sum())  # 10 us
        rows["time"][own, 1] = (rows["time"][own, 1].astype(np.int64) + late) % 4_000_000_000

    for path in blocks(night):
        change(path, TRIGGER, rule)
    status, result, shown = run()
    assert status == DEGRADED
    found = flags(result)
    assert found.pop(5) == "noisy"
    assert set(found.values()) == {"ok"}
    assert "max_residual_rms" in result["telescopes"][4]["reason"]
    assert max(row["error"] for row in result["telescopes"] if row["tel_id"] != 5) < 0.2
    assert result["fit"]["gauge"] == "mean without telescope 5, far off or without offset"
    assert "the mean that is 0 is that of the others" in " ".join(shown.split())


def test_a_telescope_an_hour_off_is_named_and_the_others_are_measured(night, run):
    def rule(rows):
        rows["time"][rows["tel_id"] == 5, 0] += 3600

    for path in blocks(night):
        change(path, TRIGGER, rule)
    status, result, _ = run()
    assert status == DEGRADED
    found = flags(result)
    assert found.pop(5) in {"clock_off", "no_data"}
    assert set(found.values()) == {"ok"}


def test_showers_without_geometry_are_counted(night, run):
    def rule(rows):
        rows["HillasReconstructor_alt"][::10] = np.nan
        rows["HillasReconstructor_core_x"][5::10] = np.nan

    change(blocks(night)[0], GEOMETRY, rule)
    status, result, _ = run()
    assert status == USABLE
    assert rejected(result, "no valid geometry") > 500


def test_a_file_without_geometry_costs_its_block(night, run):
    with h5py.File(blocks(night)[0], "r+") as file:
        del file[GEOMETRY]
    status, result, shown = run()
    assert status == DEGRADED
    assert [row["status"] for row in result["blocks"]] == ["failed", "ok"]
    assert "no reconstructed geometry" in shown


def test_too_few_telescopes_a_shower_leave_nothing(run):
    status, result, shown = run(*option("min_telescopes", 14))
    assert (status, result) == (UNUSABLE, None)
    assert "too few telescopes (min_telescopes)" in shown


def test_two_telescopes_a_shower_are_a_wrong_configuration(run):
    status, result, shown = run(*option("min_telescopes", 2))
    assert (status, result) == (USAGE, None)
    assert "min_telescopes is 2" in shown


def test_stamps_as_modified_julian_dates_are_refused(night, run):
    for path in blocks(night):
        with h5py.File(path, "r+") as file:
            rows = file[TRIGGER][:]
            dtype = [
                (name, float if name == "time" else rows.dtype[name]) for name in rows.dtype.names
            ]
            dates = np.zeros(len(rows), dtype)
            for name in rows.dtype.names:
                dates[name] = 59000.0 if name == "time" else rows[name]
            kept = dict(file[TRIGGER].attrs)
            del file[TRIGGER]
            file.create_dataset(TRIGGER, data=dates).attrs.update(kept)
    status, result, shown = run()
    assert (status, result) == (UNUSABLE, None)
    assert "needs whole seconds and quarter nanoseconds" in shown


def test_a_night_without_any_stamp_is_unusable(night, run):
    def rule(rows):
        rows["time"][:] = 0

    for path in blocks(night):
        change(path, TRIGGER, rule)
    status, result, shown = run()
    assert (status, result) == (UNUSABLE, None)
    assert "stamp missing" in shown
