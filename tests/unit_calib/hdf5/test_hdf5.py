"""Tables of ctapipe files: what is written comes back, and what is damaged is refused."""

import h5py
import numpy as np
import pytest

from arraycal.calib.disk.files import sync
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.file import (
    child_names,
    find_table,
    first_telescope_table,
    has_table,
    open_file,
    require_table,
    root_attribute,
    telescope_tables,
)
from arraycal.calib.hdf5.table import attribute_text
from arraycal.calib.hdf5.writing import Column, create_file, set_attributes, write_table


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tables.h5"


@pytest.fixture
def columns():
    rng = np.random.default_rng(5)
    return {
        "obs_id": Column(np.arange(5000, dtype=np.int32)),
        "energy": Column(rng.random(5000), "TeV", description="of the shower"),
        "is_valid": Column(rng.random(5000) < 0.5),
        "time": Column(
            rng.integers(0, 4_000_000_000, (5000, 2), np.uint32), time_format="ctao_high_res"
        ),
        "type": Column(np.array(["LST", "é"] * 2500)),
        "mask": Column(rng.integers(0, 2, (5000, 7), np.uint8), transform="tel_list_to_mask"),
    }


@pytest.fixture
def written(path, columns):
    with create_file(path) as file:
        write_table(file, "/dl2/table", columns, {"obs_id": np.arange(3, dtype=np.uint64)})
    return path


def write_plain(path, rows, name="/table"):
    """Write a table as h5py does by itself: no filter, no attribute."""
    with h5py.File(path, "w") as file:
        file[name] = rows


def read(path, name="/table", *rows):
    with open_file(path) as file:
        table = require_table(file, name, path)
        found = table.read(*rows)
        return {column: table.column(column, found) for column in table.columns}


# --- what is written comes back ----------------------------------------------------------


def test_every_kind_of_column_comes_back(written, columns):
    found = read(written, "/dl2/table")
    assert list(found) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column.data)
        assert found[name].dtype == column.data.dtype


def test_units_and_time_formats_come_back(written):
    with open_file(written) as file:
        table = require_table(file, "/dl2/table", written)
        assert (table.unit("energy"), table.unit("is_valid")) == ("TeV", "")
        assert (table.time_format("time"), table.time_format("energy")) == ("ctao_high_res", "")
        assert table.attribute("TITLE") == "table"
        assert table.attribute("no such attribute") == ""


def test_tables_are_compressed_and_carry_checksums(written):
    with h5py.File(written) as file:
        dataset = file["/dl2/table"]
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
        # 32001 is blosc, 3 fletcher32; the checksum must be of the compressed bytes, hence last.
        assert filters == [32001, 3]
        assert dataset.maxshape == (None,)
        # Packed: 4 + 8 + 1 + 2 * 4 + 3 ("LST") + 7 bytes; PyTables' chunks are 65535 bytes.
        assert dataset.chunks == (65535 // 31,)
        stored = dataset.id.get_storage_size()
        assert 0 < stored < 5000 * 31


def test_truth_values_are_stored_as_bit_fields(written):
    with h5py.File(written) as file:
        kind = file["/dl2/table"].id.get_type()
        classes = [kind.get_member_class(i) for i in range(kind.get_nmembers())]
        assert classes[2] == h5py.h5t.BITFIELD
        assert classes.count(h5py.h5t.BITFIELD) == 1


def test_attributes_of_text_are_utf8_of_fixed_length(written):
    with h5py.File(written) as file:
        kind = file["/dl2/table"].attrs.get_id("CTAFIELD_1_UNIT").get_type()
        assert kind.get_cset() == h5py.h5t.CSET_UTF8
        assert not kind.is_variable_str()
        assert file["/dl2/table"].attrs["NROWS"] == 5000
        np.testing.assert_array_equal(file["/dl2/table"].attrs["obs_id"], [0, 1, 2])


def test_rows_wider_than_blosc_can_name_come_back(path):
    data = np.random.default_rng(1).random((300, 40))  # 320 bytes a row, more than one byte holds
    with create_file(path) as file:
        write_table(file, "/table", {"x": Column(data)})
    np.testing.assert_array_equal(read(path)["x"], data)


def test_a_table_without_rows_comes_back(path):
    with create_file(path) as file:
        write_table(
            file, "/table", {"x": Column(np.empty(0)), "name": Column(np.empty(0, np.str_))}
        )
    found = read(path)
    assert found["x"].shape == (0,)
    assert found["name"].shape == (0,)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (2000, 4300), (4990, 9999), (5000, 5001), (7, 3)]
)
def test_a_range_of_rows_is_that_range(written, columns, start, stop):
    found = read(written, "/dl2/table", start, stop)
    np.testing.assert_array_equal(found["energy"], columns["energy"].data[start:stop])


