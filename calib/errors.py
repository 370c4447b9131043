"""Outcomes that are not results.

Three kinds must never be confused, because each asks for something else of the reader:

* `NothingToDo`: the input is sound and there is simply nothing in it to calibrate;
* `CannotCompute`: the input will not yield a result however often it is tried;
* anything else (``OSError``, a lost server): infrastructure, worth another try.
"""

__all__ = [
    "ArraycalError",
    "BeingWritten",
    "CannotCompute",
    "DamagedFile",
    "NothingToDo",
    "WrongUsage",
]


class ArraycalError(Exception):
    """Base of the errors arraycal raises on purpose; the message is written for the user."""


class NothingToDo(ArraycalError):
    """The input is valid but holds nothing this calibration could use."""


class CannotCompute(ArraycalError):
    """The input is damaged, incomplete or contradictory; repeating will not help."""


class DamagedFile(CannotCompute):
    """A part of a file that must be there cannot be read."""


class BeingWritten(CannotCompute):
    """A file that another program has open for writing; it will be complete later."""


class WrongUsage(ArraycalError):
    """The request itself is at fault: it needs another option or another path."""
