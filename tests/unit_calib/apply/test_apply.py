"""Corrections of single blocks: every row, every reason, and the block untouched."""

import errno
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib import dl2
from arraycal.calib.apply.block import apply_to_block
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.hdf5.writing import Column
from arraycal.calib.monitoring.correction import correct_stamps, corrections
from arraycal.calib.monitoring.read_coefficients import COEFFICIENTS, Coefficients

ENERGY = "RandomForestRegressor"
TEL_ENERGY = f"/dl2/event/telescope/energy/{ENERGY}"
LAYOUT = "/configuration/instrument/subarray/layout"
COLUMN = f"{ENERGY}_tel_energy"
QUANTA_PER_S = 4_000_000_000
TELESCOPE_TRIGGER = "/dl1/event/telescope/trigger"
#: All telescopes of the block but 12, which has no coefficient.
VALUES = {4: 1.25, 7: 0.8, 11: 2.0, 561: 1.0}
TYPES = {4: "LST", 7: "LST", 11: "MST", 561: "MST", 12: "MST"}


@pytest.fixture
def make_coefficients(tmp_path):
    def make(values=VALUES, quantity="energy", columns=(COLUMN,), slope=1.0, **changes):
        rows = [
            (tel_id, TYPES.get(tel_id, "SST"), value, 0.02, "", np.nan, np.nan, np.nan)
            for tel_id, value in values.items()
        ]
        path = tmp_path / "monitoring.h5"
        path.touch()
        return replace(
            Coefficients(
                path=path,
                table="/dl2/monitoring/subarray/inter_calibration",
                calibration="energy-inter",
                quantity=quantity,
                columns=columns,
                slope=slope,
                obs_ids=(1,),
                telescopes=pl.DataFrame(rows, schema=COEFFICIENTS, orient="row"),
                digest="abc",
            ),
            **changes,
        )

    return make


@pytest.fixture
def apply(tmp_path):
    def run(path, coefficients):
        output = tmp_path / "out" / "block.corrected.h5"
        return apply_to_block(path, coefficients, output, {"command": "test"}, tmp_path / "cache")

    return run


def table(path, name):
    with open_file(path) as file:
        stored = require_table(file, name, path)
        rows = stored.read()
        return {column: stored.column(column, rows) for column in stored.columns}


def corrected(outcome, tel_id):
    return table(outcome.output, f"{TEL_ENERGY}/tel_{tel_id:03d}")


