"""Shapes in the offsets that front and walk leave if they are not what they seem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.fit.normal import solve_normal

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.normal import Normal
    from arraycal.calib.timing.residuals import FrontModel

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "CORE_FLATTENING",
    "CURVATURE_BIAS",
    "WalkShifts",
    "bowl_ns",
    "walk_ns",
    "walk_shifts",
    "without_last",
]

#: Part by which the curvature of the front may be wrong: errors of core and maximum flatten it.
CURVATURE_BIAS = 0.03
#: Errors of the cores flatten the front by 3 times what its radius differs without walk (simulated
#: nights of 13 and 55 telescopes, 10 and 20 m); two thirds lie outside of either fit. Cores of
#: 20 m flatten it by 15 %, and worse ones are none to time with.
CORE_FLATTENING, MOST_FLATTENING = 2.0, 0.15


class WalkShifts(NamedTuple):
    """Changes of every node (ns) and of ln of the front's radius if there is no walk."""

    nodes_ns: Floats
    log_scale: float


def without_last(normal: Normal, count: int) -> Normal:
    """Hold the last global columns at zero."""
    return _kept(normal, np.arange(len(normal.vector) - count), normal.vector)


def bowl_ns(normal: Normal, model: FrontModel, component: Indices) -> Floats:
    """Shift of every node when the front is held at a wrong curvature, walks free.

    The change of the right-hand side is that of the stamps by the column of the curvature; without
    that column in the fit, nothing is known of it and the shift is 0.
    """
    if "curvature" not in model.columns:
        return np.zeros(normal.n_nodes)
    place = normal.n_nodes + model.names().index("curvature")
    free = np.delete(np.arange(normal.n_nodes + len(model.names())), place)
    held = _kept(normal, free, CURVATURE_BIAS * normal.matrix[:, place])
    return np.nan_to_num(solve_normal(held, component).nodes)


def walk_shifts(normal: Normal, model: FrontModel, component: Indices) -> WalkShifts:
    """How nodes and front change without walk, curvature free; 0 without walk in the fit.

    Errors of the cores make a front too flat for near and bright images, which looks like a walk:
    fits with and without it are then equally good descriptions.
    """
    if "walk" not in model.columns:
        return WalkShifts(np.zeros(normal.n_nodes), 0.0)
    names = model.names()
    walks = normal.n_nodes + np.array([names.index(name) for name in names if "walk" in name])
    fitted = np.arange(normal.n_nodes + len(names))
    # Without the walk of the model the stamps are late by it.
    late = normal.vector + normal.matrix[:, walks] @ model.walk_ns
    without = solve_normal(_kept(normal, np.setdiff1d(fitted, walks), late), component)
    with_walk = solve_normal(_kept(normal, fitted, normal.vector), component)
    radius = without.columns - with_walk.columns[:1] if "curvature" in names else np.zeros(1)
    return WalkShifts(
        np.nan_to_num(without.nodes - with_walk.nodes), float(np.nan_to_num(radius[0]))
    )


def walk_ns(shifts: Floats, log_scale: float, bowl: Floats) -> Floats:
    """Systematic error of offsets from a walk that cannot be told from errors of the cores.

    Parameters
    ----------
    shifts : array, shape (n,)
        How the offsets change without walk.
    log_scale : float
        How ln of the front's radius does.
    bowl : array, shape (n,)
        Shifts of the offsets by `CURVATURE_BIAS`.

    Returns
    -------
    array, shape (n,)
        Of the walk, and of the radius beyond what the fit without walk gives back.
    """
    flat = min(CORE_FLATTENING * abs(log_scale), MOST_FLATTENING)
    return np.hypot(shifts, bowl * flat / CURVATURE_BIAS)


def _kept(normal: Normal, keep: Indices, vector: Floats) -> Normal:
    """Equations of some unknowns, the others held at zero, with another right-hand side."""
    block = np.ix_(keep, keep)
    matrix = normal.matrix[block]
    return replace(
        normal, matrix=matrix, curvature=matrix, meat=normal.meat[block], vector=vector[keep]
    )
