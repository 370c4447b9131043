"""Which telescopes the fit describes: stamps near the front, offsets that hold still and are known.

Stamps that come from no clock are fitted as willingly as others; what gives them away are their
residuals. Such telescopes get no offset, and are no part of what the others are relative to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.timing.gauge import choose_gauge

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.fit import ClockFit
    from arraycal.calib.timing.gauge import Gauge
    from arraycal.calib.timing.solve import Nodes
    from arraycal.calib.timing.sums import ClockSums
    from arraycal.config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["Strange", "Trusted", "residual_rms_ns", "restless", "strange", "trusted_gauge"]

#: Stamps below which nothing is said of a clock.
LEAST_ROWS = 100
#: Scatter relative to that of the type, from which on stamps are not those of such a clock: it
#: loses its time base, counts coarsely, or has two values. Telescopes of a type differ by 1.1.
UNUSUAL_SCATTER = 1.5
#: Part of the stamps that contradict their showers, beyond that of the type.
UNUSUAL_SHARE = 0.02
#: A type of fewer telescopes has nothing that is usual.
LEAST_SIBLINGS = 3


def residual_rms_ns(sums: ClockSums, sigma_ns: Floats) -> Floats:
    """Rms of the residuals of every telescope, shape (n,); NaN without any."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(sums.square * sigma_ns**2 / sums.expected))


class Strange(NamedTuple):
    """A clock unlike those of its type.

    Parameters
    ----------
    telescope : int
        Its index.
    what : str
        ``scatter``, ns rms around the front, or ``contradict``, part of its stamps.
    value, usual : float
        Of this telescope, and the median of the others of its type.
    """

    telescope: int
    what: str
    value: float
    usual: float


def strange(sums: ClockSums, sigma_ns: Floats, kinds: Indices) -> list[Strange]:
    """Find clocks that scatter, or contradict their showers, more than those of their type.

    Parameters
    ----------
    sums : ClockSums
        Of the last pass.
    sigma_ns : array, shape (n,)
        Fitted noise of every telescope.
    kinds : array of int, shape (n,)
        Code of the type of every telescope.

    Returns
    -------
    list of Strange
        By telescope; of types of two nobody knows which is unlike the other.
    """
    n_all, n_rows = sums.n_all.sum(axis=0), sums.n_rows.sum(axis=0)
    rms = residual_rms_ns(sums, sigma_ns)
    lost = (n_all - n_rows) / np.maximum(n_all, 1.0)
    found = []
    for tel in np.flatnonzero(n_rows >= LEAST_ROWS).tolist():
        others = (kinds == kinds[tel]) & (n_rows >= LEAST_ROWS)
        others[tel] = False
        if others.sum() < LEAST_SIBLINGS - 1:
            continue
        usual, usually_lost = float(np.median(rms[others])), float(np.median(lost[others]))
        if rms[tel] > UNUSUAL_SCATTER * usual:
            found.append(Strange(tel, "scatter", float(rms[tel]), usual))
        if lost[tel] > UNUSUAL_SHARE + 2 * usually_lost:
            found.append(Strange(tel, "contradict", float(lost[tel]), usually_lost))
    return found


def restless(fitted: ClockFit, limit_ns: float) -> Bools:
    """Telescopes whose offset still moves by more than the limit where the loop gave up."""
    n = fitted.sums.n_rows.shape[1]
    if fitted.settled:
        return np.zeros(n, np.bool_)
    step = fitted.solution.offset_ns
    known = np.isfinite(step)
    rows = np.where(known, fitted.sums.n_rows, 0.0)
    moved = np.sum(rows * np.where(known, step, 0.0), axis=0) / np.maximum(rows.sum(axis=0), 1.0)
    return np.asarray(np.abs(moved - np.median(moved)) > limit_ns)


class Trusted(NamedTuple):
    """The gauge, and nodes that are no part of it because their error (ns) is too large."""

    gauge: Gauge
    vague: dict[int, float]


def trusted_gauge(
    total: Floats,
    covariance: Floats,
    component: Indices,
    nodes: Nodes,
    subarray: Subarray,
    options: CalculateTimingCalibrationOptions,
) -> Trusted:
    """Choose the gauge among the offsets that are known to `max_error`.

    Parameters
    ----------
    total : array, shape (n_nodes,)
        Offsets up to a constant in each component; NaN where unknown.
    covariance : array, shape (n_nodes, n_nodes)
        Their covariance.
    component : array of int, shape (n_nodes,)
        Group of connected nodes; -1 for none.
    nodes, subarray, options
        As for `choose_gauge`.

    Returns
    -------
    Trusted
        One offset is left out at a time, the least certain first: its error is part of the zero
        of all others.
    """
    vague: dict[int, float] = {}
    while True:
        sure = component.copy()
        sure[list(vague)] = -1
        gauge = choose_gauge(total, sure, nodes, subarray, options)
        variance = np.nan_to_num(np.diag(gauge.apply(total, covariance)[1]))
        worst = int(np.argmax(variance))
        if not variance[worst] > options.max_error**2:
            return Trusted(gauge, vague)
        vague[worst] = float(np.sqrt(variance[worst]))
