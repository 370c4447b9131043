"""The event-wise asymmetry file of ctao-calibpipe: written, read back, and damaged."""

from pathlib import Path

import astropy.units as u
import h5py
import numpy as np
import polars as pl
import pytest
from astropy.table import QTable
from hypothesis import given
from hypothesis import strategies as st
from toy_pairs import Toy, toy_pairs

from arraycal.calib.errors import CannotCompute, NothingToDo
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.observables.definition import LOG_RATIO_STATISTIC
from arraycal.calib.pairs.exchange import (
    is_asymmetry_file,
    read_asymmetries,
    telescopes_of,
    write_asymmetries,
)
from arraycal.calib.schema import PAIRS

VALUE = "RandomForestRegressor_tel_energy"
EVENTS = "/energy_asymmetry/events"
#: What an exchange file does not carry.
IMPACT = ("impact_1_m", "impact_2_m")


def make_pairs(rows):
    """PAIRS of (event_id, tel_id_1, tel_id_2, value_1, value_2)."""
    names = ["event_id", "tel_id_1", "tel_id_2", "value_1", "value_2"]
    return (
        pl.DataFrame(rows, schema=names, orient="row")
        .with_columns(
            obs_id=pl.lit(7),
            tel_type=pl.lit("LST"),
            uncertainty_1=0.1 * pl.col("value_1"),
            uncertainty_2=pl.lit(float("nan")),
            impact_1_m=pl.lit(float("nan")),
            impact_2_m=pl.lit(float("nan")),
        )
        .with_columns(*LOG_RATIO_STATISTIC)
        .select(pl.col(name).cast(dtype) for name, dtype in PAIRS.items())
    )


PAIR_ROWS = make_pairs([(1, 1, 2, 2.0, 1.0), (1, 1, 3, 2.0, 3.0), (2, 2, 3, 0.5, 0.25)])


def write(pairs, path):
    write_asymmetries(pairs, ENERGY_INTER, VALUE, path, unit="TeV")
    return path


def test_trigger_times_are_not_part_of_the_exchange(tmp_path):
    timed = PAIR_ROWS.with_columns(time_s=pl.lit(1.6e9))
    read, _ = read_asymmetries(write(timed, tmp_path / "a.h5"), ENERGY_INTER)
    plain, _ = read_asymmetries(write(PAIR_ROWS, tmp_path / "b.h5"), ENERGY_INTER)
    assert read.equals(plain)


def write_table(path, **changes):
    """Write a file by astropy alone, with columns replaced or (None) left out."""
    columns = {
        "obs_id": np.array([7, 7], np.int32),
        "event_id": np.array([1, 2]),
        "tel_type": np.array(["LST", "LST"]),
        "tel_id_1": np.array([1, 1], np.uint16),
        "tel_id_2": np.array([2, 2], np.uint16),
        f"{VALUE}_1": np.array([3.0, 1.0]) * u.TeV,
        f"{VALUE}_2": np.array([1.0, 1.0]) * u.TeV,
        "energy_asymmetry": np.array([0.5, 0.0]) * u.one,  # (3 - 1) / (3 + 1) and 0
    } | changes
    table = QTable({name: column for name, column in columns.items() if column is not None})
    table.meta["obs_id"] = np.array([7])
    table.write(path, format="hdf5", path=EVENTS, serialize_meta=True)
    return path


def test_what_is_written_is_read_back(tmp_path):
    pairs = toy_pairs(Toy([0.1, -0.1, 0.0], [0.2] * 3, n_showers=50, multiplicity=3), 3)
    read, rejected = read_asymmetries(write(pairs, tmp_path / "a.h5"), ENERGY_INTER)
    order = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]
    assert read.drop(IMPACT).equals(pairs.sort(order).drop(IMPACT))
    assert rejected["rows"].to_list() == [0]


@given(st.permutations(range(3)))
def test_row_order_changes_nothing(tmp_path_factory, order):
    path = tmp_path_factory.mktemp("order") / "a.h5"
    read, _ = read_asymmetries(write(PAIR_ROWS[list(order)], path), ENERGY_INTER)
    assert read.equals(PAIR_ROWS)


