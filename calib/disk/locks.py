"""One writer at a time, and whose work goes on: locks that the kernel releases at a death."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from arraycal.calib.disk.naming import naming
from arraycal.calib.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["alone", "exclusive", "is_abandoned", "marked_alive"]

log = logging.getLogger("arraycal.calib")

#: What file systems say that know no locks (some network ones).
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
#: File systems of this kind that have been named already, by device.
WITHOUT_LOCKS: set[int] = set()


@contextmanager
def exclusive(path: Path, *, brief: bool = False) -> Iterator[None]:
    """Hold a lock while others wait for it.

    Parameters
    ----------
    path : Path
        The lock file; created if missing, and left there: removing it would give two
        processes a lock each. It is empty but for the process id of its last holder.
    brief : bool
        Whether nobody holds it for longer than a moment, so that waiting is not worth a word.

    Raises
    ------
    OSError
        If the file cannot be made.

    Notes
    -----
    The lock belongs to the open file, not to the file's existence: after SIGKILL or a power
    failure nothing stays locked. Where the file system knows no locks, a warning is logged once
    and the work goes on unguarded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="ascii", opener=_without_links) as stream:
        try:
            _lock(stream.fileno(), path, brief=brief)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _warn_once(path)
        with naming(path):
            # Not by way of the stream, which would fail once more, without a name, when it closes.
            os.ftruncate(stream.fileno(), 0)
            os.write(stream.fileno(), f"{os.getpid()}\n".encode("ascii"))
        yield


@contextmanager
def alone(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for one run, by a lock file in it that is gone afterwards.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made if missing.
    wait : bool
        Whether to wait while another run holds it.

    Raises
    ------
    WrongUsage
        If another run holds it, and this one is not to wait.
    OSError
        If the file cannot be made.

    Notes
    -----
    As `exclusive`, which leaves its file so that many may wait for it.
    """
    handle = _held(path, wait=wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _held(path: Path, *, wait: bool) -> int:
    """Open and lock a file that is still there when it is locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock_or_refuse(handle, path, wait=wait)
        except BaseException:
            os.close(handle)
            raise
        if _is_there(handle, path):
            return handle
        # Its last holder has removed it in between: whoever comes next makes a new one.
        os.close(handle)


def _lock_or_refuse(handle: int, path: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise WrongUsage(
                f"{path.parent}: another run is at work there. Wait for it to end, or choose "
                "another --output."
            ) from None
        log.warning("another run is at work in %s; waiting for it to end", path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_once(path)


def _is_there(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _without_links(path: str, flags: int) -> int:
    """Open the file itself: what a link in its place leads to must not be emptied."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _warn_once(path: Path) -> None:
    device = path.stat().st_dev
    if device not in WITHOUT_LOCKS:
        WITHOUT_LOCKS.add(device)
        log.warning("%s: this file system has no locks; two runs are not kept apart", path)


def _lock(handle: int, path: Path, *, brief: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not brief:
            log.warning("another run is at work in %s; waiting for it to end", path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def marked_alive(folder: Path) -> Iterator[None]:
    """Show others that somebody is at work in a folder, see `is_abandoned`.

    Parameters
    ----------
    folder : Path
        Of this process alone. It may be renamed meanwhile.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Without locks on this file system nobody will call the folder abandoned.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def is_abandoned(folder: Path) -> bool:
    """Whether who had marked a folder as alive is dead; False where that cannot be told."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(handle)
