"""When a block was observed, and to which night that belongs: from noon to noon at the site."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from arraycal.calib import hdf5
from arraycal.calib.dl2.block import OBSERVATION_BLOCK, TRIGGER
from arraycal.calib.errors import ArraycalError, CannotCompute, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "FIRST_NIGHT",
    "Span",
    "dates_in",
    "last_night",
    "night_of",
    "nights_of",
    "observation_span",
    "observation_start",
    "refuse_impossible",
    "utc",
]

#: Rows read at either end of a block to find when it began and ended.
END_ROWS = 1000
#: Columns of two integers: whole seconds, and quarter nanoseconds.
HIGH_RESOLUTION = "ctao_high_res"
QUANTA_PER_S = 4e9
UNIX_EPOCH_MJD, UNIX_EPOCH_JD, DAY_S = 40587.0, 2440587.5, 86400.0
HALF_DAY, DAY = timedelta(hours=12), timedelta(days=1)
#: No array has been calibrated before; an earlier date is a slip of the hand.
FIRST_NIGHT = date(2000, 1, 1)
#: A date in a name, as 2026-03-01 or 20260301, and not a part of a longer number.
DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")


class Span(NamedTuple):
    """First and last trigger, UTC."""

    start: datetime
    stop: datetime


def observation_span(path: Path) -> Span | None:
    """When a block was observed.

    Parameters
    ----------
    path : Path
        A DL2 file; only the ends of its trigger table are read.

    Returns
    -------
    Span or None
        None if the file cannot be read or has no valid time stamp.
    """
    try:
        with hdf5.open_file(path) as file:
            table = hdf5.require_table(file, TRIGGER, path)
            table.require("time")
            high_resolution = table.time_format("time") == HIGH_RESOLUTION
            last = max(len(table) - END_ROWS, 0)
            ends = [table.read(0, END_ROWS), table.read(last)]
            stamps = np.concatenate([table.column("time", rows) for rows in ends])
    except (ArraycalError, OSError):
        return None
    seconds = _tai_seconds(stamps, high_resolution=high_resolution)
    if not len(seconds):
        return None
    return Span(utc(float(seconds.min())), utc(float(seconds.max())))


def observation_start(path: Path) -> datetime:
    """Read when the observation of a block began.

    Parameters
    ----------
    path : Path
        A ctapipe file of any data level.

    Returns
    -------
    datetime
        UTC. The earliest actual start of its observation blocks; where none is stated, the time
        of its first shower.

    Raises
    ------
    CannotCompute
        If the file cannot be read or states no time.
    """
    with hdf5.open_file(path) as file:
        for name, column in ((OBSERVATION_BLOCK, "actual_start_time"), (TRIGGER, "time")):
            table = hdf5.find_table(file, name, path)
            if table is None or column not in table.columns:
                continue
            stamps = table.column(column, table.read(0, END_ROWS))
            high_resolution = table.time_format(column) == HIGH_RESOLUTION
            seconds = _tai_seconds(stamps, high_resolution=high_resolution)
            if len(seconds):
                return utc(float(seconds.min()))
    raise CannotCompute(
        f"{path}: no observation time, neither in {OBSERVATION_BLOCK} nor in {TRIGGER}. "
        "Put the file into a folder with the night in its name, and give that as the pattern."
    )


def _tai_seconds(
    stamps: npt.NDArray[np.generic], *, high_resolution: bool
) -> npt.NDArray[np.float64]:
    """Seconds of TAI since 1970; zero stands for no time, in either format."""
    values = stamps.astype(np.float64)
    if high_resolution:
        seconds = values[:, 0] + values[:, 1] / QUANTA_PER_S
        return np.asarray(seconds[values[:, 0] > 0])
    known = np.isfinite(values) & (values > 0)
    return np.asarray((values[known] - UNIX_EPOCH_MJD) * DAY_S)


def utc(tai_s: float) -> datetime:
    """UTC of seconds of TAI since 1970."""
    import erfa  # what astropy.time is made of; that takes a quarter of a second to import

    days, rest = divmod(tai_s, DAY_S)
    year, month, day, clock = erfa.d2dtf("UTC", 6, *erfa.taiutc(UNIX_EPOCH_JD + days, rest / DAY_S))
    hour, minute, second, microsecond = (int(part) for part in clock.item())
    moment = datetime(year, month, day, hour, minute, microsecond=microsecond, tzinfo=UTC)
    # A leap second is the last of its minute and has the number 60, which datetime does not know.
    return moment + timedelta(seconds=second)


def night_of(moment: datetime, time_zone: str = "UTC") -> date:
    """Night to which a moment belongs: the date of the noon before it.

    Parameters
    ----------
    moment : datetime
        With a time zone, whichever.
    time_zone : str
        Where it is noon: an IANA name.

    Returns
    -------
    date
        Of the evening.

    Examples
    --------
    >>> night_of(datetime(2026, 3, 2, 4, 30, tzinfo=UTC)).isoformat()
    '2026-03-01'
    >>> night_of(datetime(2026, 3, 1, 14, 0, tzinfo=UTC), "America/Santiago").isoformat()
    '2026-02-28'
    """
    # Wall-clock time: also on the night of a clock change, noon is noon.
    return (moment.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None) - HALF_DAY).date()


def nights_of(spans: Iterable[Span], time_zone: str = "UTC") -> list[date]:
    """Nights in which blocks began, in order, each once."""
    return sorted({night_of(span.start, time_zone) for span in spans})


def last_night(moment: datetime, time_zone: str = "UTC") -> date:
    """Night that ended last: the one whose evening was on the day before, at any hour."""
    return moment.astimezone(ZoneInfo(time_zone)).date() - DAY


def refuse_impossible(nights: Iterable[date], moment: datetime, time_zone: str = "UTC") -> None:
    """Refuse nights that nobody can have observed.

    Parameters
    ----------
    nights : iterable of date
        Dates of the evenings.
    moment : datetime
        The present, with time zone.
    time_zone : str
        Of the site, an IANA name.

    Raises
    ------
    WrongUsage
        If one is after today, or before `FIRST_NIGHT`.
    """
    today = moment.astimezone(ZoneInfo(time_zone)).date()
    for night in nights:
        if not FIRST_NIGHT <= night <= today:
            side = "after today" if night > today else "before there was anything to calibrate"
            raise WrongUsage(
                f"the night of {night} is {side}; expected a date from {FIRST_NIGHT} to {today} "
                f"({time_zone}), that of the evening. Correct the date."
            )


def dates_in(path: Path) -> set[date]:
    """Dates that the names of folders and file state, as ``2026-03-01`` or ``20260301``.

    Parameters
    ----------
    path : Path
        Where a file is; only its names count, nothing is read.

    Returns
    -------
    set of date
        Those since `FIRST_NIGHT`: an earlier one is some other number.
    """
    found = set()
    for year, _, month, day in (match for part in path.parts for match in DATE.findall(part)):
        try:
            stated = date(int(year), int(month), int(day))
        except ValueError:  # a number of eight digits that is no date
            continue
        if stated >= FIRST_NIGHT:
            found.add(stated)
    return found
