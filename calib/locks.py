"""One writer at a time: an advisory lock that the kernel releases when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["exclusive"]

log = logging.getLogger("arraycal.calib")

#: What file systems say that know no locks (some network ones).
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock while others wait for it.

    Parameters
    ----------
    path : Path
        The lock file; created if missing, and left there: removing it would give two
        processes a lock each. It is empty but for the process id of its last holder.

    Raises
    ------
    OSError
        If the file cannot be made.

    Notes
    -----
    The lock belongs to the open file, not to the file's existence: after SIGKILL or a power
    failure nothing stays locked. Where the file system knows no locks, a warning is logged and
    the work goes on unguarded.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as stream:
        try:
            _lock(stream.fileno(), path)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            log.warning("%s: this file system has no locks; two runs are not kept apart", path)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("another run is at work in %s; waiting for it to end", path.parent)
        fcntl.flock(handle, fcntl.LOCK_EX)
