"""Blocks: what they say about themselves in every dialect of the format, and their EVENTS.

The oracle of EVENTS is the table of telescope events that a file was made from.
"""

import h5py
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from arraycal.calib import dl2, hdf5
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.writing import Column

ENERGY = "RandomForestRegressor_tel_energy"
VALID = "RandomForestRegressor_tel_is_valid"
IMPACT = "HillasReconstructor_tel_impact_distance"
GAMMANESS = "RandomForestClassifier_tel_prediction"
SHOWER_ENERGY = "RandomForestRegressor_energy"
KEYS = ["obs_id", "event_id", "tel_id"]

TEL_ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
TEL_IMPACT = "/dl2/event/telescope/impact/HillasReconstructor"
TEL_PARTICLE = "/dl2/event/telescope/particle_type/RandomForestClassifier"
ARRAY_ENERGY = "/dl2/event/subarray/energy/RandomForestRegressor"
ARRAY_GEOMETRY = "/dl2/event/subarray/geometry/HillasReconstructor"
LAYOUT = "/configuration/instrument/subarray/layout"
OBSERVATION_BLOCK = "/configuration/observation/observation_block"
TRIGGER = "/dl1/event/subarray/trigger"
VERSION = "CTA PRODUCT DATA MODEL VERSION"
ALL = {
    ENERGY: "energy",
    VALID: "is_valid",
    IMPACT: "impact",
    GAMMANESS: "gammaness",
    SHOWER_ENERGY: "shower_energy",
}


def expected(rows, columns=tuple(ALL)):
    """EVENTS as the rows say, ordered by their keys."""
    return rows.select(*KEYS, **{name: pl.col(ALL[name]) for name in columns}).sort(KEYS)


def events(path, columns=tuple(ALL), **options):
    """EVENTS of a file in one frame, ordered by their keys, and repeated rows."""
    block = dl2.open_block(path)
    found = list(dl2.windows(block, columns, **options))
    frame = pl.concat([window.events for window in found])
    return frame.sort(KEYS), sum(window.repeated for window in found)


def assert_reads(block_file, columns=tuple(ALL), **options):
    frame, repeated = events(block_file.write(), columns, **options)
    assert_frame_equal(frame, expected(block_file.rows, columns))
    assert repeated == 0


# --- what a block says about itself ------------------------------------------------------


def test_a_block_describes_itself(make_block):
    block = dl2.open_block(make_block().write())
    assert block.data_model == "v7.6.0"
    assert block.process_type == "Simulation"
    assert block.obs_ids == (1,)
    # By type, then by id; the layout has neither order.
    assert block.subarray.tel_ids == (4, 7, 11, 12, 561)
    assert block.subarray.types == ("LST", "LST", "MST", "MST", "MST")
    assert block.subarray.descriptions[0] == "LST_LST_LSTCam"
    assert block.subarray.positions_m[1] == (70.0, 0.0, 5.0)


def test_the_catalogue_has_kind_and_unit_of_every_column(make_block):
    catalog = dl2.open_block(make_block().write()).catalog
    assert catalog[ENERGY] == "TeV"
    assert catalog[IMPACT] == "m"
    assert catalog[VALID] == "bool"
    assert catalog[GAMMANESS] == ""
    assert catalog[SHOWER_ENERGY] == "TeV"
    # Keys and vectors are no columns of EVENTS.
    assert not {"obs_id", "event_id", "tel_id", "time"} & catalog.keys()


