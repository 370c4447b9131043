"""Rows of a pass: which are selected, and what they weigh.

Takes showers and a `arraycal.calib.fit.model.Model`, gives `WeighedRows`, from which
`arraycal.calib.fit.sums.summary` and whatever looks at single residuals are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from arraycal.calib.fit.model import resolution
from arraycal.calib.fit.robust import curvature_scale, robust_weights
from arraycal.calib.fit.selection import clearance

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "PairsInUse",
    "RowValues",
    "RowsInUse",
    "WeighedRows",
    "log_ratios",
    "pairs_in_use",
    "restricted",
    "rows_in_use",
    "weigh",
    "weigh_kept",
]

#: Telescopes that a comparison needs.
TWO = 2


class RowValues(NamedTuple):
    """What is known of telescope rows before any is selected.

    Corrected value `z`, variance `sigma2`, bin of the value expected, and distance from threshold
    and ceiling, arrays of shape (n_rows,); `mean` of every group, shape (n_groups,).
    """

    z: Floats
    sigma2: Floats
    value_bin: Indices
    clearance: Floats
    mean: Floats


class WeighedRows(NamedTuple):
    """Telescope rows of a pass with their weights.

    Arrays of shape (n_rows,): whether `used`, `weight`, its counterpart `steep` in the derivative
    of the gradient (the same array without robust weights), `residual` about the shower's mean.
    `total` is the sum of weights of every group.
    """

    values: RowValues
    used: npt.NDArray[np.bool_]
    weight: Floats
    steep: Floats
    residual: Floats
    total: Floats
    n_below_margin: int

    @property
    def z(self) -> Floats:
        """Corrected values."""
        return self.values.z

    @property
    def sigma2(self) -> Floats:
        """Variances."""
        return self.values.sigma2


class PairsInUse(NamedTuple):
    """Pair rows in use: their telescope rows, weight, and share in the gradient's derivative."""

    first: Indices
    second: Indices
    weight: Floats
    curvature: Floats


def weigh(showers: Showers, model: Model) -> WeighedRows:
    """Select rows and give them their weights."""
    # Of the selector, so that what is held is held: bins would follow every step of the solution.
    seen = resolution(showers, model.selector)
    distance = clearance(showers, model, seen)
    # Offsets are a tenth of a pass; the selector is the same until the selection is held.
    offset = seen.offset if model.now is model.selector else model.now.offset(showers)
    values = RowValues(showers.y - offset, seen.sigma2, seen.value_bin, distance, seen.mean)
    return weigh_kept(showers, model, values, distance > model.margin)


def weigh_kept(
    showers: Showers, model: Model, values: RowValues, keep: npt.NDArray[np.bool_]
) -> WeighedRows:
    """Give the kept rows their weights."""
    z, sigma2 = values.z, values.sigma2
    used = _in_company(showers, keep)
    base = np.where(used, 1.0 / sigma2, 0.0)
    robust, slope = robust_weights(showers, model.robust, z, base)
    weight = base * robust
    total = showers.total(weight)
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    mean = showers.total(weight * z) * inverse
    return WeighedRows(
        values=values,
        used=used,
        weight=weight,
        steep=weight if model.robust == "none" else base * slope,
        residual=np.where(used, z - mean[showers.group], 0.0),
        total=total,
        n_below_margin=int(len(keep) - keep.sum()),
    )


def restricted(rows: WeighedRows, keep: npt.NDArray[np.bool_]) -> WeighedRows:
    """Keep some of the rows, whole groups of them."""
    weight, used = np.where(keep, rows.weight, 0.0), rows.used & keep
    plain = rows.steep is rows.weight
    return rows._replace(
        used=used,
        weight=weight,
        steep=weight if plain else np.where(keep, rows.steep, 0.0),
        residual=np.where(keep, rows.residual, 0.0),
    )


def _in_company(showers: Showers, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Kept rows that compare with another kept one."""
    if showers.complete:
        return keep & (showers.total(keep.astype(float))[showers.group] >= TWO)
    both = keep[showers.first] & keep[showers.second]
    used = np.zeros(len(keep), np.bool_)
    used[showers.first[both]] = used[showers.second[both]] = True
    return used


class RowsInUse(NamedTuple):
    """Rows in use alone: their places among all, telescopes, and where each group begins.

    `group_start` has shape (n_groups + 1,), `group` is the group of each row.
    """

    place: Indices
    node: Indices
    group: Indices
    group_start: Indices

    def matrix(self, values: Floats, n_nodes: int) -> sparse.csr_array:
        """Values of the rows by group and telescope."""
        shape = (len(self.group_start) - 1, n_nodes)
        return sparse.csr_array((values, self.node, self.group_start), shape=shape)


def rows_in_use(showers: Showers, rows: WeighedRows) -> RowsInUse:
    """Leave the other rows out, which may be most of them."""
    place = np.flatnonzero(rows.used)
    up_to = np.append(0, np.cumsum(rows.used))
    start = up_to[np.append(showers.group_start, len(rows.used))]
    return RowsInUse(place, showers.node[place], showers.group[place], start)


def pairs_in_use(showers: Showers, rows: WeighedRows) -> PairsInUse:
    """Weigh the pairs of rows in use: ``w_i w_j / W``."""
    both = rows.used[showers.first] & rows.used[showers.second]
    first, second = showers.first[both], showers.second[both]
    inverse = np.divide(1.0, rows.total, out=np.zeros_like(rows.total), where=rows.total > 0)
    weight = rows.weight[first] * rows.weight[second] * inverse[showers.group[first]]
    if rows.steep is rows.weight:
        return PairsInUse(first, second, weight, weight)
    steep = rows.steep
    scale = curvature_scale(showers, steep)[showers.group[first]]
    return PairsInUse(first, second, weight, steep[first] * steep[second] * scale)


def log_ratios(showers: Showers, model: Model, rows: WeighedRows, pairs: PairsInUse) -> Floats:
    """ln(v1 / v2) of the pair rows, less what curves say of it: its mean is ``s_1 - s_2``."""
    first, second = pairs.first, pairs.second
    if not len(model.now.curve):
        return np.asarray(showers.y[first] - showers.y[second])
    s = model.now.log_throughput[showers.node]
    # z has curves and throughput taken off; the latter comes back.
    return np.asarray(rows.z[first] - rows.z[second] + s[first] - s[second])
