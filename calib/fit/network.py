"""SUMMARY to COEFFICIENTS: one solver for differences on a graph of telescopes.

A telescope pair compares two nodes; the solution is one number s_i = ln c_i per node up to a
common shift per connected component. The steps, in order:

1. `components`: which telescopes enough common showers connect;
2. `solve_events` (every shower counts once, honest errors) or `solve_pairs` (chi-square over
   the pair means, as ctao-calibpipe does, kept for comparison);
3. `fix_gauge`: a linear change of the same solution, with its covariance, that removes the
   common shift. It never enters the fit.

The linear algebra, which also serves fits with further unknowns, is `arraycal.calib.fit.normal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import linalg, sparse

from arraycal.calib.fit.normal import (
    Normal,
    NormalSolution,
    laplacian,
    members,
    pseudo_inverse,
    solve_normal,
)
from arraycal.calib.fit.sums.columns import hold_columns, with_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.sums.summary import Summary

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "Constraint",
    "Fixed",
    "Gauge",
    "Normal",
    "NormalSolution",
    "Solution",
    "components",
    "equations",
    "fix_gauge",
    "laplacian",
    "leave_one_out",
    "pair_usable",
    "pseudo_inverse",
    "resistances",
    "solve_events",
    "solve_normal",
    "solve_pairs",
]

Gauge = Literal["reference", "geometric_mean", "arithmetic_mean"]

#: Gauss-Newton on a smooth, nearly linear problem: four steps reach rounding; more means trouble.
MAX_STEPS = 50
STEP_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Solution:
    """Log throughputs up to a common shift per component (their mean there is zero).

    Parameters
    ----------
    log_throughput : array, shape (n,)
        s_i; NaN for telescopes without a component.
    covariance : array, shape (n, n)
        Covariance of s, zero in rows and columns without a component.
    component : array of int, shape (n,)
        Number of the component; -1 for a telescope that is connected to no other.
    chi2, ndf : float
        Goodness of fit. For `solve_events`, of all telescope rows; for `solve_pairs`, of the
        pair means taken as independent, which they are not.
    linear : NormalSolution or None
        The same with the global columns and their covariances, where there are any.
    """

    log_throughput: Floats
    covariance: Floats
    component: Indices
    chi2: float
    ndf: float
    linear: NormalSolution | None = None


@dataclass(frozen=True)
class Constraint:
    """Outside knowledge of one telescope: ln c = `log_value` within `log_error` (0: exactly)."""

    node: int
    log_value: float
    log_error: float


@dataclass(frozen=True)
class Fixed:
    """A solution whose common shift is fixed.

    Parameters
    ----------
    log_throughput : array, shape (n,)
        ln c; NaN where nothing fixes it.
    covariance : array, shape (n, n)
        Its covariance; NaN in rows and columns of telescopes without a value.
    """

    log_throughput: Floats
    covariance: Floats

    @property
    def value(self) -> Floats:
        """Throughput coefficients c, shape (n,)."""
        return np.exp(self.log_throughput)

    @property
    def error(self) -> Floats:
        """Standard errors of c, shape (n,)."""
        return self.value * np.sqrt(np.diag(self.covariance))


def components(n_common: Floats, n_events: Floats, *, min_common: int, min_events: int) -> Indices:
    """Find the telescopes that are tied together by enough common showers.

    Parameters
    ----------
    n_common : array, shape (n, n)
        Showers in common by pair (either triangle).
    n_events : array, shape (n,)
        Showers by telescope.
    min_common, min_events : int
        Showers that make two telescopes neighbours, and that a telescope needs at all.

    Returns
    -------
    array of int, shape (n,)
        Component numbers by falling size, -1 for telescopes without any neighbour.
    """
    enough = n_events >= min_events
    edges = (n_common + n_common.T >= min_common) & enough[:, None] & enough[None, :]
    np.fill_diagonal(edges, val=False)
    _, label = sparse.csgraph.connected_components(edges, directed=False)
    size = np.bincount(label)
    order = np.argsort(-size, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.where(size[label] > 1, rank[label], -1)


def resistances(inverse: Floats) -> Floats:
    """Effective resistance between every two nodes: the variance of their difference."""
    diagonal = np.diag(inverse)
    return np.asarray(diagonal[:, None] + diagonal[None, :] - 2 * inverse)


def solve_events(summary: Summary, component: Indices, columns: Floats | None = None) -> Solution:
    """Solve the normal equations with event-clustered errors.

    Parameters
    ----------
    summary : Summary
        Sums over all showers; its gradients belong to (nearly) this solution.
    component : array of int, shape (n,)
        From `components`.
    columns : array, shape (m,), optional
        Values at which the global columns are held; by default they are fitted.

    Returns
    -------
    Solution
        Fixed-effects solution with the covariance of `solve_normal`.
    """
    normal = equations(summary, component)
    if columns is not None:
        normal = hold_columns(normal, columns)
    linear = solve_normal(normal, component)
    n, connected = len(component), int(np.count_nonzero(component >= 0))
    n_free = connected - len(members(component)) + int(np.isfinite(linear.columns).sum())
    return Solution(
        log_throughput=linear.nodes,
        covariance=linear.covariance[:n, :n],
        component=component,
        chi2=summary.chi2,
        ndf=summary.n_rows - summary.n_groups - n_free,
        linear=linear if len(linear.columns) else None,
    )


def equations(summary: Summary, component: Indices) -> Normal:
    """Equations of the nodes, and of the distance curves if there are any.

    Too weak a link counts as none. Not so with curves, to whose sums all links have contributed:
    the nodes behind weak links are then fitted along.
    """
    curved = bool(len(summary.columns.vector))
    inside = ((component[:, None] == component[None, :]) & (component >= 0)) | curved
    weighted = np.where(inside, summary.weighted, 0.0)
    matrix, curvature = (
        laplacian(np.where(inside, edges, 0.0)) for edges in (summary.weight, summary.curvature)
    )
    nodes = Normal(
        matrix=matrix,
        vector=weighted.sum(axis=1) - weighted.sum(axis=0),
        curvature=curvature,
        meat=summary.meat,
        n_nodes=len(component),
        n_clusters=summary.n_showers,
    )
    return with_columns(nodes, summary.columns) if curved else nodes


def pair_usable(summary: Summary) -> npt.NDArray[np.bool_]:
    """Pairs with a mean and an error: two showers or more, not all identical, shape (n, n)."""
    return (summary.asymmetry.n > 1) & (summary.asymmetry.m2 > 0)


def solve_pairs(summary: Summary, component: Indices) -> Solution:
    """Fit tanh((s_i - s_j) / 2) to the mean asymmetries, pairs taken as independent.

    This is the chi-square of ctao-calibpipe, solved by Gauss-Newton in the logarithms. Pairs of
    one shower share their telescopes' fluctuations, so the errors come out too small by about
    sqrt(M / 2) at multiplicity M; use `solve_events` for errors that can be trusted.

    Parameters
    ----------
    summary : Summary
        Only ``asymmetry`` is used.
    component : array of int, shape (n,)
        From `components`.

    Returns
    -------
    Solution
        Minimum and inverse Gauss-Newton Hessian.
    """
    n = len(component)
    s, covariance = np.full(n, np.nan), np.zeros((n, n))
    usable, error = pair_usable(summary), summary.asymmetry.error
    chi2, ndf = 0.0, 0.0
    for nodes in members(component):
        part = np.ix_(nodes, nodes)
        first, second = np.nonzero(usable[part])
        mean, sigma = summary.asymmetry.mean[part], error[part]
        local, inverse, misfit = _gauss_newton(
            first, second, mean[first, second], sigma[first, second], len(nodes)
        )
        s[nodes], covariance[part] = local, inverse
        chi2 += misfit
        ndf += len(first) - (len(nodes) - 1)
    return Solution(s, covariance, component, chi2, ndf)


def _gauss_newton(
    first: Indices, second: Indices, mean: Floats, sigma: Floats, n: int
) -> tuple[Floats, Floats, float]:
    s = np.zeros(n)
    for _ in range(MAX_STEPS):
        model = np.tanh((s[first] - s[second]) / 2)
        slope = (1 - model**2) / (2 * sigma)
        pull = (mean - model) / sigma
        weight = np.zeros((n, n))
        weight[first, second] = slope**2
        inverse = pseudo_inverse(laplacian(weight))
        gradient = np.bincount(first, slope * pull, n) - np.bincount(second, slope * pull, n)
        step = inverse @ gradient
        s = s + step
        if np.max(np.abs(step)) < STEP_TOLERANCE:
            return s, inverse, float(np.sum(pull**2))
    return np.full(n, np.nan), np.full((n, n), np.nan), float("nan")


def fix_gauge(
    solution: Solution,
    nodes: Indices,
    gauge: Gauge,
    *,
    log_norm: float = 0.0,
    reference: int | None = None,
    constraints: Sequence[Constraint] = (),
    left_out: Indices | Sequence[int] = (),
) -> Fixed:
    """Remove the common shift of one component.

    Parameters
    ----------
    solution : Solution
        From a solver.
    nodes : array of int, shape (m,)
        Telescopes of the component.
    gauge : {"reference", "geometric_mean", "arithmetic_mean"}
        What equals the norm: one telescope's c, or a mean of all.
    log_norm : float
        ln of the norm.
    reference : int, optional
        Node of the reference telescope, for that gauge.
    constraints : sequence of Constraint
        Outside values of telescopes of the component; when there are any they set the scale
        and `gauge` is not used.
    left_out : array or sequence of int
        Nodes that are no part of a mean, see `arraycal.calib.gauge.within_types.far_off`; they get
        a value all the same.

    Returns
    -------
    Fixed
        Values of `nodes`; NaN for all others. The error of a reference telescope is zero: all
        others carry it in their correlations.

    Raises
    ------
    ValueError
        If the gauge wants a reference outside `nodes`.
    """
    s = solution.log_throughput[nodes]
    covariance = solution.covariance[np.ix_(nodes, nodes)]
    if constraints:
        place = {int(node): position for position, node in enumerate(nodes)}
        s, covariance = _constrain(s, covariance, [(place[c.node], c) for c in constraints])
    else:
        transform = np.eye(len(nodes))
        if gauge == "reference":
            position = np.flatnonzero(nodes == reference)
            if len(position) != 1:
                msg = f"reference node {reference} is not among the nodes of the component"
                raise ValueError(msg)
            transform[:, position[0]] -= 1.0
            s = s - s[position[0]]
        else:
            inside = ~np.isin(nodes, left_out)
            s = s - s[inside].mean()
            transform[:, inside] -= 1.0 / inside.sum()
            if gauge == "arithmetic_mean":
                c = np.exp(s, where=inside, out=np.zeros_like(s))
                s = s - np.log(c[inside].mean())
                transform = (np.eye(len(nodes)) - c[None, :] / c.sum()) @ transform
        s = s + log_norm
        covariance = transform @ covariance @ transform.T
        # Rounding leaves -1e-40 where values have no scatter at all.
        np.fill_diagonal(covariance, np.maximum(np.diag(covariance), 0.0))
    n = len(solution.log_throughput)
    values, full = np.full(n, np.nan), np.full((n, n), np.nan)
    values[nodes] = s
    full[np.ix_(nodes, nodes)] = covariance
    return Fixed(values, full)


def _constrain(
    s: Floats, covariance: Floats, constraints: Sequence[tuple[int, Constraint]]
) -> tuple[Floats, Floats]:
    """Combine with outside values: minimise the sum of both chi-squares.

    The shower solution knows nothing about the common shift. Giving the shift a variance far
    beyond every other one turns the problem into ordinary Gaussian conditioning, which also
    holds for exact constraints.
    """
    wide = 1e8 * max(float(np.trace(covariance)), *(c.log_error**2 for _, c in constraints), 1e-4)
    prior = covariance + wide
    pick = np.zeros((len(constraints), len(s)))
    pick[np.arange(len(constraints)), [position for position, _ in constraints]] = 1.0
    target = np.array([c.log_value for _, c in constraints])
    noise = np.diag([c.log_error**2 for _, c in constraints])
    innovation = pick @ prior @ pick.T + noise
    gain = linalg.solve(innovation, pick @ prior, assume_a="sym").T
    rest = np.eye(len(s)) - gain @ pick
    # Joseph's form stays symmetric and positive although `prior` is huge.
    return s + gain @ (target - pick @ s), rest @ prior @ rest.T + gain @ noise @ gain.T


def leave_one_out(fixed: Fixed, nodes: Indices) -> tuple[Floats, Floats]:
    """Compare each telescope with the others of its component.

    Parameters
    ----------
    fixed : Fixed
        Values and covariance.
    nodes : array of int, shape (m,)
        Telescopes to compare, m >= 2.

    Returns
    -------
    deviation : array, shape (m,)
        ln c minus the median of the others (a mean would let one bad telescope accuse all).
    z : array, shape (m,)
        The same over its expected size: statistical error and the scatter of the others
        in quadrature (standard deviation below 8 telescopes, 1.4826 times the median absolute
        deviation from there on, which two bad telescopes do not spoil). NaN below 4 telescopes,
        where the scatter means nothing.
    """
    m = len(nodes)
    s = fixed.log_throughput[nodes]
    deviation, scatter = np.empty(m), np.full(m, np.nan)
    for i in range(m):
        others = np.delete(s, i)
        median = np.median(others)
        deviation[i] = s[i] - median
        if m >= MANY_SIBLINGS:
            scatter[i] = 1.4826 * np.median(np.abs(others - median))
        elif m >= MIN_SIBLINGS:
            scatter[i] = np.std(others, ddof=1)
    # The error of the median differs little from that of the mean, whose covariance is known.
    contrast = np.full((m, m), -1.0 / (m - 1))
    np.fill_diagonal(contrast, val=1.0)
    variance = np.einsum("ij,jk,ik->i", contrast, fixed.covariance[np.ix_(nodes, nodes)], contrast)
    return deviation, deviation / np.sqrt(variance + scatter**2)


#: Telescopes a group needs before the scatter of the others says anything, and before their
#: median absolute deviation does.
MIN_SIBLINGS, MANY_SIBLINGS = 4, 8
