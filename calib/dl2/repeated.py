"""Rows of one key: copies of which one stays, and rows that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Keys = npt.NDArray[np.int64]
    Rows = npt.NDArray[Any]

__all__ = ["among", "equal_rows", "split_repeated"]


def split_repeated(keys: Keys, rows: Rows) -> tuple[Bools, Keys, int]:
    """Judge rows of ascending keys: the first of equal ones stays, unequal ones go altogether.

    Parameters
    ----------
    keys : array of int64, shape (n_rows,)
        Ascending.
    rows : structured array, shape (n_rows,)
        Rows of the table.

    Returns
    -------
    kept : array of bool, shape (n_rows,)
        Which rows stay.
    contradicted : array of int64
        Keys of which none does.
    n_copies : int
        Rows that go for being copies.
    """
    repeated = np.append(False, keys[1:] == keys[:-1])
    at = np.flatnonzero(repeated)
    unequal = np.unique(keys[at[~equal_rows(rows, at - 1, at)]])
    torn = among(keys, unequal)
    return ~repeated & ~torn, unequal, int(np.count_nonzero(repeated & ~torn))


def equal_rows(rows: Rows, one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> Bools:
    """Whether rows of a table are equal in every column; NaN equals NaN."""
    equal = np.ones(len(one), np.bool_)
    for name in rows.dtype.names or ():
        a, b = rows[name][one], rows[name][other]
        same = (a == b) | ((a != a) & (b != b))  # noqa: PLR0124  only NaN differs from itself
        equal &= same.reshape(len(one), -1).all(axis=1) if len(one) else equal
    return equal


def among(keys: Keys, known: Keys) -> Bools:
    """Which keys are among sorted ones."""
    if not known.size:
        return np.zeros(len(keys), np.bool_)
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.asarray(known[place] == keys)
