"""Requests that make no sense: named as such, with what to do, and nothing touched."""

import json
from datetime import date
from pathlib import Path

import h5py
import numpy as np
import pytest

from arraycal.calib.dl2 import open_block
from arraycal.calib.errors import CannotCompute
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.cli import main as command
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.job import prepare_job
from arraycal.flows.jobs.parameters import CalibrateParameters, NightOptions
from arraycal.flows.night.find_blocks import night_folder

LAYOUT = "/configuration/instrument/subarray/layout"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["run", "energy-inter", "x", "--ouput", "y"],
            "unknown option --ouput; did you mean --output?",
        ),
        (["run", "energy-inter", "x", "--output", "y", "--overwrit"], "did you mean --overwrite?"),
        (["run", "energy-inter", "x", "--output=y", "--conf=z"], "did you mean --config?"),
        (["simulate", "x", "--shower", "5"], "did you mean --showers?"),
        (["nightly", "--nigt", "2026-03-01"], "did you mean --night?"),
        (["check", "x", "--zzzzzz"], "unknown option --zzzzzz\n"),
    ],
)
def test_an_option_that_there_is_not_is_named(words, text, capsys):
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert text in shown
    assert "required" not in shown


@pytest.mark.parametrize("long", ["o" * 5000, "/".join(["p" * 200] * 40)])
def test_a_path_that_is_too_long_is_wrong_usage(simulated, tmp_path, long, capsys):
    for words in (
        ["run", "energy-inter", str(simulated), "--output", str(tmp_path / long), "--direct"],
        ["run", "energy-inter", str(tmp_path / long), "--output", str(tmp_path), "--direct"],
        ["check", str(tmp_path / long)],
        ["simulate", str(tmp_path / long)],
    ):
        assert main(words) == 2, words[0]
    assert "File name too long" in capsys.readouterr().err


def test_a_library_that_cannot_be_loaded_is_one_sentence(monkeypatch, capsys):
    def fail(*_):
        raise ImportError("libx.so: failed to map segment from shared object")

    monkeypatch.setitem(command.COMMANDS, "presets", fail)
    assert main(["presets"]) == 1
    shown = capsys.readouterr().err
    assert "too little memory" in shown
    assert shown.count("\n") == 1


def test_types_that_contradict_the_descriptions_are_refused(block):
    with h5py.File(block, "a") as file:
        rows = file[LAYOUT][()]
        rows["type"][rows["tel_id"] == 1] = b"MST"
        file[LAYOUT][:] = rows
    with pytest.raises(
        CannotCompute, match="telescope 1 has the type MST, and its description LST"
    ):
        open_block(block)


def test_a_simulation_does_not_go_among_other_files(tmp_path, capsys):
    words = [
        "simulate",
        str(tmp_path / "a"),
        "--array",
        "north",
        "--showers",
        "20",
        "--blocks",
        "1",
    ]
    assert main(words) == 0
    assert main(words) == 2  # a night is there already
    assert main([*words, "--overwrite"]) == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("mine")
    words[1] = str(tmp_path / "b")
    capsys.readouterr()
    assert main(words) == 2
    assert "holds other files (thesis.tex)" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert (tmp_path / "b" / "thesis.tex").read_text() == "mine"


def test_check_does_not_promise_a_result_of_six_showers(tmp_path, capsys):
    words = ["simulate", str(tmp_path / "a"), "--array", "north", "--showers", "6", "--blocks", "1"]
    assert main(words) == 0
    assert main(["check", str(tmp_path / "a")]) == 0
    lines = capsys.readouterr().out.splitlines()
    # The peer is content with 2 showers; our presets ask for 10 and more, clocks for 50.
    promised = [line for line in lines if line.endswith("can be run")]
    assert promised
    assert all("-peer" in line for line in promised)
    assert sum("too few events" in line for line in lines) == 4


def test_check_offers_no_energy_for_a_missing_gammaness(block, capsys):
    with h5py.File(block, "a") as file:
        for group in ("/dl2/event/telescope", "/dl2/event/subarray"):
            del file[f"{group}/particle_type"]
    main(["check", str(block)])
    shown = capsys.readouterr().out
    assert "tel_prediction" in shown
    assert "did you mean" not in shown


OWN = ("history.sqlite", "history.sqlite-wal", "index.html", "night.json", "a/history.sqlite/b")


@pytest.mark.parametrize("output", OWN)
def test_results_never_go_where_a_file_of_ours_belongs(simulated, tmp_path, output):
    settings = Settings(output_root=tmp_path / "out")
    parameters = CalibrateParameters(blocks=[str(simulated)], output=output)
    with pytest.raises(ConfigurationError, match="the name of a file that arraycal writes"):
        prepare_job(parameters, settings)
    with pytest.raises(ConfigurationError, match="the name of a file that arraycal writes"):
        night_folder(date(2026, 3, 1), NightOptions(output=output), settings)


def test_results_never_go_where_the_history_is(simulated, tmp_path):
    settings = Settings(
        output_root=tmp_path, database_url=f"sqlite:///{tmp_path}/mine.db", data_root=None
    )
    for output in ("mine.db", "mine.db-wal/x", "./mine.db"):
        with pytest.raises(ConfigurationError, match="in the place of the history"):
            prepare_job(CalibrateParameters(blocks=[str(simulated)], output=output), settings)
    job = prepare_job(CalibrateParameters(blocks=[str(simulated)], output="mine"), settings)
    assert job.output == tmp_path / "mine"


def test_products_among_the_blocks_are_left_out_and_named(night, tmp_path, lenient, capsys):
    first = ["run", "energy-inter", str(night), "--output", str(tmp_path / "inter"), "--direct"]
    assert main([*first, *lenient]) == 0
    inter = night / "inter_calibration.h5"
    inter.write_bytes((tmp_path / "inter" / "monitoring.h5").read_bytes())
    other = night / "renamed.h5"
    other.write_bytes(inter.read_bytes())
    with h5py.File(night / "asymmetries.h5", "w") as file:
        file["/energy_asymmetry/events"] = np.zeros(1, [("obs_id", "i4")])
    with h5py.File(night / "peer.h5", "w") as file:
        file["/dl2/monitoring/subarray/inter_calibration"] = np.zeros(1, [("tel_id", "i4")])
    out = tmp_path / "cross"
    words = ["run", "energy-inter", str(night / "*.h5"), "--output", str(out), "--direct"]
    capsys.readouterr()
    assert main([*words, *lenient]) == 0
    blocks = json.loads((out / "result.json").read_text())["blocks"]
    assert sorted(Path(item["path"]).name for item in blocks) == [
        "block_1001.dl2.h5",
        "block_1002.dl2.h5",
    ]
    with pytest.raises(
        ConfigurationError, match="expected a block of DL2 events, found a file that"
    ):
        prepare_job(CalibrateParameters(blocks=[str(other)], output=str(out)), Settings())


def test_files_of_other_options_are_no_blocks(night, tmp_path, caplog):
    inter = night / "inter.h5"
    inter.write_bytes(b"anything")
    parameters = CalibrateParameters(
        calibration="energy-cross",
        blocks=[str(night / "*.h5")],
        output=str(tmp_path),
        inter=str(inter),
        overrides=["CalculateCrossCalibration.method=three_step"],
    )
    job = prepare_job(parameters, Settings())
    assert inter not in job.blocks
    assert len(job.blocks) == 2
    assert "inter.h5 is left out: it is the file that inter_calibration names" in caplog.text
