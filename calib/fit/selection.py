"""Which showers of a telescope take part: those whose expected value keeps the margin.

The selection near a threshold never looks at one telescope's own value. It uses the
inverse-variance mean of all telescopes of the shower, whose noise is uncorrelated with the
difference of any two of them whatever the energy spectrum, and keeps a telescope only where the
value *expected* from that mean clears its threshold by a margin (and, where telescopes saturate,
stays below their ceiling by as much).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.showers import IMPACT_CENTRES_M

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model, Seen
    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["clearance", "type_threshold_at"]


def clearance(showers: Showers, model: Model, seen: Seen) -> Floats:
    """Distance of every row's expected value from threshold and ceiling, whichever is nearer.

    In units of its sigma; negative below the threshold and beyond the ceiling, infinite without
    either. `seen` is the resolution of the selector, see `arraycal.calib.fit.model.resolution`.
    """
    if not len(showers.y) or not np.isfinite([*model.threshold.flat, *model.ceiling]).any():
        return np.full(len(showers.y), np.inf)
    expected = seen.mean[showers.group] + seen.offset
    threshold = type_threshold_at(showers, model) + model.threshold_offset[showers.node]
    nearer = np.minimum(expected - threshold, model.ceiling[showers.node] - expected)
    return np.asarray(nearer / np.sqrt(seen.sigma2))


def type_threshold_at(showers: Showers, model: Model) -> Floats:
    """ln(value) of the type's threshold at every row, in line between the middles of bins.

    Inside a bin it may climb by more than the resolution. A row without a distance takes the
    value of its bin.
    """
    threshold = model.threshold[showers.kind, showers.impact_bin]
    known = np.isfinite(showers.impact_m)
    for code, values in enumerate(model.threshold):
        if np.isfinite(values).all():
            rows = known & (showers.kind == code)
            threshold[rows] = np.interp(showers.impact_m[rows], IMPACT_CENTRES_M, values)
    return threshold
