"""The lock keeps runs apart and never outlives its holder."""

import errno
import fcntl
import signal
import subprocess
import sys
import threading

import pytest

from arraycal.calib.disk import locks
from arraycal.calib.disk.locks import exclusive, is_abandoned, marked_alive

HOLD = """
import sys, time
from pathlib import Path
from arraycal.calib.disk import locks
from arraycal.calib.disk.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_waits_for_the_first(tmp_path, caplog):
    order, entered = [], threading.Event()

    def second():
        entered.wait()
        with exclusive(tmp_path / ".lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with exclusive(tmp_path / ".lock"):
        entered.set()
        # The other one has come to the lock when it says so.
        while "another run is at work" not in caplog.text:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_killed_holder_leaves_the_lock_free(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with exclusive(tmp_path / ".lock"):
        pass


def test_a_failure_inside_frees_the_lock(tmp_path):
    def fail():
        with exclusive(tmp_path / ".lock"):
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()


def test_without_locks_on_the_file_system_the_work_goes_on_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(locks, "WITHOUT_LOCKS", set())
    for name in (".lock", "another.lock"):
        with exclusive(tmp_path / name):
            pass
    assert caplog.text.count("no locks") == 1


def test_a_folder_is_abandoned_when_nobody_is_at_work_in_it(tmp_path):
    with marked_alive(tmp_path):
        assert not is_abandoned(tmp_path)
    assert is_abandoned(tmp_path)
    assert not is_abandoned(tmp_path / "missing")


def test_without_locks_on_the_file_system_nothing_is_called_abandoned(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with marked_alive(tmp_path):
        pass
    assert not is_abandoned(tmp_path)


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), exclusive(tmp_path / ".lock"):
        pass
    assert (tmp_path / "precious").read_text() == "content"
