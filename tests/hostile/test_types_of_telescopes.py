"""Events that are no shower for one telescope, as only its own trigger table says."""

import h5py
import numpy as np
import polars as pl
import pytest
from dl2_changes import change, event_tables, in_telescope
from polars.testing import assert_frame_equal

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, TIMING_CROSS
from arraycal.calib.stamps.stamps import STAMPS
from arraycal.config.loading import load_preset

TRIGGER = "/dl1/event/telescope/trigger"
ENERGIES = "/dl2/event/telescope/energy/RandomForestRegressor"
STRANGE = 2
FOUR = (ENERGY_INTER, ENERGY_CROSS, IMAGE_INTER, TIMING_CROSS)


@pytest.fixture
def rows_of(tmp_path):
    def read(path, observable):
        found = rows_of_block(path, observable, load_preset(observable.name), tmp_path / "cache")
        schema = STAMPS if observable is TIMING_CROSS else None
        rows = pl.concat(list(found.windows(schema)))
        keys = [name for name in rows.columns if name.endswith("_id") or name.startswith("tel_id")]
        return found, rows.sort(keys)

    return read


def events_of(path):
    """Every fifth event of the telescope."""
    with h5py.File(path) as file:
        return file[in_telescope(ENERGIES, STRANGE)]["event_id"][::5]


def is_strange(rows, events):
    return (rows["tel_id"] == STRANGE) & np.isin(rows["event_id"], events)


def of_type(path, events, event_type):
    def rule(rows):
        rows["event_type"][is_strange(rows, events)] = event_type
        return rows

    change(path, TRIGGER, rule)


def without(path, events):
    """Take the rows of these events of the telescope out of all tables, and its trigger bit."""

    def rule(rows):
        if "tel_id" in rows.dtype.names:
            return rows[~is_strange(rows, events)]
        if "tels_with_trigger" in rows.dtype.names:
            mask = rows["tels_with_trigger"]
            mask[np.isin(rows["event_id"], events), STRANGE - 1] = 0
            rows["tels_with_trigger"] = mask
        return rows

    for table in event_tables(path):
        change(path, table, rule)


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_what_is_no_shower_for_a_telescope_is_none_of_its_rows(night, rows_of, observable):
    first, second = sorted(night.glob("*.dl2.h5"))
    second.write_bytes(first.read_bytes())
    events = events_of(first)
    of_type(first, events, 0)
    without(second, events)
    found, rows = rows_of(first, observable)
    assert_frame_equal(rows, rows_of(second, observable)[1])
    lost = {rule: n for _, rule, n, _ in found.rejected.iter_rows()}
    assert lost["no shower event"] == len(events)
    assert found.remarks == []


def test_each_telescope_loses_its_own_events_only(block, rows_of):
    with h5py.File(block) as file:
        ids = {tel: file[in_telescope(ENERGIES, tel)]["event_id"] for tel in (1, 3)}
    lost = {tel: own[tel::10] for tel, own in ids.items()}

    def rule(rows):
        for tel, events in lost.items():
            rows["event_type"][(rows["tel_id"] == tel) & np.isin(rows["event_id"], events)] = 2
        return rows

    change(block, TRIGGER, rule)
    found, _ = rows_of(block, ENERGY_INTER)
    counts = {rule: n for _, rule, n, _ in found.rejected.iter_rows()}
    assert counts["no shower event"] == sum(len(events) for events in lost.values())


def test_events_without_a_number_are_of_no_other_table(block, rows_of):
    before = rows_of(block, ENERGY_INTER)[1]

    def rule(rows):
        more = rows[:3].copy()
        more["event_type"] = 0
        more["event_id"][0] = -1
        more["obs_id"][1] = 77
        more["event_id"][2] = 2**50
        return np.concatenate([more, rows])

    change(block, TRIGGER, rule)
    found, after = rows_of(block, ENERGY_INTER)
    assert found.status == "ok"
    assert_frame_equal(before, after)


def test_events_that_are_no_showers_for_a_telescope_are_no_rows_that_lack(block, rows_of):
    with h5py.File(block) as file:
        events = file[in_telescope(ENERGIES, STRANGE)]["event_id"][:]
    of_type(block, events[: len(events) // 2], 0)
    assert rows_of(block, ENERGY_INTER)[0].remarks == []


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_a_type_that_nobody_found_out_says_nothing(night, rows_of, observable):
    first, second = sorted(night.glob("*.dl2.h5"))
    second.write_bytes(first.read_bytes())
    of_type(first, events_of(first), 255)
    assert_frame_equal(rows_of(first, observable)[1], rows_of(second, observable)[1])
