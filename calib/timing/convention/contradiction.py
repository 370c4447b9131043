"""Stamps that contradict the model as a whole: no telescope gets an offset from them.

A least-squares solution that may leave stamps out always finds some that agree. Stamps of other
showers (reversed, shuffled, shifted by rows) leave two traces: many are left out in *most*
telescopes, which no single clock does, and the front they draw is not that of a shower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.timing.convention.slopes import MIN_TELESCOPES

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.timing.convention.plane_wave_test import Checks
    from arraycal.calib.timing.fit import ClockFit
    from arraycal.calib.timing.solve import Nodes
    from arraycal.calib.timing.sums import ClockSums
    from arraycal.config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]

__all__ = [
    "contradictions_of",
    "foreign_blocks",
    "foreign_reason",
    "mostly_clipped",
    "restless_array",
    "untested_convention",
]

#: A telescope with a larger part of its stamps left out is described by the minority of them.
MOST = 0.5
#: Part of the stamps of the middle telescope that may be left out. With a quarter of all stamps
#: wrong one shower of three stamps in six has two of them (3 p^2 (1-p) + p^3), and nobody can tell
#: which is right. Nights with 5 % of wrong stamps lose 5 %, with 20 % 21 %, with one clock that
#: leaps none in the middle telescope; reversed blocks lose 37 to 64 %, shuffled ones 99 %.
MANY = 0.25
#: Part of a block's showers that may lie in chunks like that: all clocks that jump at once spoil
#: one chunk.
PART = 0.25
#: Radius of the front over the distance to the shower maximum: what showers show (1.2 to 1.8 in
#: simulations, up to 1.4 where 1.3 is true with errors of cores and maxima; 1.2 to 1.7 in toys of
#: 30 showers), and what is not believed at all.
USUAL, BELIEVED = (1.0, 2.0), (0.25, 4.0)
#: How far the curvature must be from that of showers, in its errors.
MIN_Z = 5.0
#: As many blocks are named.
NAMED = 3


def mostly_clipped(sums: ClockSums, nodes: Nodes) -> dict[int, tuple[int, int]]:
    """Nodes most of whose stamps contradict their showers.

    Parameters
    ----------
    sums : ClockSums
        By chunk.
    nodes : Nodes
        Telescopes between their jumps.

    Returns
    -------
    dict of int to (int, int)
        Stamps left out, and all.
    """
    used, stamps = np.zeros(len(nodes)), np.zeros(len(nodes))
    for chunk, of in enumerate(nodes.of):
        used[of] += sums.n_rows[chunk]
        stamps[of] += sums.n_all[chunk]
    lost = stamps - used
    most = np.flatnonzero(lost > MOST * stamps)
    return {int(node): (int(lost[node]), int(stamps[node])) for node in most}


def _clipped(used: Floats, stamps: Floats) -> float:
    """Part of its stamps that the middle telescope loses; shapes (n,)."""
    some = stamps > 0
    return float(np.median(1.0 - used[some] / stamps[some])) if some.any() else 0.0


def foreign_blocks(fitted: ClockFit) -> dict[int, float]:
    """Blocks whose stamps are not those of their showers.

    Parameters
    ----------
    fitted : ClockFit
        Where the loop ended. Every chunk has offsets of its own there, so that clocks that jump
        between chunks, and other blocks, cost a chunk no stamps.

    Returns
    -------
    dict of int to float
        By observation, the part of the stamps that the middle telescope loses in the chunks that
        contradict.
    """
    sums, plan = fitted.sums, fitted.plan
    bad = np.array(
        [_clipped(*both) > MANY for both in zip(sums.n_rows, sums.n_all, strict=True)], np.bool_
    )
    size = np.diff(plan.edges)
    found = {}
    for obs_id in np.unique(plan.obs_id).tolist():
        own = plan.obs_id == obs_id
        if size[own & bad].sum() > PART * size[own].sum():
            chunks = own & bad
            found[obs_id] = _clipped(
                sums.n_rows[chunks].sum(axis=0), sums.n_all[chunks].sum(axis=0)
            )
    return found


def contradictions_of(fitted: ClockFit, start_scale: float) -> tuple[str, ...]:
    """Why no offset of this solution is believed.

    Parameters
    ----------
    fitted : ClockFit
        Where the loop ended.
    start_scale : float
        Scale of the front's radius at which it began. One that is still there was not fitted.

    Returns
    -------
    tuple of str
        Sentences for the verdict; none if showers and clocks explain the stamps.
    """
    return _of_blocks(foreign_blocks(fitted)) + _of_front(fitted, start_scale)


def _of_blocks(foreign: dict[int, float]) -> tuple[str, ...]:
    """Sentence on blocks whose stamps are not those of their showers; nothing without any."""
    if not foreign:
        return ()
    named = [f"{share:.0%} in block {obs_id}" for obs_id, share in foreign.items()]
    more = [f"likewise in {len(named) - NAMED} more"] if len(named) > NAMED else []
    return (foreign_reason(", ".join(named[:NAMED] + more)),)


def foreign_reason(lost: str) -> str:
    """Say what is wrong with stamps of other showers.

    Parameters
    ----------
    lost : str
        How many of them the middle telescope loses, and where.
    """
    return (
        f"stamps are not those of their showers: the middle telescope loses, as outliers, {lost} "
        f"(at most {MANY:.0%} expected); check that the rows of the trigger table belong to their "
        "showers and telescopes (sorted, shifted or merged wrongly?)"
    )


def _of_front(fitted: ClockFit, start_scale: float) -> tuple[str, ...]:
    """Sentence on a front that is not that of a shower; nothing if it may be one."""
    scale = float(np.exp(fitted.model.log_scale))
    if BELIEVED[0] <= scale <= BELIEVED[1] or np.isclose(scale, start_scale):
        return ()
    found = f"{scale:.1f} times the distance to the shower maximum"
    if "curvature" in fitted.model.columns:
        place = fitted.model.names().index("curvature")
        # 1/radius is what stamps are linear in; a plane has 0 with an error, and no radius.
        bent = 1.0 / scale
        error = bent * float(fitted.solution.column_error[place])
        usual = 1.0 / np.clip(scale, *USUAL)
        if abs(bent - usual) < MIN_Z * error:
            return ()
        found += f" (its inverse is {bent:.2f} +- {error:.2f})"
    else:
        found += " where the stamps ceased to determine it"
    sentence = (
        f"the front is not that of showers: its radius is {found}, {USUAL[0]:g} to {USUAL[1]:g} "
        f"were expected and {BELIEVED[0]:g} to {BELIEVED[1]:g} are believed; check that stamps "
        "belong to their telescopes and showers, and the positions and time_convention"
    )
    return (sentence,)


def untested_convention(
    checks: Checks, sums: ClockSums, options: CalculateTimingCalibrationOptions
) -> tuple[str, ...]:
    """Why no offset is believed whose convention was not tested.

    A wrong convention is off by as much as light takes across the array, and fits as well.

    Parameters
    ----------
    checks : Checks
        What the guards found.
    sums : ClockSums
        Of the last pass.
    options : CalculateTimingCalibrationOptions
        What was asked for. Where data with few telescopes, or clocks that scatter, cannot tell,
        whoever states the convention answers for it; the process type of a file is no statement.

    Returns
    -------
    tuple of str
        Sentences for the verdict; none if the convention was tested, or stated.
    """
    if not checks.unchecked:
        return ()
    enough = int(np.count_nonzero(_observed(sums, options.min_events)))
    sentence = f"the time convention could not be checked: {checks.unchecked}. "
    if checks.n_tested < MIN_TELESCOPES <= enough and checks.n_pointings:
        sentence += (
            f"The {enough} with enough stamps fit nothing: check that their stamps, positions and "
            "pointing belong together"
        )
    elif options.time_convention is None:
        sentence += (
            "Nobody stated it either: if you know it, set "
            "CalculateTimingCalibration.time_convention to raw or pointing_compensated"
        )
    else:
        return ()
    return (sentence,)


def restless_array(moving: frozenset[int], sums: ClockSums, min_events: int) -> tuple[str, ...]:
    """Why no offset is believed if most clocks jump or drift: it is not they that move.

    Parameters
    ----------
    moving : frozenset of int
        Telescopes that jump or drift.
    sums : ClockSums
        Of the last pass.
    min_events : int
        Stamps of a telescope that counts.

    Returns
    -------
    tuple of str
        Sentences for the verdict; none if most clocks keep time.
    """
    observed = np.flatnonzero(_observed(sums, min_events))
    found = len(moving.intersection(observed.tolist()))
    if found <= MOST * len(observed):
        return ()
    sentence = (
        f"{found} of {len(observed)} clocks jump or drift, and what most of them do is not done "
        "by clocks: check that the pointing is that of its time and that all blocks have one "
        "time_convention; where all clocks were set anew, calibrate the time before and after apart"
    )
    return (sentence,)


def _observed(sums: ClockSums, min_events: int) -> npt.NDArray[np.bool_]:
    """Telescopes with enough stamps, shape (n,)."""
    return np.asarray(sums.n_rows.sum(axis=0) >= min_events)
