"""The sums of several nights, solved as one, and the nights compared with each other.

Normal equations, gradients and counts of disjoint showers add up exactly; weights and selection of
each night stay as they were. Only chi-square is about a point: that of night k at the common
solution x is

    chi2_k(x) = chi2_k(p_k) - 2 (x - p_k) . g_k + (x - p_k)^T A_k (x - p_k),   g_k = v_k - A_k p_k

with the normal equations ``A_k x = v_k`` of the night and the point p_k its residuals were taken
at. With fixed weights that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from calib.columns import with_columns
from calib.fit import Fit, carried_on, half_differences, in_both, solve
from calib.normal import Normal, laplacian, members
from calib.summary import merge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from calib import network
    from calib.fit import FitOptions
    from calib.model import Estimate
    from calib.summary import Summary
    from calib.sums import Sums

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Constancy", "Difference", "constancy", "differences", "merged_fit"]

#: Eigenvalues of a covariance below this part of the largest are rounding.
NO_VARIANCE = 1e-10


def merged_fit(nights: Sequence[Sums], options: FitOptions) -> Fit:
    """Solve the sums of several nights as one.

    Parameters
    ----------
    nights : sequence of Sums
        Of the same telescopes, curves and slopes; at least one.
    options : FitOptions
        Estimator and least numbers of showers; weights and selection are those of the nights.

    Returns
    -------
    Fit
        With no passes of its own; settled if all nights were. The model is that of the last
        night, at the common solution.
    """
    summary = merge(night.summary for night in nights)
    solution = solve(summary, options)
    if options.estimator == "event":
        chi2 = sum(_chi2(night, solution) for night in nights)
        summary, solution = replace(summary, chi2=chi2), replace(solution, chi2=chi2)
    filled = [night for night in nights if night.summary.n_showers]
    whole = all(night.halves for night in filled)
    halves = [night.halves for night in filled] if whole else []
    uppers = tuple(merge(split) for split in zip(*halves, strict=True))
    model = nights[-1].model
    now = _moved(model.now, solution)
    threshold = np.max([night.model.threshold for night in nights], axis=0)
    return Fit(
        solution=solution,
        summary=summary,
        model=replace(model, now=now, threshold=threshold),
        half_differences=half_differences(summary, uppers, options),
        passes=0,
        settled=all(night.settled for night in nights),
        halves=uppers,
    )


def _moved(point: Estimate, solution: network.Solution) -> Estimate:
    """Take the solution for the point around which residuals are taken, as far as it is known."""
    s = carried_on(point.log_throughput, solution)
    curve = point.curve if solution.linear is None else solution.linear.prediction
    known = np.isfinite(s)
    return replace(point, log_throughput=np.where(known, s, point.log_throughput), curve=curve)


def _chi2(night: Sums, solution: network.Solution) -> float:
    """Chi-square of a night's telescope rows at a solution."""
    normal, point = _normal(night.summary), night.model.now
    moved = _moved(point, solution)
    here = np.concatenate([point.log_throughput, point.curve])
    step = np.concatenate([moved.log_throughput, moved.curve]) - here
    gradient = normal.vector - normal.matrix @ here
    return float(night.summary.chi2 - 2 * step @ gradient + step @ normal.matrix @ step)


def _normal(summary: Summary) -> Normal:
    """Equations of all links, the weakest included."""
    weighted, weight = summary.weighted, laplacian(summary.weight)
    nodes = Normal(
        matrix=weight,
        vector=weighted.sum(axis=1) - weighted.sum(axis=0),
        curvature=weight,
        meat=summary.meat,
        n_nodes=len(weight),
        n_clusters=summary.n_showers,
    )
    return with_columns(nodes, summary.columns) if len(summary.columns.vector) else nodes


@dataclass(frozen=True)
class Difference:
    """A night against all others, which share no shower with it.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        ln c of the night minus that of the others, zero on average over the telescopes that both
        have; NaN for the rest.
    error : array, shape (n,)
        Its statistical error.
    chi2, ndf : float
        Of all telescopes together, with the full covariance.
    """

    log_ratio: Floats
    error: Floats
    chi2: float
    ndf: float


