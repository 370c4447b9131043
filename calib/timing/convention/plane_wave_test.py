"""Contradictions: stamps that are not what they are taken for.

All showers of one pointing share nearly the same plane wave. A wrong convention (stamps from
which the plane wave of the pointing was subtracted, taken as they are, or the reverse) therefore
leaves no trace in the residuals: it hides in the offsets, as ``n_p . r / c``. Three guards:

1. offsets of one pointing, and of each of its blocks, against ``n_p . r / c``: a slope of +-1, or
   of a part of it where stamps of both conventions are mixed;
2. offsets of two pointings: their difference against ``(n_p - n_q) . r / c``, and any other tilt;
3. residuals against the direction of the shower relative to the pointing: with one axis of the
   positions (or of the directions) mirrored the coefficient is 2. With right axes it is 0, and up
   to 1 when the spread of the directions is mostly their error.

The slopes are those of most telescopes: a clock far off neither hides the plane wave nor makes one.
Where clocks scatter so much that a slope tells nothing, `Checks.unchecked` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.errors import CannotCompute
from arraycal.calib.fit.network import components
from arraycal.calib.fit.normal import solve_normal
from arraycal.calib.stamps.front import C_M_PER_NS, separation_deg
from arraycal.calib.timing.convention.slopes import MIN_TELESCOPES, PointingSlope, fit_slope
from arraycal.calib.timing.solve import constant_nodes, pooled
from arraycal.calib.timing.trust import residual_rms_ns

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.fit import ClockFit

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "Checks",
    "PointingOffsets",
    "block_solutions",
    "check_convention",
    "pointing_solutions",
    "refuse_mirrored",
]

#: Pointings closer than this are one pointing, deg.
SAME_POINTING_DEG = 0.1
#: A clock whose offset changes by more from chunk to chunk has more than one, ns.
LEAP_NS = 50.0
#: Tilts between pointings that no bias of the pointing explains, and how sure one must be.
MAX_TILT_DEG, MIN_TILT_Z = 0.5, 5.0
#: Coefficient between mirrored axes (2) and directions that are all error (1), and its certainty.
MIRRORED, MIN_MIRRORED_Z = 1.4, 5.0


@dataclass(frozen=True)
class PointingOffsets:
    """Offsets from the data of one pointing alone.

    Parameters
    ----------
    towards : array, shape (3,)
        Its unit vector.
    offset_ns : array, shape (n,)
        Offsets up to a constant; NaN without data.
    error_ns : array, shape (n,)
        Their errors.
    n_showers : float
        Showers.
    obs_ids : tuple of int
        Their blocks.
    """

    towards: Floats
    offset_ns: Floats
    error_ns: Floats
    n_showers: float
    obs_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Checks:
    """What the guards found.

    Parameters
    ----------
    slope, slope_error : float
        Of the offsets against the plane wave of the pointing; NaN if it cannot be told.
    tilt_deg, tilt_error_deg : float
        Largest tilt between the solutions of two pointings; NaN with one pointing.
    n_pointings : int
        Pointings that differ.
    unchecked : str
        Why the convention of the stamps could not be checked; empty if it was.
    n_tested : int
        Telescopes with an offset to check it with.
    """

    slope: float
    slope_error: float
    tilt_deg: float
    tilt_error_deg: float
    n_pointings: int
    unchecked: str = ""
    n_tested: int = 0


def pointing_solutions(fitted: ClockFit, max_rms_ns: float = np.inf) -> list[PointingOffsets]:
    """Solve every pointing on its own, front and walk held.

    Parameters
    ----------
    fitted : ClockFit
        Where the loop ended.
    max_rms_ns : float
        Telescopes whose stamps scatter more around the front have no offset.

    Returns
    -------
    list of PointingOffsets
        In order of time.
    """
    return _solutions(fitted, _pointings(fitted), max_rms_ns)


def block_solutions(fitted: ClockFit, max_rms_ns: float = np.inf) -> list[PointingOffsets]:
    """Solve every block of a pointing that has several; see `pointing_solutions`.

    Blocks of both conventions together would leave a part of the plane wave in each offset.
    """
    blocks = fitted.plan.obs_id
    groups = [
        own & (blocks == block)
        for own in _pointings(fitted)
        if len(found := np.unique(blocks[own])) > 1
        for block in found
    ]
    return _solutions(fitted, groups, max_rms_ns)


def _pointings(fitted: ClockFit) -> list[Bools]:
    """Chunks of each pointing, in order of time."""
    pointing, groups = fitted.plan.pointing, []
    left = np.isfinite(pointing).all(axis=1)
    while left.any():
        aim = pointing[np.flatnonzero(left)[0]]
        groups.append(left & (separation_deg(pointing, aim) < SAME_POINTING_DEG))
        left &= ~groups[-1]
    return groups


def _solutions(fitted: ClockFit, groups: list[Bools], max_rms_ns: float) -> list[PointingOffsets]:
    """Offsets of each group of chunks."""
    noisy = residual_rms_ns(fitted.sums, fitted.model.sigma_ns) > max_rms_ns
    plan, offset = fitted.plan, fitted.model.offset_ns
    nodes = constant_nodes(len(plan), offset.shape[1], _leaps(offset))
    result: list[PointingOffsets] = []
    for own in groups:
        normal, start = pooled(fitted.sums, offset, nodes, own, columns=False)
        rows = np.zeros(len(nodes))
        np.add.at(rows, nodes.of[own], fitted.sums.n_rows[own])
        # Only what is tied together compares: one stray telescope must not cost the others.
        tied = components((normal.matrix != 0).astype(float), rows, min_common=1, min_events=1)
        solution = solve_normal(normal, np.where(tied == 0, 0, -1))
        # Rounding may leave less than nothing where stamps are as many as parameters.
        error = np.sqrt(np.maximum(np.diag(solution.covariance), 0.0))
        # Of a clock that leaps, the time with most stamps.
        best = nodes.of[np.argmax(rows[nodes.of], axis=0), np.arange(offset.shape[1])]
        values = np.where(noisy, np.nan, (start + solution.nodes)[best])
        aim = plan.pointing[np.flatnonzero(own)[0]]
        ids = tuple(np.unique(plan.obs_id[own]).tolist())
        result.append(PointingOffsets(aim, values, error[best], normal.n_clusters, ids))
    return result


def _leaps(offset_ns: Floats) -> dict[int, list[int]]:
    """First chunks behind leaps, by telescope: one offset for both sides would drag others along.

    Jumps are searched for later, and only in stamps whose convention is right.
    """
    step = np.diff(offset_ns, axis=0)
    # The part that is common to a chunk means nothing.
    known = [row[np.isfinite(row)] for row in step]
    common = np.array([np.median(row) if len(row) else 0.0 for row in known])
    far = np.abs(step - common[:, None]) > LEAP_NS
    found = np.flatnonzero(far.any(axis=0)).tolist()
    return {tel: (np.flatnonzero(far[:, tel]) + 1).tolist() for tel in found}


def check_convention(
    solutions: list[PointingOffsets],
    subarray: Subarray,
    *,
    compensated: bool,
    path: str = "",
    blocks: list[PointingOffsets] | None = None,
) -> Checks:
    """Apply the guards on offsets.

    Parameters
    ----------
    solutions : list of PointingOffsets
        From `pointing_solutions`.
    subarray : Subarray
        The telescopes.
    compensated : bool
        What the stamps were taken for.
    blocks : list of PointingOffsets, optional
        From `block_solutions`.
    path : str
        Beginning of the message.

    Returns
    -------
    Checks
        The numbers.

    Raises
    ------
    CannotCompute
        If the stamps contradict the convention or the axes.
    """
    positions = np.asarray(subarray.positions_m)
    for one in blocks or []:
        _slope(one, subarray, compensated, f"{path}the offsets of block {one.obs_ids[0]}")
    slope = PointingSlope()
    tilt, tilt_error = np.nan, np.nan
    excluded = False
    for number, one in enumerate(solutions):
        found = _slope(one, subarray, compensated, f"{path}the offsets")
        excluded |= found.excludes_wave
        if not found.error >= slope.error:
            slope = found
        for other in solutions[:number]:
            difference = _difference_slope(one, other, positions, compensated, path)
            excluded |= difference.excludes_wave
            tilted = _compare(one, other, positions, path)
            if not tilted[0] <= tilt:
                tilt, tilt_error = tilted
    counts = [int(np.count_nonzero(np.isfinite(one.offset_ns))) for one in solutions]
    tested = max(counts, default=0)
    unchecked = "" if excluded else _unchecked(solutions, slope, tested)
    return Checks(slope.value, slope.error, tilt, tilt_error, len(solutions), unchecked, tested)


def _slope(
    one: PointingOffsets,
    subarray: Subarray,
    compensated: bool,  # noqa: FBT001  private
    what: str,
) -> PointingSlope:
    """Slope of offsets against the plane wave of their pointing; raise if that is in them."""
    wave = np.asarray(subarray.positions_m) @ one.towards / C_M_PER_NS
    found = fit_slope(one.offset_ns, wave, subarray.type_codes)
    _refuse_plane_wave(found, wave, one.offset_ns, compensated, what)
    if found.is_part:
        raise CannotCompute(
            f"{what} follow a part of the plane wave of the pointing, with a slope of "
            f"{found.value:+.3f} +- {found.error:.3f} (0 expected, +-1 if time_convention is "
            "wrong): stamps of both conventions are mixed, or positions and pointing are not "
            "those of the stamps. Check them, and calibrate raw and pointing_compensated files "
            "apart."
        )
    return found


def _unchecked(solutions: list[PointingOffsets], slope: PointingSlope, tested: int) -> str:
    if not solutions:
        return "the pointing is not known"
    if np.isfinite(slope.value):
        wrong, right = slope.from_wave / slope.error, abs(slope.value) / slope.error
        return (
            f"the offsets have a slope of {slope.value:+.2f} +- {slope.error:.2f} against the "
            f"plane wave of the pointing; +-1 (wrong) is {wrong:.1f} "
            f"errors away, too few to exclude it, and 0 (right) is {right:.1f} errors away; a "
            "second pointing decides"
        )
    return f"{tested} telescopes are too few to tell a plane wave from offsets"


def _refuse_plane_wave(
    found: PointingSlope,
    wave: Floats,
    offset: Floats,
    compensated: bool,  # noqa: FBT001  private
    what: str,
) -> None:
    if not found.is_wave:
        return
    used, other = (
        ("pointing_compensated", "raw") if compensated else ("raw", "pointing_compensated")
    )
    known = np.isfinite(offset)
    raise CannotCompute(
        f"{what} follow the plane wave of the pointing, with a slope of {found.value:+.3f} +- "
        f"{found.error:.3f} over {np.std(wave[known]):.1f} ns rms (0 expected): the stamps are not "
        f"'{used}'. Set CalculateTimingCalibration.time_convention={other}, or check positions and "
        "pointing."
    )


def _difference_slope(
    one: PointingOffsets,
    other: PointingOffsets,
    positions: Floats,
    compensated: bool,  # noqa: FBT001  private
    path: str,
) -> PointingSlope:
    """Slope of the differences against those of the plane waves; raise if it is theirs."""
    difference = one.offset_ns - other.offset_ns
    wave = positions @ (one.towards - other.towards) / C_M_PER_NS
    found = fit_slope(difference, wave, np.zeros(len(wave), np.intp))
    what = _differences(one, other, path)
    _refuse_plane_wave(found, wave, difference, compensated, what)
    return found


def _differences(one: PointingOffsets, other: PointingOffsets, path: str) -> str:
    angle = float(separation_deg(one.towards, other.towards))
    return f"{path}the differences between offsets of two pointings {angle:.1f} deg apart"


def _compare(
    one: PointingOffsets, other: PointingOffsets, positions: Floats, path: str
) -> tuple[float, float]:
    """Tilt between two pointings in degrees, and its error; raise if it is a contradiction."""
    difference = one.offset_ns - other.offset_ns
    known = np.isfinite(difference)
    if np.count_nonzero(known) < MIN_TELESCOPES:
        return np.nan, np.nan
    turn = one.towards - other.towards
    what = _differences(one, other, path)
    design = np.column_stack([positions[known, :2] / C_M_PER_NS, np.ones(known.sum())])
    weight = 1.0 / np.hypot(one.error_ns[known], other.error_ns[known])
    weighted = design * weight[:, None]
    gradient, _, rank, _ = np.linalg.lstsq(weighted, difference[known] * weight, rcond=None)
    if rank < design.shape[1]:
        return np.nan, np.nan
    rest = difference[known] - design @ gradient
    noise = max(1.0, float(np.sum((rest * weight) ** 2)) / max(len(rest) - 3, 1))
    variance = noise * np.linalg.inv(weighted.T @ weighted)
    tilt = float(np.degrees(np.hypot(*gradient[:2])))
    error = float(np.degrees(np.sqrt(np.trace(variance[:2, :2]))))
    if tilt > MAX_TILT_DEG and tilt > MIN_TILT_Z * error:
        mirrored = [
            f"{name} mirrored would give ({2 * turn[axis] if axis == 0 else 0:+.4f}, "
            f"{2 * turn[axis] if axis == 1 else 0:+.4f})"
            for axis, name in enumerate(("x", "y"))
        ]
        raise CannotCompute(
            f"{what} tilt by {tilt:.2f} +- {error:.2f} deg, rms "
            f"{np.std(difference[known]):.1f} ns, gradient ({gradient[0]:+.4f}, "
            f"{gradient[1]:+.4f}); {' and '.join(mirrored)}. "
            "No bias of the pointing is that large: check the axes of the positions "
            "(x north, y west), the azimuth (from north through east) and "
            "CalculateTimingCalibration.time_convention."
        )
    return tilt, error


def refuse_mirrored(coefficient: Floats, error: Floats, spread_deg: Floats, path: str = "") -> None:
    """Apply the guard on residuals.

    Parameters
    ----------
    coefficient, error : array, shape (2,)
        Fitted coefficients of the columns ``(n - n_p)_x x / c`` and the same of y.
    spread_deg : array, shape (2,)
        Scatter of the shower directions along both axes.
    path : str
        Beginning of the message.

    Raises
    ------
    CannotCompute
        If one axis is mirrored.
    """
    for axis, name in enumerate(("x (north)", "y (west)")):
        value, sigma = float(coefficient[axis]), float(error[axis])
        if value > MIRRORED and (value - 1) > MIN_MIRRORED_Z * sigma:
            raise CannotCompute(
                f"{path}the arrival times follow the shower directions the wrong way along "
                f"{name}: coefficient {value:.2f} +- {sigma:.2f}, 0 expected and 2 if that "
                f"axis is mirrored (spread of the directions {spread_deg[axis]:.2f} deg). "
                "Check the axes of the positions (x north, y west, z up) and the azimuth "
                "(from north through east)."
            )
