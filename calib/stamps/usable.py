"""Whether the stamps of a file can come from clocks at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["refuse_useless"]

#: Fewer than these say nothing.
MIN_JUDGED = 20
#: Parts of them that are exactly 0, or among the most frequent values, in a file without timing.
#: Stamps in quarter nanoseconds with a spread of 1 ns have 8 % and 40 %.
ZERO_SHARE, TOP_SHARE, N_TOP = 0.5, 0.8, 5


def refuse_useless(differences: Mapping[int, int], path: object) -> None:
    """Refuse a file whose stamps cannot come from clocks.

    Parameters
    ----------
    differences : mapping of int to int
        How often each absolute difference (quarter ns) between two stamps of a shower was found.
    path : Path
        The file, for the message.

    Raises
    ------
    CannotCompute
        If most differences are exactly zero, or a handful of values makes up nearly all of them:
        stamps that were copied from the array's, rounded (as by a floating-point date), or made up.
    """
    total = sum(differences.values())
    if total < MIN_JUDGED:
        return
    zero = differences.get(0, 0) / total
    frequent = sorted(differences, key=lambda value: -differences[value])[:N_TOP]
    top = sum(differences[value] for value in frequent) / total
    if zero <= ZERO_SHARE and top <= TOP_SHARE:
        return
    listed = ", ".join(f"{value / 4:g}" for value in sorted(frequent))
    raise CannotCompute(
        f"{path}: the time stamps are useless for timing. Of {total} differences between "
        f"telescopes of one shower, {zero:.0%} are exactly 0 and {top:.0%} are one of {listed} ns; "
        "stamps of clocks would be spread over nanoseconds. They were rounded, copied or made up; "
        "use files with the stamps of the telescopes' own clocks."
    )
