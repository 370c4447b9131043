"""Showers to SUMMARY: see `arraycal.calib.fit.sums.summary` for what is summed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.fit.selection import type_threshold_at
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.sums.solver_sums import solver_sums
from arraycal.calib.fit.sums.summary import (
    CLIP,
    CLIPPED_VARIANCE,
    DEVIATION_STEP,
    N_DEVIATIONS,
    OWN_EDGES,
    RESIDUAL_EDGES,
    TURN_ON_EDGES,
    Moments,
)
from arraycal.calib.fit.weighing import log_ratios, pairs_in_use, weigh

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.fit.weighing import PairsInUse, WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["learning_sums", "summarise", "with_statistics"]


def summarise(showers: Showers, model: Model) -> Summary:
    """Reduce showers to SUMMARY.

    Parameters
    ----------
    showers : Showers
        Rows, and pairs where they have been selected.
    model : Model
        Current solution, weights and selection.

    Returns
    -------
    Summary
        The sums.
    """
    rows = weigh(showers, model)
    pairs = pairs_in_use(showers, rows)
    summary = with_statistics(solver_sums(showers, model, rows), showers, model, rows, pairs)
    return _steering(summary, showers, model, rows, pairs)


def learning_sums(showers: Showers, model: Model) -> Summary:
    """Sums that the next solution and the next model are made of."""
    rows = weigh(showers, model)
    summary = replace(
        solver_sums(showers, model, rows),
        n_candidates=np.bincount(showers.node, minlength=showers.n_nodes).astype(float),
    )
    return _steering(summary, showers, model, rows, pairs_in_use(showers, rows))


def _steering(
    summary: Summary, showers: Showers, model: Model, rows: WeighedRows, pairs: PairsInUse
) -> Summary:
    spread = _spread(showers, model, rows, pairs)
    return replace(
        summary,
        variance_matrix=spread.matrix,
        variance_vector=spread.vector,
        variance_meat=spread.meat,
        shape_observed=spread.observed,
        shape_expected=spread.expected,
        turn_on=_turn_on(showers, model),
        turn_on_own=_turn_on_own(showers, model),
    )


def with_statistics(
    summary: Summary, showers: Showers, model: Model, rows: WeighedRows, pairs: PairsInUse
) -> Summary:
    """Add to sums of a solver what a result says of the showers: moments, histograms, counts."""
    n_nodes, node = showers.n_nodes, showers.node
    link = node[pairs.first] * n_nodes + node[pairs.second]
    difference = showers.y[pairs.first] - showers.y[pairs.second]
    deviations, farthest = _deviations(showers, rows)
    return replace(
        summary,
        asymmetry=Moments.of(link, np.tanh(difference / 2), n_nodes),
        log_ratio=Moments.of(link, log_ratios(showers, model, rows, pairs), n_nodes),
        n_candidates=np.bincount(node, minlength=n_nodes).astype(float),
        n_below_margin=float(rows.n_below_margin),
        n_outliers=float(np.count_nonzero(rows.used & (rows.weight == 0))),
        residuals=_residuals(showers, rows, pairs, len(model.threshold)),
        deviations=deviations,
        farthest=farthest,
    )


class _Spread(NamedTuple):
    """Sums over pair rows for the variances; see the fields of `Summary`."""

    matrix: Floats
    vector: Floats
    meat: Floats
    observed: Floats
    expected: Floats


def _spread(showers: Showers, model: Model, rows: WeighedRows, pairs: PairsInUse) -> _Spread:
    """Sums for the telescopes' variances and for the resolution bins.

    A pair row has ``Var(z_i - z_j) = sigma_i^2 + sigma_j^2``, linear in the variances; rows are
    weighted as in Fisher scoring. For a bin the squared residual is split between the two sides
    in proportion to their variances. With robust weights, rows beyond the clip do not count.
    """
    n_nodes = showers.n_nodes
    sides = (pairs.first, pairs.second)
    total = rows.sigma2[pairs.first] + rows.sigma2[pairs.second]
    square = (rows.z[pairs.first] - rows.z[pairs.second]) ** 2 / total
    counted = np.ones(len(square))
    if model.robust != "none":
        counted = (square < CLIP**2).astype(float)
        square = square / CLIPPED_VARIANCE
    part = [rows.sigma2[side] / total for side in sides]
    node = [showers.node[side] for side in sides]
    flat = np.ravel_multi_index(
        (showers.kind, showers.impact_bin, rows.values.value_bin), model.now.shape.shape
    )
    matrix, vector, gradient = np.zeros(n_nodes**2), np.zeros(n_nodes), np.zeros(len(rows.z))
    observed, expected = np.zeros(model.now.shape.size), np.zeros(model.now.shape.size)
    for one in (0, 1):
        share = part[one] * counted
        vector += tally(node[one], share * square, n_nodes)
        gradient += tally(sides[one], share * (square - 1.0), len(gradient))
        observed += tally(flat[sides[one]], share * square, observed.size)
        expected += tally(flat[sides[one]], share, expected.size)
        for two in (0, 1):
            matrix += tally(node[one] * n_nodes + node[two], share * part[two], n_nodes**2)
    bins = model.now.shape.shape
    return _Spread(
        matrix=matrix.reshape(n_nodes, n_nodes),
        vector=vector,
        # A telescope has one row in a shower: pairs that share a fluctuation are added first.
        meat=tally(showers.node, gradient**2, n_nodes),
        observed=observed.reshape(bins),
        expected=expected.reshape(bins),
    )


def _turn_on(showers: Showers, model: Model) -> Floats:
    shape = (*model.threshold.shape, len(TURN_ON_EDGES) + 1)
    bins = (showers.kind, showers.impact_bin, np.digitize(showers.y, TURN_ON_EDGES))
    flat = np.ravel_multi_index(bins, shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(float)


def _turn_on_own(showers: Showers, model: Model) -> Floats:
    shape = (showers.n_nodes, len(OWN_EDGES) + 1)
    threshold = type_threshold_at(showers, model)
    if not np.isfinite(threshold).all():
        return np.zeros(shape)
    flat = np.ravel_multi_index(
        (showers.node, np.digitize(showers.y - threshold, OWN_EDGES)), shape
    )
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(float)


def _residuals(showers: Showers, rows: WeighedRows, pairs: PairsInUse, n_types: int) -> Floats:
    first, second = pairs.first, pairs.second
    size = np.sqrt(rows.sigma2[first] + rows.sigma2[second])
    n_bins = len(RESIDUAL_EDGES) - 1
    place = np.digitize((rows.z[first] - rows.z[second]) / size, RESIDUAL_EDGES) - 1
    flat = showers.kind[first] * n_bins + np.clip(place, 0, n_bins - 1)
    return np.bincount(flat, minlength=n_types * n_bins).reshape(n_types, n_bins).astype(float)


def _deviations(showers: Showers, rows: WeighedRows) -> tuple[Floats, Floats]:
    """Histograms of the deviations of single rows, of all and of the largest of each group.

    A residual about ``sum w z / W`` has the variance
    ``sigma^2 (1 - 2 w / W) + sum (w sigma / W)^2`` with any fixed weights w. One telescope far off
    pulls the mean, and the others seem to be off the other way, but never by as much in these units
    (Baarda 1968): the largest of a group names it.
    """
    weight, used = rows.weight, rows.used
    total = showers.total(weight)
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    shared = showers.total(weight**2 * rows.sigma2) * inverse**2
    variance = rows.sigma2 * (1 - 2 * weight * inverse[showers.group]) + shared[showers.group]
    size = np.sqrt(np.where(used, np.maximum(variance, TINY * rows.sigma2), np.inf))
    deviation = np.abs(rows.residual) / size
    # Two telescopes deviate by the same, up to rounding.
    largest = used & (deviation > (1 - TIE) * _largest(showers, deviation)[showers.group])
    n_largest = np.maximum(showers.total(largest.astype(float)), 1.0)
    place = np.minimum(deviation / DEVIATION_STEP, N_DEVIATIONS - 1).astype(np.intp)
    place += showers.node * N_DEVIATIONS
    shape, size_of = (showers.n_nodes, N_DEVIATIONS), showers.n_nodes * N_DEVIATIONS
    share = largest / n_largest[showers.group] if len(place) else deviation
    return (
        tally(place, used.astype(float), size_of).reshape(shape),
        tally(place, share, size_of).reshape(shape),
    )


def _largest(showers: Showers, values: Floats) -> Floats:
    """Largest value of each group."""
    return np.maximum.reduceat(values, showers.group_start) if len(values) else np.empty(0)


#: Least variance of a residual relative to that of its row; less is rounding.
TINY = 1e-9
#: Deviations that differ by less than this part are the same.
TIE = 1e-6
