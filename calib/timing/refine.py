"""Chunks cut where clocks jump inside them, so that no offset is a mean of both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.timing.fit import joined, settle_clocks, with_chunks
from arraycal.calib.timing.steps import ADJACENT, locate

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.checks.changepoint import Step
    from arraycal.calib.timing.fit import ClockFit, Windows
    from arraycal.calib.timing.residuals import FrontModel
    from arraycal.calib.timing.showers import Plan, StampedShowers
    from arraycal.calib.timing.steps import ClockCourse

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["refined"]

#: A jump so close to the edge of a chunk, in showers, is at the edge.
NEAR_EDGE = 3


def refined(
    windows: Windows,
    fitted: ClockFit,
    jumps: dict[int, list[Step]],
    past: ClockCourse,
    kinds: Indices,
) -> ClockFit:
    """Cut chunks where clocks jump inside them, and settle again.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window.
    fitted : ClockFit
        The solution so far.
    jumps : dict of int to list of Step
        Jumps by telescope index.
    past : ClockCourse
        The history they were found in.
    kinds : array of int, shape (n,)
        Type of every telescope.

    Returns
    -------
    ClockFit
        With more chunks, or edges that moved; the same one if all jumps are at edges.
    """
    found: list[tuple[int, float, float, int, float]] = []
    for tel, steps in jumps.items():
        for low, high, size in _merged(steps, len(fitted.plan)):
            before = past.offset_ns[low, tel] if low < high else np.nan
            shift = fitted.model.offset_ns[low, tel] - before
            place = _place(windows, fitted, tel, (low, high), size)
            if place is not None and np.isfinite(shift):
                found.append((*place, tel, size))
    plan, offset = fitted.plan, fitted.model.offset_ns
    for jump in sorted(found):
        plan, offset = _cut(plan, offset, *jump)
    if plan is fitted.plan:
        return fitted
    model = replace(fitted.model, offset_ns=offset)
    return joined(fitted, settle_clocks(windows, plan, model, kinds))


def _cut(
    plan: Plan, offset: Floats, shower: int, before_s: float, after_s: float, tel: int, size: float
) -> tuple[Plan, Floats]:
    """Put an edge where a clock jumps: a new one, or that of a neighbour of too short a chunk."""
    chunk = int(np.searchsorted(plan.edges, shower, side="right")) - 1
    least = int(np.median(np.diff(plan.edges))) // 2
    left, right = shower - plan.edges[chunk], plan.edges[chunk + 1] - shower
    same = [
        0 <= other < len(plan) and plan.obs_id[other] == plan.obs_id[chunk]
        for other in (chunk - 1, chunk + 1)
    ]
    level = offset[chunk - 1, tel] if chunk > 0 else np.nan
    level = level if np.isfinite(level) else offset[chunk, tel]
    offset = offset.copy()
    if left < least and same[0]:
        offset[chunk, tel] = level + size
        return plan.move(chunk, shower, before_s, after_s), offset
    if right < least and same[1]:
        offset[chunk, tel] = level
        return plan.move(chunk + 1, shower, before_s, after_s), offset
    if min(left, right) < NEAR_EDGE:
        return plan, offset
    offset = np.insert(offset, chunk, offset[chunk], axis=0)
    offset[chunk, tel], offset[chunk + 1, tel] = level, level + size
    return plan.split(shower, before_s, after_s), offset


def _merged(steps: list[Step], n_chunks: int) -> list[tuple[int, int, float]]:
    """First and last chunk a jump may be in, and its size; neighbours are one jump."""
    result: list[tuple[int, int, float]] = []
    previous = -2
    for step in steps:
        if step.index - previous <= ADJACENT and result:
            low, _, size = result[-1]
            result[-1] = (low, min(step.index, n_chunks - 1), size + step.size)
        else:
            result.append((step.index - 1, step.index, step.size))
        previous = step.index
    return result


def _place(
    windows: Windows, fitted: ClockFit, tel: int, span: tuple[int, int], size: float
) -> tuple[int, float, float] | None:
    """First shower behind a jump, with the dates of the showers on both sides."""
    low, high = span
    values, numbers, dates = [], [], []
    first = 0
    for showers, chunk in with_chunks(windows, fitted.plan):
        inside = (chunk >= low) & (chunk <= high)
        if inside.any():
            deviation, of = _deviations(showers, chunk, fitted.model, tel, low)
            keep = inside[of]
            values.append(deviation[keep])
            numbers.append(first + of[keep])
            dates.append(showers.time_s[of[keep]])
        first += len(showers)
    value = np.concatenate(values) if values else np.empty(0)
    if not len(value):
        return None
    at = locate(value, size)
    if at in (0, len(value)):
        return None
    date = np.concatenate(dates)
    return int(np.concatenate(numbers)[at]), float(date[at - 1]), float(date[at])


def _deviations(
    showers: StampedShowers, chunk: Indices, model: FrontModel, tel: int, level: int
) -> tuple[Floats, Indices]:
    """Stamps of a telescope against the others of its showers, at its level of one chunk."""
    rest = showers.delay_ns - showers.predict(model.log_scale)[0]
    rest = rest - model.walk_ns[showers.kind] * showers.brightness
    own = showers.telescope == tel
    offset = model.offset_ns[chunk[showers.shower], showers.telescope]
    # Chunks differ by a common shift; the others carry it.
    rest = rest - np.where(own, model.offset_ns[level, tel], offset)
    weight = np.where(own | np.isnan(rest), 0.0, 1.0 / model.sigma_ns[showers.telescope] ** 2)
    total = showers.total(weight)
    sound = total > 0
    mean = showers.total(weight * np.nan_to_num(rest)) / np.where(sound, total, 1.0)
    rows = np.flatnonzero(own & sound[showers.shower] & np.isfinite(rest))
    return rest[rows] - mean[showers.shower[rows]], showers.shower[rows]