def test_the_file_has_the_peers_columns_units_and_metadata(tmp_path):
    path = write(PAIR_ROWS.lazy(), tmp_path / "a.h5")
    with h5py.File(path) as file:
        dtype = file[EVENTS].dtype
    expected = {
        "obs_id": "<i4",
        "event_id": "<i8",
        "tel_type": "|S3",
        "tel_id_1": "<u2",
        "tel_id_2": "<u2",
        f"{VALUE}_1": "<f8",
        f"{VALUE}_2": "<f8",
        "energy_asymmetry": "<f8",
        f"{VALUE}_uncert_1": "<f8",
        f"{VALUE}_uncert_2": "<f8",
        "energy_asymmetry_uncertainty": "<f8",
    }
    assert {name: dtype[name].str for name in dtype.names} == expected
    assert list(dtype.names) == list(expected)
    table = QTable.read(path, path=EVENTS, format="hdf5")
    assert table[f"{VALUE}_1"].unit == table[f"{VALUE}_uncert_2"].unit == u.TeV
    assert table["energy_asymmetry"].unit == u.one
    assert table.meta["obs_id"].tolist() == [7]
    assert table.meta["obs_id"].dtype == np.int32


def test_an_observation_beyond_32_bits_keeps_its_id(tmp_path):
    pairs = PAIR_ROWS.with_columns(obs_id=pl.lit(2**40))
    read, _ = read_asymmetries(write(pairs, tmp_path / "a.h5"), ENERGY_INTER)
    assert read["obs_id"].unique().to_list() == [2**40]


def test_a_file_without_rows_is_read(tmp_path):
    read, _ = read_asymmetries(write(PAIRS.to_frame(), tmp_path / "a.h5"), ENERGY_INTER)
    assert read.equals(PAIRS.to_frame())
    with pytest.raises(NothingToDo):
        telescopes_of(read)


def test_the_peers_empty_table_is_read(tmp_path):
    # It gives every column of an empty table the type float, the text column too.
    names = ("obs_id", "event_id", "tel_type", "tel_id_1", "tel_id_2", f"{VALUE}_1", f"{VALUE}_2")
    table = QTable(names=[*names, "energy_asymmetry"])
    path = tmp_path / "a.h5"
    table.write(path, format="hdf5", path=EVENTS, serialize_meta=True)
    assert read_asymmetries(path, ENERGY_INTER).pairs.is_empty()


def test_uncertainties_and_distances_that_are_not_there_are_nan(tmp_path):
    read, _ = read_asymmetries(write_table(tmp_path / "a.h5"), ENERGY_INTER)
    missing = [*IMPACT, "uncertainty_1", "uncertainty_2", "asymmetry_uncertainty"]
    assert read.select(pl.col(missing).is_nan().all()).row(0) == (True,) * 5
    assert read["log_ratio"].to_list() == [np.log(3.0), 0.0]


def test_another_unit_is_converted(tmp_path):
    values = {f"{VALUE}_{side}": np.array([1.0, 1.0]) * u.TeV for side in (1, 2)}
    values[f"{VALUE}_1"] = np.array([3000.0, 1000.0]) * u.GeV
    read, _ = read_asymmetries(write_table(tmp_path / "a.h5", **values), ENERGY_INTER)
    np.testing.assert_allclose(read["value_1"], [3.0, 1.0], rtol=1e-15)


def test_pairs_in_descending_order_are_turned_with_their_sign(tmp_path):
    turned = {"tel_id_1": np.array([2, 1], np.uint16), "tel_id_2": np.array([1, 2], np.uint16)}
    read, _ = read_asymmetries(write_table(tmp_path / "a.h5", **turned), ENERGY_INTER)
    assert read.select("tel_id_1", "tel_id_2").rows() == [(1, 2), (1, 2)]
    assert read.select("value_1", "value_2").rows() == [(1.0, 3.0), (1.0, 1.0)]
    assert read["asymmetry"].to_list() == [-0.5, 0.0]