def test_columns_of_different_lengths_are_refused(path):
    with create_file(path) as file, pytest.raises(ValueError, match=r"differ in length: \[2, 3\]"):
        write_table(file, "/t", {"a": Column(np.zeros(2)), "b": Column(np.zeros(3))})


def test_a_file_is_never_overwritten(written):
    with pytest.raises(FileExistsError):
        create_file(written)


def test_a_closed_file_can_be_flushed_to_the_disk(written):
    sync(written)


# --- what others write -------------------------------------------------------------------


def test_truth_values_written_by_h5py_are_truth_values(path):
    write_plain(path, np.array([(1, True), (2, False)], [("x", "i4"), ("ok", "?")]))
    assert read(path)["ok"].tolist() == [True, False]
    with open_file(path) as file:
        assert require_table(file, "/table", path).booleans == {"ok"}


def test_an_enumeration_of_several_values_is_no_truth_value(path):
    kind = h5py.enum_dtype({"FLATFIELD": 0, "PEDESTAL": 2, "SUBARRAY": 32}, "i2")
    write_plain(path, np.array([(0,), (32,)], [("event_type", kind)]))
    assert read(path)["event_type"].tolist() == [0, 32]


def test_any_bit_set_is_true(path):
    with create_file(path) as file:
        write_table(file, "/table", {"ok": Column(np.array([False, True, True]))})
        dataset = file["/table"]
        raw = np.array([(0,), (2,), (255,)], [("ok", "u1")])
        dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, mtype=dataset.id.get_type())
    found = read(path)["ok"]
    assert found.dtype == np.bool_
    assert found.view(np.uint8).tolist() == [0, 1, 1]


def test_big_endian_numbers_are_read_right(path):
    with create_file(path) as file:
        data = np.array([1.5, -2.0, 1e300])
        write_table(file, "/table", {"x": Column(data.astype(">f8")), "ok": Column(data > 0)})
    found = read(path)
    assert found["x"].tolist() == [1.5, -2.0, 1e300]
    assert found["x"].dtype == np.dtype("=f8")