def differences(nights: Sequence[Sums], options: FitOptions) -> list[Difference]:
    """Compare each night with all others together.

    Parameters
    ----------
    nights : sequence of Sums
        As for `merged_fit`.
    options : FitOptions
        A night needs the least numbers of showers by itself to be compared.

    Returns
    -------
    list of Difference
        One per night; of a single night there is nothing to compare.
    """
    sums = [night.summary for night in nights]
    before = list(accumulate(sums[:-1], lambda one, two: merge([one, two])))
    after = list(accumulate(sums[:0:-1], lambda one, two: merge([one, two])))[::-1]
    found = []
    for number, own in enumerate(sums):
        parts = [*before[max(number - 1, 0) : number], *after[number : number + 1]]
        n = len(own.n_events)
        if parts:
            others = solve(merge(parts), options)
            found.append(_difference(solve(own, options), others))
        else:
            nothing = np.full(n, np.nan)
            found.append(Difference(nothing, nothing, 0.0, 0.0))
    return found


def _difference(one: network.Solution, two: network.Solution) -> Difference:
    n = len(one.component)
    log_ratio, error, chi2, ndf = np.full(n, np.nan), np.full(n, np.nan), 0.0, 0.0
    for shared in members(in_both(one.component, two.component)):
        both = np.isfinite(one.log_throughput[shared]) & np.isfinite(two.log_throughput[shared])
        nodes = shared[both]
        if len(nodes) < 2:  # noqa: PLR2004  a single telescope compares with nothing
            continue
        step = one.log_throughput[nodes] - two.log_throughput[nodes]
        centre = np.eye(len(nodes)) - 1.0 / len(nodes)
        part = np.ix_(nodes, nodes)
        covariance = centre @ (one.covariance[part] + two.covariance[part]) @ centre
        log_ratio[nodes] = step - step.mean()
        error[nodes] = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        precision, rank = _precision(covariance)
        chi2 += float(log_ratio[nodes] @ precision @ log_ratio[nodes])
        ndf += rank
    return Difference(log_ratio, error, chi2, ndf)


def _precision(covariance: Floats) -> tuple[Floats, int]:
    """Pseudo-inverse of a covariance, and its rank."""
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.T))
    sound = value > NO_VARIANCE * max(float(value.max(initial=0.0)), np.finfo(float).tiny)
    inverse = np.divide(1.0, value, out=np.zeros_like(value), where=sound)
    return np.asarray((vector * inverse) @ vector.T), int(sound.sum())


@dataclass(frozen=True)
class Constancy:
    """Whether one set of throughputs describes all nights: chi-square, ndf and its probability."""

    chi2: float
    ndf: float
    probability: float


def constancy(nights: Sequence[Sums], options: FitOptions) -> Constancy:
    """Test whether the nights agree, each with its own event-clustered covariance.

    The nights' solutions s_k with covariances C_k are compared with their best mean, the minimum
    of ``sum_k (s_k - s)^T C_k^+ (s_k - s)``: chi-square with ``sum_k rank C_k - rank sum_k C_k^+``
    degrees of freedom, whatever the weights of the nights were.

    Parameters
    ----------
    nights, options
        As for `differences`.

    Returns
    -------
    Constancy
        NaN as probability where there is nothing to compare.
    """
    found = [part for night in nights for part in _parts(solve(night.summary, options))]
    n = len(nights[0].subarray)
    total, vector, rank = np.zeros((n, n)), np.zeros(n), 0
    for s, precision, own in found:
        total, vector, rank = total + precision, vector + precision @ s, rank + own
    inverse, used = _precision(total)
    mean = inverse @ vector
    chi2 = sum(float((s - mean) @ precision @ (s - mean)) for s, precision, _ in found)
    ndf = rank - used
    return Constancy(chi2, ndf, float(stats.chi2.sf(chi2, ndf)) if ndf > 0 else float("nan"))


def _parts(solution: network.Solution) -> Iterator[tuple[Floats, Floats, int]]:
    """Values, inverse covariance and rank of each component, in an array of all telescopes."""
    n = len(solution.component)
    for nodes in members(solution.component):
        known = nodes[np.isfinite(solution.log_throughput[nodes])]
        part = np.ix_(known, known)
        centre = np.eye(len(known)) - 1.0 / max(len(known), 1)
        precision, rank = _precision(centre @ solution.covariance[part] @ centre)
        s, full = np.zeros(n), np.zeros((n, n))
        s[known], full[part] = solution.log_throughput[known], precision
        yield s, full, rank
