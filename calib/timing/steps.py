"""Jumps and drifts of single clocks in the history of the offsets.

A jump is a common step of one telescope against all others. The offsets of a chunk are known up
to a common shift only; the shift is taken from the telescopes that do not jump. Each series is
searched by `arraycal.calib.checks.changepoint`, whose p-value is corrected for the search over
places; here it is corrected for the number of telescopes as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.checks.changepoint import excess_scatter, find_steps

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.checks.changepoint import Step
    from arraycal.calib.timing.fit import ClockFit

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = [
    "MIN_DRIFT_Z",
    "ClockCourse",
    "Drift",
    "clock_course",
    "drifts",
    "find_jumps",
    "locate",
    "with_excess",
]

#: A drift this significant is told.
MIN_DRIFT_Z = 5.0
#: Showers of a telescope in a chunk from which its offset there is searched for jumps: of fewer,
#: a single wrong stamp makes the offset.
LEAST_SHOWERS = 5
#: Jumps of a telescope in chunks next to each other are one jump inside the first of them.
ADJACENT = 1


class ClockCourse(NamedTuple):
    """Offsets by chunk, relative to the steady telescopes.

    Parameters
    ----------
    offset_ns, error_ns : array, shape (n_chunks, n)
        NaN where a chunk does not tell.
    middle_s : array, shape (n_chunks,)
        Date of the middle of each chunk.
    """

    offset_ns: Floats
    error_ns: Floats
    middle_s: Floats


class Drift(NamedTuple):
    """Slope of a telescope's offset between its jumps, and its error, ns/h."""

    slope: float
    error: float

    @property
    def is_sure(self) -> bool:
        """Whether the clock drifts."""
        return bool(abs(self.slope) > MIN_DRIFT_Z * self.error)


def clock_course(fitted: ClockFit, steady: Bools) -> ClockCourse:
    """Offsets of every chunk relative to the middle of the steady telescopes.

    Parameters
    ----------
    fitted : ClockFit
        The solution.
    steady : array of bool, shape (n,)
        Telescopes that keep time.

    Returns
    -------
    ClockCourse
        The errors are those of the contrast with the steady telescopes of the chunk. Offsets from
        fewer than `LEAST_SHOWERS` showers are left out.

    Notes
    -----
    Which steady telescopes took part differs from chunk to chunk. So that this does not look
    like a jump, each is measured from its own median over the chunks; and the middle one of them is
    taken, not the mean, which a jump that is not known yet would drag along.
    """
    solution, model = fitted.solution, fitted.model
    total = model.offset_ns + solution.offset_ns
    centred = total - _medians(total)
    offset, error = np.full_like(total, np.nan), np.full_like(total, np.nan)
    for chunk, row in enumerate(total):
        known = np.isfinite(row) & (fitted.sums.n_rows[chunk] >= LEAST_SHOWERS)
        anchors = known & steady
        if not anchors.any():
            continue
        shift = np.median(centred[chunk, anchors])
        offset[chunk, known] = row[known] - shift
        contrast = np.eye(len(row)) - np.where(anchors, 1.0 / anchors.sum(), 0.0)
        # The larger of two estimates: each can be far too small by chance with few showers.
        variance = np.max(
            [
                np.einsum("ij,jk,ik->i", contrast, covariance[chunk], contrast)
                for covariance in (solution.covariance, solution.model_covariance)
            ],
            axis=0,
        )
        error[chunk, known] = np.sqrt(np.maximum(variance[known], 0.0))
    middle = 0.5 * (fitted.plan.start_s + fitted.plan.stop_s)
    return ClockCourse(offset, error, middle)


def _medians(values: Floats) -> Floats:
    """Median of each column, less the common shift that chunks differ by; 0 for an empty one."""
    shift = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0
                      for row in values])  # fmt: skip
    level = values - shift[:, None]
    for _ in range(3):
        middle = _column_medians(level)
        rest = level - middle
        level = level - _column_medians(rest.T)[:, None]
    return _column_medians(level)


def _column_medians(values: Floats) -> Floats:
    return np.array(
        [np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in values.T]
    )


