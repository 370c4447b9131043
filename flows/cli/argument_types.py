"""Readers of command-line values: each gives a value or says what was expected."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import date

__all__ = [
    "clock_step",
    "count",
    "dated_step",
    "names",
    "not_empty",
    "number_of_telescope",
    "number_of_type",
    "pair_of_angles",
]


def count(smallest: int) -> Callable[[str], int]:
    """Make a reader of whole numbers that are not too small."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise ArgumentTypeError(
                f"found {text!r}, expected a whole number of at least {smallest}"
            )
        return int(text)

    return read


def not_empty(text: str) -> str:
    """Read a text that says something: an empty variable in a shell is no folder."""
    if not text.strip():
        raise ArgumentTypeError(f"found {text!r}, expected a name that is not empty")
    return text


def names(*possible: str) -> Callable[[str], tuple[str, ...]]:
    """Make a reader of some of the possible names, separated by commas, or ``none``."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(name for name in text.split(",") if text != "none")
        unknown = set(found) - set(possible)
        if unknown:
            raise ArgumentTypeError(
                f"found {', '.join(sorted(unknown))!r}, expected some of {','.join(possible)}, "
                "or none"
            )
        return found

    return read


def pair_of_angles(text: str) -> tuple[float, float]:
    """Read ``ZENITH,AZIMUTH``."""
    try:
        first, second = map(float, text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"found {text!r}, expected two numbers as in 20,180") from None
    return first, second


def number_of_type(text: str) -> tuple[str, float]:
    """Read ``TYPE=NUMBER``."""
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise ArgumentTypeError(f"found {text!r}, expected a number as in MST=0.1") from None


def number_of_telescope(text: str) -> tuple[int, float]:
    """Read ``ID=NUMBER``."""
    name, _, number = text.partition("=")
    try:
        return int(name), float(number)
    except ValueError:
        raise ArgumentTypeError(
            f"found {text!r}, expected a telescope and a number as in 5=0.8"
        ) from None


def clock_step(text: str) -> tuple[int, float, float]:
    """Read ``ID,S,NS``."""
    try:
        tel_id, time_s, size_ns = text.split(",")
        return int(tel_id), float(time_s), float(size_ns)
    except ValueError:
        raise ArgumentTypeError(
            f"found {text!r}, expected telescope, seconds and nanoseconds as in 5,600,10"
        ) from None


def dated_step(text: str) -> tuple[int, float, date]:
    """Read ``ID=NUMBER@DATE``."""
    name, _, when = text.partition("@")
    try:
        return *number_of_telescope(name), date.fromisoformat(when)
    except (ArgumentTypeError, ValueError):
        raise ArgumentTypeError(
            f"found {text!r}, expected telescope, relative change and date as in 5=-0.08@2026-03-03"
        ) from None
