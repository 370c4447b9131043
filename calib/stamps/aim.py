"""Where the array pointed when a shower came: the mean of its telescopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.dl2.pointing import BLOCKS, find_pointing, read_pointing
from arraycal.calib.stamps.front import direction

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from arraycal.calib.dl2.pointing import Pointing

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["array_pointing", "read_pointings"]


def read_pointings(file: hdf5.File, path: Path) -> tuple[Pointing, ...]:
    """Read what a file knows of the pointing, the best first; see `arraycal.calib.dl2.pointing`."""
    groups = [find_pointing(file, path)]
    if hdf5.has_table(file, BLOCKS, path):
        groups.append(BLOCKS)
    return tuple(read_pointing(file, path, group) for group in dict.fromkeys(groups) if group)


def array_pointing(
    pointings: tuple[Pointing, ...], obs_ids: Integers, time_s: Integers
) -> tuple[Floats, Floats]:
    """Altitude and azimuth of the array, deg.

    Parameters
    ----------
    pointings : tuple of Pointing
        From `read_pointings`; one that does not know leaves it to the next.
    obs_ids, time_s : array of int, shape (n,)
        Observation and time of each row, whole seconds since 1970 TAI: the sky turns by less than
        0.005 deg in one.

    Returns
    -------
    altitude, azimuth : array, shape (n,)
        NaN where the file does not tell.
    """
    moments, row = np.unique(np.stack([obs_ids, time_s]), axis=1, return_inverse=True)
    towards = np.full((moments.shape[1], 3), np.nan)
    for pointing in pointings:
        open_ = np.flatnonzero(np.isnan(towards[:, 0]))
        towards[open_] = _mean_direction(pointing, moments[0, open_], moments[1, open_])
    x, y, z = towards.T
    altitude, azimuth = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(-y, x))
    return altitude[row.ravel()], azimuth[row.ravel()]


def _mean_direction(pointing: Pointing, obs_ids: Integers, time_s: Integers) -> Floats:
    """Mean over the telescopes that are known, shape (n, 3)."""
    total, count = np.zeros((len(obs_ids), 3)), np.zeros(len(obs_ids))
    moments = time_s.astype(np.float64) if pointing.measured else None
    for tel_id in sorted(pointing.measured or {tel_id for _, tel_id in pointing.fixed}):
        found = pointing.directions(np.full(len(obs_ids), tel_id), obs_ids, moments)
        vectors = direction(*np.degrees(found).T)
        known = np.isfinite(vectors).all(axis=1)
        total[known] += vectors[known]
        count[known] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(count > 0, count, np.nan)[:, None])
