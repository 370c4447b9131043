"""`arraycal apply` on a simulated night: files, exit statuses, messages."""

import os
import resource
import shutil
import subprocess
import sys
from hashlib import sha256

import h5py
import numpy as np
import pytest
from astropy.table import Table

from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.flows.cli.main import main

LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)
ENERGY = "RandomForestRegressor_tel_energy"
INTER = "/dl2/monitoring/subarray/inter_calibration"
TIMING = "/dl2/monitoring/subarray/timing_calibration"


@pytest.fixture(scope="module")
def calibrated(blocks, cache_root, tmp_path_factory):
    """Folder of a calibration of the night."""
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRAYCAL_CACHE_ROOT", str(cache_root))
        options = [item for text in LENIENT for item in ("--set", text)]
        texts = [str(block) for block in blocks]
        assert (
            main(["run", "energy-inter", *texts, "--output", str(folder), "--direct", *options])
            == 0
        )
    return folder


@pytest.fixture
def foreign(tmp_path):
    """Coefficients of another program: no companion, and no LST 4."""

    def make(path=INTER, number="value", unit=""):
        file_path = tmp_path / "foreign.h5"
        file_path.unlink(missing_ok=True)
        with create_file(file_path) as file:
            tel_ids = np.array([1, 2, 3, *range(5, 14)])
            columns = {
                "tel_type": Column(np.array(["LST"] * 3 + ["MST"] * 9)),
                "tel_id": Column(tel_ids),
                number: Column(np.linspace(0.9, 1.1, 12), unit),
                "error": Column(np.full(12, 0.01), unit),
            }
            write_table(file, path, columns, {"obs_id": np.array([7], np.uint64)})
        return file_path

    return make


def apply(*arguments):
    return main(["apply", *map(str, arguments)])


def digests(paths):
    return [sha256(path.read_bytes()).hexdigest() for path in paths]


def read(path, name):
    with open_file(path) as file:
        table = require_table(file, name, path)
        rows = table.read()
        return {column: table.column(column, rows) for column in table.columns}


def test_a_night_is_corrected_beside_its_blocks(night, blocks, calibrated, tmp_path, capsys):
    before = digests([*blocks, calibrated / "monitoring.h5"])
    assert apply(calibrated, night, "--output", tmp_path / "out") == 0
    assert digests([*blocks, calibrated / "monitoring.h5"]) == before
    shown = capsys.readouterr()
    for block in blocks:
        output = tmp_path / "out" / block.name.replace(".dl2.h5", ".corrected.h5")
        assert str(output) in shown.out
        value = read(calibrated / "monitoring.h5", INTER)
        factor = dict(zip(value["tel_id"].tolist(), value["value"].tolist(), strict=True))[1]
        rows = read(output, "/dl2/event/telescope/energy/RandomForestRegressor/tel_001")
        np.testing.assert_allclose(rows[f"{ENERGY}_corrected"], rows[ENERGY] / factor, rtol=1e-14)
    assert "normal practice" not in shown.out
    assert shown.err.count("rows corrected") == 2


def test_outputs_are_replaced_only_on_request(blocks, calibrated, tmp_path, capsys):
    arguments = (calibrated, blocks[0], "--output", tmp_path)
    assert apply(*arguments) == 0
    (output,) = tmp_path.glob("*.corrected.h5")
    before = digests([output])
    assert apply(*arguments) == 2
    assert "already holds" in capsys.readouterr().err
    assert digests([output]) == before
    assert apply(*arguments, "--overwrite") == 0


