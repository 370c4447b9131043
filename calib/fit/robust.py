"""Weights for telescope events that contradict their shower.

Starting from the shower's median, rows far from its centre count less (Huber) or not at all
(Tukey's biweight). The derivative of the score is kept beside the weights: the covariance needs
it, and with the weights alone errors would come out too small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Robust", "curvature_scale", "robust_weights"]

Robust = Literal["none", "huber", "tukey"]

#: Usual tuning constants: 95 % efficiency for Gaussian noise (Huber 1981; Beaton, Tukey 1974).
HUBER, TUKEY = 1.345, 4.685
#: The same of showers of two telescopes: 85 % efficiency.
TUKEY_OF_TWO, TWO = 3.44, 2
#: Weight of rows out of use, relative to the largest: no part in a median, but no division by 0.
TINY = 1e-12
#: Least part of the weights in the derivative of a shower's gradient that must not cancel.
MIN_CURVATURE = 0.2
#: Rounds of re-weighting inside a shower, starting from its median.
CENTRE_ROUNDS = 4


def robust_weights(
    showers: Showers, kind: Robust, z: Floats, base: Floats
) -> tuple[Floats, Floats]:
    """Robust weight of every row, and the derivative of its score."""
    if kind == "none" or not len(z):
        return np.ones(len(z)), np.ones(len(z))
    score = _SCORES[kind]
    total = showers.total(base)[showers.group]
    with np.errstate(invalid="ignore", divide="ignore"):
        # Residuals of a shower's own mean are smaller than the noise by the leverage 1 - p.
        scale = np.sqrt(np.where(base > 0, 1.0 / base - 1.0 / total, np.inf))
        scale = np.where(scale > 0, scale, np.inf)
        # Of two telescopes nobody knows which is off: between the two, what a limit that is
        # too wide lets in moves both.
        n_used = showers.total((base > 0).astype(float))[showers.group]
        stretch = np.where((kind == "tukey") & (n_used == TWO), TUKEY / TUKEY_OF_TWO, 1.0)
        centre = _centres(showers, z, np.maximum(base, TINY * base.max()))
        for _ in range(CENTRE_ROUNDS):
            weight, slope = score(stretch * (z - centre[showers.group]) / scale)
            weight, slope = np.nan_to_num(weight), np.nan_to_num(slope)
            sum_weight = showers.total(base * weight)
            update = showers.total(base * weight * z) / sum_weight
            centre = np.where(sum_weight > 0, update, centre)
    return weight, slope


def curvature_scale(showers: Showers, steep: Floats) -> Floats:
    """Inverse sum of ``d = w psi'`` (`steep`) of every group, shape (n_groups,).

    With the shower term eliminated the weight of a pair in the derivative of the gradient is
    ``d_i d_j / sum d``. A redescending score can make that sum vanish for a shower of contradicting
    telescopes, which then says nothing.
    """
    total = showers.total(steep)
    sound = np.abs(total) > MIN_CURVATURE * showers.total(np.abs(steep))
    return np.divide(1.0, total, out=np.zeros_like(total), where=sound)


def _centres(showers: Showers, z: Floats, weight: Floats) -> Floats:
    """Where re-weighting starts: the weighted median of each group, or the mean of two.

    Weighted, because the plain median of unequal telescopes lies where the precise ones do not
    expect it, and a redescending weight would then throw those away. Of two telescopes neither
    is the outlier: from their mean both get the same weight.
    """
    order = np.lexsort((z, showers.group))
    ordered, part = z[order], weight[order]
    share = part / showers.total(part)[showers.group]
    reached = np.cumsum(share) - showers.group  # every earlier group has added exactly one
    tolerance = 1e-6  # rounding of that sum over up to 1e8 groups
    low = _first_in_group(showers, reached >= 0.5 - tolerance)
    high = _first_in_group(showers, reached > 0.5 + tolerance)
    median = 0.5 * (ordered[low] + ordered[high])
    n_used = showers.total((weight > weight.max() * 2 * TINY).astype(float))
    mean = showers.total(weight * z) / showers.total(weight)
    return np.where(n_used > TWO, median, mean)


def _first_in_group(showers: Showers, flags: npt.NDArray[np.bool_]) -> Indices:
    """Row of the first raised flag of every group (its last row if there is none)."""
    rows = np.where(flags, np.arange(len(flags)), len(flags))
    ends = np.append(showers.group_start[1:], len(flags)) - 1
    return np.asarray(np.minimum(np.minimum.reduceat(rows, showers.group_start), ends))


def _huber(t: Floats) -> tuple[Floats, Floats]:
    size = np.abs(t)
    return np.where(size <= HUBER, 1.0, HUBER / size), (size <= HUBER).astype(float)


def _tukey(t: Floats) -> tuple[Floats, Floats]:
    u2 = np.minimum((t / TUKEY) ** 2, 1.0)
    return (1 - u2) ** 2, np.where(u2 < 1, (1 - u2) * (1 - 5 * u2), 0.0)


_SCORES: dict[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "huber": _huber,
    "tukey": _tukey,
}
