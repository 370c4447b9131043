"""Stamps against a model: predictions, weights, and stamps that are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.fit.showers import tally
from arraycal.calib.stamps.front import C_M_PER_NS

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.timing.showers import StampedShowers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["FrontModel", "Residuals", "clip", "stamp_residuals"]

#: A shower with more wrong stamps than this is left to its fate.
CLIP_ROUNDS = 12
#: A residual whose variance is less than this part of the stamp's is the mean itself.
ALONE = 1e-9
#: Stamps without which a shower compares nothing.
FEWEST = 2


@dataclass(frozen=True)
class FrontModel:
    """Everything the stamps are predicted and weighted with.

    Parameters
    ----------
    offset_ns : array, shape (n_chunks, n_telescopes)
        Offset of every telescope in every chunk; NaN where unknown.
    log_scale : float
        ln of the scale of the front's radius.
    walk_ns : array, shape (n_types,)
        Delay of an image of ``WALK_SIZE``, by type.
    sigma_ns : array, shape (n_telescopes,)
        Noise of a stamp.
    clip : float
        Stamps further off than this many sigma are left out.
    columns : tuple of str
        Global columns to fit: ``curvature``, ``walk``, and for the guards ``towards_x`` and
        ``towards_y``.
    """

    offset_ns: Floats
    log_scale: float
    walk_ns: Floats
    sigma_ns: Floats
    clip: float
    columns: tuple[str, ...]

    def names(self) -> tuple[str, ...]:
        """Name of each global column; the walk has one for each type."""
        walks = tuple(f"walk_{kind}" for kind in range(len(self.walk_ns)))
        return tuple(n for c in self.columns for n in (walks if c == "walk" else (c,)))


class Residuals(NamedTuple):
    """Stamps against the model.

    Parameters
    ----------
    value : array, shape (n_rows,)
        Stamp minus prediction and offset, less the weighted mean of the shower, ns.
    weight : array, shape (n_rows,)
        1/sigma^2; 0 for stamps that are left out.
    total : array, shape (n_showers,)
        Sum of the weights.
    share : array, shape (n_rows,)
        Weight over that sum; 0 for stamps that are left out.
    column : array, shape (n_columns, n_rows)
        Global columns, less their weighted mean in the shower.
    excess : array, shape (n_columns, n_showers)
        What errors of the core add to the weighted sum of squares of each column.
    pull : array, shape (n_columns, n_showers)
        What they add to its weighted products with the residuals.
    """

    value: Floats
    weight: Floats
    total: Floats
    share: Floats
    column: Floats
    excess: Floats
    pull: Floats


def stamp_residuals(showers: StampedShowers, chunk: Indices, model: FrontModel) -> Residuals:
    """Compare a window with the model, and leave out what does not fit.

    Parameters
    ----------
    showers : StampedShowers
        The window.
    chunk : array of int, shape (n_showers,)
        Chunk of each shower.
    model : FrontModel
        The model.

    Returns
    -------
    Residuals
        One per row.
    """
    time, slope = showers.predict(model.log_scale)
    rest = showers.delay_ns - time
    rest -= model.walk_ns.take(showers.kind) * showers.brightness
    # Flat indices: as fast as one coordinate, where two take twice the time.
    cell = showers.spread(chunk * model.offset_ns.shape[1]) + showers.telescope
    rest -= model.offset_ns.ravel().take(cell)
    weight = (1.0 / model.sigma_ns**2).take(showers.telescope)
    unknown = np.flatnonzero(np.isnan(rest))
    weight[unknown], rest[unknown] = 0.0, 0.0
    weight = clip(showers, rest, weight, model.clip)
    total = showers.total(weight)
    share = weight * showers.spread(_inverse(total))
    column = _columns(showers, slope, model)
    for values in (rest, *column):
        np.subtract(values, showers.spread(showers.total(share * values)), out=values)
    excess, pull = _core_noise(showers, weight, share, model)
    return Residuals(rest, weight, total, share, column, excess, pull)


def _core_noise(
    showers: StampedShowers, weight: Floats, share: Floats, model: FrontModel
) -> tuple[Floats, Floats]:
    """What errors of the cores add to squares and gradients of the columns, by shower.

    Notes
    -----
    An error e of the core moves the prediction by ``u = dt/dk e`` and the column of the curvature
    by ``v = ds/dk e``, both less their mean in the shower. Its square then has ``E[w v^2]`` too
    much, and the gradient ``-E[w v u]``: the front looks flatter than it is, and the walk takes up
    what that leaves. The solution without these terms is consistent whatever the distribution of
    true cores is (corrected scores; Carroll et al. 2006, Measurement Error in Nonlinear Models,
    ch. 7). Terms of second order in e are common to the shower.
    """
    excess, pull = np.zeros((2, len(model.names()), len(showers)))
    if "curvature" not in model.columns or not showers.core_error_m.any():
        return excess, pull
    place = model.names().index("curvature")
    variance = showers.core_error_m.T**2
    for axis, (time, slope) in enumerate(zip(*showers.core_slopes(model.log_scale), strict=True)):
        for values in (time, slope):
            np.subtract(values, showers.spread(showers.total(share * values)), out=values)
        excess[place] += variance[axis] * showers.total(weight * slope**2)
        pull[place] -= variance[axis] * showers.total(weight * slope * time)
    return excess, pull


def _inverse(total: Floats) -> Floats:
    """1 / total; 0 for 0."""
    return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)


def _columns(showers: StampedShowers, slope: Floats, model: FrontModel) -> Floats:
    """Global columns, shape (n_columns, n_rows)."""
    columns = np.empty((len(model.names()), len(slope)))
    for column, name in zip(columns, model.names(), strict=True):
        if name == "curvature":
            column[:] = slope
        elif name.startswith("walk_"):
            own = showers.kind == int(name.removeprefix("walk_"))
            np.multiply(showers.brightness, own, out=column)
        else:
            axis = "xy".index(name[-1])
            off = showers.spread(np.nan_to_num(showers.offset[:, axis]) / C_M_PER_NS)
            np.multiply(off, showers.position_m[:, axis].take(showers.telescope), out=column)
    return columns


def clip(showers: StampedShowers, rest: Floats, weight: Floats, limit: float) -> Floats:
    """Set the weight of outlying stamps to zero.

    Parameters
    ----------
    showers : StampedShowers
        The window.
    rest : array, shape (n_rows,)
        Stamps less prediction and offset, ns.
    weight : array, shape (n_rows,)
        1/sigma^2.
    limit : float
        Largest residual in units of its expected size.

    Returns
    -------
    array, shape (n_rows,)
        The weights. A shower with fewer than two stamps left loses them all.

    Notes
    -----
    One wrong stamp pulls the mean of its shower and makes the right ones look wrong. So only the
    worst stamp of a shower is left out at a time, and the rest judged again. Only showers with a
    wrong stamp are looked at more than once.
    """
    weight = weight.copy()
    worst, bad = _worst(rest, weight, showers.shower, len(showers), limit)
    weight[worst] = 0.0
    rows, group = np.arange(len(rest)), showers.shower
    for _ in range(CLIP_ROUNDS - 1):
        if not len(bad):
            break
        again = np.zeros(int(group[-1]) + 1, np.bool_)
        again[bad] = True
        keep = np.flatnonzero(again.take(group))
        rows, group = rows.take(keep), (np.cumsum(again) - 1).take(group.take(keep))
        worst, bad = _worst(rest[rows], weight[rows], group, len(bad), limit)
        weight[rows[worst]] = 0.0
    left_out = showers.shower.take(np.flatnonzero(weight == 0))
    few = showers.count - np.bincount(left_out, minlength=len(showers)) < FEWEST
    if few.any():
        weight[few[showers.shower]] = 0.0
    return weight


def _worst(
    rest: Floats, weight: Floats, group: Indices, n_groups: int, limit: float
) -> tuple[Indices, Indices]:
    """Worst row of every group that has one beyond the limit, and those groups."""
    inverse = _inverse(tally(group, weight, n_groups))
    mean = tally(group, weight * rest, n_groups) * inverse
    # Variance of a residual: 1/w - 1/W. Without weight, or alone, it is nothing to judge.
    spread = 1.0 - weight * inverse.take(group)
    square = weight * (rest - mean.take(group)) ** 2
    beyond = np.flatnonzero(square > limit**2 * spread)
    beyond = beyond[spread[beyond] > ALONE]
    excess = square[beyond] / spread[beyond]
    order = beyond[np.lexsort((-excess, group[beyond]))]
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    return order[first], group[order[first]]
