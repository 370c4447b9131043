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
    from collections.abc import Callable

    import numpy.typing as npt

    from arraycal.calib.fit.normal import Normal
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import RowsInUse

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    #: Of the weights (or of their derivatives) of rows in use: given places of whole groups among
    #: these rows, and columns there, the product.
    Laplacian = Callable[[Indices, Floats], Floats]

__all__ = [
    "ColumnSums",
    "columns_by_shower",
    "hold_columns",
    "laplacian_by_groups",
    "laplacian_by_pairs",
    "with_columns",
]


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


def laplacian_by_groups(used: RowsInUse, weight: Floats, inverse: Floats) -> Laplacian:
    """Product with ``diag(w) - w w^T / W`` of every group.

    Parameters
    ----------
    used : RowsInUse
        The rows.
    weight : array, shape (n_used,)
        Their weights.
    inverse : array, shape (n_groups,)
        1 / W of every group; zero for one that says nothing.
    """
    weight = np.where(inverse[used.group] != 0, weight, 0.0)

    def product(part: Indices, columns: Floats) -> Floats:
        group, w = used.group[part], weight[part]
        start = np.append(np.flatnonzero(np.diff(group, prepend=-1)), len(part))
        shape = (len(start) - 1, len(part))
        adding = sparse.csr_array((w, np.arange(len(part)), start), shape=shape)
        mean = np.asarray(adding @ columns) * inverse[group[start[:-1]], None]
        return np.asarray(w[:, None] * (columns - np.repeat(mean, np.diff(start), axis=0)))

    return product


def laplacian_by_pairs(
    used: RowsInUse, pairs: tuple[Indices, Indices], weight: Floats, n_rows: int
) -> Laplacian:
    """Product with the Laplacian of the weights of pairs of rows; `pairs` are among all rows."""
    place = np.empty(n_rows, np.intp)
    place[used.place] = np.arange(len(used.place))
    first, second = place[pairs[0]], place[pairs[1]]
    n = len(used.place)

    def product(part: Indices, columns: Floats) -> Floats:
        total = tally(first, weight, n) + tally(second, weight, n)
        own = np.arange(n)
        values = np.concatenate([total, -weight, -weight])
        places = (np.concatenate([own, first, second]), np.concatenate([own, second, first]))
        whole = np.zeros((n, columns.shape[1]))
        whole[part] = columns
        return np.asarray(sparse.csr_array((values, places), shape=(n, n)) @ whole)[part]

    return product


def _bordered(block: Floats, mixed: Floats, corner: Floats) -> Floats:
    return np.block([[block, mixed], [mixed.T, corner]])
