"""Residuals in bins of distance and size: what throughputs and distance curves do not explain.

A lack of fit of the distance curve shows as a residual that depends on the distance; light lost in
the image cleaning, or pixels that saturate, as one that depends on the size. The size of a bin is
the one *expected* of the telescope from all telescopes of its shower, ``x_e + s_i + f_T(d)``, never
the one it measured, whose fluctuation is in the residual.

With s and f held at the solution, residuals ``z = y - s - f`` are fitted by one number per type and
bin and a free shower term, so that a shower shared by two bins is not credited to either mean: the
normal equations of `arraycal.calib.fit.sums.summary` with bins in place of telescopes. Errors are
event-clustered, taken before the bins are fitted (which makes them, if anything, larger); those of
s and f are not in them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from arraycal.calib.fit import network
from arraycal.calib.fit.model import resolution
from arraycal.calib.fit.robust import curvature_scale
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.weighing import pairs_in_use
from arraycal.calib.schema import DISTANCE, EXPECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["RESIDUAL_BINS", "ResidualObserver", "ResidualSums", "residual_bins"]

#: One row per type, covariate and bin: `residual` of ln(value), zero on average over the rows of
#: the type; `n_events` telescope events in pairs, `mean` the mean of the covariate (of its
#: logarithm for sizes).
RESIDUAL_BINS = pl.Schema(
    {
        "tel_type": pl.String,
        "covariate": pl.String,
        "unit": pl.String,
        "low": pl.Float64,
        "high": pl.Float64,
        "mean": pl.Float64,
        "n_events": pl.Int64,
        "residual": pl.Float64,
        "error": pl.Float64,
    }
)

#: Edges, the same for all data so that results compare: m, and ln(value) at eight to a decade.
EDGES: dict[str, Floats] = {
    DISTANCE: np.arange(0.0, 610.0, 10.0),
    EXPECTED: np.log(10.0) * np.arange(-3.0, 7.01, 0.125),
}


#: Pairs that make two bins neighbours: fewer tell no error.
MIN_TIES = 10


@dataclass(frozen=True)
class _Sums:
    """Additive sums by bin (under- and overflow included) of all types, k of them.

    `weight`, `weighted`, `curvature`, `meat` and `common` have shape (k, k) and mean what they do
    in `arraycal.calib.fit.sums.summary.Summary`; `n_events` and `position` (summed covariate) have
    shape (k,).
    """

    weight: Floats
    weighted: Floats
    curvature: Floats
    meat: Floats
    common: Floats
    n_events: Floats
    position: Floats
    n_showers: float

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class ResidualSums:
    """Sums by covariate, in the order of `EDGES`."""

    covariates: tuple[_Sums, ...]

    def __add__(self, other: ResidualSums) -> ResidualSums:
        """Merge sums of disjoint showers."""
        both = zip(self.covariates, other.covariates, strict=True)
        return ResidualSums(tuple(one + two for one, two in both))


@dataclass(frozen=True)
class ResidualObserver:
    """Sums up the residuals of a window, an `arraycal.calib.fit.sweep.Observer`.

    Parameters
    ----------
    usable : array of bool, shape (n,)
        Telescopes with a coefficient; the others take no part.
    n_types : int
        Types of the array. Each has groups of its own: sizes of different types are not the same
        quantity.
    """

    usable: npt.NDArray[np.bool_]
    n_types: int

    def __call__(self, showers: Showers, model: Model, rows: WeighedRows) -> ResidualSums:
        """Sum up the residuals of some showers."""
        seen = resolution(showers, model.now)
        expected = seen.mean[showers.group] + seen.offset
        parts = _by_groups if showers.complete else _by_pairs
        sums = parts(showers, rows, rows.used & self.usable[showers.node])
        return ResidualSums(
            tuple(
                _binned(showers, sums, values, EDGES[name], self.n_types)
                for name, values in ((DISTANCE, showers.impact_m), (EXPECTED, expected))
            )
        )


def residual_bins(
    sums: ResidualSums, types: Sequence[str], *, least: int, unit: str
) -> pl.DataFrame:
    """Residuals of every type in bins of distance and expected size.

    Parameters
    ----------
    sums : ResidualSums
        Of all showers.
    types : sequence of str, shape (n,)
        Type of each telescope.
    least : int
        Telescope events a bin needs.
    unit : str
        Unit of the value.

    Returns
    -------
    DataFrame
        Schema `RESIDUAL_BINS`; a bin that the data do not tie to the others has no row.
    """
    units = {DISTANCE: "m", EXPECTED: unit}
    rows = [
        row
        for name, own in zip(EDGES, sums.covariates, strict=True)
        for code, tel_type in enumerate(sorted(set(types)))
        for row in _rows(_of_type(own, code, len(EDGES[name]) + 1), name, tel_type, units, least)
    ]
    return pl.DataFrame(rows, schema=RESIDUAL_BINS, orient="row")


class _Parts(NamedTuple):
    """What is summed: rows in use, gradients of all rows, and sums over pairs by keys of rows."""

    used: npt.NDArray[np.bool_]
    gradient: Floats
    by_key: Callable[[Indices, int], tuple[Floats, Floats, Floats, Floats]]


def _by_groups(showers: Showers, rows: WeighedRows, part: npt.NDArray[np.bool_]) -> _Parts:
    used = part & (showers.total(part.astype(float))[showers.group] > 1)
    place = np.flatnonzero(used)
    weight, group = np.where(used, rows.weight, 0.0), showers.group[place]
    inverse = np.divide(1.0, rows.total, out=np.zeros_like(rows.total), where=rows.total > 0)
    total, moment = showers.total(weight), showers.total(weight * rows.z)
    root = np.sqrt(inverse)[group]
    start = np.append(0, np.cumsum(used))[np.append(showers.group_start, len(used))]

    def by_key(key: Indices, k: int) -> tuple[Floats, Floats, Floats, Floats]:
        def matrix(values: Floats) -> sparse.csr_array:
            # Telescopes of a shower may share a bin: entries that a sparse product adds up.
            return sparse.csr_array((values, key[place], start), shape=(len(start) - 1, k))

        def product(one: sparse.csr_array, two: sparse.csr_array) -> Floats:
            return np.asarray((one.T @ two).toarray())

        share = matrix(weight[place] * root)
        weighted = product(matrix((weight * rows.z)[place] * root), share)
        edges = product(share, share)
        curvature = edges
        if rows.steep is not rows.weight:
            scale = curvature_scale(showers, rows.steep)[group]
            curvature = product(matrix(rows.steep[place] * scale), matrix(rows.steep[place]))
        ones = matrix(np.ones(len(place)))
        # Both sides of every pair: a solver adds them, so each counts half.
        return 0.5 * edges, 0.5 * (weighted - weighted.T), 0.5 * curvature, product(ones, ones)

    gradient = weight * (rows.z * total[showers.group] - moment[showers.group])
    return _Parts(used, gradient * inverse[showers.group], by_key)


def _by_pairs(showers: Showers, rows: WeighedRows, part: npt.NDArray[np.bool_]) -> _Parts:
    pairs = pairs_in_use(showers, rows)
    kept = part[pairs.first] & part[pairs.second]
    kept &= showers.kind[pairs.first] == showers.kind[pairs.second]
    first, second = pairs.first[kept], pairs.second[kept]
    misfit = pairs.weight[kept] * (rows.z[first] - rows.z[second])
    used = np.zeros(len(part), np.bool_)
    used[first] = used[second] = True

    def by_key(key: Indices, k: int) -> tuple[Floats, Floats, Floats, Floats]:
        link = key[first] * k + key[second]

        def by_pair(values: Floats | None = None) -> Floats:
            return np.bincount(link, values, k * k).astype(float).reshape(k, k)

        weight, curvature = by_pair(pairs.weight[kept]), by_pair(pairs.curvature[kept])
        return weight, by_pair(misfit), curvature, by_pair()

    n_rows = len(part)
    return _Parts(used, tally(first, misfit, n_rows) - tally(second, misfit, n_rows), by_key)


def _binned(showers: Showers, parts: _Parts, values: Floats, edges: Floats, n_types: int) -> _Sums:
    n_bins = len(edges) + 1
    k = n_types * n_bins
    key = showers.kind * n_bins + np.digitize(values, edges)
    weight, weighted, curvature, common = parts.by_key(key, k)
    n_showers = len(showers.shower_start) - 1
    per_shower = sparse.csr_array((parts.gradient, key, showers.shower_start), (n_showers, k))
    used = parts.used
    # A missing distance has no mean; it lies in the overflow, which has no row.
    position = np.where(used, np.nan_to_num(values), 0.0)
    return _Sums(
        weight=weight,
        weighted=weighted,
        curvature=curvature,
        meat=np.asarray((per_shower.T @ per_shower).toarray()),
        common=common,
        n_events=np.bincount(key[used], minlength=k).astype(float),
        position=tally(key, position, k),
        n_showers=float(np.logical_or.reduceat(used, showers.shower_start[:-1]).sum())
        if len(used)
        else 0.0,
    )


def _of_type(sums: _Sums, code: int, n_bins: int) -> _Sums:
    own = slice(code * n_bins, (code + 1) * n_bins)
    return _Sums(
        sums.weight[own, own],
        sums.weighted[own, own],
        sums.curvature[own, own],
        sums.meat[own, own],
        sums.common[own, own],
        sums.n_events[own],
        sums.position[own],
        sums.n_showers,
    )


def _rows(
    sums: _Sums, name: str, tel_type: str, units: dict[str, str], least: int
) -> list[tuple[str | float, ...]]:
    """Fit the bins of one type."""
    common = sums.common - np.diag(np.diag(sums.common))  # a pair within a bin ties it to nothing
    component = network.components(common, sums.n_events, min_common=MIN_TIES, min_events=least)
    # The largest group of bins; a second one would have a zero of its own.
    nodes = np.flatnonzero(component == 0)
    nodes = nodes[(nodes > 0) & (nodes < len(component) - 1)]
    if len(nodes) < 2:  # noqa: PLR2004  a single bin compares with nothing
        return []
    found, covariance = _solve(sums, np.flatnonzero(component == 0))
    at = np.searchsorted(np.flatnonzero(component == 0), nodes)
    edges = EDGES[name]
    low, high, mean = edges[nodes - 1], edges[nodes], sums.position[nodes] / sums.n_events[nodes]
    if name == EXPECTED:
        low, high, mean = np.exp(low), np.exp(high), np.exp(mean)
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return [
        (tel_type, name, units[name], *numbers)
        for numbers in zip(
            low.tolist(),
            high.tolist(),
            mean.tolist(),
            sums.n_events[nodes].astype(int).tolist(),
            found[at].tolist(),
            error[at].tolist(),
            strict=True,
        )
    ]


def _solve(sums: _Sums, nodes: Indices) -> tuple[Floats, Floats]:
    """Residuals of connected bins, zero on average over their rows, and their covariance."""
    part = np.ix_(nodes, nodes)
    weighted = sums.weighted[part]
    inverse = network.pseudo_inverse(network.laplacian(sums.weight[part]))
    found = inverse @ (weighted.sum(axis=1) - weighted.sum(axis=0))
    bread = network.pseudo_inverse(network.laplacian(sums.curvature[part]))
    scale = sums.n_showers / (sums.n_showers - 1.0) if sums.n_showers > 1 else np.nan
    share = sums.n_events[nodes] / sums.n_events[nodes].sum()
    centre = np.eye(len(nodes)) - share
    covariance = centre @ (bread @ sums.meat[part] @ bread * scale) @ centre.T
    return np.asarray(centre @ found), np.asarray(covariance)