def test_coefficients_of_another_program_need_a_quantity(blocks, foreign, tmp_path, capsys):
    path = foreign()
    assert apply(path, blocks[0], "--output", tmp_path / "out") == 2
    assert "--quantity energy or --quantity size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert apply(path, blocks[0], "--output", tmp_path / "out", "--quantity", "size") == 3
    shown = capsys.readouterr().out
    assert "4: the file of coefficients does not name it" in shown
    assert "from obs_id 7, not from obs_id 1001: normal practice" in shown
    (output,) = (tmp_path / "out").glob("*.h5")
    rows = read(output, "/dl1/event/telescope/parameters/tel_001")
    np.testing.assert_allclose(rows["hillas_intensity_corrected"], rows["hillas_intensity"] / 0.9)
    lost = read(output, "/dl1/event/telescope/parameters/tel_004")
    assert np.isnan(lost["hillas_intensity_corrected"]).all()
    assert len(lost["hillas_intensity"]) > 0


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("hillas_width", "the coefficients belong to energy, column hillas_width does not"),
        ("Other_tel_energy", "it has no column Other_tel_energy to correct; per telescope it has"),
    ],
)
def test_a_column_that_cannot_be_corrected_is_wrong_usage_and_nothing_is_written(
    column, why, blocks, calibrated, tmp_path, capsys
):
    output = tmp_path / "out"
    assert apply(calibrated, *blocks, "--output", output, "--column", column) == 2
    assert why in capsys.readouterr().err
    assert not output.exists()


def test_a_column_that_one_block_has_is_no_wrong_usage(blocks, calibrated, text_file, tmp_path):
    arguments = (calibrated, text_file, blocks[0], "--output", tmp_path, "--column", ENERGY)
    assert apply(*arguments) == 3


def test_coefficients_that_are_all_1_with_unknown_errors_are_a_failed_fit(
    blocks, foreign, tmp_path, capsys
):
    path = foreign()
    with h5py.File(path, "r+") as file:
        rows = file[INTER][:]
        rows["value"], rows["error"] = 1, np.nan
        file[INTER][...] = rows
    output = tmp_path / "out"
    assert apply(path, blocks[0], "--output", output, "--quantity", "energy") == 4
    assert "all 12 coefficients" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_blocks_may_stand_behind_options(place, blocks, calibrated, tmp_path):
    words = [["--output", tmp_path / "out"], ["--column", ENERGY]]
    words.insert(place, [calibrated, *blocks])
    assert apply(*(word for group in words for word in group)) == 0
    words = [[calibrated], ["--output", tmp_path / "more"], [blocks[0]]]
    assert apply(*(word for group in words for word in group)) == 0
    assert len(list((tmp_path / "more").glob("*.corrected.h5"))) == 1


def test_clocks_are_corrected(blocks, foreign, tmp_path):
    path = foreign(TIMING, "offset", "us")
    assert apply(path, blocks[0], "--output", tmp_path / "out") == 3
    (output,) = (tmp_path / "out").glob("*.h5")
    rows = read(output, "/dl1/event/telescope/trigger")
    mine = rows["tel_id"] == 1
    difference = (rows["time"].astype(np.int64) - rows["time_corrected"])[mine] @ [4_000_000_000, 1]
    assert set(difference.tolist()) == {3600}  # 0.9 us in quarter nanoseconds


def test_a_bad_block_costs_itself_alone(blocks, calibrated, text_file, tmp_path, capsys):
    empty, missing = tmp_path / "empty.h5", tmp_path / "missing.h5"
    empty.touch()
    output = tmp_path / "out"
    assert apply(calibrated, text_file, empty, missing, blocks[0], "--output", output) == 3
    shown = capsys.readouterr()
    for words in ("not a readable HDF5 file", "0 bytes", "found nothing"):
        assert words in shown.err
    assert [path.name for path in output.glob("*.h5")] == ["block_1001.corrected.h5"]
    assert apply(calibrated, text_file, empty, "--output", tmp_path / "none") == 4
    assert list((tmp_path / "none").glob("*.h5")) == []


def test_inputs_are_never_outputs(blocks, calibrated, tmp_path, capsys):
    block = tmp_path / "block.corrected.h5"
    shutil.copy(blocks[0], block)
    link = tmp_path / "block.h5"
    link.symlink_to(block)
    before = digests([block])
    arguments = (calibrated, link, "--output", tmp_path, "--overwrite")
    assert apply(*arguments) == 2
    assert "is an input" in capsys.readouterr().err
    assert digests([block]) == before


