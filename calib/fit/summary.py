"""PAIRS to SUMMARY: the sums from which everything else is computed, and their exact merge.

The model of a shower e seen by telescope i is (all logarithms natural)

    y_ei = x_e + s_i + eps_ei,   y = ln(value),  s = ln(throughput),  Var(eps_ei) = sigma_ei^2

with a free shower term x_e (and, where asked for, a distance curve f_T(d) of each type,
`arraycal.calib.fit.curve`). With weights w = 1/sigma^2 and W_e the sum of the weights of the
shower's telescopes, a pair row carries the weight ``w_i w_j / W_e``; the weighted sums over
pair rows are then the normal equations of the model with every x_e eliminated (fixed effects,
Cameron and Miller 2015). They add up over windows, blocks and nights.

Weights and selection depend on the current solution (`arraycal.calib.fit.model`) and are settled by
repeating the pass (`arraycal.calib.fit.loop`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from arraycal.calib.fit.columns import ColumnSums, column_sums
from arraycal.calib.fit.selection import type_threshold_at
from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.weighing import log_ratios, weigh

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model, Split
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "DEVIATION_STEP",
    "N_DEVIATIONS",
    "OWN_EDGES",
    "RESIDUAL_EDGES",
    "TURN_ON_EDGES",
    "Moments",
    "Summary",
    "empty_summary",
    "merge_summaries",
    "summarise",
]

#: Edges of the histogram in which the turn-on of each type is found.
TURN_ON_EDGES = np.arange(np.log(1e-3), np.log(1e7), 0.1)
#: The same about the threshold of the type, for single telescopes.
OWN_EDGES = np.arange(-3.0, 3.05, 0.1)

#: Edges of the histogram of pair residuals in units of their expected size; the outermost bins
#: also hold what lies beyond.
RESIDUAL_EDGES = np.arange(-8.0, 8.25, 0.25)

#: Bins of the deviation of single rows from the mean of their shower in units of its expected
#: size, either sign; the last bin also holds what lies beyond.
DEVIATION_STEP, N_DEVIATIONS = 0.05, 201

#: With robust weights, pair residuals beyond this many sigma do not count for the resolutions.
CLIP = 3.0
#: Variance of a standard Gaussian cut there: 1 - 2 c phi(c) / (2 Phi(c) - 1).
CLIPPED_VARIANCE = 1 - CLIP * math.sqrt(2 / math.pi) * math.exp(-(CLIP**2) / 2) / math.erf(
    CLIP / math.sqrt(2)
)


@dataclass(frozen=True)
class Moments:
    """Count, mean and summed squared deviation by telescope pair, each of shape (n, n)."""

    n: Floats
    mean: Floats
    m2: Floats

    @staticmethod
    def of(link: Indices, values: Floats, n_nodes: int) -> Moments:
        """Moments of `values` by pair number ``i * n_nodes + j``."""
        size = n_nodes * n_nodes
        n = np.bincount(link, minlength=size).astype(float)
        divisor = np.maximum(n, 1.0)
        mean = tally(link, values, size) / divisor
        m2 = tally(link, (values - mean[link]) ** 2, size)
        square = (n_nodes, n_nodes)
        return Moments(n.reshape(square), mean.reshape(square), m2.reshape(square))

    def __add__(self, other: Moments) -> Moments:
        """Merge exactly (Chan, Golub, LeVeque 1979)."""
        n = self.n + other.n
        share = np.divide(other.n, n, out=np.zeros_like(n), where=n > 0)
        shift = other.mean - self.mean
        return Moments(n, self.mean + shift * share, self.m2 + other.m2 + shift**2 * self.n * share)

    @property
    def error(self) -> Floats:
        """Standard error of the mean; NaN below two entries."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.where(self.n > 1, self.m2 / (self.n - 1) / self.n, np.nan))


