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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.sums.solver_sums import solver_sums_with_gradients
from arraycal.calib.fit.sums.summary import Summary, merge_for_solver
from arraycal.calib.fit.weighing import weigh_kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Scan", "ScanSums", "margins_to_scan", "scan_window"]


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
            merge_for_solver([self.summary, other.summary]),
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


@dataclass(frozen=True)
class Scan:
    """Sums by margin."""

    margins: Mapping[float, ScanSums]

    def __add__(self, other: Scan) -> Scan:
        """Merge sums of disjoint showers."""
        return Scan({margin: own + other.margins[margin] for margin, own in self.margins.items()})


def scan_window(
    showers: Showers, model: Model, rows: WeighedRows, margins: Sequence[float]
) -> Scan:
    """Sums of some showers at every margin.

    Parameters
    ----------
    showers : Showers
        The rows.
    model : Model
        Of the last pass.
    rows : WeighedRows
        The rows at the margin in use, from `arraycal.calib.fit.weighing.weigh`.
    margins : sequence of float
        From `margins_to_scan`.
    """
    columns = model.now.columns(showers)
    summary, in_use = solver_sums_with_gradients(showers, model, rows, columns)
    sums = {}
    for margin in margins:
        if margin == model.margin:
            none = np.zeros(len(model.threshold))
            sums[margin] = ScanSums(summary, in_use.times(in_use), none)
            continue
        other = weigh_kept(showers, model, rows.values, rows.values.clearance > margin)
        changed = _count_changed(showers, rows.used != other.used, len(model.threshold))
        there, gradients = solver_sums_with_gradients(showers, model, other, columns)
        sums[margin] = ScanSums(there, gradients.times(in_use), changed)
    return Scan(sums)


def _count_changed(showers: Showers, changed: npt.NDArray[np.bool_], n_types: int) -> Floats:
    """Showers with a changed row, by type of the row."""
    row = np.flatnonzero(changed)
    shower = np.searchsorted(showers.shower_start, row, side="right")
    once = np.zeros((len(showers.shower_start), n_types), np.bool_)
    once[shower, showers.kind[row]] = True
    return np.asarray(once.sum(axis=0), np.float64)
