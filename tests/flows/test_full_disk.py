"""What a full disk costs: a line for the log, and an error that says where."""

import logging
import os
from datetime import date
from pathlib import Path

import pytest

from arraycal.calib.disk.locks import exclusive
from arraycal.calib.nights.record import NightRecord, write_night
from arraycal.flows.jobs.logs import log_file


@pytest.fixture
def full():
    """A device on which every write fails: its disk is full."""
    if not os.path.exists("/dev/full"):  # noqa: PTH110  no file of ours
        pytest.skip("there is no /dev/full")
    return "/dev/full"


def test_a_full_disk_costs_the_log_one_line(full, tmp_path, capsys):
    (tmp_path / "arraycal.log").symlink_to(full)
    log = logging.getLogger("arraycal.flows")

    def fail():
        for number in range(50):
            log.info("record %d", number)
        raise OSError(28, "the reason")

    with pytest.raises(OSError, match="the reason"), log_file(tmp_path, "INFO"):
        fail()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"arraycal: the log {tmp_path}/arraycal.log cannot be written: No space left on device"
    ]


def test_what_cannot_be_written_on_a_full_disk_is_named(full, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)  # the device refuses it as such
    with pytest.raises(OSError, match="No space left") as caught, exclusive(Path(full)):
        pass
    assert caught.value.filename == full
    (tmp_path / ".night.json.tmp").symlink_to(full)
    record = NightRecord(date(2026, 3, 1), "UTC", "usable")
    with pytest.raises(OSError, match="No space left") as caught:
        write_night(tmp_path, record)
    assert caught.value.filename == str(tmp_path / "night.json")
