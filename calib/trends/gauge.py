"""Many nights made comparable: which telescopes are steady, and all others relative to these.

Showers fix the coefficients of a night up to a common shift (of logarithms, or of clock offsets).
The shift is chosen here such that the mean of the steady telescopes does not move. Which telescopes
are steady is found by leaving out, one at a time, the one that changes most significantly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from arraycal.calib.checks.changepoint import excess_scatter
from arraycal.calib.trends.series import course_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.trends.series import Course, Limits

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

__all__ = ["Nights", "Settled", "relative_to", "settle"]

#: Least number of independent residuals that say how nights scatter.
MIN_INDEPENDENT = 30
#: Parameters of a straight line.
LINE = 2
MAX_ROUNDS = 6
#: Rounds end when the scatter changes by less than this fraction of the median error.
SCATTER_TOLERANCE = 0.05
#: A standard error below this fraction of the night's largest one is rounding noise.
ROUNDING = 1e-7


@dataclass(frozen=True)
class Nights:
    """The coefficients of the telescopes of one type in many nights.

    Parameters
    ----------
    days : array, shape (t,)
        Dates, rising, in days.
    values : array, shape (t, n)
        ln c, or clock offsets in ns; NaN is a gap.
    covariances : array, shape (t, n, n)
        Of the values of each night, in any gauge; NaN where there is a gap.
    """

    days: Floats
    values: Floats
    covariances: Floats


@dataclass(frozen=True)
class Settled:
    """Nights relative to the steady telescopes.

    Parameters
    ----------
    values, errors : array, shape (t, n)
        In the common gauge, the errors with `scatter`; NaN where there is nothing to compare.
    stable : array of bool, shape (n,)
        Telescopes whose mean is the gauge.
    scatter : float
        Scatter from night to night beyond the stated errors; it is in `errors`.
    is_anchored : bool
        False if half of the telescopes or more changed: which moved is not known then.
    courses : tuple of Course
        Of every telescope.
    """

    values: Floats
    errors: Floats
    stable: Flags
    scatter: float
    is_anchored: bool
    courses: tuple[Course, ...]


def settle(nights: Nights, limits: Limits, scatter: float | None = None) -> Settled:
    """Find the steady telescopes and judge all of them relative to these.

    Parameters
    ----------
    nights : Nights
        Of one type.
    limits : Limits
        What counts as a change.
    scatter : float, optional
        Scatter from night to night beyond the stated errors; by default found from the steady
        telescopes, or 0 where these are too few to tell.

    Notes
    -----
    At most half of the telescopes are left out, and two always stay. The scatter is found from
    telescopes that were chosen with it, so both are repeated until they agree. They begin with the
    scatter from night to night of all telescopes, of which steps and drifts change little.
    """
    tau = _first_scatter(nights) if scatter is None else scatter
    for _ in range(MAX_ROUNDS):
        settled, used = _search(nights, limits, tau)
        if scatter is not None:
            break
        found = _scatter(nights, settled.stable, used)
        if abs(found - tau) <= SCATTER_TOLERANCE * _usual_error(settled):
            break
        tau = found
    return settled


def relative_to(nights: Nights, stable: Flags, used: Flags) -> tuple[Floats, Floats]:
    """Shift every night such that the mean of the stable telescopes does not move.

    Parameters
    ----------
    nights : Nights
        Of one type.
    stable : array of bool, shape (n,)
        Telescopes that make the mean.
    used : array of bool, shape (t, n)
        False for single nights of theirs that shall not.

    Returns
    -------
    values, errors : array, shape (t, n)
        NaN for gaps, and for nights that no stable telescope connects with the others.

    Notes
    -----
    With l_i the level of a stable telescope over all nights (sum of l_i = 0), night t is shifted by
    ``g_t = mean over the stable ones present of (y_ti - l_i)``: a night without some of them is not
    shifted by that. Errors are those of ``y - g`` by the covariance of the night, V:
    ``T V T^T`` with ``T = 1 - 1 w^T``, whatever the gauge of V.
    """
    t, n = nights.values.shape
    present = np.isfinite(nights.values) & stable & used
    present = np.asarray(present & _largest_component(present)[:, None])
    level, level_variance = _levels(nights, present)
    count = np.maximum(present.sum(axis=1), 1)
    weight = present / count[:, None]
    shift = np.sum(weight * np.where(present, nights.values - level, 0.0), axis=1)
    covariance = np.nan_to_num(nights.covariances)
    crossed = np.einsum("tij,tj->ti", covariance, weight)
    variance = np.einsum("tii->ti", covariance) - 2.0 * crossed
    variance += np.einsum("ti,ti->t", crossed, weight)[:, None]
    in_any, on_night = (
        np.any(present, axis=0, keepdims=True),
        np.any(present, axis=1, keepdims=True),
    )
    absent = in_any & ~present
    variance += (np.sum(np.where(absent, level_variance, 0.0), axis=1) / count**2)[:, None]
    is_known = np.isfinite(nights.values) & on_night
    largest = np.max(np.einsum("tii->ti", covariance), axis=1, initial=0.0)[:, None]
    # Alone in the mean, a telescope is what it is compared with.
    is_known &= variance > ROUNDING**2 * largest
    values, errors = np.full((t, n), np.nan), np.full((t, n), np.nan)
    values[is_known] = (nights.values - shift[:, None])[is_known]
    errors[is_known] = np.sqrt(variance[is_known])
    return values, errors


def _largest_component(present: Flags) -> Flags:
    """Nights of the largest group that common telescopes connect; shape (t,)."""
    t, n = present.shape
    rows, columns = np.nonzero(present)
    if not len(rows):
        return np.zeros(t, bool)
    size = t + n
    graph = csr_array((np.ones(len(rows)), (rows, columns + t)), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:t]
    connected: Flags = np.asarray(present.any(axis=1))
    counts = np.bincount(label[connected], minlength=label.max() + 1)
    latest_first = label[connected][::-1]
    chosen = latest_first[np.argmax(counts[latest_first])]
    return np.asarray(connected & (label == chosen))


def _levels(nights: Nights, present: Flags) -> tuple[Floats, Floats]:
    """Mean of every stable telescope over the nights, and its variance; shape (n,)."""
    n = present.shape[1]
    level, variance = np.zeros(n), np.zeros(n)
    members = np.flatnonzero(present.any(axis=0))
    if not len(members):
        return level, variance
    mask = present[:, members].astype(float)
    y = np.where(mask > 0, nights.values[:, members], 0.0)
    noise = np.einsum("tii->ti", np.nan_to_num(nights.covariances))[:, members]
    count = np.maximum(mask.sum(axis=1), 1.0)
    weight = _night_weights(np.sum(noise * mask, axis=1) / count)
    mean = np.sum(y * mask, axis=1) / count
    b = np.sum(weight[:, None] * mask * (y - mean[:, None]), axis=0)
    shared = (mask * (weight / count)[:, None]).T @ mask
    A = np.diag(weight @ mask) - shared
    inverse = _inverse_laplacian(A)
    level[members] = inverse @ b
    variance[members] = np.diag(inverse) * _unit_variance(noise, mask, weight)
    return level, variance


def _inverse_laplacian(A: Floats) -> Floats:
    """Pseudo-inverse of a matrix whose only null vector is (1, 1, ...)."""
    k = len(A)
    if k == 1:
        return np.zeros((1, 1))
    share = np.trace(A) / k**2
    return np.asarray(np.linalg.inv(A + share) - 1.0 / (share * k**2))


def _night_weights(variance: Floats) -> Floats:
    """Inverse of the variances about their mean; nights without errors count like the others."""
    usual = float(np.median(variance[variance > 0])) if np.any(variance > 0) else 1.0
    return np.asarray(usual / np.where(variance > 0, variance, usual))


def _unit_variance(noise: Floats, mask: Floats, weight: Floats) -> float:
    """Variance of a coefficient of weight 1."""
    total = float(mask.sum())
    return float(np.sum(noise * mask * weight[:, None]) / total) if total else 0.0


def _search(nights: Nights, limits: Limits, tau: float) -> tuple[Settled, Flags]:
    """Leave out what changes, the most significant first, until the rest is steady."""
    measured: Flags = np.asarray(np.isfinite(nights.values).any(axis=0))
    stable, used = measured.copy(), np.ones(nights.values.shape, bool)
    least = max(2, (int(measured.sum()) + 1) // 2)
    is_anchored = True
    while True:
        settled = _judged(nights, stable, used, limits, tau, is_anchored=is_anchored)
        worst = _most_significant(settled, used)
        if worst is None:
            break
        night, telescope = worst
        if night is not None:
            used[night, telescope] = False
        elif stable.sum() > least:
            stable[telescope] = False
        else:
            is_anchored = False
            break
    steady_after_all = measured & ~stable & ~np.array([c.has_changed for c in settled.courses])
    stable |= steady_after_all
    # Of two halves of equal size, neither is the one that stayed.
    is_anchored &= 2 * int(stable.sum()) > int(measured.sum())
    return _judged(nights, stable, used, limits, tau, is_anchored=is_anchored), used


def _judged(
    nights: Nights, stable: Flags, used: Flags, limits: Limits, tau: float, *, is_anchored: bool
) -> Settled:
    values, errors = relative_to(nights, stable, used)
    errors = np.hypot(errors, tau)
    courses = tuple(
        course_of(nights.days, values[:, i], errors[:, i], limits) for i in range(len(stable))
    )
    return Settled(values, errors, stable.copy(), tau, is_anchored, courses)


def _most_significant(settled: Settled, used: Flags) -> tuple[int | None, int] | None:
    """The telescope, or its single night, that stands out most in the mean; None if none does."""
    found: list[tuple[float, int | None, int]] = []
    for telescope in np.flatnonzero(settled.stable):
        course = settled.courses[int(telescope)]
        z = np.where(used[:, telescope], np.abs(course.outlier_z), 0.0)
        if z.any():
            found.append((float(z.max() ** 2), int(z.argmax()), int(telescope)))
        if course.has_changed:
            found.append((course.strength, None, int(telescope)))
    if not found:
        return None
    return max(found, key=lambda item: item[0])[1:]


def _first_scatter(nights: Nights) -> float:
    """Scatter of all telescopes, whatever they do, from differences of successive nights."""
    everyone = np.ones(nights.values.shape[1], bool)
    values, errors = relative_to(nights, everyone, np.ones(nights.values.shape, bool))
    independent = np.maximum(np.isfinite(values).sum(axis=0) - LINE, 0).sum()
    if independent * (1.0 - 1.0 / len(everyone)) < MIN_INDEPENDENT:
        return 0.0
    return excess_scatter(values, errors)


def _scatter(nights: Nights, stable: Flags, used: Flags) -> float:
    """Scatter of the stable telescopes about straight lines, beyond their errors.

    The tau with ``sum r^2 / (e^2 + tau^2)`` equal to its expectation, the number of nights less
    the two of each line (Mandel and Paule 1982, J. Res. NBS 87, 377).
    """
    values, errors = relative_to(nights, stable, used)
    values = np.where(used & (errors > 0), values, np.nan)
    residuals, noise, expected = [np.empty(0)], [np.empty(0)], 0
    for telescope in np.flatnonzero(stable):
        known = np.isfinite(values[:, telescope])
        if known.sum() > LINE:
            e, x = errors[known, telescope], nights.days[known] - nights.days[known].mean()
            line = np.polynomial.Polynomial.fit(x, values[known, telescope], 1, w=1.0 / e)
            residuals.append(values[known, telescope] - line(x))
            noise.append(e**2)
            expected += int(known.sum()) - LINE
    square, variance = np.concatenate(residuals) ** 2, np.concatenate(noise)
    # The residuals of a night add up to nothing, so those of one telescope are not independent.
    independent = expected * (1.0 - 1.0 / max(int(stable.sum()), 1))
    if independent < MIN_INDEPENDENT or np.sum(square / variance) <= expected:
        return 0.0

    def surplus(tau: float) -> float:
        return float(np.sum(square / (variance + tau**2))) - expected

    from scipy.optimize import brentq  # costs a fifth of a second

    return float(brentq(surplus, 0.0, float(np.sqrt(square.sum()))))


def _usual_error(settled: Settled) -> float:
    known = settled.errors[np.isfinite(settled.errors)]
    return float(np.median(known)) if len(known) else 0.0
