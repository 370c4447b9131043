"""What offsets are relative to: a reference telescope, or the mean of those that stand together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.solve import Nodes
    from arraycal.config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["Gauge", "choose_gauge"]

#: Clocks that many sigma off the middle one, by the scatter of all, are no part of the mean; the
#: scatter is taken for at least so large, ns. Clocks that are merely uneven stay: where a zero has
#: members that come and go, it jumps from night to night.
FAR_Z, LEAST_SCATTER_NS = 10.0, 5.0
#: MAD to standard deviation of a Gaussian.
MAD_SIGMA = 1.4826


@dataclass(frozen=True)
class Gauge:
    """Values are ``transform @ offsets`` of the known nodes.

    Parameters
    ----------
    transform : array, shape (n_nodes, n_nodes)
        Takes off the offset of the reference, or the mean.
    known : array of bool, shape (n_nodes,)
        Nodes with a value.
    far : dict of int to float
        Nodes whose offset (ns) is beyond belief.
    anchored : bool
        Whether there is a reference, or a mean.
    left_out : tuple of int
        Telescopes with a value that are too far off to be part of the mean.
    """

    transform: Floats
    known: Bools
    far: dict[int, float]
    anchored: bool
    left_out: tuple[int, ...] = ()

    def apply(self, offset: Floats, covariance: Floats) -> tuple[Floats, Floats]:
        """Offsets and covariance in the gauge, NaN where unknown."""
        value = self.transform @ np.where(self.known, offset, 0.0)
        turned = self.transform @ covariance @ self.transform.T
        hidden = ~self.known
        value[hidden], turned[hidden, :], turned[:, hidden] = np.nan, np.nan, np.nan
        return value, turned


def choose_gauge(
    total: Floats,
    component: Indices,
    nodes: Nodes,
    subarray: Subarray,
    options: CalculateTimingCalibrationOptions,
) -> Gauge:
    """Fix the common shift: a reference telescope, or the mean of the telescopes as they are now.

    Parameters
    ----------
    total : array, shape (n_nodes,)
        Offsets up to a constant in each component; NaN where unknown.
    component : array of int, shape (n_nodes,)
        Group of connected nodes; -1 for none.
    nodes : Nodes
        Telescopes between their jumps.
    subarray : Subarray
        The telescopes.
    options : CalculateTimingCalibrationOptions
        Reference, and the largest offset that is believed.

    Returns
    -------
    Gauge
        Nodes too far off to be believed are neither known nor part of a mean. Neither are clocks
        part of the mean that stand apart from the others: a single one that is a millisecond off
        would take the zero, and all other offsets, along.
    """
    reference = options.reference_telescope
    anchor = -1 if reference is None else subarray.index.get(reference, -1)
    newest = nodes.newest
    island = 0 if reference is None else component[newest[anchor]] if anchor >= 0 else -1
    known = (component == island) & np.isfinite(total) & (component >= 0)
    if reference is not None and (anchor < 0 or not known[newest[anchor]]):
        known[:] = False
    far = _beyond_belief(total, known, options.max_clock_offset * 1e6)
    known[list(far)] = False
    present = newest[known[newest]]
    together = _together(total[present])
    anchors = present[together] if reference is None else newest[[anchor]]
    # One telescope that is compared with itself is no measurement.
    anchored = len(present) > 1 and bool(known[anchors].all())
    if not anchored:
        known[:] = False
    weight = np.zeros(len(nodes))
    if anchored:
        weight[anchors] = 1.0 / len(anchors)
    apart = present[~together] if reference is None and anchored else present[:0]
    left_out = tuple(nodes.telescope[apart].tolist())
    return Gauge(np.eye(len(nodes)) - weight[None, :], known, far, anchored, left_out)


def _beyond_belief(total: Floats, known: Bools, limit_ns: float) -> dict[int, float]:
    """Known nodes further from the middle one than the limit, and how far."""
    if not known.any():
        return {}
    distance = total - np.median(total[known])
    beyond = np.flatnonzero(known & (np.abs(distance) > limit_ns))
    return {int(node): float(distance[node]) for node in beyond}


def _together(offset: Floats) -> Bools:
    """Which of the offsets stand together, by their median absolute deviation."""
    distance = np.abs(offset - (np.median(offset) if len(offset) else 0.0))
    scatter = MAD_SIGMA * float(np.median(distance)) if len(offset) else 0.0
    return np.asarray(distance <= FAR_Z * max(scatter, LEAST_SCATTER_NS))
