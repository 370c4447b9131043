"""Processes that outlive the command that started them, known by a file with their id.

The file also holds when the process started: after a restart of the machine another one may have
its id, and must not be taken for it, or be stopped.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Process", "has_survivors", "limit_log", "read_process", "start", "stop"]

POLL_S = 0.1
#: Place of the state and of the start time after the name in parentheses, in /proc/ID/stat.
STATE, START_TIME = 0, 19
ZOMBIE = "Z"


@dataclass(frozen=True)
class Process:
    """A process.

    Parameters
    ----------
    pid : int
        Its id, and that of its process group.
    started : str
        When it started, in whatever unit the system counts.
    note : str
        What its starter wanted to remember.
    """

    pid: int
    started: str
    note: str = ""

    @property
    def is_running(self) -> bool:
        """Whether this very process is still there."""
        return bool(self.started) and _start_time(self.pid) == self.started


def start(
    file: Path, command: Sequence[str], environment: Mapping[str, str], log: Path, note: str = ""
) -> Process:
    """Start a process in a session of its own and write its file.

    Parameters
    ----------
    file : Path
        Gets id and start time.
    command : sequence of str
        Program and arguments.
    environment : mapping of str to str
        All of it.
    log : Path
        What the process prints is appended there.
    note : str
        Kept in the file.

    Returns
    -------
    Process
        Just started.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603  our own command
            command,
            env=dict(environment),
            cwd=file.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
    process = Process(child.pid, _start_time(child.pid), note)
    child.returncode = 0  # not ours to wait for: it outlives this command
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps(asdict(process)), encoding="utf-8")
    temporary.replace(file)
    return process


def read_process(file: Path) -> Process | None:
    """Return the process of a file if it is running; a file without one is removed."""
    process = _recorded(file)
    if process is None or not process.is_running:
        file.unlink(missing_ok=True)
        return None
    return process


def limit_log(log: Path, largest_bytes: int) -> None:
    """Move what a large log holds into a second file, which replaces the one before it.

    The process goes on writing: it appends, and now to an empty file.
    """
    if not log.exists() or log.stat().st_size <= largest_bytes:
        return
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def has_survivors(file: Path) -> bool:
    """Whether a process of a file has died and left others of its group behind."""
    process = _recorded(file)
    if process is None or process.is_running:
        return False
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's group has the number by now
        return False
    return True


def _recorded(file: Path) -> Process | None:
    try:
        return Process(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def stop(file: Path, timeout_s: float) -> bool:
    """Ask a process to end, insist after a while, and remove its file.

    Parameters
    ----------
    file : Path
        Of the process.
    timeout_s : float
        How long it has before it, and what is left of its group, is killed.

    Returns
    -------
    bool
        Whether there was one.
    """
    process = read_process(file)
    if process is None:
        return False
    _signal(process.pid, signal.SIGTERM)
    end = time.monotonic() + timeout_s
    while process.is_running and time.monotonic() < end:
        time.sleep(POLL_S)
    # Also what the process left behind in its group.
    _signal_group(process.pid, signal.SIGKILL)
    while process.is_running:
        time.sleep(POLL_S)
    file.unlink(missing_ok=True)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: of a group of zombies
        os.killpg(pid, number)


def _start_time(pid: int) -> str:
    """When a process started; empty if there is none, or only its corpse."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():
        return _start_time_by_ps(pid)
    try:
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[STATE] == ZOMBIE else fields[START_TIME]


def _start_time_by_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, started = done.stdout.strip().partition(" ")
    return "" if state.startswith(ZOMBIE) else started.strip()
