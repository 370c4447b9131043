"""The image calibration on the command line, beside a result of energies."""

import json
import shutil

import h5py
import pytest

from arraycal.flows.cli.main import main
from arraycal.flows.jobs.job import configured
from arraycal.flows.jobs.parameters import CalibrateParameters


def run(calibration, *arguments):
    return main(["run", calibration, *map(str, arguments), "--direct"])


def test_sizes_are_compared_with_energies(night, tmp_path, lenient, capsys):
    energies, sizes = tmp_path / "energy", tmp_path / "image"
    assert run("energy-inter", night, "--output", energies, *lenient) in {0, 3}
    truth = ("--truth", night / "truth.json")
    status = run("image-inter", night, "--output", sizes, "--compare", energies, *truth, *lenient)
    assert status in {0, 3}
    assert "truth" in capsys.readouterr().out
    result = json.loads((sizes / "result.json").read_text())
    assert result["fit"]["compared_with"] == str(energies / "result.json")
    assert result["fit"]["compared_observations"] == "the same"
    compared = [row for row in result["extras"]["comparison"] if row["contrast"] is not None]
    assert len(compared) > 8
    assert all(abs(row["z"]) < 6 for row in compared)
    assert "Sizes against energies" in (sizes / "report.html").read_text()
    with h5py.File(sizes / "monitoring.h5") as file:
        names: list[str] = []
        file.visit(names.append)
    assert {"comparison", "distance_curve", "residual_bins"} <= {n.split("/")[-1] for n in names}


@pytest.mark.parametrize(
    ("calibration", "message"),
    [("image-inter", "compare: there is no file"), ("energy-inter", "compare is for image-inter")],
)
def test_a_comparison_that_cannot_be_is_wrong_usage(night, tmp_path, capsys, calibration, message):
    there = tmp_path / "there"
    if calibration == "energy-inter":
        there.mkdir()
        (there / "result.json").write_text("{}")
    assert run(calibration, night, "--output", tmp_path / "out", "--compare", there) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_result_is_wrong_usage(night, tmp_path, lenient, capsys):
    damaged = tmp_path / "result.json"
    damaged.write_text('{"calibration": "energy-inter"')
    out = tmp_path / "out"
    assert run("image-inter", night, "--output", out, "--compare", damaged, *lenient) == 2
    assert "expected the result.json of energy-inter or energy-cross" in capsys.readouterr().err
    assert not (out / "result.json").exists()


def test_a_label_of_another_quantity_runs_with_a_warning(caplog):
    from arraycal.config.settings import load_settings

    label = "CalculateInterCalibration.asymmetry_label=energy_asymmetry"
    for overrides, expected in (([label], True), ([], False)):
        caplog.clear()
        parameters = CalibrateParameters(
            calibration="image-inter", blocks=["b.h5"], output="o", overrides=overrides
        )
        configured(parameters, load_settings())
        assert ("image-inter compares by image_asymmetry all the same" in caplog.text) == expected


def test_a_result_outside_the_data_folder_is_refused(tmp_path, monkeypatch):
    from arraycal.config.errors import ConfigurationError
    from arraycal.config.settings import load_settings

    (tmp_path / "data").mkdir()
    outside = tmp_path / "result.json"
    outside.write_text("{}")
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", str(tmp_path / "data"))
    parameters = CalibrateParameters(
        calibration="image-inter", blocks=["b.h5"], output="o", compare=str(outside)
    )
    with pytest.raises(ConfigurationError, match="lies outside"):
        configured(parameters, load_settings())


def test_configuration_files_that_name_no_estimator_are_told_which_one_runs(
    night, tmp_path, capsys
):
    config = tmp_path / "peer.yaml"
    config.write_text(
        "CalculateImageAsymmetry:\n"
        "  event_filters:\n"
        '    equidistant_event_selection: [[type, "*", [0.05, 0.1]]]\n'
    )
    few = ("--set", "RelativeThroughputFitter.min_events=5")
    note = "the configuration files name no estimator: estimator event and our other defaults"
    run("image-inter", night, "--output", tmp_path / "ours", "--config", config, *few)
    assert note in capsys.readouterr().err
    peer = ("--preset", "image-inter-peer")
    run("image-inter", night, "--output", tmp_path / "peer", "--config", config, *few, *peer)
    assert note not in capsys.readouterr().err


def test_what_blocks_lack_is_printed(night, tmp_path, lenient, capsys):
    lacking = tmp_path / "lacking"
    shutil.copytree(night, lacking)
    for path in lacking.glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["/configuration/instrument/telescope/camera"]
    run("image-inter", lacking, "--output", tmp_path / "out", *lenient)
    assert "note: max_radius_fraction, 2 of 2 blocks: not applied" in capsys.readouterr().out


def test_saturation_is_not_looked_for_in_energies(night, tmp_path, capsys):
    automatic = ("--set", "ShowerSelection.ceiling=auto")
    assert run("energy-inter", night, "--output", tmp_path / "out", *automatic) == 2
    assert "ceiling: auto is for image-inter" in capsys.readouterr().err
