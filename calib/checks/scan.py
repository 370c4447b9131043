"""Threshold scan: the same showers at other margins from the threshold.

A threshold biases the comparison until the margin from it is wide enough
(`arraycal.calib.fit.model`). How wide that is shows in the data: with everything else held,
weights, resolutions and the point around which showers are selected, the array is solved again at
other margins. Where a larger margin changes nothing beyond errors, the solution stands on a
plateau.

Solutions at two margins share most of their showers, so the error of their difference is far
below that of either. It needs the sums of products of both gradients of every shower, made here;
`arraycal.calib.checks.scan_tables` has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from arraycal.calib.fit.columns import column_sums, columns_by_shower
from arraycal.calib.fit.selection import clearance
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.summary import Moments, Summary, empty_summary, merge_summaries
from arraycal.calib.fit.weighing import weigh_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["ScanSums", "margins_to_scan", "scan_window"]


@dataclass(frozen=True)
class ScanSums:
    """Sums over showers at one margin. n telescopes, m global columns.

    Parameters
    ----------
    summary : Summary
        Only what a solver reads.
    cross : array, shape (n + m, n + m)
        Sum over showers of ``g_T g_0^T``, g_0 the gradient at the margin in use.
    n_changed : array, shape (n_types,)
        Showers of which other telescopes of a type are used than at the margin in use.
    """

    summary: Summary
    cross: Floats
    n_changed: Floats

    def __add__(self, other: ScanSums) -> ScanSums:
        """Merge sums of disjoint showers."""
        return ScanSums(
            merge_summaries([self.summary, other.summary]),
            self.cross + other.cross,
            self.n_changed + other.n_changed,
        )


def margins_to_scan(model: Model, wanted: Sequence[float]) -> tuple[float, ...]:
    """Margins of the scan, that in use among them; none where there is no threshold or ceiling.

    Parameters
    ----------
    model : Model
        Of the last pass.
    wanted : sequence of float
        Margins to try; without any there is no scan.
    """
    if not wanted or not np.isfinite([*model.threshold.flat, *model.ceiling]).any():
        return ()
    return tuple(sorted({*map(float, wanted), float(model.margin)}))


class _Gradients(NamedTuple):
    """Gradient of every shower by telescopes (sparse) and by global columns."""

    nodes: sparse.csr_array
    columns: Floats

    def times(self, other: _Gradients) -> Floats:
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


def scan_window(
    showers: Showers, model: Model, rows: WeighedRows, margins: Sequence[float]
) -> dict[float, ScanSums]:
    """Sums of some showers at every margin.

    Parameters
    ----------
    showers : Showers
        Rows and pairs.
    model : Model
        Of the last pass.
    rows : WeighedRows
        The rows at the margin in use, from `arraycal.calib.fit.weighing.weigh`.
    margins : sequence of float
        From `margins_to_scan`.

    Returns
    -------
    dict of float to ScanSums
        By margin.
    """
    columns, distance = model.now.columns(showers), clearance(showers, model)
    summary, in_use = _sums(showers, model, rows, columns)
    sums = {}
    for margin in margins:
        if margin == model.margin:
            none = np.zeros(len(model.threshold))
            sums[margin] = ScanSums(summary, in_use.times(in_use), none)
            continue
        other = weigh_kept(showers, model, rows[:3], distance > margin)
        changed = _count_changed(showers, rows.used != other.used, len(model.threshold))
        summary_there, gradients = _sums(showers, model, other, columns)
        sums[margin] = ScanSums(summary_there, gradients.times(in_use), changed)
    return sums


def _count_changed(showers: Showers, changed: npt.NDArray[np.bool_], n_types: int) -> Floats:
    """Showers with a changed row, by type of the row."""
    row = np.flatnonzero(changed)
    shower = np.searchsorted(showers.shower_start, row, side="right")
    once = np.zeros((len(showers.shower_start), n_types), np.bool_)
    once[shower, showers.kind[row]] = True
    return np.asarray(once.sum(axis=0), np.float64)


def _sums(
    showers: Showers, model: Model, rows: WeighedRows, columns: Floats
) -> tuple[Summary, _Gradients]:
    """Sums a solver reads, and the gradients of the showers."""
    n, node, (first, second) = showers.n_nodes, showers.node, (rows.first, rows.second)
    link = node[first] * n + node[second]

    def by_pair(values: Floats) -> Floats:
        return tally(link, values, n * n).reshape(n, n)

    misfit = rows.pair_weight * (rows.z[first] - rows.z[second])
    gradient = tally(first, misfit, len(node)) - tally(second, misfit, len(node))
    weight = by_pair(rows.pair_weight)
    robust = rows.pair_curvature is not rows.pair_weight
    common = np.bincount(link, minlength=n * n).reshape(n, n).astype(float)
    gradients = _gradients(showers, rows.used, gradient, columns)
    empty = empty_summary(model)
    summary = replace(
        empty,
        weight=weight,
        weighted=by_pair(rows.pair_weight * (showers.y[first] - showers.y[second])),
        curvature=by_pair(rows.pair_curvature) if robust else weight,
        meat=np.asarray((gradients.nodes.T @ gradients.nodes).toarray()),
        log_ratio=Moments(common, np.zeros((n, n)), np.zeros((n, n))),
        n_showers=float(np.count_nonzero(np.diff(gradients.nodes.indptr))),
        n_events=np.bincount(node[rows.used], minlength=n).astype(float),
        columns=column_sums(
            showers,
            columns,
            (first, second),
            (rows.pair_weight, rows.pair_curvature),
            gradient,
            gradients.columns,
        ),
    )
    return summary, gradients


def _gradients(
    showers: Showers, used: npt.NDArray[np.bool_], gradient: Floats, columns: Floats
) -> _Gradients:
    """Gradients by shower; rows out of use have no entry."""
    start = np.append(0, np.cumsum(used))[showers.shower_start]
    shape = (len(start) - 1, showers.n_nodes)
    nodes = sparse.csr_array((gradient[used], showers.node[used], start), shape=shape)
    return _Gradients(nodes, columns_by_shower(showers, gradient, columns))
