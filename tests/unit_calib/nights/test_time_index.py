"""Observation times are read once per file."""

import os
from datetime import UTC, datetime

import pytest

from arraycal.calib.errors import CannotCompute
from arraycal.calib.nights.time_index import TimeIndex

MOMENT = datetime(2026, 3, 1, 22, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.dl2.h5"
    path.write_text("one")
    return path


class Reader:
    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return MOMENT


def test_a_time_is_read_once_also_by_the_next_process(tmp_path, file):
    read, index = Reader(), tmp_path / "cache" / "times.json"
    first = TimeIndex(index, read)
    assert first(file) == first(file) == MOMENT
    first.save()
    assert TimeIndex(index, read)(file) == MOMENT
    assert read.calls == 1
    assert [path.name for path in index.parent.iterdir()] == ["times.json"]


@pytest.mark.parametrize("change", ["content", "time"])
def test_a_file_that_changed_is_read_again(tmp_path, file, change):
    read = Reader()
    index = TimeIndex(tmp_path / "times.json", read)
    index(file)
    if change == "content":
        file.write_text("other")
    else:
        os.utime(file, (1, 1))
    index(file)
    assert read.calls == 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": ["x"]}', '{"a": ["2026-03-01"]}', "\x00"]
)
def test_a_damaged_index_is_no_index(tmp_path, file, text):
    (tmp_path / "times.json").write_text(text)
    assert TimeIndex(tmp_path / "times.json", Reader())(file) == MOMENT


def test_a_failure_is_not_remembered(tmp_path, file):
    def fail(_):
        raise CannotCompute("damaged")

    index = TimeIndex(tmp_path / "times.json", fail)
    with pytest.raises(CannotCompute):
        index(file)
    index.save()
    assert not (tmp_path / "times.json").exists()
