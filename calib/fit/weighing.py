"""Rows of a pass: which are selected, and what they weigh.

Takes showers and a `arraycal.calib.fit.model.Model`, gives `WeighedRows`, from which
`arraycal.calib.fit.summary` and whatever looks at single residuals are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.fit.model import corrected, resolution, upper_half
from arraycal.calib.fit.robust import curvature, robust_weights
from arraycal.calib.fit.selection import within_margin

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model, Split
    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["WeighedRows", "log_ratios", "weigh", "weigh_kept"]


class WeighedRows(NamedTuple):
    """Rows of a pass with their weights.

    Telescope rows: corrected value `z`, variance `sigma2`, bin of the shower's value, whether
    `used`, `weight` and `residual` about the shower's mean. Pair rows in use: the telescope rows
    `first` and `second`, their weight, and its share in the derivative of the gradient.
    """

    z: Floats
    sigma2: Floats
    value_bin: Indices
    used: npt.NDArray[np.bool_]
    weight: Floats
    residual: Floats
    first: Indices
    second: Indices
    pair_weight: Floats
    pair_curvature: Floats
    n_below_margin: int


def weigh(showers: Showers, model: Model, split: Split | None) -> WeighedRows:
    """Select rows and give them their weights."""
    z = corrected(showers, model.now)
    # Of the selector, so that what is held is held: bins would follow every step of the solution.
    sigma2, _, value_bin = resolution(showers, model.selector)
    keep = within_margin(showers, model)
    n_below_margin = int(len(keep) - keep.sum())
    if split is not None:
        keep = keep & upper_half(showers, model, split)[showers.group]
    return weigh_kept(showers, model, (z, sigma2, value_bin), keep, n_below_margin)


def weigh_kept(
    showers: Showers,
    model: Model,
    values: tuple[Floats, Floats, Indices],
    keep: npt.NDArray[np.bool_],
    n_below_margin: int = 0,
) -> WeighedRows:
    """Give the kept rows their weights; `values` are the first three fields of `WeighedRows`."""
    z, sigma2, value_bin = values
    both = keep[showers.first] & keep[showers.second]
    first, second = showers.first[both], showers.second[both]
    used = np.zeros(len(z), np.bool_)
    used[first] = used[second] = True
    base = np.where(used, 1.0 / sigma2, 0.0)
    robust, slope = robust_weights(showers, model.robust, z, base)
    weight = base * robust
    total = showers.total(weight)
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    mean = showers.total(weight * z) * inverse
    pair_weight = weight[first] * weight[second] * inverse[showers.group[first]]
    return WeighedRows(
        z=z,
        sigma2=sigma2,
        value_bin=value_bin,
        used=used,
        weight=weight,
        residual=np.where(used, z - mean[showers.group], 0.0),
        first=first,
        second=second,
        pair_weight=pair_weight,
        pair_curvature=pair_weight
        if model.robust == "none"
        else curvature(showers, base * slope, (first, second)),
        n_below_margin=n_below_margin,
    )


def log_ratios(showers: Showers, model: Model, rows: WeighedRows) -> Floats:
    """ln(v1 / v2) of the pair rows, less what curves say of it: its mean is ``s_1 - s_2``."""
    first, second = rows.first, rows.second
    if not len(model.now.curve):
        return np.asarray(showers.y[first] - showers.y[second])
    s = model.now.log_throughput[showers.node]
    # z has curves and throughput taken off; the latter comes back.
    return np.asarray(rows.z[first] - rows.z[second] + s[first] - s[second])
