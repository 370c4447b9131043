"""Streaming: a block read in many windows is the block read in one, in bounded memory."""

from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from arraycal.calib import dl2, hdf5
from arraycal.calib.errors import CannotCompute

ENERGY = "RandomForestRegressor_tel_energy"
IMPACT = "HillasReconstructor_tel_impact_distance"
SHOWER_ENERGY = "RandomForestRegressor_energy"
CORE = "HillasReconstructor_core_x"
COLUMNS = (ENERGY, IMPACT, SHOWER_ENERGY, CORE)
TEL_ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
TEL_IMPACT = "/dl2/event/telescope/impact/HillasReconstructor"
ARRAY_ENERGY = "/dl2/event/subarray/energy/RandomForestRegressor"
KEYS = ["obs_id", "event_id", "tel_id"]
TEL_IDS = (4, 7, 11, 12, 561)
#: Of the widest table; its chunks then have 3 rows, those of the others up to 6.
CHUNK_BYTES = 120


pytestmark = pytest.mark.usefixtures("read_no_further_than_a_window")


def read(path, columns=COLUMNS, **options):
    return list(dl2.windows(dl2.open_block(path), columns, **options))


def joined(windows):
    return pl.concat([window.events for window in windows]).sort(KEYS)


def repeated(windows):
    return sum(window.repeated for window in windows)


#: Who saw which shower: a list of showers, each a set of telescopes.
participations = st.lists(st.sets(st.sampled_from(TEL_IDS)), min_size=1, max_size=60)


@st.composite
def telescope_events(draw):
    """Telescope events of one or two observations, some rows twice in a row."""
    parts: list[tuple[int, int, int]] = []
    for obs_id in draw(st.sampled_from([(1,), (5, 2)])):
        showers = draw(participations)
        keys = [(obs_id, 10 + 7 * i, t) for i, seen in enumerate(showers) for t in sorted(seen)]
        parts += [key for key in keys for _ in range(draw(st.sampled_from([1, 1, 1, 2])))]
    assume(parts)
    energy = np.arange(1.0, len(parts) + 1)
    frame = pl.DataFrame(
        parts, {"obs_id": pl.Int64, "event_id": pl.Int64, "tel_id": pl.UInt16}, orient="row"
    )
    return frame.with_columns(
        energy=energy,
        gammaness=pl.lit(0.5),
        impact=100.0 + energy,
        is_valid=pl.lit(value=True),
        shower_energy=pl.col("event_id") / 10 + pl.col("obs_id"),
    )


