"""Nights: noon to noon, files by their observation time, nothing dropped in silence."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib.dl2.observed import last_night, night_of, observation_start
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.calib.nights.night_blocks import night_files

UTC_ZONE, CANARY, CHILE = "UTC", "Atlantic/Canary", "America/Santiago"
NIGHT, DAY = date(2026, 3, 1), timedelta(days=1)
OBSERVATION = "/configuration/observation/observation_block"
TRIGGER = "/dl1/event/subarray/trigger"
#: TAI is ahead of UTC by 37 s since 2017.
TAI_MINUS_UTC_S = 37


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def mjd_tai(moment):
    return 40587 + (moment.timestamp() + TAI_MINUS_UTC_S) / 86400


def observation_table(*moments):
    starts = np.array([0.0 if moment is None else mjd_tai(moment) for moment in moments])
    return {
        "obs_id": Column(np.arange(1, len(moments) + 1)),
        "actual_start_time": Column(starts, time_format="mjd"),
    }


def trigger_table(*moments):
    seconds = [0 if m is None else round(m.timestamp()) + TAI_MINUS_UTC_S for m in moments]
    stamps = np.array([(second, 0) for second in seconds], np.uint32)
    return {"time": Column(stamps, time_format="ctao_high_res")}


def write(path, **tables):
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_file(path) as file:
        for name, columns in tables.items():
            write_table(file, {"observation": OBSERVATION, "trigger": TRIGGER}[name], columns)
    return path


def block(path, moment):
    return write(path, observation=observation_table(moment))


def sorted_out(paths, *, zone=UTC_ZONE, settle_s=0.0, now=None, **options):
    now = now or datetime.now(UTC) + timedelta(seconds=1)
    return night_files(NIGHT, zone, paths, now=now, settle_s=settle_s, **options)


def night_window(night, zone):
    """Noon and next noon on the clock of the site, in UTC."""
    noons = (datetime.combine(day, time(12), ZoneInfo(zone)) for day in (night, night + DAY))
    return tuple(noon.astimezone(UTC) for noon in noons)


def test_a_night_goes_from_noon_to_noon_on_the_clock_of_the_site():
    # On 2026-04-05 the clocks of Chile went back by an hour: the night had 25 hours.
    night, moment = date(2026, 4, 4), timedelta(seconds=1)
    start, end = utc("2026-04-04T15:00"), utc("2026-04-05T16:00")
    assert night_window(night, CHILE) == (start, end)
    assert night_of(start - moment, CHILE) == night - DAY
    assert night_of(start, CHILE) == night_of(end - moment, CHILE) == night
    assert night_of(end, CHILE) == night + DAY


@given(
    moment=st.datetimes(datetime(2018, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  made aware by the strategy
    zone=st.sampled_from([UTC_ZONE, CANARY, CHILE]),
)
def test_every_moment_belongs_to_exactly_one_night(moment, zone):
    night = night_of(moment, zone)
    assert night_window(night, zone)[0] <= moment < night_window(night, zone)[1]
    assert night_window(night, zone)[1] == night_window(night + DAY, zone)[0]


@pytest.mark.parametrize(
    ("moment", "zone", "night"),
    [
        ("2026-03-02T08:30", UTC_ZONE, NIGHT),
        ("2026-03-02T23:00", UTC_ZONE, NIGHT),
        ("2026-03-03T00:30", UTC_ZONE, date(2026, 3, 2)),
        ("2026-03-03T02:30", CHILE, NIGHT),  # 23:30 on the day before
    ],
)
def test_the_last_night_is_that_of_the_evening_before(moment, zone, night):
    assert last_night(utc(moment), zone) == night


def test_the_time_of_a_block_is_its_earliest_actual_start(tmp_path):
    starts = [None, utc("2026-03-01T23:30"), utc("2026-03-01T22:00")]
    path = write(tmp_path / "a.dl2.h5", observation=observation_table(*starts))
    assert abs(observation_start(path) - starts[2]) < timedelta(milliseconds=1)


def test_a_block_without_actual_start_is_dated_by_its_first_shower(tmp_path):
    first = utc("2026-03-01T22:00:01")
    path = write(
        tmp_path / "a.dl2.h5",
        observation=observation_table(None),
        trigger=trigger_table(None, first, utc("2026-03-01T22:10")),
    )
    assert abs(observation_start(path) - first) < timedelta(milliseconds=1)


def test_a_block_that_states_no_time_says_what_to_do(tmp_path):
    path = write(tmp_path / "a.dl2.h5", observation=observation_table(None))
    with pytest.raises(CannotCompute, match=r"no observation time.*folder with the night"):
        observation_start(path)


def test_blocks_are_taken_from_noon_to_noon_in_the_order_of_observation(tmp_path):
    times = {
        "d": "2026-03-01T11:59:59",
        "c": "2026-03-01T12:00:01",
        "b": "2026-03-02T03:00",
        "a": "2026-03-02T11:59:59",
        "e": "2026-03-02T12:00:01",
    }
    paths = [block(tmp_path / f"{name}.dl2.h5", utc(text)) for name, text in times.items()]
    found = sorted_out(paths)
    assert [path.name[0] for path in found.blocks] == ["c", "b", "a"]
    assert found.n_others == 2
    assert not found.left_out
    assert not found.waiting


def test_the_noon_of_the_site_counts(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-01T13:00"))  # 10:00 in Chile
    assert sorted_out([path]).blocks == (path,)
    assert sorted_out([path], zone=CHILE).n_others == 1


def test_a_file_that_changed_lately_waits(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-01T22:00"))
    now = datetime.fromtimestamp(path.stat().st_ctime, UTC) + timedelta(seconds=30)
    found = sorted_out([path], settle_s=60, now=now)
    assert not found.blocks
    assert [item.path for item in found.waiting] == [path]
    assert "changed 30 s ago" in found.waiting[0].reason
    assert sorted_out([path], settle_s=29, now=now).blocks == (path,)


def test_a_copy_that_kept_its_old_modification_time_waits_too(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-01T22:00"))
    os.utime(path, (0, 0))
    assert sorted_out([path], settle_s=3600).waiting


def test_a_recent_file_of_another_night_does_not_wait_in_this_one(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-05T22:00"))
    found = sorted_out([path], settle_s=3600)
    assert not found.waiting
    assert found.n_others == 1


#: Opens a file for writing, says so, and holds it until its standard input is closed.
WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "a"):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_is_open_for_writing_waits(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-01T22:00"))
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        found = sorted_out([path], by_path=[path])
        undated = sorted_out([path])  # it is written now, so it may be of any night until now
        process.communicate()
    for waiting in (found.waiting, undated.waiting):
        assert [item.reason for item in waiting] == ["another program has it open for writing"]
    assert sorted_out([path], by_path=[path]).blocks == (path,)


def test_a_damaged_file_in_the_folder_of_the_night_is_one_of_its_blocks(tmp_path):
    path = tmp_path / "a.dl2.h5"
    path.write_bytes(b"no HDF5")
    assert sorted_out([path], by_path=[path]).blocks == (path,)


def damaged(path, written=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no HDF5")
    if written is not None:
        moment = utc(written).timestamp()
        os.utime(path, (moment, moment))
    return path


def test_a_damaged_file_without_a_date_is_a_block_of_the_night_it_was_written_in(tmp_path):
    path = damaged(tmp_path / "a.dl2.h5", "2026-03-02T04:00")
    assert sorted_out([path]).blocks == (path,)


def test_a_damaged_file_that_was_written_later_may_be_of_this_night_and_is_named(tmp_path):
    path = damaged(tmp_path / "a.dl2.h5", "2026-03-04T13:00")
    found = sorted_out([path])
    assert not found.blocks
    assert found.n_others == 0
    (item,) = found.left_out
    assert item.path == path
    assert item.reason.startswith("it may be of this night: ")
    assert "written on 2026-03-04" in item.reason
    assert "folder with the date of its night" in item.reason


def test_a_damaged_file_that_was_written_before_the_night_is_not_of_it(tmp_path):
    path = damaged(tmp_path / "a.dl2.h5", "2026-03-01T11:59")
    found = sorted_out([path])
    assert found.n_others == 1
    assert not found.left_out


@pytest.mark.parametrize(
    "name", ["2026-03-01/a.dl2.h5", "20260301/a.dl2.h5", "a_20260301.dl2.h5", "x-2026-03-01_b.h5"]
)
def test_a_date_in_the_path_says_of_which_night_a_damaged_file_is(tmp_path, name):
    path = damaged(tmp_path / name, "2026-03-09T04:00")
    assert sorted_out([path], root=tmp_path).blocks == (path,)


@pytest.mark.parametrize("name", ["2026-03-02/a.dl2.h5", "a_20260228.dl2.h5"])
def test_a_damaged_file_with_another_date_in_its_path_is_of_another_night(tmp_path, name):
    path = damaged(tmp_path / name, "2026-03-02T04:00")
    found = sorted_out([path], root=tmp_path)
    assert found.n_others == 1
    assert not found.left_out


@pytest.mark.parametrize("name", ["20261301", "120260301", "2026-0301", "19700301"])
def test_a_number_that_is_no_date_says_nothing(tmp_path, name):
    path = damaged(tmp_path / name / "a.dl2.h5", "2026-03-09T04:00")
    assert "no date" in sorted_out([path], root=tmp_path).left_out[0].reason


def test_a_date_above_the_data_folder_says_nothing(tmp_path):
    root = tmp_path / "2026-03-01"
    path = damaged(root / "a.dl2.h5", "2026-02-09T04:00")
    assert sorted_out([path], root=root).n_others == 1
    assert sorted_out([path]).blocks == (path,)


def test_a_damaged_file_with_several_dates_in_its_path_is_named_in_each_of_their_nights(tmp_path):
    path = damaged(tmp_path / "2026-03-01" / "a_20260302.dl2.h5")
    reason = sorted_out([path], root=tmp_path).left_out[0].reason
    assert "several dates (2026-03-01, 2026-03-02)" in reason
    other = path.rename(path.parent / "a_20260302.b_20260303.dl2.h5").rename(
        tmp_path / "a_20260302.b_20260303.dl2.h5"
    )
    assert sorted_out([other], root=tmp_path).n_others == 1


def test_the_folder_of_the_next_night_says_that_a_damaged_file_is_of_that(tmp_path):
    path = damaged(tmp_path / "a.dl2.h5", "2026-03-02T04:00")
    assert sorted_out([path], by_next_path=[path]).n_others == 1


def test_a_file_of_another_night_in_the_folder_of_this_one_is_named(tmp_path):
    path = block(tmp_path / "a.dl2.h5", utc("2026-03-05T22:00"))
    found = sorted_out([path], by_path=[path])
    assert not found.blocks
    assert found.n_others == 0
    assert (
        found.left_out[0].reason == "observed at 2026-03-05 22:00 UTC, in the night of 2026-03-05"
    )


def test_a_file_that_vanishes_is_named(tmp_path):
    path = tmp_path / "gone.dl2.h5"
    found = sorted_out([path], by_path=[path])
    assert "No such file" in found.waiting[0].reason


@given(names=st.lists(st.sampled_from("abcdef"), unique=True), named=st.sets(st.integers(0, 5)))
def test_every_candidate_is_counted_exactly_once(names, named):
    times = {
        "a": utc("2026-03-01T22:00"),
        "b": utc("2026-03-02T02:00"),
        "c": utc("2026-03-02T22:00"),
        "d": utc("2026-02-28T22:00"),
    }

    def time_of(path):
        if path.name not in times:
            raise CannotCompute("damaged")
        return times[path.name]

    folder = Path(__file__).parent
    paths = [folder / name for name in names]  # none of them exists
    by_path = [path for index, path in enumerate(paths) if index in named]
    found = sorted_out(paths, by_path=by_path, time_of=time_of)
    listed = [*found.blocks, *(item.path for item in (*found.waiting, *found.left_out))]
    assert len(listed) == len(set(listed))
    assert len(listed) + found.n_others == len(paths)


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("lapalma_gamma_ob9890", date(2017, 12, 1)),
        ("paranal_gamma_diffuse_ob99", date(2016, 1, 12)),
        ("simtel_proton_ob202", date(2021, 11, 5)),
    ],
)
def test_genuine_files_state_their_time(real_data, name, day):
    # 1512167054 s, 1452643200 s and MJD 59523.534 on the TAI scale
    moment = observation_start(real_data / f"{name}.dl2.h5")
    assert moment.date() == day


def test_a_product_is_left_out_whatever_it_is_called(tmp_path):
    moment = utc("2026-03-01 23:00")
    sound = block(tmp_path / "block.dl2.h5", moment)
    with h5py.File(sound, "r+") as file:
        file.create_group("/dl2/event/telescope")
    product = write(tmp_path / "2026-03-01_other.dl2.h5", observation=observation_table(moment))
    with h5py.File(product, "r+") as file:
        file.create_group("/dl2/monitoring/subarray/inter_calibration")
    found = night_files(NIGHT, UTC_ZONE, [sound, product], now=datetime.now(UTC), settle_s=0.0)
    assert found.blocks == (sound,)
    assert [(i.path, i.reason) for i in found.left_out] == [
        (product, "it is the result of a calibration, no block")
    ]
