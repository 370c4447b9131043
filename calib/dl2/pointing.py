"""Where telescopes pointed, from whichever of four places a file keeps it in.

In order: measured pointings, interpolated in time (``/dl1`` or ``/dl0/monitoring``; ctao-calibpipe
reads the former only), the fixed pointing of each telescope in an observation, and that of the
whole array in an observation block. The direction becomes the columns `ALTITUDE` and `AZIMUTH` of
EVENTS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.dl2.times import seconds
from arraycal.calib.errors import CannotCompute

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["ALTITUDE", "AZIMUTH", "POINTING", "Pointing", "find_pointing", "read_pointing"]

#: Altitude of the telescope at the time of the shower, rad; NaN where the file does not tell.
ALTITUDE = "pointing_altitude"
#: Its azimuth likewise, from north through east, rad.
AZIMUTH = "pointing_azimuth"
#: Topic of the note that says where they come from.
POINTING = "pointing"

MEASURED = ("/dl1/monitoring/telescope/pointing", "/dl0/monitoring/telescope/pointing")
FIXED = "/configuration/telescope/pointing"
BLOCKS = "/configuration/observation/observation_block"
#: ctapipe's CoordinateFrameType.ALTAZ: longitude is the azimuth, latitude the altitude.
ALTAZ = 0
#: Columns of altitude and azimuth in each of the places.
MEASURED_DIRECTION = ("altitude", "azimuth")
FIXED_DIRECTION = ("telescope_pointing_altitude", "telescope_pointing_azimuth")
BLOCK_DIRECTION = ("subarray_pointing_lat", "subarray_pointing_lon")
#: Observations times telescope ids with a pointing of their own; 1.6 GB.
MAX_FIXED = 100_000_000
BLOCK_COLUMNS = ("obs_id", "subarray_pointing_lat", "subarray_pointing_frame")


def find_pointing(file: hdf5.File, path: Path) -> str:
    """Path of the tables that tell the pointing; empty if none does."""
    for group in (*MEASURED, FIXED):
        if hdf5.first_telescope_table(file, group, path) is not None:
            return group
    table = hdf5.find_table(file, BLOCKS, path)
    return BLOCKS if table is not None and len(_in_altaz(table)) else ""


class Pointing(NamedTuple):
    """Directions of the telescopes: altitude and azimuth, rad.

    Parameters
    ----------
    measured : dict of int to (array of shape (k,), array of shape (k, 2))
        Times (s since 1970 TAI) and directions by telescope id, if they were measured. Azimuths
        do not jump at north.
    fixed : dict of (int, int) to (float, float)
        Direction by observation and telescope id otherwise; telescope -1 is any.
    """

    measured: dict[int, tuple[Floats, Floats]]
    fixed: dict[tuple[int, int], tuple[float, float]]

    def directions(self, tel_ids: Integers, obs_ids: Integers, time_s: Floats | None) -> Floats:
        """Altitude and azimuth of telescope events, rad, shape (n, 2); NaN where not known.

        Between two measurements it is a straight line, before the first and after the last there
        is none.
        """
        if time_s is None:
            return self._fixed_directions(tel_ids, obs_ids)
        result = np.full((len(tel_ids), 2), np.nan)
        # Sorted once: looking for the rows of every telescope takes longer than reading them.
        order = np.argsort(tel_ids, kind="stable")
        ascending = tel_ids[order]
        for tel_id, (times, directions) in self.measured.items():
            low, high = np.searchsorted(ascending, [tel_id, tel_id + 1])
            rows = order[low:high]
            for axis, values in enumerate(directions.T):
                result[rows, axis] = np.interp(time_s[rows], times, values, np.nan, np.nan)
        return result

    def _fixed_directions(self, tel_ids: Integers, obs_ids: Integers) -> Floats:
        """Look directions up in a table of observations and telescope ids."""
        if not self.fixed or not len(tel_ids):
            return np.full((len(tel_ids), 2), np.nan)
        of, its = np.array(list(self.fixed), np.int64).T
        directions = np.array(list(self.fixed.values()))
        observations, place = np.unique(of, return_inverse=True)
        last = int(max(its.max(), tel_ids.max()))
        if len(observations) * last > MAX_FIXED:
            raise CannotCompute(
                f"pointings of {len(observations):,} observations and of telescope ids up to "
                f"{last} are too many to be held in memory. Split the file."
            )
        # The last column is that of telescope -1, which is any.
        known = np.full((len(observations), last + 2, 2), np.nan)
        known[place[its < 0]] = directions[its < 0, None]
        known[place[its >= 0], its[its >= 0]] = directions[its >= 0]
        row = np.searchsorted(observations[1:], obs_ids, side="right")
        result: Floats = known[row, tel_ids]
        result[observations[row] != obs_ids] = np.nan
        return result


def read_pointing(file: hdf5.File, path: Path, group: str) -> Pointing:
    """Read the tables that `find_pointing` has found.

    Raises
    ------
    CannotCompute
        If one lacks a column or is damaged. Without a column of azimuths these are NaN.
    """
    if group == BLOCKS:
        table = hdf5.require_table(file, BLOCKS, path)
        return Pointing({}, _fixed(table, _in_altaz(table), BLOCK_DIRECTION, -1))
    tables = hdf5.telescope_tables(file, group, path)
    if group == FIXED:
        fixed: dict[tuple[int, int], tuple[float, float]] = {}
        for tel_id, table in tables.items():
            table.require("obs_id", FIXED_DIRECTION[0])
            fixed |= _fixed(table, table.read_few(), FIXED_DIRECTION, tel_id)
        return Pointing({}, fixed)
    measured = {}
    for tel_id, table in tables.items():
        table.require("time", MEASURED_DIRECTION[0])
        rows = table.read_few()
        times, directions = seconds(table, "time", rows), _radians(table, rows, MEASURED_DIRECTION)
        known = np.flatnonzero(np.isfinite(times) & np.isfinite(directions[:, 0]))
        order = known[np.argsort(times[known], kind="stable")]
        if len(order):
            directions = directions[order]
            directions[:, 1] = np.unwrap(directions[:, 1])
            measured[tel_id] = times[order], directions
    return Pointing(measured, {})


def _fixed(
    table: hdf5.Table, rows: npt.NDArray[np.void], columns: tuple[str, str], tel_id: int
) -> dict[tuple[int, int], tuple[float, float]]:
    directions = _radians(table, rows, columns).tolist()
    obs_ids = rows["obs_id"].astype(np.int64).tolist()
    return {
        (obs_id, tel_id): (altitude, azimuth)
        for obs_id, (altitude, azimuth) in zip(obs_ids, directions, strict=True)
    }


def _in_altaz(table: hdf5.Table) -> npt.NDArray[np.void]:
    """Observation blocks whose pointing is fixed in the horizontal frame."""
    if not set(BLOCK_COLUMNS) <= set(table.columns):
        return np.empty(0, table.dtype)
    rows = table.read_few()
    fixed = rows["subarray_pointing_frame"] == ALTAZ
    return np.asarray(rows[fixed & np.isfinite(rows["subarray_pointing_lat"])])


def _radians(table: hdf5.Table, rows: npt.NDArray[np.void], columns: tuple[str, str]) -> Floats:
    """Two angles in rad, shape (n, 2), NaN for one the table lacks.

    In a file that states no unit it is what ctapipe writes there.
    """
    result = np.full((len(rows), 2), np.nan)
    for axis, column in enumerate(columns):
        if column in table.columns:
            unit = table.unit(column) or ("deg" if table.name == BLOCKS else "rad")
            values = rows[column].astype(float)
            result[:, axis] = np.radians(values) if unit == "deg" else values
    return result
