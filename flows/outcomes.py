"""Exit statuses of the command line, and what a failure of the machine is called."""

import errno
from enum import IntEnum

__all__ = ["Exit", "describe_failure"]


class Exit(IntEnum):
    """What the shell gets."""

    USABLE = 0
    INFRASTRUCTURE = 1
    USAGE = 2
    DEGRADED = 3
    UNUSABLE = 4
    NOTHING_TO_DO = 5
    INTERRUPTED = 130


ADVICE = {
    errno.ENOSPC: "Free some space there, or choose another folder, and run again.",
    errno.EDQUOT: "Free some of your quota there, or choose another folder, and run again.",
    errno.EROFS: "Choose a folder that can be written.",
    errno.EACCES: "Choose a folder that you may write, or ask for permission.",
    errno.EPERM: "Choose a folder that you may write, or ask for permission.",
    errno.ENOENT: "Choose a folder that can be made.",
    errno.ENOTDIR: "Choose a folder; a file is in the way.",
    errno.EEXIST: "Choose a folder; a file is in the way.",
}


def describe_failure(error: BaseException) -> str:
    """One sentence on a failure of the machine, and one on what to do.

    Examples
    --------
    >>> describe_failure(OSError(errno.EROFS, "Read-only file system", "out"))
    'out: Read-only file system. Choose a folder that can be written.'
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror}"
    elif isinstance(error, OSError):
        what = str(error)
    else:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if what.endswith("."):  # says itself what to do
        return what
    advice = ADVICE.get(number or 0, "The machine failed, not the data: run again.")
    return f"{what}. {advice}"
