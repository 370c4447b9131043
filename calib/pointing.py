"""Where telescopes pointed, from whichever of four places a file keeps it in.

In order: measured pointings, interpolated in time (``/dl1`` or ``/dl0/monitoring``; ctao-calibpipe
reads the former only), the fixed pointing of each telescope in an observation, and that of the
whole array in an observation block. The altitude becomes the column `ALTITUDE` of EVENTS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calib import hdf5
from calib.times import seconds

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["ALTITUDE", "Pointing", "find_pointing", "read_pointing"]

#: Altitude of the telescope at the time of the shower, rad; NaN where the file does not tell.
ALTITUDE = "pointing_altitude"

MEASURED = ("/dl1/monitoring/telescope/pointing", "/dl0/monitoring/telescope/pointing")
FIXED = "/configuration/telescope/pointing"
BLOCKS = "/configuration/observation/observation_block"
#: ctapipe's CoordinateFrameType.ALTAZ: longitude is the azimuth, latitude the altitude.
ALTAZ = 0
FIXED_ALTITUDE = "telescope_pointing_altitude"
BLOCK_COLUMNS = ("obs_id", "subarray_pointing_lat", "subarray_pointing_frame")


def find_pointing(file: hdf5.File, path: Path) -> str:
    """Path of the tables that tell the pointing; empty if none does."""
    for group in (*MEASURED, FIXED):
        if hdf5.first_telescope_table(file, group, path) is not None:
            return group
    table = hdf5.find_table(file, BLOCKS, path)
    return BLOCKS if table is not None and len(_in_altaz(table)) else ""


class Pointing(NamedTuple):
    """Altitudes of the telescopes.

    Parameters
    ----------
    measured : dict of int to (array, array)
        Times (s since 1970 TAI) and altitudes (rad) by telescope id, if they were measured.
    fixed : dict of (int, int) to float
        Altitude (rad) by observation and telescope id otherwise; telescope -1 is any.
    """

    measured: dict[int, tuple[Floats, Floats]]
    fixed: dict[tuple[int, int], float]

    def altitude(self, tel_ids: Integers, obs_ids: Integers, time_s: Floats | None) -> Floats:
        """Altitude of telescope events, rad; NaN where it is not known.

        Between two measurements it is a straight line, before the first and after the last there
        is none.
        """
        result = np.full(len(tel_ids), np.nan)
        if time_s is not None:
            for tel_id, (times, altitudes) in self.measured.items():
                rows = np.flatnonzero(tel_ids == tel_id)
                result[rows] = np.interp(time_s[rows], times, altitudes, np.nan, np.nan)
            return result
        for (obs_id, tel_id), altitude in self.fixed.items():
            result[(obs_ids == obs_id) & ((tel_ids == tel_id) | (tel_id < 0))] = altitude
        return result


def read_pointing(file: hdf5.File, path: Path, group: str) -> Pointing:
    """Read the tables that `find_pointing` has found.

    Raises
    ------
    CannotCompute
        If one lacks a column or is damaged.
    """
    if group == BLOCKS:
        table = hdf5.require_table(file, BLOCKS, path)
        altitude = _radians(table, "subarray_pointing_lat", rows := _in_altaz(table))
        ids = rows["obs_id"].tolist()
        return Pointing({}, {(i, -1): a for i, a in zip(ids, altitude.tolist(), strict=True)})
    tables = hdf5.telescope_tables(file, group, path)
    if group == FIXED:
        fixed: dict[tuple[int, int], float] = {}
        for tel_id, table in tables.items():
            table.require("obs_id", FIXED_ALTITUDE)
            rows = table.read()
            altitude = _radians(table, FIXED_ALTITUDE, rows)
            ids = rows["obs_id"].tolist()
            fixed |= {(i, tel_id): a for i, a in zip(ids, altitude.tolist(), strict=True)}
        return Pointing({}, fixed)
    measured = {}
    for tel_id, table in tables.items():
        table.require("time", "altitude")
        rows = table.read()
        times, altitude = seconds(table, "time", rows), _radians(table, "altitude", rows)
        known = np.isfinite(times) & np.isfinite(altitude)
        order = np.argsort(times[known], kind="stable")
        if known.any():
            measured[tel_id] = times[known][order], altitude[known][order]
    return Pointing(measured, {})


def _in_altaz(table: hdf5.Table) -> npt.NDArray[np.void]:
    """Observation blocks whose pointing is fixed in the horizontal frame."""
    if not set(BLOCK_COLUMNS) <= set(table.columns):
        return np.empty(0, table.dtype)
    rows = table.read()
    fixed = rows["subarray_pointing_frame"] == ALTAZ
    return np.asarray(rows[fixed & np.isfinite(rows["subarray_pointing_lat"])])


def _radians(table: hdf5.Table, column: str, rows: npt.NDArray[np.void]) -> Floats:
    """Angle in rad; in a file that states no unit it is what ctapipe writes there."""
    values = rows[column].astype(float)
    unit = table.unit(column) or ("deg" if table.name == BLOCKS else "rad")
    return np.radians(values) if unit == "deg" else values
