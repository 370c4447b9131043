"""Locks of files: whose they are, and file systems that have none."""

import errno
import fcntl
import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import h5py
import pytest

from arraycal.calib.dl2 import open_block
from arraycal.calib.dl2.observed import night_of, observation_start
from arraycal.calib.errors import BeingWritten
from arraycal.calib.nights.night_blocks import night_files
from arraycal.flows.cli.main import main


@contextmanager
def opened_for_writing(path):
    """As HDF5 does it, with a lock that nobody else gets a part of."""
    with h5py.File(path, "a", locking=True):
        yield


def files_of_night(path, time_of=observation_start):
    night = night_of(observation_start(path))
    now = datetime.now(UTC) + timedelta(hours=1)
    with opened_for_writing(path):
        return night_files(night, "UTC", [path], now=now, settle_s=60.0, time_of=time_of)


def test_a_file_system_without_locks_is_read_like_any_other(block, monkeypatch):
    def flock(_handle, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert len(open_block(block).subarray) == 13


def test_reading_holds_no_lock(block):
    from arraycal.calib.hdf5 import open_file

    with open_file(block), block.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # would raise


def test_the_library_is_told_not_to_lock(block, monkeypatch):
    # It has a way of its own to the kernel; its wish is seen in how it is called.
    wishes, original = [], h5py.File

    def file(*arguments, **options):
        wishes.append(options.get("locking"))
        return original(*arguments, **options)

    monkeypatch.setattr(h5py, "File", file)
    open_block(block)
    assert wishes == [False]


def test_a_file_that_is_being_written_is_not_called_damaged(block):
    with opened_for_writing(block), pytest.raises(BeingWritten, match="is being written") as caught:
        open_block(block)
    assert "Wait until that has ended" in str(caught.value)
    assert len(open_block(block).subarray) == 13


def test_a_run_says_so_and_calibrates_the_others(night, block, tmp_path, lenient):
    command = ["run", "energy-inter", str(night), "--output", str(tmp_path / "out"), "--direct"]
    with opened_for_writing(block):
        assert main([*command, *lenient]) == 3
    first = json.loads((tmp_path / "out/result.json").read_text())["blocks"]
    assert ["is being written" in item["reason"] for item in first].count(True) == 1


def test_a_block_that_is_being_written_waits(block):
    found = files_of_night(block)
    assert found.blocks == ()
    assert [item.reason for item in found.waiting] == ["another program has it open for writing"]


def test_it_also_waits_when_its_time_is_known_already(block):
    known = observation_start(block)
    found = files_of_night(block, lambda _: known)
    assert found.blocks == ()
    assert [item.path for item in found.waiting] == [block]