def test_blocks_of_one_name_do_not_overwrite_each_other(blocks, calibrated, tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
        shutil.copy(blocks[0], tmp_path / name / "block.h5")
    out = tmp_path / "out"
    assert apply(calibrated, tmp_path / "a", tmp_path / "b", "--output", out) == 2
    assert "more than one block would become block.corrected.h5" in capsys.readouterr().err


def test_a_lookup_table_is_written_without_any_block(foreign, tmp_path):
    path = foreign()
    assert apply(path, "--lookup", "--output", tmp_path / "out", "--quantity", "energy") == 0
    table = Table.read(tmp_path / "out" / "lookup.ecsv")
    assert table.meta["quantity"] == "energy"
    assert str(path) in table.meta["provenance"]["inputs"]
    assert table["tel_id"].tolist()[:4] == [1, 2, 3, 5]
    np.testing.assert_allclose(table["factor"][0], 1 / 0.9)
    np.testing.assert_allclose(table["factor_error"][0], 0.01 / 0.81)  # d(1/c) = dc / c**2
    same = read(tmp_path / "out" / "lookup.h5", "/dl2/service/arraycal/apply/factors")
    np.testing.assert_array_equal(same["factor"], table["factor"])
    assert apply(path, "--lookup", "--output", tmp_path / "out", "--quantity", "energy") == 2


def test_a_lookup_table_of_clocks_has_units(foreign, tmp_path):
    path = foreign(TIMING, "offset", "ns")
    assert apply(path, "--lookup", "--output", tmp_path) == 0
    table = Table.read(tmp_path / "lookup.ecsv")
    assert [str(table[name].unit) for name in ("offset", "error", "offset_applied")] == ["ns"] * 3
    assert table["offset_applied"][0] == 1.0  # 0.9 ns in whole quarters


def test_a_table_or_blocks_but_not_both_and_not_neither(blocks, calibrated, tmp_path, capsys):
    assert apply(calibrated, blocks[0], "--lookup", "--output", tmp_path) == 2
    assert apply(calibrated, "--output", tmp_path) == 2
    shown = capsys.readouterr().err
    assert "leave them out" in shown
    assert "no block is given" in shown


def test_bad_coefficients_have_their_own_statuses(blocks, text_file, tmp_path, capsys):
    assert apply(tmp_path / "none.h5", blocks[0], "--output", tmp_path / "out") == 2
    assert apply(text_file, blocks[0], "--output", tmp_path / "out") == 4
    assert apply(blocks[0], blocks[0], "--output", tmp_path / "out") == 4
    assert "there is no table of coefficients" in capsys.readouterr().err


def test_paths_stay_inside_their_roots(night, calibrated, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", str(night))
    monkeypatch.setenv("ARRAYCAL_OUTPUT_ROOT", str(calibrated))
    # Coefficients are an output of ours, so they may lie there.
    for number, coefficients in enumerate(("monitoring.h5", calibrated)):
        assert apply(coefficients, "*.dl2.h5", "--output", f"corrected{number}") == 0
        assert len(list((calibrated / f"corrected{number}").glob("*.corrected.h5"))) == 2
    capsys.readouterr()
    assert apply(calibrated, "*.dl2.h5", "--output", tmp_path / "out") == 2
    assert apply(calibrated, tmp_path, "--output", "more") == 2
    (tmp_path / "monitoring.h5").touch()
    assert apply(tmp_path / "monitoring.h5", "*.dl2.h5", "--output", "more") == 2
    assert capsys.readouterr().err.count("lies outside") == 3


def test_files_of_corrected_values_are_no_blocks_of_a_folder(blocks, calibrated, tmp_path):
    shutil.copy(blocks[0], tmp_path / "block.h5")
    assert apply(calibrated, tmp_path, "--output", tmp_path) == 0
    assert apply(calibrated, tmp_path, "--output", tmp_path, "--overwrite") == 0
    assert [path.name for path in tmp_path.glob("*.corrected.h5")] == ["block.corrected.h5"]


def test_a_full_disk_is_explained_and_leaves_nothing_behind(blocks, calibrated, tmp_path):
    command = [
        sys.executable,
        "-m",
        "arraycal.flows.cli.main",
        "apply",
        calibrated,
        blocks[0],
        "--output",
        tmp_path,
    ]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1, done.stderr
    assert "cannot be written: File too large. Nothing half-written is left" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["arraycal.log"]
