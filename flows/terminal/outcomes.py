"""Exit statuses of the command line, and what a failure of the machine is called."""

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from arraycal.calib.errors import ArraycalError, CannotCompute, NothingToDo, WrongUsage

if TYPE_CHECKING:
    from prefect import State

__all__ = ["REQUESTED", "STATUS", "Exit", "describe_failure", "raise_failure"]


class Exit(IntEnum):
    """What the shell gets."""

    USABLE = 0
    INFRASTRUCTURE = 1
    USAGE = 2
    DEGRADED = 3
    UNUSABLE = 4
    NOTHING_TO_DO = 5
    INTERRUPTED = 130


#: Outcomes without a result, by the name of the flow's state.
REFUSALS: dict[str, type[ArraycalError]] = {"NothingToDo": NothingToDo, "WrongUsage": WrongUsage}

STATUS = {"usable": Exit.USABLE, "degraded": Exit.DEGRADED, "unusable": Exit.UNUSABLE}

#: What is wrong with a request, and not with the machine.
REQUESTED = {errno.ENAMETOOLONG, errno.ELOOP}

ADVICE = {
    errno.ENAMETOOLONG: "Choose a shorter path.",
    errno.ELOOP: "Choose a path whose links lead somewhere.",
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
    elif isinstance(error, ImportError):
        return (
            f"a library cannot be loaded ({error}). Either the installation is not complete, or "
            "there is too little memory for it: see `ulimit -v`."
        )
    elif not isinstance(error, Exception):
        return f"polars stopped ({error}). Too little memory, or too few threads: see `ulimit -a`."
    else:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if what.endswith("."):  # says itself what to do
        return what
    advice = ADVICE.get(number or 0, "The machine failed, not the data: run again.")
    return f"{what}. {advice}"


def raise_failure(state: "State[Any]") -> None:
    """Raise what stopped a flow without a result."""
    refusal = REFUSALS.get(str(state.name))
    if refusal is not None:
        raise refusal(state.message or "the flow gave no reason")
    if state.is_crashed():
        raise ConnectionError(f"the flow run crashed: {state.message}")
    failure = state.result(raise_on_failure=False)
    if isinstance(failure, Exception) and type(failure).__module__.partition(".")[0] != "prefect":
        raise failure
    raise CannotCompute(state.message or "the flow failed without a message")
