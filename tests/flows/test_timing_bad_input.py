"""Clocks from damaged nights on the command line: every fault has a name and an exit status."""

import json
import shutil

import h5py
import numpy as np
import pytest

from arraycal.calib.simulation import ClockSettings, SimulationSettings, simulate_night
from arraycal.flows.cli.main import main

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
    for path in blocks(night):
        change(path, TRIGGER, reverse)
    status, result, _ = run()
    assert status == UNUSABLE
    assert all(row["value"] is None for row in result["telescopes"])
    assert set(flags(result).values()) == {"contradictory"}
    corrected = tmp_path / "corrected"
    arguments = ["apply", str(tmp_path / "out"), str(night), "--output", str(corrected)]
    assert main(arguments) == UNUSABLE
    assert "timing-cross is unusable: 13 telescopes" in capsys.readouterr().err
    assert not corrected.exists()


def reverse(rows):
    rows["time"] = rows["time"][::-1].copy()


def shuffle(rows):
    rows["time"] = rows["time"][np.random.default_rng(6).permutation(len(rows))]


def reverse_half(rows):
    half = len(rows) // 2
    rows["time"][:half] = rows["time"][:half][::-1].copy()


def swap_in_showers(rows):
    """Give every stamp of a shower to another telescope of it."""
    order = np.argsort(rows["event_id"], kind="stable")
    mixed = np.lexsort((np.random.default_rng(6).random(len(rows)), rows["event_id"]))
    rows["time"][order] = rows["time"][mixed]


@pytest.fixture(scope="module", params=[1, 21, 22])
def single(request, tmp_path_factory):
    """Single blocks in which all clocks are right, so that those of others nearly fit."""
    folder = tmp_path_factory.mktemp("single")
    settings = SimulationSettings(array="north", n_blocks=1, n_showers=4000, seed=request.param)
    simulate_night(folder, settings)
    return folder


def changed(single, tmp_path, rule):
    """Path of a changed copy of a block, exit status and result of its calibration."""
    (path,) = blocks(shutil.copytree(single, tmp_path / "night"))
    change(path, TRIGGER, rule)
    output = tmp_path / "out"
    status = main(["run", "timing-cross", str(path), "--output", str(output), "--direct"])
    return path, status, json.loads((output / "result.json").read_text())


@pytest.mark.parametrize("rule", [reverse, shuffle, reverse_half])
def test_stamps_of_other_showers_give_no_number(single, rule, tmp_path, capsys):
    path, status, result = changed(single, tmp_path, rule)
    assert status == UNUSABLE
    assert all(row["value"] is None for row in result["telescopes"])
    assert set(flags(result).values()) == {"contradictory"}
    (reason,) = (text for text in result["verdict"]["reasons"] if "not those of their" in text)
    assert "in block 1001 (at most 25% expected)" in reason
    # What such stamps seem to do is told of no clock.
    assert not any("jump" in text or "drift" in text for text in result["verdict"]["reasons"])
    capsys.readouterr()
    applied = ["apply", str(tmp_path / "out"), str(path), "--output", str(tmp_path / "corrected")]
    assert main(applied) == UNUSABLE


def test_stamps_of_other_telescopes_of_the_shower_make_no_front(single, tmp_path):
    # They scatter by 7 ns and none is an outlier; but nothing is left of the curvature.
    _, status, result = changed(single, tmp_path, swap_in_showers)
    assert status == UNUSABLE
    assert all(row["value"] is None for row in result["telescopes"])
    assert any("the front is not that of showers" in r for r in result["verdict"]["reasons"])
    # A radius without bounds is no number to compute with.
    assert 0.2 <= result["fit"]["curvature_scale"] <= 10 * (1 + 1e-12)


@pytest.mark.parametrize("rule", [reverse, shuffle, reverse_half])
def test_a_block_whose_stamps_are_not_its_own_costs_itself(night, run, rule):
    _, damaged = blocks(night)
    damaged.rename(night / "elsewhere")
    _, alone, _ = run()
    (night / "elsewhere").rename(damaged)
    change(damaged, TRIGGER, rule)
    status, result, shown = run("--overwrite")
    assert status == DEGRADED
    assert [row["status"] for row in result["blocks"]] == ["ok", "excluded"]
    assert "stamps are not those of their showers" in result["blocks"][1]["reason"]
    assert damaged.name in shown
    # The night is what the sound block tells, as if the other were not there.
    assert [row["value"] for row in result["telescopes"]] == [
        row["value"] for row in alone["telescopes"]
    ]


