"""Steps in a series of measurements with known errors: where, how large, and how surprising.

A two-segment scan tries every place for a step and keeps the best. The best of many places looks
significant by chance; its p-value is corrected for that, with the true correlations of neighbouring
places, and holds for any spacing and any errors of the points. What a step is compared with
is either a constant or, when times are given, a straight line.

Nothing in here knows what is measured: throughputs by night, time offsets by chunk of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["ALPHA", "Step", "excess_scatter", "find_step", "find_steps", "scan_p_value"]

#: Chance of any step in a series without one that is accepted by default.
ALPHA = 1e-3
#: Median of chi-square with one degree of freedom.
MEDIAN_CHI2 = 0.454936
#: Places whose statistic is within this of the best are an interval of about 95 % confidence.
NEARLY_BEST = 3.84
#: Information about a step, relative to that of all points, below which it is rounding noise.
LEAST_INFORMATION = 1e-9
#: Nodes of the integral over the tail, and the exponent at which the tail ends.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
TAIL_EXPONENT = 40.0


@dataclass(frozen=True)
class Step:
    """A step between two points of a series.

    Parameters
    ----------
    index : int
        First point behind the step.
    first, last : int
        Smallest and largest `index` that the data allow (about 95 %).
    size, error : float
        Height of the step, behind minus before, and its standard error at this place.
    p_value : float
        Chance that the best place of a series without a step is at least as significant.
    """

    index: int
    first: int
    last: int
    size: float
    error: float
    p_value: float


def find_step(values: Floats, errors: Floats, *, times: Floats | None = None) -> Step | None:
    """Find the most significant single step of a series.

    Parameters
    ----------
    values, errors : array, shape (n,)
        Independent measurements in order, and their standard errors. Points that are not finite, or
        whose error is not positive, do not count; indices are those of the whole series.
    times : array, shape (n,), optional
        When given, the step is on top of a straight line in these times, instead of a constant.

    Returns
    -------
    Step or None
        The best place, significant or not: look at ``p_value``. None if the points left cannot
        tell (fewer than 2; fewer than 4 with a line, where several places fit the same).

    Notes
    -----
    With X the weighted design of the null model (constant, or constant and slope), Q an orthonormal
    basis of it and h_k the weighted indicator of the points from k on, ``r_k = h_k - Q Q^T h_k``
    and ``Z_k = r_k . y / |r_k|`` is a unit Gaussian without a step. The scan takes the largest
    Z_k^2, which is the drop of chi-square by the step; see `scan_p_value` for its distribution.

    References
    ----------
    Worsley 1983, Biometrika 70, 455; James, James and Siegmund 1987, Biometrika 74, 71.
    """
    counted = np.flatnonzero(np.isfinite(values) & np.isfinite(errors) & (errors > 0))
    if len(counted) < (2 if times is None else 4):
        return None
    root_weight = 1.0 / errors[counted]
    columns = [root_weight]
    if times is not None:
        columns.append(root_weight * (times[counted] - times[counted].mean()))
    basis, _ = np.linalg.qr(np.stack(columns, axis=1))
    y = root_weight * values[counted]
    residual = y - basis @ (basis.T @ y)
    # Sums over the points from k on, for every place k = 1 ... n - 1 at once.
    total = _from_here_on(root_weight**2)
    projected = _from_here_on(root_weight[:, None] * basis)
    explained = _from_here_on(root_weight * residual)
    information = total - np.sum(projected**2, axis=1)
    usable = information > LEAST_INFORMATION * np.sum(root_weight**2)
    place = np.flatnonzero(usable)
    if not len(place):
        return None
    total, projected, information = total[place], projected[place], information[place]
    z = explained[place] / np.sqrt(information)
    overlap = total[1:] - np.sum(projected[:-1] * projected[1:], axis=1)
    correlation = overlap / np.sqrt(information[:-1] * information[1:])
    best = int(np.argmax(np.abs(z)))
    near = place[z**2 >= z[best] ** 2 - NEARLY_BEST] + 1
    return Step(
        index=int(counted[place[best] + 1]),
        first=int(counted[near.min()]),
        last=int(counted[near.max()]),
        size=float(z[best] / np.sqrt(information[best])),
        error=float(1.0 / np.sqrt(information[best])),
        p_value=scan_p_value(float(np.abs(z[best])), correlation),
    )


def _from_here_on(terms: Floats) -> Floats:
    """Sum from the second point on, from the third on, and so on; shape (n - 1, ...)."""
    return np.asarray(np.cumsum(terms[::-1], axis=0)[::-1][1:])


def scan_p_value(z: float, correlation: Floats) -> float:
    """Chance that any of several correlated unit Gaussians exceeds a limit.

    Parameters
    ----------
    z : float
        The limit, on the absolute value.
    correlation : array, shape (n - 1,)
        Correlation of each with the next.

    Returns
    -------
    float
        ``P(max |Z_k| > z)``, not above 1. It is an upper bound: exact for one place, too large by
        a tenth or two for 30 equal points and by a factor of two for 300.

    Notes
    -----
    Hunter's inequality along the chain: the sum of the chances that Z_k exceeds while its
    successor does not, plus that of the last one. Only the order of the chain is used, so that it
    holds for any null model.

    References
    ----------
    Hunter 1976, J. Appl. Prob. 13, 597; Worsley 1982, Biometrika 69, 297.
    """
    last = 2.0 * float(ndtr(-z))
    rho = np.clip(correlation, -1.0, 1.0)[:, None]
    reach = np.sqrt(z**2 + 2.0 * TAIL_EXPONENT) - z
    x = z + 0.5 * reach * (NODES + 1.0)
    density = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi) * 0.5 * reach * WEIGHTS
    width = np.sqrt(np.maximum(1.0 - rho**2, np.finfo(float).eps))
    stays_inside = ndtr((z - rho * x) / width) - ndtr((-z - rho * x) / width)
    return min(1.0, last + 2.0 * float(np.sum(density * stays_inside)))


def find_steps(
    values: Floats, errors: Floats, *, times: Floats | None = None, alpha: float = ALPHA
) -> tuple[Step, ...]:
    """Find all significant steps of a series.

    Parameters
    ----------
    values, errors, times
        As for `find_step`.
    alpha : float
        Largest p-value of a step.

    Returns
    -------
    tuple of Step
        In order. With several steps, each is measured between its neighbours.

    Notes
    -----
    Binary segmentation: the series is cut at its best step and each part searched again, until
    nothing significant is left. The places are then found once more, each between its neighbours,
    where another step can no longer pull it; what is no longer significant is dropped.
    """
    cuts = _segment(values, errors, times, alpha, 0, len(values))
    while True:
        edges = [0, *cuts, len(values)]
        steps = [
            _search(values, errors, times, start, stop)
            for start, stop in zip(edges[:-2], edges[2:], strict=True)
        ]
        kept = {step.index: step for step in steps if step is not None and step.p_value <= alpha}
        if len(kept) == len(cuts):
            return tuple(kept[index] for index in sorted(kept))
        cuts = sorted(kept)  # fewer than before, so this ends


def _segment(
    values: Floats, errors: Floats, times: Floats | None, alpha: float, start: int, stop: int
) -> list[int]:
    found: list[int] = []
    parts = [(start, stop)]
    while parts:
        start, stop = parts.pop()
        step = _search(values, errors, times, start, stop)
        if step is not None and step.p_value <= alpha:
            found.append(step.index)
            parts += [(start, step.index), (step.index, stop)]
    return sorted(found)


def _search(
    values: Floats, errors: Floats, times: Floats | None, start: int, stop: int
) -> Step | None:
    """`find_step` among the points from `start` to before `stop`."""
    part = slice(start, stop)
    step = find_step(values[part], errors[part], times=None if times is None else times[part])
    if step is None:
        return None
    return Step(
        step.index + start,
        step.first + start,
        step.last + start,
        step.size,
        step.error,
        step.p_value,
    )


def excess_scatter(values: Floats, errors: Floats) -> float:
    """Scatter from point to point beyond the errors, common to several series.

    Parameters
    ----------
    values, errors : array, shape (n,) or (n, m)
        One series, or one in each column; NaN where there is no measurement.

    Returns
    -------
    float
        Standard deviation tau to add in quadrature to every error; 0 if the errors suffice.

    Notes
    -----
    The median of ``d^2 / (e_1^2 + e_2^2 + 2 tau^2)`` over the differences d of successive points
    equals that of chi-square with one degree of freedom. Differences and the median make it blind
    to slow drifts and to steps, as long as these are fewer than half of the differences.
    """
    known = np.isfinite(values) & np.isfinite(errors)
    difference, variance = [], []
    for column, error, good in zip(
        np.atleast_2d(values.T), np.atleast_2d(errors.T), np.atleast_2d(known.T), strict=True
    ):
        difference.append(np.diff(column[good]))
        variance.append(error[good][1:] ** 2 + error[good][:-1] ** 2)
    square, noise = np.concatenate(difference) ** 2, np.concatenate(variance)
    if not len(square) or not np.any(square > 0):
        return 0.0

    def surplus(tau: float) -> float:
        expected = np.maximum(noise + 2.0 * tau**2, np.finfo(float).tiny)
        return float(np.median(square / expected)) - MEDIAN_CHI2

    if surplus(0.0) <= 0:
        return 0.0
    from scipy.optimize import brentq  # costs a fifth of a second

    return float(brentq(surplus, 0.0, 2.0 * float(np.sqrt(square.max()))))
