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

__all__ = ["Trusted", "residual_rms_ns", "restless", "trusted_gauge"]


def residual_rms_ns(sums: ClockSums, sigma_ns: Floats) -> Floats:
    """Rms of the residuals of every telescope, shape (n,); NaN without any."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(sums.square * sigma_ns**2 / sums.expected))


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
