"""Sums over showers for the global columns of the fit: what a distance curve adds to SUMMARY.

With L the Laplacian of the pair rows' weights, a matrix over telescope rows, and H the columns at
these rows, the normal equations of `arraycal.calib.fit.normal` are ``H^T L H`` and ``N^T L H``, N
telling which row belongs to which node. Like every sum they add up over windows, blocks and nights.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from arraycal.calib.fit.showers import tally

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.normal import Normal
    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["ColumnSums", "column_sums", "columns_by_shower", "hold_columns", "with_columns"]


@dataclass(frozen=True)
class ColumnSums:
    """Sums of n nodes with m global columns, and of these with each other.

    Parameters
    ----------
    mixed, mixed_curvature, mixed_meat : array, shape (n, m)
        Blocks of ``arraycal.calib.fit.normal.Normal`` between nodes and columns.
    columns, columns_curvature, columns_meat : array, shape (m, m)
        Blocks of the columns.
    vector : array, shape (m,)
        Right side of the columns.
    """

    mixed: Floats
    mixed_curvature: Floats
    mixed_meat: Floats
    columns: Floats
    columns_curvature: Floats
    columns_meat: Floats
    vector: Floats

    @staticmethod
    def empty(n: int, m: int) -> ColumnSums:
        """Sums over no shower."""
        mixed, square = np.zeros((n, m)), np.zeros((m, m))
        return ColumnSums(mixed, mixed, mixed, square, square, square, np.zeros(m))

    def __add__(self, other: ColumnSums) -> ColumnSums:
        """Merge."""
        return ColumnSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: ColumnSums) -> ColumnSums:
        """Take some of the showers out again."""
        return ColumnSums(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


def column_sums(
    showers: Showers,
    columns: Floats,
    rows: tuple[Indices, Indices],
    weights: tuple[Floats, Floats],
    gradient: Floats,
    by_shower: Floats | None = None,
) -> ColumnSums:
    """Sum up the columns of some showers.

    Parameters
    ----------
    showers : Showers
        The rows.
    columns : array, shape (n_rows, m)
        Values of the columns at every telescope row.
    rows : tuple of two arrays of int, shape (n_pairs,)
        Telescope rows of the pair rows in use.
    weights : tuple of two arrays, shape (n_pairs,)
        Weight of every pair row, and its weight in the derivative of the gradient.
    gradient : array, shape (n_rows,)
        Derivative of the squared residuals by every telescope row.
    by_shower : array, shape (n_showers, m), optional
        From `columns_by_shower`, where it is known already.
    """
    n, m = showers.n_nodes, columns.shape[1]
    if not m or not len(columns):
        return ColumnSums.empty(n, m)
    if by_shower is None:
        by_shower = columns_by_shower(showers, gradient, columns)
    per_shower = sparse.csr_array(
        (gradient, showers.node, showers.shower_start), shape=(len(by_shower), n)
    )
    # Rows out of use have no part in what follows, and may be most of them.
    used = np.zeros(len(columns), np.bool_)
    used[rows[0]] = used[rows[1]] = True
    place = np.cumsum(used) - 1
    rows, columns, y = (place[rows[0]], place[rows[1]]), columns[used], showers.y[used]
    nodes = sparse.csr_array(
        (np.ones(len(y)), showers.node[used], np.arange(len(y) + 1)), shape=(len(y), n)
    )
    answer = _laplacian(rows, weights[0], len(y)) @ columns
    curved = answer
    if weights[1] is not weights[0]:
        curved = _laplacian(rows, weights[1], len(y)) @ columns
    return ColumnSums(
        mixed=np.asarray(nodes.T @ answer),
        mixed_curvature=np.asarray(nodes.T @ curved),
        mixed_meat=np.asarray(per_shower.T @ by_shower),
        columns=columns.T @ answer,
        columns_curvature=columns.T @ curved,
        columns_meat=by_shower.T @ by_shower,
        vector=answer.T @ y,
    )


def columns_by_shower(showers: Showers, gradient: Floats, columns: Floats) -> Floats:
    """Gradient of every shower by the columns, shape (n_showers, m)."""
    shape = (len(showers.shower_start) - 1, len(columns))
    # A product with a sparse matrix: adding up slices of a dense one takes several times as long.
    places = np.arange(len(columns))
    per_row = sparse.csr_array((gradient, places, showers.shower_start), shape=shape)
    return np.asarray(per_row @ columns)


def with_columns(nodes: Normal, sums: ColumnSums) -> Normal:
    """Add global columns to the normal equations of nodes."""
    return replace(
        nodes,
        matrix=_bordered(nodes.matrix, sums.mixed, sums.columns),
        vector=np.concatenate([nodes.vector, sums.vector]),
        curvature=_bordered(nodes.curvature, sums.mixed_curvature, sums.columns_curvature),
        meat=_bordered(nodes.meat, sums.mixed_meat, sums.columns_meat),
    )


def hold_columns(normal: Normal, values: Floats) -> Normal:
    """Equations of the nodes alone, where the global columns have given values."""
    n = normal.n_nodes
    matrix = normal.matrix[:n, :n]
    return replace(
        normal,
        matrix=matrix,
        vector=normal.vector[:n] - normal.matrix[:n, n:] @ values,
        # The solver saves the second inverse where both are the same array.
        curvature=matrix if normal.curvature is normal.matrix else normal.curvature[:n, :n],
        meat=normal.meat[:n, :n],
    )


def _laplacian(rows: tuple[Indices, Indices], weight: Floats, n_rows: int) -> sparse.csr_array:
    first, second = rows
    total = tally(first, weight, n_rows) + tally(second, weight, n_rows)
    own = np.arange(n_rows)
    values = np.concatenate([total, -weight, -weight])
    places = (np.concatenate([own, first, second]), np.concatenate([own, second, first]))
    return sparse.csr_array((values, places), shape=(n_rows, n_rows))


def _bordered(block: Floats, mixed: Floats, corner: Floats) -> Floats:
    return np.block([[block, mixed], [mixed.T, corner]])