@dataclass(frozen=True)
class Summary:
    """Additive sums over showers. n is the number of telescopes of the subarray.

    Parameters
    ----------
    weight, weighted : array, shape (n, n)
        Sums of ``w_i w_j / W`` and of the same times ``y_i - y_j``, row telescope minus column.
    curvature : array, shape (n, n)
        The same sum as `weight`, of the derivative of the robust score: what the gradient changes
        by. Equal to `weight` without robust weights.
    meat : array, shape (n, n)
        Sum over showers of ``g g^T``, g the gradient of one shower.
    asymmetry, log_ratio : Moments
        Statistics of the pair rows; of `log_ratios`, from which fitted curves are taken off.
    n_showers, n_groups, n_rows : float
        Showers, shower groups and telescope rows in use.
    n_events : array, shape (n,)
        Showers in use by telescope.
    n_below_margin, n_outliers : float
        Telescope rows left out by the margin from threshold and ceiling, and given no robust
        weight.
    n_candidates : array, shape (n,)
        Showers by telescope before the margin.
    variance_matrix : array, shape (n, n)
    variance_vector : array, shape (n,)
        Linear system for the factors by which the telescopes' variances should change.
    variance_meat : array, shape (n,)
        Sum over showers of the squared gradient of that system: what its solution scatters by.
    shape_observed, shape_expected : array, shape (n_types, n_impact_bins, n_value_bins)
        Squared pair residuals over their model and their number, shared between the sides.
    turn_on : array, shape (n_types, n_impact_bins, n_turn_on_bins)
        Histogram of the telescopes' own ln(value).
    turn_on_own : array, shape (n, n_own_bins)
        The same by telescope, about the threshold of its type; zero without thresholds.
    residuals : array, shape (n_types, n_residual_bins)
        Histogram of the pair residuals in units of their expected size.
    deviations, farthest : array, shape (n, n_deviation_bins)
        Histogram by telescope of the deviations from the shower's mean in units of their expected
        size, and the same of that telescope alone which deviates most in its shower (of two, half
        a count each).
    chi2 : float
        Weighted squared residuals; ``n_rows - n_groups`` minus free telescopes is its ndf.
    columns : ColumnSums
        What the global columns (distance curves) add to the normal equations.
    """

    weight: Floats
    weighted: Floats
    curvature: Floats
    meat: Floats
    asymmetry: Moments
    log_ratio: Moments
    n_showers: float
    n_groups: float
    n_rows: float
    n_events: Floats
    n_candidates: Floats
    n_below_margin: float
    n_outliers: float
    variance_matrix: Floats
    variance_vector: Floats
    variance_meat: Floats
    shape_observed: Floats
    shape_expected: Floats
    turn_on: Floats
    turn_on_own: Floats
    residuals: Floats
    deviations: Floats
    farthest: Floats
    chi2: float
    columns: ColumnSums


def merge_summaries(summaries: Iterable[Summary]) -> Summary:
    """Add summaries of disjoint showers.

    Raises
    ------
    ValueError
        If there is none.
    """
    total: Summary | None = None
    for summary in summaries:
        total = summary if total is None else _add(total, summary)
    if total is None:
        msg = "nothing to merge"
        raise ValueError(msg)
    return total


def empty_summary(model: Model) -> Summary:
    """Sums over no shower."""
    n, bins = len(model.now.variance), model.now.shape.shape
    square = np.zeros((n, n))
    nothing = Moments(square, square, square)
    return Summary(
        weight=square,
        weighted=square,
        curvature=square,
        meat=square,
        asymmetry=nothing,
        log_ratio=nothing,
        n_showers=0.0,
        n_groups=0.0,
        n_rows=0.0,
        n_events=np.zeros(n),
        n_candidates=np.zeros(n),
        n_below_margin=0.0,
        n_outliers=0.0,
        variance_matrix=square,
        variance_vector=np.zeros(n),
        variance_meat=np.zeros(n),
        shape_observed=np.zeros(bins),
        shape_expected=np.zeros(bins),
        turn_on=np.zeros((*bins[:2], len(TURN_ON_EDGES) + 1)),
        turn_on_own=np.zeros((n, len(OWN_EDGES) + 1)),
        residuals=np.zeros((bins[0], len(RESIDUAL_EDGES) - 1)),
        deviations=np.zeros((n, N_DEVIATIONS)),
        farthest=np.zeros((n, N_DEVIATIONS)),
        chi2=0.0,
        columns=ColumnSums.empty(n, len(model.now.curve)),
    )


def _add(one: Summary, two: Summary) -> Summary:
    return Summary(**{f.name: getattr(one, f.name) + getattr(two, f.name) for f in fields(Summary)})


