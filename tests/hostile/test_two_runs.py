"""Two runs in one folder, and runs that are killed while they publish."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from arraycal.calib.disk import files, publication
from arraycal.calib.disk.locks import alone
from arraycal.calib.disk.publication import finish_publication, put_in_place
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.errors import WrongUsage
from arraycal.calib.publish.writing import FILES, LOCK
from arraycal.flows.cli.main import main

OLD, NEW = "old", "new"
#: Calls to the system while files are put in place; the last ones find nothing more to do.
STEPS = ("rename", "unlink", "replace", "rmdir", "sync")


class KilledError(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


def write_all(folder, text):
    for name in FILES:
        (folder / name).write_text(text)


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.name in FILES}


def publish_and_die(folder, monkeypatch, steps):
    """Publish new files; die before the step of that number. Tell whether it came so far."""
    count = 0

    def before(function):
        def counted(*arguments, **options):
            nonlocal count
            count += 1
            if count > steps:
                raise KilledError
            return function(*arguments, **options)

        return counted

    scratch = folder / ".arraycal-killed"
    scratch.mkdir()
    write_all(scratch, NEW)
    with monkeypatch.context() as patch:
        for name in STEPS[:-1]:
            patch.setattr(Path, name, before(getattr(Path, name)))
        patch.setattr(publication, "sync", before(files.sync))
        try:
            put_in_place(scratch, folder, FILES)
        except KilledError:
            return False
        return True


@pytest.mark.parametrize("existing", [(), FILES])
def test_a_kill_at_any_step_leaves_files_of_one_run_and_the_next_run_the_rest(
    tmp_path, monkeypatch, existing
):
    steps, is_done = 0, False
    while not is_done:
        folder = tmp_path / str(steps)
        folder.mkdir()
        for name in existing:
            (folder / name).write_text(OLD)
        is_done = publish_and_die(folder, monkeypatch, steps)
        found = texts(folder)
        assert len(set(found.values())) <= 1, (steps, found)
        assert "result.json" not in found or len(found) == 3
        assert not existing or "monitoring.h5" in found
        is_new = finish_publication(folder, FILES) or is_done or set(found.values()) == {NEW}
        assert texts(folder) == dict.fromkeys(FILES, NEW if is_new else OLD) or not existing
        with scratch_folder(folder):
            pass
        left = {path.name for path in folder.iterdir()} - set(FILES)
        assert not left, (steps, left)
        steps += 1
    assert steps > 8  # a rename of the folder, two removals, three renames, the flushes


def test_a_run_finishes_what_another_was_killed_over(simulated, tmp_path, lenient, monkeypatch):
    out = tmp_path / "out"
    command = ["run", "energy-inter", str(simulated), "--output", str(out), "--direct", *lenient]
    assert main(command) == 0
    made = json.loads((out / "result.json").read_text())["provenance"]["time_utc"]

    def die(folder):
        if folder == out:  # flushed when the new files are ready, before the first is moved
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(publication, "sync", die)
        with pytest.raises(KilledError):
            main([*command, "--overwrite"])
    assert json.loads((out / "result.json").read_text())["provenance"]["time_utc"] == made
    assert main(["report", str(out)]) == 0
    assert json.loads((out / "result.json").read_text())["provenance"]["time_utc"] > made
    assert {path.name for path in out.iterdir()} == {*FILES, "arraycal.log"}


CHILD = """
import signal, sys, time
from arraycal.calib.publish import writing
def stand_still(*_):
    print("publishing", flush=True)
    time.sleep(60)
writing._write_all = stand_still
from arraycal.flows.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_run_is_refused_and_a_killed_one_leaves_nothing(
    simulated, tmp_path, lenient, capsys
):
    out = tmp_path / "out"
    command = ["run", "energy-inter", str(simulated), "--output", str(out), "--direct", *lenient]
    first = subprocess.Popen([sys.executable, "-c", CHILD, *command], stdout=subprocess.PIPE)
    assert first.stdout is not None
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"publishing\n"
        capsys.readouterr()
        assert main(command) == 2
        assert f"{out}: another run is at work there" in capsys.readouterr().err
        assert list(out.glob(".arraycal-*"))
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=30)
    assert main(command) == 0
    assert {path.name for path in out.iterdir()} == {*FILES, "arraycal.log"}


def test_one_after_the_other_may_be_alone(tmp_path):
    lock = tmp_path / LOCK
    with alone(lock), pytest.raises(WrongUsage, match="another run is at work"), alone(lock):
        pass
    assert not lock.exists()
    with alone(lock):
        pass


def test_many_at_once_are_alone_one_by_one(tmp_path):
    # The lock file goes away each time: whoever waited for it must not hold one that is gone.
    code = """
import os, sys, time
from pathlib import Path
from arraycal.calib.disk.locks import alone
folder = Path(sys.argv[1])
for _ in range(60):
    with alone(folder / ".lock", wait=True):
        (folder / "mine").mkdir()
        (folder / "mine").rmdir()
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert [run.wait(60) for run in runs] == [0] * 4


def test_scratch_of_others_who_live_stays(tmp_path):
    with scratch_folder(tmp_path) as theirs:
        with scratch_folder(tmp_path) as ours:
            assert theirs.exists()
            assert ours != theirs
        assert not ours.exists()
    assert not list(tmp_path.iterdir())
