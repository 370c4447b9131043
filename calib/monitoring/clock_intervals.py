"""Clocks that jump or drift: the offset that a stamp gets from the interval it lies in.

A clock that keeps time has one offset, which also holds in other observations. One that jumps has
an offset for each interval between its jumps, and that of one that drifts is a line in time. Both
have an offset only where they were followed: outside its intervals nobody knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib import hdf5
from arraycal.calib.errors import CannotCompute
from arraycal.calib.monitoring.published_tables import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Whole = npt.NDArray[np.int64]

__all__ = ["INTERVALS", "QUANTA_PER_NS", "QUANTA_PER_S", "offsets_at", "read_intervals"]

#: One row per interval of a telescope that jumps or drifts: TAI seconds since 1970, ns, ns/h. The
#: value is that at the date of reference.
INTERVALS = pl.Schema(
    {
        "tel_id": pl.Int64,
        "valid_from": pl.Float64,
        "valid_to": pl.Float64,
        "value": pl.Float64,
        "error": pl.Float64,
        "drift": pl.Float64,
        "reference": pl.Float64,
    }
)
STORED = ("start_s", "stop_s", "offset_ns", "error_ns", "drift_ns_per_h", "reference_s")
#: Time stamps are counted in quarter nanoseconds.
QUANTA_PER_NS = 4
QUANTA_PER_S = 4_000_000_000
S_PER_HOUR = 3600.0
#: Light takes less across any array; stamps of a shower differ by this and by their clocks.
CROSSING_NS = 10_000
#: Differences beyond this (30 years) are cut, so that they can be counted in quarter nanoseconds.
FAR_S = 1_000_000_000


def read_intervals(file: hdf5.File, path: Path, calibration: str) -> pl.DataFrame:
    """Read the intervals of the telescopes that jump or drift.

    Parameters
    ----------
    file : hdf5.File
        The coefficients.
    path : Path
        For messages.
    calibration : str
        Name of our calibration; empty for another program's.

    Returns
    -------
    DataFrame
        Schema `INTERVALS`, by telescope and time; empty if all clocks keep time or the file does
        not follow them.

    Raises
    ------
    CannotCompute
        If the table is damaged.
    """
    group = f"{SERVICE}/{calibration}"
    table = hdf5.find_table(file, f"{group}/intervals", path) if calibration else None
    if table is None:
        return INTERVALS.to_frame()
    table.require("tel_id", *STORED)
    rows = table.read_few()
    columns = {
        name: np.asarray(rows[stored], np.float64)
        for name, stored in zip(INTERVALS.names()[1:], STORED, strict=True)
    }
    frame = pl.DataFrame({"tel_id": rows["tel_id"].astype(np.int64), **columns}, schema=INTERVALS)
    moving = frame["tel_id"].is_duplicated() | (pl.col("drift") != 0)
    moving |= pl.col("tel_id").is_in(sorted(_jumping(file, path, group)))
    frame = frame.filter(moving).sort("tel_id", "valid_from")
    sound = pl.all_horizontal(pl.col(*INTERVALS.names()[1:]).is_finite())
    sound &= (pl.col("valid_from") <= pl.col("valid_to")) & (pl.col("error") >= 0)
    bad = frame.filter(~sound)
    if len(bad):
        raise CannotCompute(
            f"{path}: {table.name}: intervals that can be none, of telescopes "
            f"{sorted(set(bad['tel_id']))}. Produce the coefficients again."
        )
    return frame


def _jumping(file: hdf5.File, path: Path, group: str) -> set[int]:
    """Telescopes with a jump; of one, all but one interval may be too short for an offset."""
    table = hdf5.find_table(file, f"{group}/steps", path)
    if table is None:
        return set()
    table.require("tel_id")
    return set(table.read_few()["tel_id"].astype(np.int64).tolist())


def offsets_at(stamps: npt.NDArray[np.uint32], tel_id: Whole, corrections: pl.DataFrame) -> Floats:
    """Offset of every stamp.

    Parameters
    ----------
    stamps : array of uint32, shape (n, 2)
        Seconds and quarter nanoseconds.
    tel_id : array of int, shape (n,)
        Their telescopes.
    corrections : DataFrame
        Of `arraycal.calib.monitoring.correction.for_array`: all these telescopes, by id and time.

    Returns
    -------
    array, shape (n,)
        What to subtract, ns. NaN where a telescope has no offset, or jumps or drifts and the stamp
        lies in none of its intervals or as near to one as to another.

    Notes
    -----
    Intervals begin and end with a shower, dated by the middle one of its stamps. A stamp is
    therefore compared after its clock is set to the middle one of the array, and may lie as
    far outside as stamps of a shower can be apart.
    """
    always = corrections.filter(pl.col("valid_from").is_nan())
    middle, spread = _middle(corrections)
    known, offset = always["tel_id"].to_numpy(), always["offset"].to_numpy()
    result = np.full(len(tel_id), np.nan)
    if len(known):
        place = np.searchsorted(known, tel_id).clip(max=len(known) - 1)
        result = np.where(known[place] == tel_id, offset[place], np.nan)
    jumping = corrections.filter(pl.col("valid_from").is_not_nan())
    for (number,), intervals in jumping.group_by("tel_id", maintain_order=True):
        mine = tel_id == number
        result[mine] = _by_interval(stamps[mine], intervals, middle, CROSSING_NS + spread)
    return result


def _middle(corrections: pl.DataFrame) -> tuple[float, float]:
    """Middle one of the offsets, of steady clocks if there are any, and how far any is from it."""
    finite = corrections.filter(pl.col("offset").is_finite())
    steady = finite.filter(pl.col("valid_from").is_nan())
    offset = finite["offset"].to_numpy()
    if not len(offset):
        return 0.0, 0.0
    middle = float(np.median(steady["offset"].to_numpy() if len(steady) else offset))
    return middle, float(np.abs(offset - middle).max())


def _by_interval(
    stamps: npt.NDArray[np.uint32], intervals: pl.DataFrame, middle: float, margin_ns: float
) -> Floats:
    """Offset of the interval each stamp of a telescope lies in, or NaN."""
    outside = np.empty((len(intervals), len(stamps)), np.int64)
    offset = np.empty(outside.shape)
    names = ("valid_from", "valid_to", "offset", "drift", "reference")
    for row, (start, stop, value, drift, reference) in enumerate(
        intervals.select(names).iter_rows()
    ):
        hours = _quanta_since(stamps, reference) / (QUANTA_PER_S * S_PER_HOUR)
        offset[row] = value + drift * hours
        late = np.rint((offset[row] - middle) * QUANTA_PER_NS).astype(np.int64)
        early = late - _quanta_since(stamps, start)
        outside[row] = np.maximum(np.maximum(early, _quanta_since(stamps, stop) - late), 0)
    least = outside.min(axis=0)
    one = np.count_nonzero(outside == least, axis=0) == 1
    one &= least <= round(margin_ns * QUANTA_PER_NS)
    return np.where(one, offset[outside.argmin(axis=0), np.arange(len(stamps))], np.nan)


def _quanta_since(stamps: npt.NDArray[np.uint32], date_s: float) -> Whole:
    """Quarter nanoseconds from a date to stamps; only the date was ever a float."""
    second = int(np.floor(date_s))
    seconds = (stamps[:, 0].astype(np.int64) - second).clip(-FAR_S, FAR_S)
    part = round((date_s - second) * QUANTA_PER_S)
    return seconds * QUANTA_PER_S + (stamps[:, 1].astype(np.int64) - part)