def test_whole_numbers_are_catalogued_as_such(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        n_rows = len(file.tables[name]["obs_id"].data)
        file.tables[name]["n_trees"] = Column(np.full(n_rows, 7, np.int16))
    path = file.write()
    assert dl2.open_block(path).catalog["n_trees"] == "int"
    frame, _ = events(path, ["n_trees"])
    assert frame["n_trees"].dtype == pl.Int64
    assert frame["n_trees"].unique().to_list() == [7]


@pytest.mark.usefixtures("read_no_further_than_a_window")
def test_telescopes_that_a_shower_used_are_read_window_by_window(make_block, make_rows):
    file = make_block(make_rows(60))
    table = file.tables[ARRAY_GEOMETRY]
    event_ids = table["event_id"].data
    masks = (np.arange(len(event_ids))[:, None] >> np.arange(5)) % 2 == 1
    # The second shower has no row: no telescope is known to have been used.
    kept = np.arange(len(event_ids)) != 1
    table["X_telescopes"] = Column(masks.astype(np.uint8))
    file.tables[ARRAY_GEOMETRY] = {
        name: Column(column.data[kept], column.unit) for name, column in table.items()
    }
    path = file.write()
    assert dl2.open_block(path).catalog["X_telescopes"] == "bool[]"
    frame, _ = events(path, [ENERGY, "X_telescopes"], rows=25)
    by_shower = dict(zip(event_ids.tolist(), (masks & kept[:, None]).tolist(), strict=True))
    expected_masks = [by_shower[event_id] for event_id in frame["event_id"]]
    assert frame["X_telescopes"].to_list() == expected_masks


# --- dialects ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v7.0.0", "v7.1.0", "v6.0.0", "v5.1.0"])
def test_files_before_v7_2_call_the_particle_type_classification(make_block, version):
    file = make_block()
    file.attributes[VERSION] = version
    file.rename_group("/particle_type/", "/classification/")
    assert_reads(file)


def test_v4_called_the_impact_distance_distance(make_block):
    file = make_block()
    file.attributes[VERSION] = "v4.0.0"
    file.rename_group("/particle_type/", "/classification/")
    file.rename_columns("_tel_impact_distance", "_tel_distance")
    assert_reads(file)


def test_times_as_one_number_before_v7_do_no_harm(make_block):
    file = make_block()
    file.attributes[VERSION] = "v5.0.0"
    n_showers = len(file.tables[TRIGGER]["obs_id"].data)
    file.tables[TRIGGER]["time"] = Column(np.full(n_showers, 59000.5), time_format="mjd")
    del file.tables[OBSERVATION_BLOCK]
    assert_reads(file)


@pytest.mark.parametrize("oddity", ["no observation block", "empty observation block"])
def test_without_observation_block_the_trigger_tells_the_observations(
    make_block, make_rows, oddity
):
    file = make_block(pl.concat([make_rows(obs_id=9), make_rows(obs_id=3)]))
    if oddity == "no observation block":
        del file.tables[OBSERVATION_BLOCK]
    else:
        file.select(OBSERVATION_BLOCK, slice(0))
    assert dl2.open_block(file.write()).obs_ids == (9, 3)
    assert_reads(file)


def test_truth_values_written_by_h5py_are_read(make_block):
    file = make_block()
    path = file.write()
    with h5py.File(path, "r+") as written:
        for name in file.telescope_tables(TEL_ENERGY):
            rows = written[name][:]
            kind = [(n, "?" if n == VALID else rows.dtype[n]) for n in rows.dtype.names]
            units = dict(written[name].attrs)
            del written[name]
            written[name] = rows.astype(kind)
            written[name].attrs.update(units)
    frame, _ = events(path)
    assert_frame_equal(frame, expected(file.rows))


@pytest.mark.parametrize("obs_type", ["i4", "i8", "u4", "u8", ">i4"])
@pytest.mark.parametrize("tel_type", ["i2", "i4", "u2", "i8"])
def test_integers_have_any_width(make_block, obs_type, tel_type):
    file = make_block()
    for name in (ARRAY_ENERGY, *file.telescope_tables(TEL_ENERGY)):
        file.set_data(name, "obs_id", file.tables[name]["obs_id"].data.astype(obs_type))
        file.set_data(name, "event_id", file.tables[name]["event_id"].data.astype(">u8"))
    for name in file.telescope_tables(TEL_ENERGY):
        file.set_data(name, "tel_id", file.tables[name]["tel_id"].data.astype(tel_type))
    assert_reads(file)


def test_single_precision_is_widened(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        file.set_data(name, ENERGY, file.tables[name][ENERGY].data.astype(np.float32))
    frame, _ = events(file.write())
    single = file.rows.with_columns(pl.col("energy").cast(pl.Float32).cast(pl.Float64))
    assert_frame_equal(frame, expected(single))


# --- tables that do not agree ------------------------------------------------------------


def test_a_telescope_without_tables_has_no_rows(make_block, make_rows):
    file = make_block(make_rows(tel_ids=(4, 11, 561)))
    assert 7 in dl2.open_block(file.write()).subarray.tel_ids
    assert_reads(file)


def test_a_telescope_that_lacks_a_companion_table_has_nan(make_block):
    file = make_block()
    del file.tables[f"{TEL_PARTICLE}/tel_561"]
    file.rows = file.rows.with_columns(
        gammaness=pl.when(pl.col("tel_id") == 561).then(float("nan")).otherwise("gammaness")
    )
    assert_reads(file)


def test_without_gammaness_everything_else_is_read(make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_PARTICLE):
        del file.tables[name]
    assert GAMMANESS not in dl2.open_block(file.write()).columns
    assert_reads(file, (ENERGY, IMPACT, SHOWER_ENERGY))


def test_rows_a_companion_table_lacks_are_nan(make_block):
    file = make_block()
    # Every third row of one telescope is gone.
    n_rows = len(file.tables[f"{TEL_IMPACT}/tel_007"]["obs_id"].data)
    kept = np.arange(n_rows) % 3 != 0
    gone = file.tables[f"{TEL_IMPACT}/tel_007"]["event_id"].data[~kept].tolist()
    file.select(f"{TEL_IMPACT}/tel_007", kept)
    lost = (pl.col("tel_id") == 7) & pl.col("event_id").is_in(gone)
    file.rows = file.rows.with_columns(impact=pl.when(lost).then(float("nan")).otherwise("impact"))
    assert_reads(file)


def test_truth_values_that_are_missing_are_false(make_block):
    file = make_block()
    file.select(f"{TEL_ENERGY}/tel_004", slice(0))
    file.rows = file.rows.with_columns(
        energy=pl.when(pl.col("tel_id") == 4).then(float("nan")).otherwise("energy"),
        is_valid=pl.col("is_valid") & (pl.col("tel_id") != 4),
    )
    assert_reads(file, (IMPACT, ENERGY, VALID))


def test_a_companion_table_in_another_order_is_matched(make_block):
    file = make_block()
    n_rows = len(file.tables[f"{TEL_IMPACT}/tel_007"]["obs_id"].data)
    file.select(f"{TEL_IMPACT}/tel_007", np.random.default_rng(2).permutation(n_rows))
    assert_reads(file)


def test_rows_only_a_companion_table_has_are_no_events(make_block):
    file = make_block()
    n_rows = len(file.tables[f"{TEL_ENERGY}/tel_012"]["obs_id"].data)
    file.select(f"{TEL_ENERGY}/tel_012", slice(n_rows // 2))
    kept = file.tables[f"{TEL_ENERGY}/tel_012"]["event_id"].data.tolist()
    file.rows = file.rows.filter((pl.col("tel_id") != 12) | pl.col("event_id").is_in(kept))
    assert_reads(file)


def test_shower_tables_are_each_matched_on_their_own_keys(make_block):
    file = make_block()
    # The energy table lacks the first shower, the geometry table the second.
    file.select(ARRAY_ENERGY, slice(1, None))
    core = file.tables[ARRAY_GEOMETRY]["HillasReconstructor_core_x"].data.copy()
    keys = file.tables[ARRAY_GEOMETRY]["event_id"].data
    file.select(ARRAY_GEOMETRY, np.arange(len(keys)) != 1)
    frame, _ = events(file.write(), (ENERGY, SHOWER_ENERGY, "HillasReconstructor_core_x"))
    first, second = (frame.filter(pl.col("event_id") == keys[i]) for i in (0, 1))
    assert first[SHOWER_ENERGY].is_nan().all()
    assert first["HillasReconstructor_core_x"].unique().to_list() == [core[0]]
    assert second["HillasReconstructor_core_x"].is_nan().all()
    assert second[SHOWER_ENERGY].is_finite().all()


def test_nan_rows_stay_nan(make_block, make_rows):
    rows = make_rows().with_columns(
        energy=pl.when(pl.col("is_valid")).then("energy").otherwise(float("nan")),
        impact=pl.when(pl.col("event_id") % 2 == 0).then("impact").otherwise(float("nan")),
    )
    assert_reads(make_block(rows))


def test_empty_tables_give_no_events(make_block):
    file = make_block()
    for name in list(file.tables):
        if name.startswith(("/dl1", "/dl2")):
            file.select(name, slice(0))
    block = dl2.open_block(file.write())
    assert list(dl2.windows(block, tuple(ALL))) == []
    assert dl2.scan_events(block, ENERGY).collect().is_empty()


def test_a_block_with_neither_observations_nor_events_is_an_empty_one(make_block):
    file = make_block()
    for name in list(file.tables):
        if name != LAYOUT:
            file.select(name, slice(0))
    block = dl2.open_block(file.write())
    assert block.obs_ids == ()
    assert list(dl2.windows(block, [ENERGY])) == []


# --- merged and repeated -----------------------------------------------------------------


@pytest.mark.parametrize("obs_ids", [(3, 9), (9, 3), (9, 3, 5)], ids=str)
def test_merged_files_keep_observations_apart(make_block, make_rows, obs_ids):
    parts = [make_rows(obs_id=obs_id, seed=obs_id) for obs_id in obs_ids]
    file = make_block(pl.concat(parts))
    assert dl2.open_block(file.write()).obs_ids == obs_ids
    assert_reads(file)


def test_interleaved_observations_are_sorted_apart(make_block, make_rows):
    rows = pl.concat([make_rows(obs_id=obs_id, seed=obs_id) for obs_id in (3, 9)])
    mixed = rows.sample(fraction=1.0, shuffle=True, seed=1)
    assert_reads(make_block(mixed))


def test_events_out_of_order_are_sorted(make_block, make_rows):
    assert_reads(make_block(make_rows().reverse()))


def test_repeated_rows_are_dropped_and_counted(make_block, make_rows):
    rows = make_rows()
    repeated = pl.concat([rows, rows.filter(pl.col("tel_id") == 7), rows[:3]])
    file = make_block(repeated)
    frame, count = events(file.write())
    assert_frame_equal(frame, expected(rows))
    assert count == len(repeated) - len(rows)


# --- contradictions ----------------------------------------------------------------------


def test_rows_of_a_telescope_that_the_layout_does_not_list_are_an_error(make_block):
    file = make_block()
    file.select(LAYOUT, slice(1, None))  # 12 is the first
    with pytest.raises(CannotCompute, match=r"rows of telescopes \[12\], which .*layout does not"):
        events(file.write())


def test_an_empty_table_of_an_unknown_telescope_is_none_of_our_business(make_block):
    file = make_block()
    file.select(LAYOUT, slice(1, None))
    file.select(f"{TEL_ENERGY}/tel_012", slice(0))
    file.rows = file.rows.filter(pl.col("tel_id") != 12)
    assert_reads(file)


def test_rows_of_another_telescope_are_an_error(make_block):
    file = make_block()
    table = f"{TEL_IMPACT}/tel_007"
    ids = file.tables[table]["tel_id"].data.copy()
    ids[-1] = 11
    file.set_data(table, "tel_id", ids)
    with pytest.raises(CannotCompute, match=r"tel_007 has rows of telescope \[11\]"):
        events(file.write())


def test_an_observation_that_the_file_does_not_list_is_an_error(make_block):
    file = make_block()
    table = f"{TEL_ENERGY}/tel_007"
    ids = file.tables[table]["obs_id"].data.copy()
    ids[-1] = 66
    file.set_data(table, "obs_id", ids)
    with pytest.raises(
        CannotCompute, match=r"tel_007 has rows of obs_id \[66\], but the file lists \[1\]"
    ):
        events(file.write())


def test_rows_of_observations_where_the_file_lists_none_are_an_error(make_block):
    file = make_block()
    file.select(OBSERVATION_BLOCK, slice(0))
    file.select(TRIGGER, slice(0))
    with pytest.raises(CannotCompute, match=r"rows of obs_id \[1\], but the file lists \[\]"):
        events(file.write())


@pytest.mark.parametrize("event_id", [-1, 2**44, 2**63 - 1])
def test_event_ids_out_of_range_are_an_error(make_block, event_id):
    file = make_block()
    table = f"{TEL_ENERGY}/tel_007"
    ids = file.tables[table]["event_id"].data.copy()
    ids[-1] = event_id
    file.set_data(table, "event_id", ids)
    with pytest.raises(CannotCompute, match=rf"tel_007 has event ids .*{event_id}.*0 to 2\^44 - 1"):
        events(file.write())


def test_the_largest_event_id_is_fine_in_any_observation(make_block, make_rows):
    rows = make_rows().with_columns(event_id=2**44 - 200 + pl.col("event_id"))
    assert_reads(make_block(pl.concat([rows, rows.with_columns(obs_id=pl.lit(2, pl.Int64))])))


def test_telescopes_in_different_units_are_an_error(make_block):
    file = make_block()
    table = f"{TEL_ENERGY}/tel_561"
    file.tables[table][ENERGY] = Column(1000 * file.tables[table][ENERGY].data, "GeV")
    with pytest.raises(CannotCompute, match=r"tel_561 is in GeV, in other tables of .* in TeV"):
        events(file.write())


@pytest.mark.parametrize("column", ["obs_id", "event_id", "tel_id"])
def test_a_table_without_keys_is_an_error(make_block, column):
    file = make_block()
    del file.tables[f"{TEL_IMPACT}/tel_007"][column]
    with pytest.raises(CannotCompute, match=rf"tel_007 has no column {column}; "):
        events(file.write())


def test_a_column_that_one_telescope_lacks_is_an_error(make_block):
    file = make_block()
    del file.tables[f"{TEL_ENERGY}/tel_561"][VALID]
    with pytest.raises(CannotCompute, match=rf"tel_561 has no column {VALID}; did you mean "):
        events(file.write())


# --- requests ----------------------------------------------------------------------------


def test_an_unknown_column_is_named_with_the_nearest(make_block):
    block = dl2.open_block(make_block().write())
    with pytest.raises(CannotCompute, match=rf"no column {ENERGY}y; did you mean {ENERGY}\?"):
        next(dl2.windows(block, [f"{ENERGY}y"]))


def test_a_column_of_the_shower_cannot_lead(make_block):
    block = dl2.open_block(make_block().write())
    with pytest.raises(ValueError, match="cannot lead EVENTS"):
        next(dl2.windows(block, [SHOWER_ENERGY, ENERGY]))


# --- the lazy frame ----------------------------------------------------------------------


@pytest.fixture
def tables_read(monkeypatch):
    """Names of the tables whose rows have been read."""
    found = []
    original = hdf5.Table.read

    def read(table, *args):
        found.append(table.name.rpartition("/tel_")[0] or table.name)
        return original(table, *args)

    monkeypatch.setattr(hdf5.Table, "read", read)
    return found


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_a_scan_is_a_lazy_frame_of_all_columns(make_block, engine):
    file = make_block()
    scan = dl2.scan_events(dl2.open_block(file.write()), ENERGY)
    frame = scan.select(*KEYS, *ALL).collect(engine=engine)
    assert_frame_equal(frame.sort(KEYS), expected(file.rows))
    assert scan.collect(engine=engine).columns[: len(KEYS)] == KEYS


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize("rows", [10, 10_000])
def test_a_filter_on_a_scan_is_applied(make_block, make_rows, engine, rows):
    file = make_block(make_rows(200))
    block = dl2.open_block(file.write(chunk_bytes=200))
    scan = dl2.scan_events(block, ENERGY, rows=rows)
    kept = scan.filter((pl.col(GAMMANESS) > 0.5) & (pl.col("tel_id") != 7)).select(*KEYS, ENERGY)
    oracle = file.rows.filter((pl.col("gammaness") > 0.5) & (pl.col("tel_id") != 7))
    assert 0 < len(oracle) < len(file.rows)
    assert_frame_equal(kept.collect(engine=engine).sort(KEYS), expected(oracle, [ENERGY]))


def test_a_scan_reads_only_the_tables_it_needs(make_block, tables_read):
    block = dl2.open_block(make_block().write())
    tables_read.clear()
    dl2.scan_events(block, ENERGY).select(IMPACT).collect()
    assert set(tables_read) == {TEL_ENERGY, TEL_IMPACT}
    tables_read.clear()
    dl2.scan_events(block, ENERGY).filter(pl.col(SHOWER_ENERGY) > 1).select("tel_id").collect()
    assert set(tables_read) == {TEL_ENERGY, ARRAY_ENERGY}


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_the_rows_of_a_scan_can_be_counted(make_block, engine):
    file = make_block()
    scan = dl2.scan_events(dl2.open_block(file.write()), ENERGY)
    assert scan.select(pl.len()).collect(engine=engine).item() == len(file.rows)


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize("n_rows", [0, 1, 7, 10**6])
def test_the_head_of_a_scan_is_its_head(make_block, make_rows, engine, n_rows):
    file = make_block(make_rows(100))
    scan = dl2.scan_events(dl2.open_block(file.write(chunk_bytes=200)), ENERGY, rows=20)
    head = scan.head(n_rows).collect(engine=engine)
    assert_frame_equal(head, scan.collect(engine=engine).head(n_rows))
    assert len(head) == min(n_rows, len(file.rows))


@pytest.mark.usefixtures("read_no_further_than_a_window")
def test_the_head_of_a_scan_does_not_read_the_rest(make_block, make_rows, tables_read):
    block = dl2.open_block(make_block(make_rows(400)).write(chunk_bytes=200))
    scan = dl2.scan_events(block, ENERGY, rows=20).select(ENERGY)
    tables_read.clear()
    scan.collect()
    everything = len(tables_read)
    tables_read.clear()
    scan.head(3).collect(engine="in-memory")
    assert len(tables_read) < everything / 4


@pytest.mark.usefixtures("read_no_further_than_a_window")
def test_a_scan_out_of_order_says_what_to_do(make_block, make_rows):
    file = make_block(make_rows(100).reverse())
    block = dl2.open_block(file.write(chunk_bytes=200))
    with pytest.raises(dl2.UnsortedRows, match="unordered"):
        dl2.scan_events(block, ENERGY, rows=20).collect()
    frame = dl2.scan_events(block, ENERGY, rows=20, stream=False).select(*KEYS, *ALL).collect()
    assert_frame_equal(frame.sort(KEYS), expected(file.rows))
