"""Numbers for people: counts, times, and differences of logarithms as percent.

Everything is solved in ln c; -0.7 there is 50 % less. Tables keep the logarithms where their
documentation says ln; what is said in percent goes through here.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MAX_NAMED",
    "continued",
    "counted",
    "few_common",
    "listed",
    "nearest_column",
    "percent",
    "printable",
    "readable_ns",
    "relative",
]

#: The end of a line before one that is not indented.
CONTINUATION = re.compile(r"\n(?=\S)")

#: Ratios beyond which a percentage reads badly and the ratio itself is given.
MIN_RATIO, MAX_RATIO = 0.01, 10.0
#: Logarithm of the largest number there is: beyond it a ratio is infinite to nobody's use.
MAX_LOG = 709.0


def printable(text: str) -> str:
    r"""Text without control characters and other invisible ones; lines and tabs stay.

    They have no place in HTML, tell a terminal what to do, and half a surrogate pair (from a file
    name, say) has none in UTF-8.

    Examples
    --------
    >>> printable("a\x00b") == "a\N{REPLACEMENT CHARACTER}b"
    True
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def continued(text: str) -> str:
    r"""Printable text whose later lines cannot be taken for lines of somebody else.

    File names may hold the end of a line, and after it whatever their giver wants to be read.

    Examples
    --------
    >>> continued("left out: a\nusable")
    'left out: a\n  usable'
    """
    shown = printable(text)
    body = shown.lstrip("\n")
    return shown[: len(shown) - len(body)] + CONTINUATION.sub("\n  ", body)


def nearest_column(name: str, known: Iterable[str]) -> str | None:
    """Find the column that was probably meant: a slip of the hand, not another quantity.

    Examples
    --------
    >>> nearest_column("Forest_tel_energie", ["Forest_tel_energy", "Forest_tel_prediction"])
    'Forest_tel_energy'
    >>> nearest_column("ForestClassifier_tel_prediction", ["ForestRegressor_tel_energy"])
    """
    folded = {column.lower(): column for column in known}
    last = name.lower().rpartition("_")[2]
    for near in get_close_matches(name.lower(), folded, n=5):
        # What an algorithm gives is the last word of its columns.
        if get_close_matches(last, [near.rpartition("_")[2]]):
            return folded[near]
    return None


def relative(log_difference: float, log_error: float = 0.0) -> tuple[float, float]:
    """Relative difference, and its error, of a difference of logarithms.

    Parameters
    ----------
    log_difference, log_error : float
        ln(a / b) and its standard error; NaN stays NaN.

    Returns
    -------
    tuple of float
        a / b - 1, and the error of it to first order.
    """
    bounded = log_difference if math.isnan(log_difference) else min(log_difference, MAX_LOG)
    return math.expm1(bounded), math.exp(bounded) * log_error


def percent(log_difference: float) -> str:
    """Text of a difference of logarithms: ``-50.0%``, or ``x 1e+30`` where percent reads badly."""
    change, _ = relative(log_difference)
    if MIN_RATIO <= 1.0 + change <= MAX_RATIO:
        return f"{change:+.1%}"
    return f"x {1.0 + change:.2g}" if change > 0 else f"x {math.exp(log_difference):.2g}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> [counted(number, "shower") for number in (0, 1, 2)]
    ['0 showers', '1 shower', '2 showers']
    """
    return f"{number} {noun}{'s' * (number != 1)}"


#: Names in a sentence, before it says how many more there are.
MAX_NAMED = 8


def listed(names: Sequence[str]) -> str:
    """Write the first names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def few_common(best: int, needed: int) -> str:
    """Why a telescope with enough showers is tied to no other.

    Parameters
    ----------
    best : int
        Most showers in common with any telescope, those without a result included.
    needed : int
        What makes two telescopes neighbours (`min_common_events`).

    Examples
    --------
    >>> few_common(1, 20)
    'at most 1 shower in common with any telescope, 20 needed (min_common_events)'
    """
    showers = f"{counted(best, 'shower')} in common"
    if best < needed:
        return f"at most {showers} with any telescope, {needed} needed (min_common_events)"
    return (
        f"the telescopes with {needed} or more showers in common (min_common_events; at most "
        f"{best}) were left out themselves"
    )


def readable_ns(value_ns: float, *, sign: bool = True) -> str:
    """Write a time in the unit that suits it; a width or an error has no sign.

    Examples
    --------
    >>> [readable_ns(value) for value in (-3.456, 12_345.0, 1e9)]
    ['-3.46 ns', '+12.345 us', '+1 s']
    >>> readable_ns(27.05, sign=False)
    '27.05 ns'
    """
    size, plus = abs(value_ns), "+" if sign else ""
    for unit, length in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if size >= length:
            return f"{value_ns / length:{plus}.6g} {unit}"
    return f"{value_ns:{plus}.2f} ns"