def summarise(showers: Showers, model: Model, split: Split | None = None) -> Summary:
    """Reduce showers to SUMMARY.

    Parameters
    ----------
    showers : Showers
        Rows and pairs.
    model : Model
        Current solution, weights and selection.
    split : {"value", "impact", "multiplicity"}, optional
        Use only the upper half of the showers in this quantity; the lower half is the
        difference to the summary of all.

    Returns
    -------
    Summary
        The sums.
    """
    rows = weigh(showers, model, split)
    first, second = rows.first, rows.second
    n_nodes, node = showers.n_nodes, showers.node
    link = node[first] * n_nodes + node[second]

    def by_pair(values: Floats) -> Floats:
        return tally(link, values, n_nodes**2).reshape(n_nodes, n_nodes)

    difference = showers.y[first] - showers.y[second]
    misfit = rows.pair_weight * (rows.z[first] - rows.z[second])
    gradient = tally(first, misfit, len(node)) - tally(second, misfit, len(node))
    spread = _spread(showers, model, rows)
    deviations, farthest = _deviations(showers, rows)
    return Summary(
        weight=by_pair(rows.pair_weight),
        weighted=by_pair(rows.pair_weight * difference),
        curvature=by_pair(rows.pair_curvature),
        meat=_meat(showers, gradient),
        asymmetry=Moments.of(link, np.tanh(difference / 2), n_nodes),
        log_ratio=Moments.of(link, log_ratios(showers, model, rows), n_nodes),
        n_showers=_count_parts(rows.used, showers.shower_start[:-1]),
        n_groups=_count_parts(rows.used, showers.group_start),
        n_rows=float(rows.used.sum()),
        n_events=np.bincount(node[rows.used], minlength=n_nodes).astype(float),
        n_candidates=np.bincount(node, minlength=n_nodes).astype(float),
        n_below_margin=float(rows.n_below_margin),
        n_outliers=float(np.count_nonzero(rows.used & (rows.weight == 0))),
        variance_matrix=spread.matrix,
        variance_vector=spread.vector,
        variance_meat=spread.meat,
        shape_observed=spread.observed,
        shape_expected=spread.expected,
        turn_on=_turn_on(showers, model),
        turn_on_own=_turn_on_own(showers, model),
        residuals=_residuals(showers, rows, len(model.threshold)),
        deviations=deviations,
        farthest=farthest,
        chi2=float(np.sum(rows.weight * rows.residual**2)),
        columns=column_sums(
            showers,
            model.now.columns(showers),
            (first, second),
            (rows.pair_weight, rows.pair_curvature),
            gradient,
        ),
    )


def _count_parts(used: npt.NDArray[np.bool_], start: Indices) -> float:
    """Number of showers or groups with any row in use."""
    return float(np.count_nonzero(np.logical_or.reduceat(used, start))) if len(used) else 0.0


def _meat(showers: Showers, gradient: Floats) -> Floats:
    n_showers = len(showers.shower_start) - 1
    per_shower = sparse.csr_array(
        (gradient, showers.node, showers.shower_start), shape=(n_showers, showers.n_nodes)
    )
    return np.asarray((per_shower.T @ per_shower).toarray())


class _Spread(NamedTuple):
    """Sums over pair rows for the variances; see the fields of `Summary`."""

    matrix: Floats
    vector: Floats
    meat: Floats
    observed: Floats
    expected: Floats


def _spread(showers: Showers, model: Model, rows: WeighedRows) -> _Spread:
    """Sums for the telescopes' variances and for the resolution bins.

    A pair row has ``Var(z_i - z_j) = sigma_i^2 + sigma_j^2``, linear in the variances; rows are
    weighted as in Fisher scoring. For a bin the squared residual is split between the two sides
    in proportion to their variances. With robust weights, rows beyond the clip do not count.
    """
    n_nodes = showers.n_nodes
    sides = (rows.first, rows.second)
    total = rows.sigma2[rows.first] + rows.sigma2[rows.second]
    square = (rows.z[rows.first] - rows.z[rows.second]) ** 2 / total
    counted = np.ones(len(square))
    if model.robust != "none":
        counted = (square < CLIP**2).astype(float)
        square = square / CLIPPED_VARIANCE
    part = [rows.sigma2[side] / total for side in sides]
    node = [showers.node[side] for side in sides]
    flat = np.ravel_multi_index(
        (showers.kind, showers.impact_bin, rows.value_bin), model.now.shape.shape
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


def _residuals(showers: Showers, rows: WeighedRows, n_types: int) -> Floats:
    first, second = rows.first, rows.second
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
