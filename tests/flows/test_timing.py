"""Clocks of a simulated night, from the command line to the published table."""

import json
from pathlib import Path

import pytest

from arraycal.flows.cli.main import main

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
REAL = SHARED / "data" / "real" / "simtel_proton_ob202.dl2.h5"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clocks") / "night"
    options = ["--array", "north", "--blocks", "2", "--showers", "3000", "--clock-scatter", "5"]
    pointings = ["--pointing", "20,180", "--pointing", "30,100"]
    assert main(["simulate", str(folder), *options, *pointings]) == 0
    return folder


def run(night, output, *more):
    return main(["run", "timing-cross", str(night), "--output", str(output), "--direct", *more])


def test_clocks_of_a_simulated_night_are_found(night, tmp_path, capsys):
    assert run(night, tmp_path, "--truth", str(night / "truth.json")) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("truth", "difference", "pull", "stamps in use"))
    result = json.loads((tmp_path / "result.json").read_text())
    truth = json.loads((night / "truth.json").read_text())["clock_offset_ns"]
    assert result["fit"]["time_convention"] == "pointing_compensated"
    assert result["fit"]["n_pointings"] == 2
    for tel_type in ("LST", "MST"):
        # Within a type, whose common latency cannot be told from its clocks.
        rows = [row for row in result["telescopes"] if row["tel_type"] == tel_type]
        error = [row["value"] - truth[str(row["tel_id"])] for row in rows]
        middle = sum(error) / len(error)
        # Errors are 0.05 ns and the systematic ones 0.1 ns.
        assert max(abs(value - middle) for value in error) < 0.4


def test_the_wrong_convention_stops_with_the_numbers(night, tmp_path, capsys):
    wrong = ["--set", "CalculateTimingCalibration.time_convention=raw"]
    assert run(night, tmp_path, *wrong) == 4
    assert "the stamps are not 'raw'" in capsys.readouterr().err


#: The real file has three usable showers, most telescopes far from the axis.
FEW = {
    "min_events": 2,
    "min_common_events": 2,
    "max_core_distance": 2000,
    "max_pointing_offset": 20,
    "max_angular_uncertainty": 5,
    "fit_walk": "false",
}


ALL_OF_THEM = [
    text
    for key, value in FEW.items()
    for text in ("--set", f"CalculateTimingCalibration.{key}={value}")
]


@pytest.mark.skipif(not REAL.exists(), reason="the shared real files are not here")
class TestRealStamps:
    """Stamps of sim_telarray, of which a fit is left with 8 degrees of freedom."""

    def test_they_agree_with_the_fitted_front_within_3_ns(self, tmp_path, capsys):
        assert run(REAL, tmp_path, *ALL_OF_THEM) == 3
        assert "unconstrained: a plane across the array" in capsys.readouterr().out
        result = json.loads((tmp_path / "result.json").read_text())
        assert result["fit"]["time_convention"] == "pointing_compensated"
        assert 0.5 < result["fit"]["residual_rms_ns"] < 3.0
        assert result["fit"]["n_telescope_events"] > 25
        flags = {row["flag"] for row in result["telescopes"]}
        assert flags == {"ok", "few_events"}

    def test_as_many_parameters_as_stamps_leave_no_residual_to_speak_of(self, tmp_path):
        # Of the recommended selection two showers are left.
        assert run(REAL, tmp_path) == 4
        fit = json.loads((tmp_path / "result.json").read_text())["fit"]
        assert fit["ndf"] <= 0
        assert fit["residual_rms_ns"] is None

    def test_taken_as_raw_they_are_refused(self, tmp_path, capsys):
        raw = ["--set", "CalculateTimingCalibration.time_convention=raw"]
        assert run(REAL, tmp_path, *ALL_OF_THEM, *raw) == 4
        assert "slope of +0.9" in capsys.readouterr().err