def left_behind(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_energies_are_divided_by_the_coefficient_and_the_block_stays_as_it_is(
    make_block, make_coefficients, apply
):
    path = make_block().write()
    before = path.read_bytes()
    outcome = apply(path, make_coefficients())
    assert outcome.status == "ok"
    assert path.read_bytes() == before
    for tel_id, value in VALUES.items():
        original, found = table(path, f"{TEL_ENERGY}/tel_{tel_id:03d}"), corrected(outcome, tel_id)
        for name in ("obs_id", "event_id", "tel_id", COLUMN, f"{ENERGY}_tel_is_valid"):
            np.testing.assert_array_equal(found[name], original[name])
        np.testing.assert_allclose(
            found[f"{COLUMN}_corrected"], original[COLUMN] / value, rtol=1e-15
        )


def test_uncertainties_are_scaled_likewise(make_block, make_coefficients, apply):
    file = make_block()
    name = f"{TEL_ENERGY}/tel_004"
    energy = file.tables[name][COLUMN].data
    file.set_data(name, f"{COLUMN}_uncert", 0.1 * energy)
    found = corrected(apply(file.write(), make_coefficients()), 4)
    np.testing.assert_allclose(found[f"{COLUMN}_uncert_corrected"], 0.1 * energy / 1.25, rtol=1e-15)


def test_the_response_slope_is_the_power_of_the_coefficient(make_block, make_coefficients, apply):
    found = corrected(apply(make_block().write(), make_coefficients(slope=2.0)), 4)
    # 1.25 ** 2 = 1.5625
    np.testing.assert_allclose(found[f"{COLUMN}_corrected"], found[COLUMN] / 1.5625, rtol=1e-15)
    factor = corrections(make_coefficients(slope=2.0)).row(0, named=True)
    assert factor["factor"] == pytest.approx(0.64)
    # d(c ** -2) = 2 c ** -3 dc = 2 * 0.512 * 0.02
    assert factor["factor_error"] == pytest.approx(0.02048)


def test_rows_of_a_telescope_without_coefficient_are_kept_and_counted(
    make_block, make_coefficients, apply
):
    file = make_block()
    outcome = apply(file.write(), make_coefficients())
    found = corrected(outcome, 12)
    n_rows = file.rows.filter(pl.col("tel_id") == 12).height
    assert len(found[COLUMN]) == n_rows > 0
    assert np.isnan(found[f"{COLUMN}_corrected"]).all()
    counts = {row["tel_id"]: row for row in outcome.counts.iter_rows(named=True)}
    assert counts[12]["uncorrected"] == counts[12]["rows"] == n_rows
    assert counts[12]["reason"] == "the file of coefficients does not name it"
    assert counts[4]["corrected"] == counts[4]["rows"]
    assert outcome.counts["rows"].sum() == len(file.rows)
    assert not outcome.complete


def test_rows_without_an_energy_are_not_blamed_on_the_coefficient(
    make_block, make_coefficients, apply
):
    file = make_block()
    name = f"{TEL_ENERGY}/tel_004"
    energy = file.tables[name][COLUMN].data.copy()
    energy[:3] = np.nan
    file.set_data(name, COLUMN, energy)
    outcome = apply(file.write(), make_coefficients(VALUES | {12: 1.0}))
    row = outcome.counts.filter(pl.col("tel_id") == 4).row(0, named=True)
    assert (row["no_value"], row["uncorrected"]) == (3, 0)
    assert outcome.complete


@pytest.mark.usefixtures("read_no_further_than_a_window")
def test_windows_of_any_size_give_the_same_file(
    make_block, make_rows, make_coefficients, apply, monkeypatch
):
    path = make_block(make_rows(n_showers=400)).write(chunk_bytes=512)
    whole = corrected(apply(path, make_coefficients()), 7)
    windows = dl2.windows
    monkeypatch.setattr(dl2, "windows", lambda *args, **options: windows(*args, rows=50, **options))
    parts = corrected(apply(path, make_coefficients()), 7)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


@pytest.mark.usefixtures("read_no_further_than_a_window")
def test_a_file_out_of_order_is_read_again_at_once(
    make_block, make_rows, make_coefficients, apply, monkeypatch
):
    file = make_block(make_rows(n_showers=400))
    name = f"{TEL_ENERGY}/tel_007"
    file.select(name, slice(None, None, -1))
    path = file.write(chunk_bytes=512)
    windows = dl2.windows
    monkeypatch.setattr(dl2, "windows", lambda *args, **options: windows(*args, rows=50, **options))
    found = corrected(apply(path, make_coefficients()), 7)
    assert np.all(np.diff(found["event_id"]) > 0)
    assert len(found["event_id"]) == file.rows.filter(pl.col("tel_id") == 7).height


def test_repeated_rows_come_once_and_are_counted(make_block, make_coefficients, apply):
    file = make_block()
    name = f"{TEL_ENERGY}/tel_004"
    n = len(file.tables[name][COLUMN].data)
    file.select(name, [0, 0, *range(1, n)])
    outcome = apply(file.write(), make_coefficients())
    assert outcome.repeated == 1
    assert len(corrected(outcome, 4)["event_id"]) == n


def test_sizes_are_found_under_either_name(make_block, make_coefficients, apply):
    coefficients = make_coefficients(
        quantity="size", columns=("hillas_intensity", "camera_frame_hillas_intensity")
    )
    for name in ("hillas_intensity", "camera_frame_hillas_intensity"):
        file = make_block(name=f"{name}.dl2.h5")
        energies = file.tables[f"{TEL_ENERGY}/tel_004"]
        group = "/dl1/event/telescope/parameters/tel_004"
        size = 100 + np.arange(len(energies[COLUMN].data), dtype=np.float64)
        keys = {key: energies[key] for key in ("obs_id", "event_id", "tel_id")}
        file.tables[group] = keys | {name: Column(size)}
        outcome = apply(file.write(), coefficients)
        assert outcome.column == name
        np.testing.assert_allclose(table(outcome.output, group)[f"{name}_corrected"], size / 1.25)


def test_a_block_without_the_column_says_which_it_has(make_block, make_coefficients, apply):
    outcome = apply(make_block().write(), make_coefficients(columns=("Other_tel_energy",)))
    assert outcome.status == "failed"
    assert "no column Other_tel_energy" in outcome.reason
    assert COLUMN in outcome.reason


def test_a_failed_block_leaves_nothing(make_block, make_coefficients, apply, tmp_path):
    path = make_block().write()
    content = bytearray(path.read_bytes())
    with open_file(path) as file:
        dataset = require_table(file, f"{TEL_ENERGY}/tel_004", path).dataset
        start, size = dataset.get_chunk_info(0)[2:4]
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    outcome = apply(path, make_coefficients())
    assert outcome.status == "failed"
    assert "cannot be read, the file is damaged" in outcome.reason
    assert left_behind(tmp_path / "out") == []


def test_a_failed_block_leaves_an_older_output_as_it_was(make_coefficients, apply, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "block.corrected.h5").write_text("older")
    (tmp_path / "block.h5").write_text("no block")
    assert apply(tmp_path / "block.h5", make_coefficients()).status == "failed"
    assert (tmp_path / "out" / "block.corrected.h5").read_text() == "older"


def test_a_block_without_rows_is_empty_and_not_failed(
    make_block, make_coefficients, apply, tmp_path
):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        file.select(name, slice(0))
    outcome = apply(file.write(), make_coefficients())
    assert (outcome.status, outcome.output) == ("empty", None)
    assert "no telescope has a row" in outcome.reason
    assert left_behind(tmp_path / "out") == []


def test_corrected_values_are_not_corrected_again(make_block, make_coefficients, apply):
    outcome = apply(make_block().write(), make_coefficients())
    again = apply(outcome.output, make_coefficients())
    assert again.status == "failed"
    assert "holds corrected values already" in again.reason


def test_a_block_that_is_written_to_is_left_out(
    make_block, make_coefficients, apply, monkeypatch, tmp_path
):
    path = make_block().write()
    windows = dl2.windows

    def touched(*args, **options):
        yield from windows(*args, **options)
        with path.open("ab") as stream:
            stream.write(b"more")

    monkeypatch.setattr(dl2, "windows", touched)
    assert "changed while it was read" in apply(path, make_coefficients()).reason
    assert left_behind(tmp_path / "out") == []


def test_coefficients_of_other_observations_are_remarked_upon(make_block, make_coefficients, apply):
    path = make_block().write()
    assert apply(path, make_coefficients()).remarks == ()
    (remark,) = apply(path, make_coefficients(obs_ids=(7, 8))).remarks
    assert "from obs_id 7, 8, not from obs_id 1: normal practice" in remark


def test_coefficients_of_another_array_are_refused(make_block, make_coefficients, apply):
    path = make_block().write()
    strangers = apply(path, make_coefficients({99: 1.0}))
    assert "none of its telescopes" in strangers.reason
    other = make_coefficients().telescopes.with_columns(tel_type=pl.lit("SST"))
    typed = apply(path, make_coefficients(telescopes=other))
    assert "telescopes [4, 7, 11, 561] are of another type" in typed.reason


def test_a_telescope_that_stands_elsewhere_is_another_telescope(
    make_block, make_coefficients, apply
):
    file = make_block()
    layout = file.tables[LAYOUT]
    places = pl.DataFrame(
        {"tel_id": layout["tel_id"].data.astype(np.int64)}
        | {f"pos_{axis}": layout[f"pos_{axis}"].data.astype(float) for axis in "xyz"}
    )
    known = make_coefficients()
    telescopes = known.telescopes.drop("pos_x", "pos_y", "pos_z").join(places, on="tel_id")
    path = file.write()
    surveyed = telescopes.with_columns(pl.col("pos_x") + 0.1)
    assert apply(path, replace(known, telescopes=surveyed)).status == "ok"
    moved = telescopes.with_columns(
        pl.when(pl.col("tel_id") == 7).then(pl.col("pos_x") + 20).otherwise("pos_x").alias("pos_x")
    )
    outcome = apply(path, replace(known, telescopes=moved))
    assert "telescopes [7] stand more than 1 m away" in outcome.reason


def test_a_block_of_a_part_of_the_array_is_corrected(make_block, make_coefficients, apply):
    outcome = apply(make_block().write(), make_coefficients(VALUES | {900: 1.1}))
    assert outcome.status == "ok"
    assert any("telescopes [900]" in remark for remark in outcome.remarks)


def test_a_folder_that_cannot_be_written_is_explained(
    make_block, make_coefficients, apply, tmp_path, monkeypatch
):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("arraycal.calib.hdf5.writing._append_rows", full)
    monkeypatch.setattr("arraycal.calib.hdf5.writing.write_table", full)
    with pytest.raises(OSError, match=r"No space left on device\. Nothing half-written") as caught:
        apply(make_block().write(), make_coefficients())
    assert caught.value.errno == errno.ENOSPC
    assert left_behind(tmp_path / "out") == []


def test_the_output_says_what_was_done_with_what(make_block, make_coefficients, apply):
    path = make_block().write()
    outcome = apply(path, make_coefficients())
    service = "/dl2/service/arraycal/apply"
    said = table(outcome.output, f"{service}/provenance")
    facts = dict(zip(said["key"].tolist(), said["value"].tolist(), strict=True))
    assert facts["command"] == "test"
    assert str(path) in facts["inputs"]
    assert "abc" in facts["inputs"]
    factors = table(outcome.output, f"{service}/factors")
    assert factors["tel_id"].tolist() == [4, 7, 11, 12, 561]
    assert factors["factor"][:3].tolist() == pytest.approx([0.8, 1.25, 0.5])
    assert table(outcome.output, f"{service}/counts")["tel_id"].size == 5


# Times


def as_quanta(stamps):
    """Whole quarter nanoseconds as Python integers, which have no largest one."""
    return [int(s) * QUANTA_PER_S + int(q) for s, q in stamps]


@given(
    st.lists(
        st.tuples(
            st.integers(2, 2**32 - 2),
            st.integers(0, QUANTA_PER_S - 1),
            # Up to a second: beyond it no clock of a camera is off.
            st.integers(-QUANTA_PER_S, QUANTA_PER_S),
        ),
        min_size=1,
    )
)
def test_stamps_are_corrected_exactly(rows):
    stamps = np.array([row[:2] for row in rows], np.uint32)
    shift = np.array([row[2] for row in rows])
    found = correct_stamps(stamps, shift / 4)
    assert as_quanta(found) == [t - int(s) for t, s in zip(as_quanta(stamps), shift, strict=True)]
    assert found[:, 1].max() < QUANTA_PER_S


def test_a_stamp_without_offset_and_one_that_is_none_become_none():
    stamps = np.array([[5, 5], [0, 0]], np.uint32)
    assert not correct_stamps(stamps, np.array([np.nan, 3.0])).any()


def test_stamps_that_can_be_none_are_refused():
    with pytest.raises(CannotCompute, match="a second has 4,000,000,000"):
        correct_stamps(np.array([[5, QUANTA_PER_S]], np.uint32), np.zeros(1))
    with pytest.raises(CannotCompute, match="1970 to 2106"):
        correct_stamps(np.array([[0, 1]], np.uint32), np.ones(1))


def timed(file, time_format="ctao_high_res"):
    rows = file.rows.sort("obs_id", "event_id", "tel_id")
    n = len(rows)
    seconds, quanta = np.full(n, 1_700_000_000), np.arange(n) % 2 * (QUANTA_PER_S - 1)
    file.tables[TELESCOPE_TRIGGER] = {
        "obs_id": Column(rows["obs_id"].to_numpy().astype(np.int32)),
        "event_id": Column(rows["event_id"].to_numpy()),
        "tel_id": Column(rows["tel_id"].to_numpy().astype(np.int16)),
        "time": Column(np.stack([seconds, quanta], 1).astype(np.uint32), time_format=time_format),
    }
    return file


def test_stamps_of_a_block_lose_the_offset_of_their_telescope(make_block, make_coefficients, apply):
    offsets = {4: 1.0, 7: -1.0, 11: 0.1, 561: 250.25}
    quanta = {4: 4, 7: -4, 11: 0, 561: 1001}  # 0.1 ns is less than half a quarter
    file = timed(make_block())
    outcome = apply(file.write(), make_coefficients(offsets, quantity="time", columns=("time",)))
    found = table(outcome.output, TELESCOPE_TRIGGER)
    np.testing.assert_array_equal(found["time"], file.tables[TELESCOPE_TRIGGER]["time"].data)
    for tel_id, shift in quanta.items():
        mine = found["tel_id"] == tel_id
        assert mine.any()
        before, after = as_quanta(found["time"][mine]), as_quanta(found["time_corrected"][mine])
        assert {a - b for a, b in zip(before, after, strict=True)} == {shift}
    assert not found["time_corrected"][found["tel_id"] == 12].any()
    row = outcome.counts.filter(pl.col("tel_id") == 12).row(0, named=True)
    assert row["uncorrected"] == row["rows"] > 0


def test_stamps_rounded_to_a_microsecond_are_refused(make_block, make_coefficients, apply):
    file = timed(make_block(), time_format="mjd")
    file.set_data(TELESCOPE_TRIGGER, "time", np.full(len(file.rows), 59000.0))
    outcome = apply(file.write(), make_coefficients(quantity="time", columns=("time",)))
    assert "time of /dl1/event/telescope/trigger is mjd" in outcome.reason


def test_a_block_without_trigger_times_fails(make_block, make_coefficients, apply):
    outcome = apply(make_block().write(), make_coefficients(quantity="time", columns=("time",)))
    assert outcome.status == "failed"
    assert "table /dl1/event/telescope/trigger is missing" in outcome.reason
