"""A file that is replaced is replaced as a whole, and writers take turns."""

import threading
from datetime import date

import pytest

from arraycal.calib.disk.files import kind_of_file, replace_file
from arraycal.calib.disk.locks import exclusive
from arraycal.calib.disk.publication import finish_publication
from arraycal.calib.disk.texts import read_json
from arraycal.calib.nights.index import LOCK_FILE, update_index
from arraycal.calib.nights.record import NIGHT_FILE, NightRecord, write_night
from arraycal.calib.publish.writing import INDEX

NIGHT = date(2026, 3, 1)


def by_content(folder, number):
    replace_file(folder / "page.html", (f"version {number}\n" * 1000).encode())
    return folder / "page.html"


def of_a_night(folder, number):
    record = NightRecord(NIGHT, "UTC", "usable", reasons=(f"version {number}",) * 100)
    write_night(folder, record)
    return folder / NIGHT_FILE


def of_an_index(folder, number):
    of_a_night(folder / NIGHT.isoformat(), number)
    update_index(folder)
    return folder / INDEX


@pytest.mark.parametrize("write", [by_content, of_a_night, of_an_index])
def test_a_reader_that_has_the_old_file_open_keeps_it_whole(tmp_path, write):
    path = write(tmp_path, 1)
    old = path.read_bytes()
    with path.open("rb", buffering=0) as stream:
        head = stream.read(len(old) // 2)
        assert write(tmp_path, 2) == path
        assert head + stream.read() == old
    assert path.read_bytes() != old


def test_a_second_writer_of_the_index_waits_for_the_first(tmp_path):
    of_a_night(tmp_path / NIGHT.isoformat(), 1)
    update_index(tmp_path)
    of_a_night(tmp_path / NIGHT.isoformat(), 2)
    writer = threading.Thread(target=update_index, args=(tmp_path,), daemon=True)
    before = (tmp_path / INDEX).read_bytes()
    with exclusive(tmp_path / LOCK_FILE):
        writer.start()
        # Half a second is ample to write the page: it takes a few milliseconds.
        writer.join(0.5)
        assert writer.is_alive()
        assert (tmp_path / INDEX).read_bytes() == before
    writer.join(60)
    assert not writer.is_alive()
    assert (tmp_path / INDEX).read_bytes() != before


def test_a_link_that_leads_nowhere_is_told_from_nothing(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert kind_of_file(link) == "a link that leads nowhere"
    assert kind_of_file(tmp_path / "nowhere") == "nothing"


def test_it_is_told_whether_a_killed_run_had_left_files_to_put_in_place(tmp_path):
    ready = tmp_path / ".first.ready"
    ready.mkdir()
    for name in ("first", "second"):
        (ready / name).write_text("new")
        (tmp_path / name).write_text("old")
    assert finish_publication(tmp_path, ("first", "second")) is True
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["new", "new"]
    assert finish_publication(tmp_path, ("first", "second")) is False


def test_a_text_of_more_than_256_mib_is_not_read(tmp_path):
    path = tmp_path / "endless.json"
    with path.open("wb") as file:
        file.truncate((256 << 20) + 1)  # a hole, which takes no place on the disk
    with pytest.raises(ValueError, match="268,435,457 bytes, expected at most 268,435,456"):
        read_json(path)