@given(telescope_events(), st.integers(1, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_many_windows_give_the_rows_of_one(make_block, rows, window_rows):
    file = make_block(rows)
    path = file.write(CHUNK_BYTES)
    many = read(path, rows=window_rows)
    first = rows.unique(KEYS, keep="first", maintain_order=True)
    oracle = first.select(
        *KEYS,
        pl.col("energy").alias(ENERGY),
        pl.col("impact").alias(IMPACT),
        pl.col("shower_energy").alias(SHOWER_ENERGY),
    ).sort(KEYS)
    assert_frame_equal(joined(many).drop(CORE), oracle)
    assert_frame_equal(joined(many), joined(read(path, rows=10**6)))
    assert repeated(many) == len(rows) - len(first)


@pytest.fixture
def long_block(make_block, make_rows):
    return make_block(make_rows(400, participation=0.5))


def test_windows_hold_complete_showers_in_ascending_order(long_block):
    found = read(long_block.write(CHUNK_BYTES), rows=50)
    assert len(found) > 10
    bounds = [(w.events["event_id"].min(), w.events["event_id"].max()) for w in found]
    assert all(before[1] < after[0] for before, after in pairwise(bounds))
    # Inside a window, rows are grouped by telescope, and each group ascends.
    for window in found:
        keys = window.events.select("tel_id", "event_id")
        assert_frame_equal(keys, keys.sort("tel_id", "event_id"))


def test_the_columns_of_a_window_come_in_the_order_asked_for(long_block):
    path = long_block.write(CHUNK_BYTES)
    for window in read(path, (ENERGY, CORE, IMPACT), rows=50):
        assert window.events.columns == [*KEYS, ENERGY, CORE, IMPACT]


def test_a_telescope_that_comes_late_and_one_that_leaves_early_are_read_in_step(
    make_block, make_rows
):
    rows = make_rows(300).filter(
        ~((pl.col("tel_id") == 4) & (pl.col("event_id") > 150))
        & ~((pl.col("tel_id") == 561) & (pl.col("event_id") < 900))
    )
    file = make_block(rows)
    path = file.write(CHUNK_BYTES)
    found = read(path, rows=60)
    assert_frame_equal(joined(found), joined(read(path)))
    assert len(joined(found)) == len(rows)


@pytest.fixture
def rows_read(monkeypatch):
    """Rows read so far, by group of tables."""
    count: Counter[str] = Counter()
    original = hdf5.Table.read

    def read(table, start=0, stop=None, scratch=None):
        rows = original(table, start, stop, scratch)
        count[table.name.rpartition("/tel_")[0] or table.name] += len(rows)
        return rows

    monkeypatch.setattr(hdf5.Table, "read", read)
    return count


@pytest.mark.parametrize("misaligned", [False, True])
def test_about_as_many_rows_are_held_as_asked_for(long_block, rows_read, misaligned):
    if misaligned:  # a companion table that has to be matched on its keys
        for name in long_block.telescope_tables(TEL_IMPACT):
            long_block.select(name, slice(1, None))
    block = dl2.open_block(long_block.write(CHUNK_BYTES))
    showers_given = set()
    given_rows: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for window in dl2.windows(block, COLUMNS, rows=100):
        given_rows[TEL_ENERGY] += len(window.events)
        given_rows[TEL_IMPACT] += len(window.events)
        showers_given |= set(window.events["event_id"].to_list())
        given_rows[ARRAY_ENERGY] = len(showers_given)
        for group, count in given_rows.items():
            held[group] = max(held[group], rows_read[group] - count)
    assert rows_read[TEL_ENERGY] == given_rows[TEL_ENERGY] == len(long_block.rows) > 900
    # A window and, per telescope, what rounding up to whole chunks (6 rows at most) adds.
    assert held[TEL_ENERGY] <= 100 + 6 * len(TEL_IDS)
    assert held[TEL_IMPACT] <= 100 + 6 * len(TEL_IDS)
    assert held[ARRAY_ENERGY] <= 100 + 6


def test_nothing_of_the_showers_is_kept_after_its_window(long_block):
    path = long_block.write(CHUNK_BYTES)
    block = dl2.open_block(path)
    buffered = []
    with hdf5.open_file(path) as file:
        reader = dl2.block._open_reader(block, file, COLUMNS, 100)
        while reader.next_rows() is not None:
            buffered += [len(cursor._buffer.keys) for cursor in reader.showers]
    assert max(buffered) <= 50


def test_no_chunk_is_read_twice(long_block, monkeypatch):
    path = long_block.write(CHUNK_BYTES)
    starts: Counter[tuple[str, int]] = Counter()
    original = hdf5.Table.read

    def read_table(table, start=0, stop=None, scratch=None):
        if table.name.startswith("/dl2"):
            starts[table.name, start] += 1
            assert start % table.chunk_rows == 0
        return original(table, start, stop, scratch)

    monkeypatch.setattr(hdf5.Table, "read", read_table)
    read(path, rows=50)
    assert set(starts.values()) == {1}


def test_a_small_block_is_one_window(long_block):
    path = long_block.write(CHUNK_BYTES)
    assert len(read(path, rows=len(long_block.rows))) == 1
    assert len(read(path, rows=len(long_block.rows) // 2)) > 1
    assert len(read(path, rows=10, stream=False)) == 1


# --- rows out of order, and rows twice, wherever the borders of windows are ---------------


@pytest.mark.parametrize("swapped", range(3, 40, 5))
def test_rows_out_of_order_are_noticed_wherever_they_are(make_block, make_rows, swapped):
    file = make_block(make_rows(100, tel_ids=(4, 7), participation=1))
    order = np.arange(100)
    order[[swapped, swapped + 1]] = order[[swapped + 1, swapped]]
    file.select(f"{TEL_ENERGY}/tel_007", order)
    path = file.write(CHUNK_BYTES)
    with pytest.raises(dl2.UnsortedRows, match="tel_007 are unordered"):
        read(path, rows=10)
    sorted_in_memory = joined(read(path, rows=10, stream=False))
    assert_frame_equal(
        sorted_in_memory.select(ENERGY), file.rows.select(pl.col("energy").alias(ENERGY))
    )


@pytest.mark.parametrize("group", [TEL_IMPACT, ARRAY_ENERGY])
def test_companions_out_of_order_are_noticed_too(make_block, make_rows, group):
    file = make_block(make_rows(100, tel_ids=(4, 7), participation=1))
    table = next(name for name in file.tables if name.startswith(group))
    file.select(table, np.r_[50:100, 0:50])
    path = file.write(CHUNK_BYTES)
    with pytest.raises(dl2.UnsortedRows):
        read(path, rows=10)
    assert_frame_equal(
        joined(read(path, rows=10, stream=False)).select(IMPACT, SHOWER_ENERGY),
        file.rows.select(
            pl.col("impact").alias(IMPACT), pl.col("shower_energy").alias(SHOWER_ENERGY)
        ),
    )


@pytest.mark.parametrize("twice", range(1, 20))
def test_a_repeated_row_is_dropped_wherever_it_is(make_block, make_rows, twice):
    rows = make_rows(60, tel_ids=(4, 7), participation=1)
    file = make_block(rows)
    order = np.sort(np.r_[0:60, twice, twice])
    file.select(f"{TEL_ENERGY}/tel_007", order)
    found = read(file.write(CHUNK_BYTES), rows=10)
    assert repeated(found) == 2
    assert_frame_equal(joined(found).select(*KEYS), rows.select(*KEYS).sort(KEYS))


def test_repeated_rows_at_the_very_end_are_counted(make_block, make_rows):
    file = make_block(make_rows(60, tel_ids=(4,), participation=1))
    file.select(f"{TEL_ENERGY}/tel_004", np.r_[0:60, [59] * 30])
    found = read(file.write(CHUNK_BYTES), rows=10)
    assert repeated(found) == 30
    assert len(joined(found)) == 60
    # A window of nothing but repetitions still has its columns.
    assert all(window.events.columns == [*KEYS, *COLUMNS] for window in found)


def test_damage_far_inside_a_file_is_found_when_it_is_reached(make_block, make_rows):
    file = make_block(make_rows(100, tel_ids=(4,), participation=1))
    path = file.write(CHUNK_BYTES)
    with hdf5.open_file(path) as opened:
        chunk = opened[f"{TEL_ENERGY}/tel_004"].id.get_chunk_info(25)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(damaged)
    found: list[dl2.EventWindow] = []
    with pytest.raises(CannotCompute, match="the file is damaged"):
        found.extend(dl2.windows(dl2.open_block(path), COLUMNS, rows=10))
    assert 0 < len(joined(found)) < 100