def find_jumps(
    fitted: ClockFit, probability: float, drifting: frozenset[int] = frozenset()
) -> tuple[dict[int, list[Step]], ClockCourse]:
    """Find the jumps of every telescope.

    Parameters
    ----------
    fitted : ClockFit
        The solution.
    probability : float
        Chance of finding any jump in the whole history of clocks that keep time.
    drifting : frozenset of int
        Telescopes whose jumps are on top of a line, so that the error of its slope is part of that
        of the jump.

    Returns
    -------
    dict of int to list of Step, History
        Jumps by telescope index, and the history they were found in.
    """
    n = fitted.model.offset_ns.shape[1]
    jumps: dict[int, list[Step]] = {}
    for _ in range(n):
        steady = np.ones(n, np.bool_)
        steady[list(jumps)] = False
        if not steady.any():
            steady[:] = True
        past = clock_course(fitted, steady)
        noise = with_excess(past, steady)
        found = {
            tel: list(steps)
            for tel in range(n)
            if (
                steps := find_steps(
                    past.offset_ns[:, tel],
                    noise[:, tel],
                    times=past.middle_s if tel in drifting else None,
                    alpha=probability / n,
                )
            )
        }
        # The largest jump drags all others along by the common shift: it is believed first.
        added = sorted(set(found) - set(jumps), key=lambda tel: -_significance(found[tel]))
        jumps = {tel: found[tel] for tel in jumps if tel in found}
        if not added:
            break
        jumps[added[0]] = found[added[0]]
    return jumps, past


def _significance(steps: list[Step]) -> float:
    return max(abs(step.size) / step.error for step in steps)


def with_excess(past: ClockCourse, steady: Bools) -> Floats:
    """Errors with the scatter from chunk to chunk that they do not explain."""
    if len(past.middle_s) < 3:  # noqa: PLR2004  two points have one difference, a jump or not
        return past.error_ns
    excess = excess_scatter(past.offset_ns[:, steady], past.error_ns[:, steady])
    return np.asarray(np.hypot(past.error_ns, excess))


def drifts(past: ClockCourse, cuts: dict[int, list[int]]) -> list[Drift]:
    """Slope of every telescope's offset in time, jumps taken out.

    Parameters
    ----------
    past : ClockCourse
        Offsets by chunk.
    cuts : dict of int to list of int
        First chunks behind the jumps, by telescope.

    Returns
    -------
    list of Drift
        One for each telescope; NaN for fewer than 3 chunks between jumps.
    """
    hours = (past.middle_s - past.middle_s[:1]) / 3600.0
    result = []
    for tel in range(past.offset_ns.shape[1]):
        value, error = past.offset_ns[:, tel], past.error_ns[:, tel]
        segment = np.searchsorted(np.array(cuts.get(tel, [])), np.arange(len(value)), side="right")
        good = np.isfinite(value) & (error > 0)
        top = bottom = 0.0
        for part in np.unique(segment[good]):
            own = good & (segment == part)
            weight = 1.0 / error[own] ** 2
            arm = hours[own] - np.average(hours[own], weights=weight)
            top += float(np.sum(weight * arm * value[own]))
            bottom += float(np.sum(weight * arm**2))
        enough = np.count_nonzero(good) >= 3 + len(np.unique(segment[good])) - 1
        known = enough and bottom > 0
        result.append(Drift(top / bottom, bottom**-0.5) if known else Drift(np.nan, np.nan))
    return result


def locate(deviation_ns: Floats, size_ns: float) -> int:
    """Find the place of a jump among single stamps.

    Parameters
    ----------
    deviation_ns : array, shape (k,)
        Stamps of the telescope minus what they should be before the jump, in order of time.
    size_ns : float
        Size of the jump.

    Returns
    -------
    int
        Number of stamps before the jump.

    Notes
    -----
    Least squares with squares cut off at that of half the jump, so that a wrong stamp counts as one
    wrong stamp.

    Examples
    --------
    >>> locate(np.array([0.1, -0.2, 500.0, 9.8, 10.3]), 10.0)
    3
    """
    cap = (0.5 * size_ns) ** 2
    before = np.minimum(deviation_ns**2, cap)
    after = np.minimum((deviation_ns - size_ns) ** 2, cap)
    cost = np.append(0.0, np.cumsum(before)) + after.sum() - np.append(0.0, np.cumsum(after))
    # Of places that are equally good, the middle one (of two, the second).
    best = np.flatnonzero(cost <= cost.min() + 1e-9 * max(cap, 1.0))
    return int(best[len(best) // 2])
