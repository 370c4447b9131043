"""What a solver reads of some showers, from telescope rows or from pairs of them.

With P the matrix of ``w / sqrt(W)`` by group and telescope, W the sum of weights of the group,
``P^T P`` holds the sums of ``w_i w_j / W``; those of ``w_i w_j / W (y_i - y_j)`` follow from
products of sparse matrices as well, and the gradient of a row is w times its residual.

Where pairs have been selected, only those count, and the sums run over them. Where all pairs of a
group count, both ways give the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from arraycal.calib.fit.robust import curvature_scale
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.sums.columns import (
    ColumnSums,
    columns_by_shower,
    laplacian_by_groups,
    laplacian_by_pairs,
)
from arraycal.calib.fit.sums.summary import Summary, empty_summary
from arraycal.calib.fit.weighing import pairs_in_use, rows_in_use

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sums.columns import Laplacian
    from arraycal.calib.fit.weighing import RowsInUse, WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Gradients", "solver_sums", "solver_sums_with_gradients"]


class Gradients(NamedTuple):
    """Gradient of every shower by telescopes (sparse) and by global columns."""

    nodes: sparse.csr_array
    columns: Floats

    def times(self, other: Gradients) -> Floats:
        """Sum over showers of the outer products, shape (n + m, n + m)."""
        nodes = np.asarray((self.nodes.T @ other.nodes).toarray())
        if not self.columns.shape[1]:
            return nodes
        return np.block(
            [
                [nodes, np.asarray(self.nodes.T @ other.columns)],
                [np.asarray(other.nodes.T @ self.columns).T, self.columns.T @ other.columns],
            ]
        )


def solver_sums(
    showers: Showers, model: Model, rows: WeighedRows, columns: Floats | None = None
) -> Summary:
    """Sums that a solver reads; the other fields of the summary are those of no shower.

    Parameters
    ----------
    showers : Showers
        Rows, and pairs where they have been selected.
    model : Model
        Of the pass.
    rows : WeighedRows
        The rows in use.
    columns : array, shape (n_rows, m), optional
        Values of the global columns, where they are known already.
    """
    return solver_sums_with_gradients(showers, model, rows, columns)[0]


def solver_sums_with_gradients(
    showers: Showers, model: Model, rows: WeighedRows, columns: Floats | None = None
) -> tuple[Summary, Gradients]:
    """Return `solver_sums`, and the gradients of the showers."""
    if columns is None:
        columns = model.now.columns(showers)
    used = rows_in_use(showers, rows)
    by = _by_groups if showers.complete else _by_pairs
    edges, gradient, (level, curved) = by(showers, rows, used)
    gradients = _gradients(showers, rows.used, gradient, columns)
    empty = empty_summary(model)
    found = replace(
        empty,
        weight=edges.weight,
        weighted=edges.weighted,
        curvature=edges.curvature,
        meat=np.asarray((gradients.nodes.T @ gradients.nodes).toarray()),
        log_ratio=replace(empty.log_ratio, n=edges.n_common),
        n_showers=float(np.count_nonzero(np.diff(gradients.nodes.indptr))),
        n_groups=float(np.count_nonzero(np.diff(used.group_start))),
        n_rows=float(len(used.place)),
        n_events=np.bincount(used.node, minlength=showers.n_nodes).astype(float),
        chi2=float(np.sum(rows.weight * rows.residual**2)),
        columns=_column_sums(showers, columns, used, gradients, level, curved),
    )
    return found, gradients


class _Edges(NamedTuple):
    """Sums by telescope pair, first telescope in the rows; see the fields of `Summary`."""

    weight: Floats
    weighted: Floats
    curvature: Floats
    n_common: Floats


_Parts = tuple[_Edges, "Floats", tuple["Laplacian", "Laplacian"]]


def _by_groups(showers: Showers, rows: WeighedRows, used: RowsInUse) -> _Parts:
    n, place = showers.n_nodes, used.place
    weight = rows.weight[place]
    inverse = np.divide(1.0, rows.total, out=np.zeros_like(rows.total), where=rows.total > 0)
    root = np.sqrt(inverse)[used.group]
    share = used.matrix(weight * root, n)
    weighted = _product(used.matrix(weight * root * showers.y[place], n), share)
    edges = _once(_product(share, share), showers.rank)
    level = laplacian_by_groups(used, weight, inverse)
    curvature, curved = edges, level
    if rows.steep is not rows.weight:
        steep = rows.steep[place]
        scale = curvature_scale(showers, rows.steep)
        product = _product(used.matrix(steep * scale[used.group], n), used.matrix(steep, n))
        curvature = _once(product, showers.rank)
        curved = laplacian_by_groups(used, steep, scale)
    ones = used.matrix(np.ones(len(place)), n)
    found = _Edges(
        edges,
        _once(weighted - weighted.T, showers.rank),
        curvature,
        _once(_product(ones, ones), showers.rank),
    )
    return found, rows.weight * rows.residual, (level, curved)


def _by_pairs(showers: Showers, rows: WeighedRows, used: RowsInUse) -> _Parts:
    n, pairs = showers.n_nodes, pairs_in_use(showers, rows)
    first, second = pairs.first, pairs.second
    link = showers.node[first] * n + showers.node[second]

    def by_pair(values: Floats) -> Floats:
        return tally(link, values, n * n).reshape(n, n)

    misfit = pairs.weight * (rows.z[first] - rows.z[second])
    n_rows = len(rows.z)
    gradient = tally(first, misfit, n_rows) - tally(second, misfit, n_rows)
    weight = by_pair(pairs.weight)
    level = laplacian_by_pairs(used, (first, second), pairs.weight, n_rows)
    curvature, curved = weight, level
    if pairs.curvature is not pairs.weight:
        curvature = by_pair(pairs.curvature)
        curved = laplacian_by_pairs(used, (first, second), pairs.curvature, n_rows)
    weighted = by_pair(pairs.weight * (showers.y[first] - showers.y[second]))
    common = np.bincount(link, minlength=n * n).reshape(n, n).astype(float)
    return _Edges(weight, weighted, curvature, common), gradient, (level, curved)


def _product(one: sparse.csr_array, two: sparse.csr_array) -> Floats:
    return np.asarray((one.T @ two).toarray())


def _once(square: Floats, rank: Indices) -> Floats:
    """Each pair once, as in PAIRS: the telescope with the lower id in the rows."""
    return np.where(rank[:, None] < rank[None, :], square, 0.0)


def _gradients(
    showers: Showers, used: npt.NDArray[np.bool_], gradient: Floats, columns: Floats
) -> Gradients:
    """Gradients by shower; rows out of use have no entry."""
    start = np.append(0, np.cumsum(used))[showers.shower_start]
    shape = (len(start) - 1, showers.n_nodes)
    nodes = sparse.csr_array((gradient[used], showers.node[used], start), shape=shape)
    return Gradients(nodes, columns_by_shower(showers, gradient, columns))


def _column_sums(
    showers: Showers,
    columns: Floats,
    used: RowsInUse,
    gradients: Gradients,
    level: Laplacian,
    curved: Laplacian,
) -> ColumnSums:
    """Sum up the global columns: with L the Laplacian of the rows, ``N^T L H`` and ``H^T L H``."""
    n, m = showers.n_nodes, columns.shape[1]
    if not m or not len(columns):
        return ColumnSums.empty(n, m)
    found = ColumnSums(
        mixed=np.zeros((n, m)),
        mixed_curvature=np.zeros((n, m)),
        mixed_meat=np.asarray(gradients.nodes.T @ gradients.columns),
        columns=np.zeros((m, m)),
        columns_curvature=np.zeros((m, m)),
        columns_meat=gradients.columns.T @ gradients.columns,
        vector=np.zeros(m),
    )
    for part in _alike(showers, used):
        rows = used.place[part]
        inside = columns[rows]
        # Columns of other types are zero there: a third of the work for three types.
        own = np.flatnonzero(inside.any(axis=0))
        block, h = np.ix_(own, own), inside[:, own]
        answer = level(part, h)
        steep = answer if curved is level else curved(part, h)
        start = np.arange(len(part) + 1)
        nodes = sparse.csr_array((np.ones(len(part)), used.node[part], start), (len(part), n))
        found.mixed[:, own] += np.asarray(nodes.T @ answer)
        found.mixed_curvature[:, own] += np.asarray(nodes.T @ steep)
        found.columns[block] += h.T @ answer
        found.columns_curvature[block] += h.T @ steep
        found.vector[own] += answer.T @ showers.y[rows]
    return found


def _alike(showers: Showers, used: RowsInUse) -> list[Indices]:
    """Places of rows that compare with each other only: by type, unless groups mix types."""
    kind = showers.kind[used.place]
    if (kind != showers.kind[showers.group_start][used.group]).any():
        return [np.arange(len(kind))]
    return [np.flatnonzero(kind == code) for code in np.unique(kind)]
