"""Clocks that run at a wrong rate: told from clocks that jump, and taken out of the stamps.

A steady drift looks like a staircase to a search for jumps, and like noise to a fit of constant
offsets. Each series is therefore described in two ways, as a constant with jumps and as a straight
line with jumps; the line is believed if it is significant and the better description for its number
of parameters (a Bayesian information criterion that knows that places were searched for). The line
is then subtracted from the stamps, so that everything behind it sees a clock that keeps time.

References
----------
Zhang, Siegmund 2007, Biometrics 63, 22.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.checks.changepoint import find_steps
from arraycal.calib.timing.steps import MIN_DRIFT_Z, clock_course, with_excess

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from arraycal.calib.timing.fit import ClockFit, Windows
    from arraycal.calib.timing.showers import Plan, StampedShowers
    from arraycal.calib.timing.solve import Nodes

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["ClockTrends", "detrended", "find_trends"]

#: Chunks from which a line is told from a jump inside a chunk.
LEAST_CHUNKS = 5
#: Rates are found again with those found so far taken out; they settle at once.
ROUNDS = 4
SECONDS_PER_HOUR = 3600.0


class ClockTrends(NamedTuple):
    """Straight lines that were taken out of the stamps.

    Parameters
    ----------
    rate : array, shape (n,)
        Slope of every telescope, ns/h; 0 for one that does not drift.
    zero_s : float
        Date at which the lines are zero.
    """

    rate: Floats
    zero_s: float

    @property
    def drifting(self) -> frozenset[int]:
        """Telescopes that drift."""
        return frozenset(np.flatnonzero(self.rate).tolist())

    def at(self, time_s: Floats, telescope: Indices) -> Floats:
        """Values of the lines, ns."""
        return np.asarray(self.rate[telescope] * (time_s - self.zero_s) / SECONDS_PER_HOUR)

    def chunks(self, plan: Plan) -> Floats:
        """Values in the middle of the chunks, shape (n_chunks, n)."""
        middle = 0.5 * (plan.start_s + plan.stop_s)
        return self.at(middle[:, None], np.arange(len(self.rate))[None, :])

    def nodes(self, plan: Plan, nodes: Nodes, n_rows: Floats) -> tuple[Floats, Floats]:
        """Mean date of the stamps of every node, and the values there, shape (n_nodes,).

        At this date the offset and the rate have independent errors.
        """
        middle = 0.5 * (plan.start_s + plan.stop_s) - self.zero_s
        rows, moment = np.zeros(len(nodes)), np.zeros(len(nodes))
        for chunk, of in enumerate(nodes.of):
            rows[of] += n_rows[chunk]
            moment[of] += n_rows[chunk] * middle[chunk]
        own = 0.5 * (middle[nodes.first] + middle[nodes.last])
        date = self.zero_s + np.where(rows > 0, moment / np.maximum(rows, 1.0), own)
        return date, self.at(date, nodes.telescope)


def detrended(windows: Windows, trends: ClockTrends) -> Windows:
    """Return the windows with the lines taken out of the stamps."""
    if not trends.rate.any():
        return windows

    def read() -> Iterator[StampedShowers]:
        for showers in windows():
            line = trends.at(showers.time_s[showers.shower], showers.telescope)
            yield replace(showers, delay_ns=showers.delay_ns - line)

    return read


def find_trends(fitted: ClockFit, probability: float) -> ClockTrends:
    """Find the clocks that drift.

    Parameters
    ----------
    fitted : ClockFit
        With an offset for every chunk.
    probability : float
        Chance of finding any jump in the whole history of clocks that keep time.

    Returns
    -------
    ClockTrends
        Relative to the telescopes that do not drift.
    """
    n, plan = fitted.model.offset_ns.shape[1], fitted.plan
    zero = 0.5 * float(plan.start_s[0] + plan.stop_s[-1])
    hours = (0.5 * (plan.start_s + plan.stop_s) - zero) / SECONDS_PER_HOUR
    trends = ClockTrends(np.zeros(n), zero)
    for _ in range(ROUNDS):
        steady = trends.rate == 0
        if not steady.any():
            steady[:] = True
        model = replace(fitted.model, offset_ns=fitted.model.offset_ns - trends.chunks(plan))
        past = clock_course(replace(fitted, model=model), steady)
        noise = with_excess(past, np.ones(n, np.bool_))
        rate = np.zeros(n)
        for tel in range(n):
            line = trends.rate[tel] * hours
            rate[tel] = _rate(past.offset_ns[:, tel] + line, noise[:, tel], hours, probability / n)
        if np.array_equal(rate != 0, trends.rate != 0):
            return ClockTrends(rate, zero)
        trends = ClockTrends(rate, zero)
    return trends


def _rate(value: Floats, error: Floats, hours: Floats, alpha: float) -> float:
    """Slope of a series if a line describes it better than jumps do, else 0."""
    good = np.isfinite(value) & (error > 0)
    value, error, hours = value[good], error[good], hours[good]
    n = len(value)
    if n < LEAST_CHUNKS or not np.ptp(hours) > 0:
        return 0.0
    jumps = [step.index for step in find_steps(value, error, alpha=alpha)]
    others = [step.index for step in find_steps(value, error, times=hours, alpha=alpha)]
    flat = _described(value, error, hours, jumps, line=False)
    bent = _described(value, error, hours, others, line=True)
    cost = flat.chi2 + _penalty(jumps, n), bent.chi2 + _penalty(others, n) + np.log(n)
    significant = abs(bent.slope) > MIN_DRIFT_Z * bent.error
    return bent.slope if significant and cost[1] < cost[0] else 0.0


def _penalty(cuts: list[int], n: int) -> float:
    """Cost of jumps, whose places were searched for, in units of chi-square."""
    parts = np.diff([0, *cuts, n])
    return float(3 * len(cuts) * np.log(n) + np.sum(np.log(parts / n)))


class _Description(NamedTuple):
    chi2: float
    slope: float
    error: float


def _described(
    value: Floats, error: Floats, hours: Floats, cuts: list[int], *, line: bool
) -> _Description:
    """Constants between cuts, with or without one line through all of them."""
    segment = np.searchsorted(np.array(cuts), np.arange(len(value)), side="right")
    columns = [segment == part for part in range(len(cuts) + 1)]
    design = np.stack([hours, *columns] if line else columns, axis=1) / error[:, None]
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    solution = inverse @ design.T @ (value / error)
    chi2 = float(np.sum((value / error - design @ solution) ** 2))
    return _Description(chi2, float(solution[0]), float(np.sqrt(inverse[0, 0])))
