"""Processes that outlive their starter: never mistaken for others, always stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arraycal.flows.service import processes
from arraycal.flows.service.processes import (
    Process,
    has_survivors,
    limit_log,
    read_process,
    start,
    stop,
)

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(300)"]
#: Ignores the request to end, and has a child in its group.
STUBBORN_CODE = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
time.sleep(300)
"""
STUBBORN = [sys.executable, "-c", STUBBORN_CODE]


class Launcher:
    def __init__(self, folder):
        self.file, self.log = folder / "p.json", folder / "logs" / "p.log"

    def __call__(self, command, note=""):
        process = start(self.file, command, os.environ, self.log, note)
        while not self.log.read_text().endswith("\n"):
            time.sleep(0.01)
        return process


@pytest.fixture
def launch(tmp_path):
    launcher = Launcher(tmp_path)
    yield launcher
    stop(launcher.file, 0)


def test_a_process_is_found_again_by_its_file(launch):
    process = launch(SLEEP, note="4200")
    assert process.is_running
    assert read_process(launch.file) == process
    assert process.note == "4200"
    assert launch.log.read_text() == "here\n"


def test_a_process_has_a_session_of_its_own(launch):
    assert os.getsid(launch(SLEEP).pid) != os.getsid(0)


def test_a_process_that_is_stopped_is_gone_with_its_file(launch):
    process = launch(SLEEP)
    assert stop(launch.file, 10)
    assert not process.is_running
    assert not launch.file.exists()
    assert not stop(launch.file, 10)


def test_who_does_not_listen_is_killed_with_what_it_started(launch):
    process = launch(STUBBORN)
    child = int(launch.log.read_text())
    assert stop(launch.file, 0.2)
    assert not process.is_running
    while processes._start_time(child):  # killed, and about to die
        time.sleep(0.01)


def test_what_a_killed_process_left_behind_is_noticed(launch):
    process = launch(STUBBORN)
    assert not has_survivors(launch.file)  # it has not died
    os.kill(process.pid, signal.SIGKILL)
    while process.is_running:
        time.sleep(0.01)
    assert has_survivors(launch.file)
    os.kill(int(launch.log.read_text()), signal.SIGKILL)
    os.waitpid(process.pid, 0)  # its corpse is ours, and still in the group
    while has_survivors(launch.file):
        time.sleep(0.01)


def test_without_a_file_nothing_was_left_behind(tmp_path):
    assert not has_survivors(tmp_path / "p.json")


def test_a_log_that_grows_is_set_aside_once_while_its_process_goes_on(launch):
    code = "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.01)"
    launch([sys.executable, "-c", code])
    aside = launch.log.with_name("p.log.1")
    limit_log(launch.log, 10**9)
    assert not aside.exists()
    for _ in range(2):
        while launch.log.stat().st_size < 500:
            time.sleep(0.01)
        limit_log(launch.log, 400)
        # Nothing of the older ones is kept, and nothing but whole lines is there.
        assert aside.stat().st_size % 100 == 0
        assert 500 <= aside.stat().st_size < 500_000
    while not launch.log.stat().st_size:
        time.sleep(0.01)
    assert set(launch.log.read_text()) == {"x", "\n"}  # not zeros up to where it was
    assert sorted(path.name for path in launch.log.parent.iterdir()) == ["p.log", "p.log.1"]


def test_without_a_log_there_is_nothing_to_set_aside(tmp_path):
    limit_log(tmp_path / "p.log", 0)
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_killed_is_not_running(launch):
    process = launch(SLEEP)
    os.kill(process.pid, signal.SIGKILL)
    while process.is_running:
        time.sleep(0.01)
    assert read_process(launch.file) is None
    assert not launch.file.exists()


def test_another_process_with_the_same_id_is_left_alone(tmp_path):
    # After a restart of the machine the id may be that of anything, say of this test.
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"pid": os.getpid(), "started": "1", "note": ""}))
    assert not stop(file, 0)
    assert not file.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "x": 2}', "null"])
def test_a_file_that_makes_no_sense_is_removed(tmp_path, text):
    file = tmp_path / "p.json"
    file.write_text(text)
    assert read_process(file) is None
    assert not file.exists()


def test_a_program_that_is_not_there_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        start(tmp_path / "p.json", ["no-such-program"], {}, tmp_path / "p.log")
    assert not (tmp_path / "p.json").exists()


def test_the_start_time_is_that_of_the_process():
    mine = processes._start_time(os.getpid())
    assert mine
    assert Process(os.getpid(), mine).is_running
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert processes._start_time(done.pid) == ""


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no ps")
def test_without_proc_ps_tells_the_same(launch):
    process = launch(SLEEP)
    assert processes._start_time_by_ps(process.pid)
    assert processes._start_time_by_ps(process.pid) == processes._start_time_by_ps(process.pid)
    stop(launch.file, 5)
    assert processes._start_time_by_ps(process.pid) == ""
