"""Sums over showers: the normal equations by chunk, and what the residuals look like.

With weights w = 1/sigma^2 and the shower's own time eliminated, the equations of a chunk are sums
over its showers of ``X^T (diag(w) - w w^T / W) X``, where X holds a telescope indicator and the
global columns (front radius, walk). They add up over windows, chunks and blocks, so one pass gives
the solution of every chunk, of every pointing and of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.showers import tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from arraycal.calib.timing.residuals import Residuals
    from arraycal.calib.timing.showers import StampedShowers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["ClockSums", "empty_sums", "pair_products", "pairs", "sums"]


@dataclass(frozen=True)
class ClockSums:
    """Additive sums, by chunk. n telescopes come first, then m global columns.

    Parameters
    ----------
    matrix, meat : array, shape (n_chunks, n + m, n + m)
        Normal matrix, and the sum of g g^T of the showers' gradients g.
    vector : array, shape (n_chunks, n + m)
        Gradient.
    n_rows : array, shape (n_chunks, n)
        Stamps in use.
    n_all : array, shape (n_chunks, n)
        Stamps before clipping.
    n_showers : array, shape (n_chunks,)
        Showers in use.
    square, expected : array, shape (n,)
        Squared residuals in units of sigma^2, and what they should be.
    """

    matrix: Floats
    meat: Floats
    vector: Floats
    n_rows: Floats
    n_all: Floats
    n_showers: Floats
    square: Floats
    expected: Floats

    def add(self, part: ClockSums, low: int, high: int) -> None:
        """Add the sums of the chunks from `low` to before `high`, in place."""
        for name in vars(self):
            own: Floats = getattr(self, name)
            where = slice(low, high) if name in BY_CHUNK else slice(None)
            own[where] += getattr(part, name)


#: Sums that are kept by chunk.
BY_CHUNK = frozenset({"matrix", "meat", "vector", "n_rows", "n_all", "n_showers"})


def empty_sums(n_groups: int, n_telescopes: int, n_columns: int) -> ClockSums:
    """Sums over no shower."""
    size = n_telescopes + n_columns
    return ClockSums(
        matrix=np.zeros((n_groups, size, size)),
        meat=np.zeros((n_groups, size, size)),
        vector=np.zeros((n_groups, size)),
        n_rows=np.zeros((n_groups, n_telescopes)),
        n_all=np.zeros((n_groups, n_telescopes)),
        n_showers=np.zeros(n_groups),
        square=np.zeros(n_telescopes),
        expected=np.zeros(n_telescopes),
    )


def pairs(showers: StampedShowers) -> Iterator[tuple[Indices, Indices]]:
    """Yield rows of all pairs of stamps of a shower, first before second, in a few large parts."""
    behind = showers.spread(showers.start[1:]) - np.arange(len(showers.shower))
    for lag in range(1, int(behind.max(initial=0))):
        first = np.flatnonzero(behind > lag)
        yield first, first + lag


def pair_products(
    showers: StampedShowers,
    link: Indices,
    shape: tuple[int, int],
    factors: Sequence[tuple[Floats, Floats]],
) -> list[Floats]:
    """Sums over showers of products of two values of their stamps.

    Parameters
    ----------
    showers : StampedShowers
        The window.
    link : array of int, shape (n_rows,)
        Group times number of telescopes plus telescope.
    shape : (int, int)
        Numbers of groups and telescopes.
    factors : sequence of (array, array), each of shape (n_rows,)
        Values u and v with ``u_i v_j = u_j v_i`` in every shower.

    Returns
    -------
    list of array, shape (n_groups, n_telescopes, n_telescopes)
        Sum of ``u_i v_j`` by group and the two telescopes, for each of the factors.
    """
    n_groups, n = shape
    size = n_groups * n * n
    found = [np.zeros(size) for _ in factors]
    for first, second in pairs(showers):
        cell = link.take(first) * n + showers.telescope.take(second)
        for total, (one, two) in zip(found, factors, strict=True):
            np.add(total, tally(cell, one.take(first) * two.take(second), size), out=total)
    blocks = [total.reshape(n_groups, n, n) for total in found]
    blocks = [block + block.transpose(0, 2, 1) for block in blocks]
    for block, (one, two) in zip(blocks, factors, strict=True):
        block[:, np.arange(n), np.arange(n)] += tally(link, one * two, n_groups * n).reshape(shape)
    return blocks


def sums(
    showers: StampedShowers, group: Indices, n_groups: int, found: Residuals, n_telescopes: int
) -> ClockSums:
    """Sum up a window.

    Parameters
    ----------
    showers : StampedShowers
        The window.
    group : array of int, shape (n_showers,)
        Chunk of each shower, or any other grouping.
    n_groups : int
        Number of groups.
    found : Residuals
        From `residuals`.
    n_telescopes : int
        Telescopes of the array.

    Returns
    -------
    ClockSums
        By group.
    """
    n, shape = n_telescopes, (n_groups, n_telescopes)
    result = empty_sums(n_groups, n, len(found.column))
    if not len(showers):
        return result
    tel, unused = showers.telescope, np.flatnonzero(found.weight == 0)
    link = showers.spread(group * n) + tel
    n_all = np.bincount(link, minlength=n_groups * n)
    result.n_rows[:] = (n_all - np.bincount(link.take(unused), minlength=n_groups * n)).reshape(
        shape
    )
    result.n_all[:] = n_all.reshape(shape)
    result.n_showers[:] = np.bincount(group[found.total > 0], minlength=n_groups)
    gradient = found.weight * found.value
    result.square[:] = tally(tel, gradient * found.value, n)
    result.expected[:] = result.n_rows.sum(axis=0) - tally(tel, found.share, n)
    weights, gradients = pair_products(
        showers, link, shape, [(found.weight, found.share), (gradient, gradient)]
    )
    result.matrix[:, :n, :n] = -weights
    diagonal = tally(link, found.weight, n_groups * n).reshape(shape)
    result.matrix[:, np.arange(n), np.arange(n)] += diagonal
    result.meat[:, :n, :n] = gradients
    result.vector[:, :n] = tally(link, gradient, n_groups * n).reshape(shape)
    _add_columns(result, showers, group, link, gradient, found)
    return result


def _add_columns(
    result: ClockSums,
    showers: StampedShowers,
    group: Indices,
    link: Indices,
    gradient: Floats,
    found: Residuals,
) -> None:
    """Add what the global columns have in common with the telescopes and with each other."""
    shape = n_groups, n = result.n_rows.shape
    for one, column in enumerate(found.column, start=n):
        mixed = tally(link, found.weight * column, n_groups * n).reshape(shape)
        result.matrix[:, :n, one] = result.matrix[:, one, :n] = mixed
    # A shower's share of the gradient along each column, shape (n_columns, n_showers).
    slope = np.array([showers.total(gradient * column) for column in found.column])
    slope = slope.reshape(len(found.column), len(group)) - found.pull
    for one, of_shower in enumerate(slope, start=n):
        mixed = tally(link, gradient * showers.spread(of_shower), n_groups * n).reshape(shape)
        result.meat[:, :n, one] = result.meat[:, one, :n] = mixed
        result.vector[:, one] = tally(group, of_shower, n_groups)
    if len(slope):
        result.matrix[:, n:, n:] = _products(
            found.column, found.weight * found.column, group, showers.start, n_groups
        )
        for column, excess in enumerate(found.excess, start=n):
            result.matrix[:, column, column] -= tally(group, excess, n_groups)
        rows = np.arange(len(group) + 1)
        result.meat[:, n:, n:] = _products(slope, slope, group, rows, n_groups)


def _products(one: Floats, two: Floats, group: Indices, start: Indices, n_groups: int) -> Floats:
    """Products of two sets of columns by group of the showers, shape (n_groups, m, m)."""
    result = np.zeros((n_groups, len(one), len(two)))
    # Chunks are contiguous: one product of matrices for each.
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=-1))
    for low, high in pairwise(edges.tolist()):
        rows = slice(start[low], start[high])
        result[group[low]] += one[:, rows] @ two[:, rows].T
    return result
