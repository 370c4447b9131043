"""Clocks of a simulated night, from the command line to the published table."""

import json

import pytest

from flows.cli import main


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