def test_padded_rows_are_read_right(path):
    padded = np.dtype(
        {"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 24}
    )
    rows = np.zeros(3, padded)
    rows["a"], rows["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    write_plain(path, rows)
    found = read(path)
    assert (found["a"].tolist(), found["b"].tolist()) == ([1, 2, 3], [0.5, 1.5, 2.5])


def test_texts_of_variable_length_are_read_right(path):
    kind = [("i", "i4"), ("name", h5py.string_dtype())]
    write_plain(path, np.array([(1, "LST"), (2, "a longer name")], kind))
    assert read(path)["name"].tolist() == ["LST", "a longer name"]


def test_a_text_that_is_no_utf8_does_not_stop_anything(path):
    write_plain(path, np.array([(b"La Palma \xe9",)], [("name", "S12")]))
    assert read(path)["name"].tolist() == ["La Palma \ufffd"]


def test_a_contiguous_table_can_be_read_in_steps_of_one_row(path):
    write_plain(path, np.array([(1.0,), (2.0,)], [("x", "f8")]))
    with open_file(path) as file:
        assert require_table(file, "/table", path).chunk_rows == 1
    assert read(path, "/table", 1, 2)["x"].tolist() == [2.0]


@pytest.mark.parametrize(("n_rows", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_portions_are_all_rows_in_their_order(path, n_rows, sizes):
    write_plain(path, np.array([(float(n),) for n in range(5)], [("x", "f8")]))
    with open_file(path) as file:
        found = list(require_table(file, "/table", path).portions(n_rows))
    assert [len(rows) for rows in found] == sizes
    assert np.concatenate(found)["x"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.bytes_(b"v7"), "v7"),
        (b"v7", "v7"),
        ("v7", "v7"),
        (h5py.Empty("S1"), ""),
        (b"\xff", "\ufffd"),
        (np.int64(7), "7"),
    ],
)
def test_attributes_of_any_kind_have_a_text(value, text):
    assert attribute_text(value) == text


# --- finding tables ----------------------------------------------------------------------


def test_a_missing_table_is_named_with_what_there_is_instead(written):
    with open_file(written) as file:
        assert find_table(file, "/dl2/tables", written) is None
        with pytest.raises(CannotCompute, match=r"/dl2/tables is missing; /dl2 holds: table\."):
            require_table(file, "/dl2/tables", written)
        with pytest.raises(CannotCompute, match=r"/dl1/a/b is missing; / holds: dl2\."):
            require_table(file, "/dl1/a/b", written)


def test_a_missing_column_is_named_with_the_nearest(written):
    with open_file(written) as file:
        table = require_table(file, "/dl2/table", written)
        table.require("energy", "time")
        with pytest.raises(
            CannotCompute,
            match=r"/dl2/table has no column enrgy; did you mean energy\? It has obs_id, energy, ",
        ):
            table.require("obs_id", "enrgy")


@pytest.mark.parametrize("content", [3.0, np.arange(3), np.zeros((2, 2), [("x", "f8")])])
def test_what_is_no_table_is_refused_and_told_from_one(path, content):
    write_plain(path, content)
    with open_file(path) as file:
        assert not has_table(file, "/table", path)
        with pytest.raises(CannotCompute, match="/table is not a table of named columns"):
            find_table(file, "/table", path)


def test_a_group_is_no_table(written):
    with open_file(written) as file:
        assert not has_table(file, "/dl2", written)
        assert has_table(file, "/dl2/table", written)
        with pytest.raises(CannotCompute, match="/dl2 is not a table"):
            require_table(file, "/dl2", written)


def test_telescope_tables_come_in_the_order_of_their_ids(path):
    with create_file(path) as file:
        for name in ("tel_1000", "tel_007", "tel_561", "_i_tel_007"):
            write_table(file, f"/group/{name}", {"x": Column(np.zeros(1))})
    with open_file(path) as file:
        assert list(telescope_tables(file, "/group", path)) == [7, 561, 1000]
        assert telescope_tables(file, "/nothing", path) == {}
        first = first_telescope_table(file, "/group", path)
        assert first is not None
        assert first.name == "/group/tel_007"
        assert first_telescope_table(file, "/nothing", path) is None
        assert child_names(file, "/nothing", path) == []


def test_a_table_that_is_none_of_a_telescope_does_not_vanish(path):
    with create_file(path) as file:
        for name in ("tel_007", "LST_LST_LSTCam"):
            write_table(file, f"/group/{name}", {"x": Column(np.zeros(1))})
    with (
        open_file(path) as file,
        pytest.raises(CannotCompute, match=r"/group holds LST_LST_LSTCam; expected one table per"),
    ):
        telescope_tables(file, "/group", path)


def test_a_dangling_link_among_telescope_tables_is_damage(path):
    with h5py.File(path, "w") as file:
        file["/group/tel_001"] = h5py.SoftLink("/gone")
    with open_file(path) as file, pytest.raises(CannotCompute, match="the file is damaged"):
        telescope_tables(file, "/group", path)


def test_an_absent_root_attribute_is_empty(written):
    with open_file(written) as file:
        assert root_attribute(file, "CLASS", written) == "GROUP"
        assert root_attribute(file, "CTA", written) == ""


# --- damage ------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_in_a_chunk_is_noticed(written):
    with h5py.File(written) as file:
        chunk = file["/dl2/table"].id.get_chunk_info(1)
    sound = written.read_bytes()
    for place in range(0, chunk.size, chunk.size // 40):
        damaged = bytearray(sound)
        damaged[chunk.byte_offset + place] ^= 1 << place % 8
        written.write_bytes(damaged)
        with pytest.raises(
            CannotCompute, match="rows 0 to 5000 of /dl2/table cannot be read, the file is damaged"
        ):
            read(written, "/dl2/table")


def test_a_number_of_rows_that_is_not_the_one_stated_is_noticed(written):
    with h5py.File(written, "r+") as file:
        file["/dl2/table"].resize((4000,))
    with pytest.raises(CannotCompute, match="/dl2/table should have 5000 rows and has 4000"):
        read(written, "/dl2/table")


def test_a_filter_that_crashes_on_nonsense_is_not_called(path):
    rows = np.zeros(3, [("x", "i4")])
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((3,))
        creation.set_filter(5, h5py.h5z.FLAG_OPTIONAL, ())  # nbit
        kind, space = h5py.h5t.py_create(rows.dtype), h5py.h5s.create_simple((3,))
        h5py.h5d.create(file.id, b"table", kind, space, dcpl=creation)
    with pytest.raises(CannotCompute, match=r"filters \[5\], which PyTables does not use"):
        read(path)


def test_attributes_can_be_numbers_and_texts(path):
    with create_file(path) as file:
        set_attributes(file, {"number": 3, "text": "µ", "empty": ""})
        assert file.attrs["number"] == 3
        assert [attribute_text(file.attrs[key]) for key in ("text", "empty")] == ["µ", ""]
