"""Slope of offsets against a plane wave: what most telescopes say, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import stdtr

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["MIN_TELESCOPES", "PointingSlope", "fit_slope"]

#: A slope is the plane wave if it is this close to +-1, or within WAVE_Z errors of it, whichever is
#: more, ...
SLOPE_TOLERANCE, WAVE_Z = 0.05, 2.0
#: ... with an error that leaves no doubt.
SURE_ERROR = 0.1
#: With a larger error it is, if clocks that scatter like these give it from nothing with less than
#: this chance, ...
CHANCE = 1e-4
#: ... and +-1 is not that many errors away, which is also what excludes the plane wave.
EXCLUDED_Z = 4.0
#: A smaller part of the plane wave than this is the tilt of a few clocks, and one that leaves out
#: more than this share of the telescopes is a line through those that happen to lie on one.
LEAST_PART, FEW_FAR = 0.25, 0.1
#: Telescopes that many sigma off the others do not take part in a slope.
FAR_Z = 5.0
#: Scatter of clocks below which none of them is far off, ns.
LEAST_SCATTER_NS = 0.5
#: Telescopes needed to tell a plane wave from offsets.
MIN_TELESCOPES = 5


class PointingSlope(NamedTuple):
    """A slope, its error from the scatter of the telescopes, and the share of them left out.

    NaN if it cannot be told.
    """

    value: float = np.nan
    error: float = np.nan
    freedom: int = 0
    left_out: float = 0.0

    @property
    def from_wave(self) -> float:
        """Distance of the slope from +-1."""
        return abs(abs(self.value) - 1)

    @property
    def excludes_wave(self) -> bool:
        """Whether the plane wave is not in the offsets."""
        return bool(abs(self.value) + EXCLUDED_Z * self.error < 1)

    @property
    def is_wave(self) -> bool:
        """Whether the plane wave is in the offsets, and no accident of the clocks."""
        near = max(SLOPE_TOLERANCE, WAVE_Z * self.error)
        if self.error < SURE_ERROR and self.from_wave < near:
            return True
        return self.chance < CHANCE and self.from_wave < EXCLUDED_Z * self.error

    @property
    def is_part(self) -> bool:
        """Whether a part of the plane wave is in the offsets, and no accident of the clocks."""
        part = self.excludes_wave and abs(self.value) > LEAST_PART and self.left_out <= FEW_FAR
        return part and self.chance < CHANCE

    @property
    def chance(self) -> float:
        """Probability of a slope as far from 0 where the true one is 0.

        The error is taken from the scatter of a few telescopes, and by Student's distribution may
        well be small by accident.
        """
        if not self.error > 0:
            return np.nan
        return float(2 * stdtr(self.freedom, -abs(self.value) / self.error))


def fit_slope(offset: Floats, wave: Floats, kinds: Indices) -> PointingSlope:
    """Slope of offsets against a plane wave with a constant for each type, and its error.

    Least squares of the telescopes that are not far off the line of least absolute deviations,
    which a minority of them cannot move far.

    Parameters
    ----------
    offset, wave : array, shape (n,)
        Offsets (NaN: not known) and arrival of the plane wave, ns.
    kinds : array of int, shape (n,)
        Type of every telescope.

    Returns
    -------
    PointingSlope
        NaN with too few telescopes.
    """
    known = np.isfinite(offset)
    offset, wave, kinds = offset[known], wave[known], kinds[known]
    while True:
        types = np.unique(kinds)
        if len(offset) < max(MIN_TELESCOPES, len(types) + 2):
            return PointingSlope()
        design = np.column_stack([wave, *(kinds == kind for kind in types)])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            return PointingSlope()
        rest = np.abs(offset - design @ _least_deviations(design, offset))
        # As many deviations as there are parameters are zero by construction.
        sigma = 1.4826 * np.median(np.sort(rest)[design.shape[1] :])
        near = rest <= FAR_Z * max(float(sigma), LEAST_SCATTER_NS)
        if near.all():
            break
        offset, wave, kinds = offset[near], wave[near], kinds[near]
    solution = np.linalg.lstsq(design, offset, rcond=None)[0]
    rest = offset - design @ solution
    freedom = len(rest) - design.shape[1]
    inverse = np.linalg.inv(design.T @ design)
    error = np.sqrt(np.sum(rest**2) / freedom * inverse[0, 0])
    left_out = 1.0 - len(offset) / np.count_nonzero(known)
    return PointingSlope(float(solution[0]), float(error), freedom, float(left_out))


def _least_deviations(design: Floats, values: Floats) -> Floats:
    """Parameters with the least sum of absolute deviations.

    It does not depend on how far off a value is, only on the side: values are cut off, so that a
    clock that is a second off costs no digits.
    """
    n, m = design.shape
    middle = np.median(values)
    deviation = values - middle
    span = float(np.median(np.abs(deviation)) + np.ptp(design[:, 0])) or 1.0
    scaled = np.clip(deviation / span, -100.0, 100.0)
    unit = np.column_stack([design[:, 0] / span, design[:, 1:]])
    from scipy.optimize import linprog  # costs a fifth of a second

    found = linprog(
        np.concatenate([np.zeros(m), np.ones(2 * n)]),
        A_eq=np.hstack([unit, np.eye(n), -np.eye(n)]),
        b_eq=scaled,
        bounds=[(None, None)] * m + [(0, None)] * (2 * n),
    )
    assert found.x is not None  # noqa: S101  any parameters will do with large deviations
    result: Floats = found.x[:m] * span
    result[0] /= span
    result[1:] += middle
    return result
