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
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.showers import tally
from arraycal.calib.fit.sums.columns import ColumnSums

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.model import Model

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "DEVIATION_STEP",
    "N_DEVIATIONS",
    "OWN_EDGES",
    "RESIDUAL_EDGES",
    "STEERING",
    "TURN_ON_EDGES",
    "Moments",
    "Summary",
    "empty_summary",
    "merge_for_solver",
    "merge_summaries",
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


#: Fields that a solver by events reads, beside the numbers of pair rows.
FOR_SOLVER = (
    "weight", "weighted", "curvature", "meat", "n_showers", "n_groups", "n_rows", "n_events",
    "chi2", "columns",
)  # fmt: skip


#: Fields that steer the next model.
STEERING = (
    "variance_matrix", "variance_vector", "variance_meat", "shape_observed", "shape_expected",
    "turn_on", "turn_on_own",
)  # fmt: skip


def merge_for_solver(summaries: Sequence[Summary]) -> Summary:
    """Add what a solver reads; all else is that of the first, which should be of no shower."""
    first = summaries[0]
    if len(summaries) == 1:
        return first
    total = {
        name: sum((getattr(own, name) for own in summaries[1:]), getattr(first, name))
        for name in FOR_SOLVER
    }
    if all(own.curvature is own.weight for own in summaries):
        total["curvature"] = total["weight"]
    n_common = sum((own.log_ratio.n for own in summaries[1:]), first.log_ratio.n)
    return replace(first, log_ratio=replace(first.log_ratio, n=n_common), **total)


def empty_summary(model: Model) -> Summary:
    """Sums over no shower, which take no memory: those of every time chunk are made of one."""
    n, bins = len(model.now.variance), model.now.shape.shape
    square = _zeros(n, n)
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
        n_events=_zeros(n),
        n_candidates=_zeros(n),
        n_below_margin=0.0,
        n_outliers=0.0,
        variance_matrix=square,
        variance_vector=_zeros(n),
        variance_meat=_zeros(n),
        shape_observed=_zeros(*bins),
        shape_expected=_zeros(*bins),
        turn_on=_zeros(*bins[:2], len(TURN_ON_EDGES) + 1),
        turn_on_own=_zeros(n, len(OWN_EDGES) + 1),
        residuals=_zeros(bins[0], len(RESIDUAL_EDGES) - 1),
        deviations=_zeros(n, N_DEVIATIONS),
        farthest=_zeros(n, N_DEVIATIONS),
        chi2=0.0,
        columns=ColumnSums.empty(n, len(model.now.curve)),
    )


def _zeros(*shape: int) -> Floats:
    """Zeros that cannot be written to: one number in memory, whatever the shape."""
    return np.broadcast_to(0.0, shape)


def _add(one: Summary, two: Summary) -> Summary:
    return Summary(**{f.name: getattr(one, f.name) + getattr(two, f.name) for f in fields(Summary)})
