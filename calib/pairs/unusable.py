"""Values that are no numbers a telescope can have, counted by telescope.

A reconstruction that fails here and there leaves NaN. Infinite values, zeros and negative ones come
from something that went wrong: where one telescope has far more of them than its siblings, its
other values may not be what they seem either.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.subarray import Subarray

__all__ = ["UnusableValues"]

#: Share of a telescope that is told, and how many times that of its siblings it must be.
MIN_SHARE, MORE_THAN_SIBLINGS = 0.01, 10.0


class UnusableValues:
    """Counts of rows by telescope, all and those without a positive finite value that is not NaN.

    Parameters
    ----------
    column : str
        The value.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._rows, self._unusable = Counter[int](), Counter[int]()

    def add(self, events: pl.DataFrame) -> None:
        """Count the rows of a window."""
        value = pl.col(self._column)
        wrong = value.is_not_nan() & ((value <= 0) | (value == math.inf))
        counts = events.group_by("tel_id").agg(pl.len().alias("rows"), wrong.sum().alias("wrong"))
        for tel_id, rows, n_wrong in counts.iter_rows():
            self._rows[tel_id] += rows
            self._unusable[tel_id] += n_wrong

    def remarks(self, subarray: Subarray) -> Iterator[str]:
        """Telescopes that stand out."""
        kinds = dict(zip(subarray.tel_ids, subarray.types, strict=True))
        for tel_id, n_wrong in sorted(self._unusable.items()):
            rows = self._rows[tel_id]
            siblings = [t for t in self._rows if kinds[t] == kinds[tel_id] and t != tel_id]
            theirs = sum(self._rows[t] for t in siblings)
            usual = sum(self._unusable[t] for t in siblings) / max(theirs, 1)
            if n_wrong > rows * max(MIN_SHARE, MORE_THAN_SIBLINGS * usual):
                yield (
                    f"{n_wrong:,} of {rows:,} values of {kinds[tel_id]} {tel_id} are infinite, "
                    f"zero or negative ({usual:.1%} of those of its siblings); they are left "
                    "out, and the others may be wrong, too"
                )