def test_wrong_stamps_of_a_fifth_are_still_left_out(single, tmp_path):
    def rule(rows):
        rng = np.random.default_rng(7)
        wrong = rng.random(len(rows)) < 0.2  # by up to 1 ms
        late = np.where(wrong, rng.integers(0, 4_000_000, len(rows)), 0)
        stamp = rows["time"][:, 0].astype(np.int64) * 4_000_000_000 + rows["time"][:, 1] + late
        rows["time"][:, 0], rows["time"][:, 1] = np.divmod(stamp, 4_000_000_000)

    _, status, result = changed(single, tmp_path, rule)
    assert status in {USABLE, DEGRADED}
    assert set(flags(result).values()) == {"ok"}
    # Several hundred showers a telescope of 1.5 ns; all clocks are right.
    assert max(abs(row["value"]) for row in result["telescopes"]) < 0.6


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


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A short block of 55 telescopes, many with a handful of stamps, as they are observed."""
    folder = tmp_path_factory.mktemp("sparse")
    settings = SimulationSettings(
        n_blocks=1, n_showers=1500, seed=0, clocks=ClockSettings(convention="raw")
    )
    simulate_night(folder, settings)
    return folder


def test_the_convention_is_tested_whatever_few_stamps_the_outer_telescopes_have(
    sparse, tmp_path, capsys
):
    run = ["run", "timing-cross", str(sparse), "--output", str(tmp_path / "out"), "--direct"]
    assert main([*run, *option("time_convention", "pointing_compensated")]) == UNUSABLE
    assert "slope of -1.000" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "result.json").exists()
    # What the file says is right: the outer telescopes lack stamps, nothing else does.
    assert main([*run, "--overwrite"]) == DEGRADED
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert set(flags(result).values()) <= {"ok", "few_events", "few_common", "no_data"}
    assert abs(result["fit"]["plane_wave_slope"]) < 0.01


def test_few_telescopes_give_offsets_only_in_a_convention_that_is_stated(night, run):
    def rule(rows):
        rows["time"][rows["tel_id"] > 4] = 0

    for path in blocks(night):
        change(path, TRIGGER, rule)
    status, result, shown = run()
    assert status == UNUSABLE
    assert all(row["value"] is None for row in result["telescopes"])
    assert "4 telescopes are too few" in " ".join(shown.split())
    status, result, shown = run("--overwrite", *option("time_convention", "pointing_compensated"))
    assert status == DEGRADED
    assert sum(row["value"] is not None for row in result["telescopes"]) == 4
    assert "4 telescopes are too few" in " ".join(shown.split())


def uncertain(night, error_m):
    """Write errors of the cores: 1 of 10 is not known."""

    def rule(rows):
        for axis in "xy":
            rows[f"HillasReconstructor_core_uncert_{axis}"] = error_m
            rows[f"HillasReconstructor_core_uncert_{axis}"][::10] = np.nan

    for path in blocks(night):
        change(path, GEOMETRY, rule)


def test_errors_of_the_cores_come_from_the_file_and_showers_without_are_counted(night, run):
    _, plain, shown = run()
    assert "cannot be told from what errors of the reconstructed cores do" in " ".join(
        shown.split()
    )
    assert plain["fit"]["offset_of_walk_ns"] > 0
    uncertain(night, 12.0)
    status, result, _ = run("--overwrite", *option("core_resolution", "file"))
    assert status == USABLE
    assert result["verdict"]["untested"] == []
    assert rejected(result, "core uncertainty missing") > 500
    assert result["fit"]["offset_of_walk_ns"] == 0
    # Cores of 20 m over the root of the pairs of images: the front of 1.3 looks flatter.
    assert result["fit"]["curvature_scale"] < plain["fit"]["curvature_scale"] - 0.01


def test_a_file_that_knows_no_errors_of_its_cores_says_so(run):
    status, result, shown = run(*option("core_resolution", "file"))
    assert (status, result) == (UNUSABLE, None)
    assert "core uncertainty missing, or no length (core_resolution: file)" in " ".join(
        shown.split()
    )


@pytest.mark.parametrize("value", ["0", "-3", "300", "nan", "none at all", "[1]"])
def test_an_impossible_error_of_the_cores_is_a_wrong_configuration(run, value):
    status, result, shown = run(*option("core_resolution", value))
    assert (status, result) == (USAGE, None)
    assert "core_resolution" in shown


def test_a_length_with_its_unit_is_an_error_of_the_cores(run):
    status, _, _ = run(*option("core_resolution", "'12 m'"))
    assert status == USABLE