def test_values_that_cannot_be_compared_are_counted(tmp_path):
    values = {
        f"{VALUE}_1": np.array([np.nan, 1.0]) * u.TeV,
        "energy_asymmetry": np.array([np.nan, 0.0]) * u.one,
    }
    read, rejected = read_asymmetries(write_table(tmp_path / "a.h5", **values), ENERGY_INTER)
    assert read["event_id"].to_list() == [2]
    assert rejected.rows() == [("pair", "value is not a positive finite number", 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tel_id_2": None, "obs_id": None}, "lacks obs_id, tel_id_2; it has event_id"),
        ({f"{VALUE}_2": None}, "lacks <value>_1 and <value>_2"),
        ({"energy_asymmetry": None}, "lacks energy_asymmetry"),
        ({"energy_asymmetry": np.array([0.4, 0.0]) * u.one}, "in 1 of 2 rows the stored asymmetry"),
        ({"energy_asymmetry": np.array([np.nan, 0.0]) * u.one}, "in 1 of 2 rows"),
        ({f"{VALUE}_1": np.array([3.0, 1.0]) * u.m}, f"{VALUE}_1 is in m, expected TeV"),
        ({"tel_id_2": np.array([1, 2], np.uint16)}, "pair a telescope with itself"),
        ({"event_id": np.array([1, 1])}, "same telescope pair twice"),
        ({"tel_id_2": np.array([-2, 2])}, "cannot be read"),
    ],
)
def test_damaged_tables_are_refused_with_the_reason(tmp_path, changes, message):
    if "event_id" in changes:  # the same shower: the values agree, too
        changes |= {f"{VALUE}_1": np.array([3.0, 3.0]) * u.TeV}
        changes |= {"energy_asymmetry": np.array([0.5, 0.5]) * u.one}
    path = write_table(tmp_path / "a.h5", **changes)
    with pytest.raises(CannotCompute, match=message) as caught:
        read_asymmetries(path, ENERGY_INTER)
    assert str(path) in str(caught.value)


def test_other_files_are_no_asymmetry_files(tmp_path):
    text, other = tmp_path / "a.txt", tmp_path / "b.h5"
    text.write_text("no HDF5")
    with h5py.File(other, "w") as file:
        file["dl2/table"] = np.zeros(3)
    assert not is_asymmetry_file(tmp_path / "absent.h5", ENERGY_INTER)
    assert not is_asymmetry_file(text, ENERGY_INTER)
    assert not is_asymmetry_file(other, ENERGY_INTER)
    assert is_asymmetry_file(write(PAIR_ROWS, tmp_path / "c.h5"), ENERGY_INTER)
    with pytest.raises(CannotCompute, match="not a readable HDF5 file"):
        read_asymmetries(text, ENERGY_INTER)
    with pytest.raises(CannotCompute, match=r"no table /energy_asymmetry/events; .* holds: dl2"):
        read_asymmetries(other, ENERGY_INTER)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(PAIR_ROWS, tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-500])
    assert not is_asymmetry_file(path, ENERGY_INTER)
    with pytest.raises(CannotCompute, match="truncated"):
        read_asymmetries(path, ENERGY_INTER)


def test_an_older_file_is_replaced_at_once(tmp_path, monkeypatch):
    path = write(PAIR_ROWS, tmp_path / "a.h5")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write(PAIR_ROWS[:1], path)
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]
    assert path.read_bytes() == before
    write(PAIR_ROWS[:1], path)
    assert len(read_asymmetries(path, ENERGY_INTER).pairs) == 1


def test_telescopes_are_those_of_the_pairs():
    pairs = PAIR_ROWS.with_columns(
        tel_type=pl.when(pl.col("tel_id_1") == 2).then(pl.lit("MST")).otherwise(pl.lit("LST")),
        tel_id_1=pl.when(pl.col("tel_id_1") == 2).then(8).otherwise("tel_id_1").cast(pl.UInt16),
        tel_id_2=pl.when(pl.col("tel_id_1") == 2).then(9).otherwise("tel_id_2").cast(pl.UInt16),
    )
    found = telescopes_of(pairs)
    assert found.tel_ids == (1, 2, 3, 8, 9)
    assert found.types == ("LST", "LST", "LST", "MST", "MST")


def test_a_telescope_of_two_types_is_refused():
    pairs = PAIR_ROWS.with_columns(tel_type=pl.Series(["LST", "LST", "MST"]))
    with pytest.raises(CannotCompute, match=r"telescopes \[2, 3\] appear under more than one type"):
        telescopes_of(pairs)
