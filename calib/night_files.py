"""Which files belong to a night, by observation time.

Where the time of a file cannot be read, it still belongs somewhere: to the night in its path, else
to the night in which it was last written. Nothing is dropped in silence: a file that is not taken
is left out with its reason, or waits because it may still be growing, or is of another night and
counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from calib.errors import CannotCompute
from calib.nights import night_of, observation_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["LeftOut", "NightFiles", "night_files"]

#: What HDF5 says of a file that somebody has open for writing.
LOCKED = "unable to lock file"


@dataclass(frozen=True)
class LeftOut:
    """A file that is not calibrated, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class NightFiles:
    """What was found of a night.

    Parameters
    ----------
    night : date
        Date of the evening.
    blocks : tuple of Path
        Files to calibrate, by observation time. A damaged file is among them: it becomes a
        failed block, and that is seen.
    waiting : tuple of LeftOut
        Files that are still being written; a later run will take them.
    left_out : tuple of LeftOut
        Files that looked like part of the night and are not.
    n_others : int
        Files of other nights.
    """

    night: date
    blocks: tuple[Path, ...] = ()
    waiting: tuple[LeftOut, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    n_others: int = 0


def night_files(
    night: date,
    time_zone: str,
    candidates: Iterable[Path],
    *,
    by_path: Iterable[Path] = (),
    now: datetime,
    settle_s: float,
    time_of: Callable[[Path], datetime] = observation_start,
) -> NightFiles:
    """Sort candidates into blocks of a night and others.

    Parameters
    ----------
    night : date
        Date of the evening.
    time_zone : str
        Of the site, an IANA name.
    candidates : iterable of Path
        Files that may belong to the night.
    by_path : iterable of Path
        Those of them whose path says that they belong to the night.
    now : datetime
        The present, with time zone.
    settle_s : float
        Files that changed during the last `settle_s` seconds are still being written.
    time_of : callable
        Reads the observation time of a file.

    Returns
    -------
    NightFiles
        Every candidate, exactly once.
    """
    named = set(by_path)
    found = [
        _look_at(path, path in named, time_zone, now, settle_s, time_of) for path in candidates
    ]
    mine = [item for item in found if item.night in {night, None}]
    wrong = [item for item in found if item.path in named and item.night not in {night, None}]
    mine.sort(key=lambda item: (item.time or now, str(item.path)))
    return NightFiles(
        night,
        blocks=tuple(item.path for item in mine if not item.waits_for),
        waiting=tuple(LeftOut(item.path, item.waits_for) for item in mine if item.waits_for),
        left_out=tuple(_of_another_night(item) for item in wrong),
        n_others=len(found) - len(mine) - len(wrong),
    )


@dataclass(frozen=True)
class _Found:
    """A candidate; `night` None stands for the night that was asked for."""

    path: Path
    night: date | None
    time: datetime | None = None
    waits_for: str = ""


def _look_at(
    path: Path,
    is_named: bool,  # noqa: FBT001
    time_zone: str,
    now: datetime,
    settle_s: float,
    time_of: Callable[[Path], datetime],
) -> _Found:
    try:
        state = path.stat()
    except OSError as error:
        night = None if is_named else night_of(now, time_zone)
        return _Found(path, night, waits_for=f"cannot be looked at: {error.strerror}")
    written = datetime.fromtimestamp(state.st_mtime, UTC)
    by_writing = None if is_named else night_of(written, time_zone)
    # The change time too: a copy may bring the modification time of its original along.
    changed = datetime.fromtimestamp(max(state.st_mtime, state.st_ctime), UTC)
    age_s = (now - changed).total_seconds()
    waits_for = f"it changed {max(age_s, 0):.0f} s ago, and may be growing"
    waits_for = waits_for if age_s < settle_s else ""
    try:
        moment = time_of(path)
    except CannotCompute as error:
        if LOCKED in str(error):
            waits_for = "another program has it open for writing"
        return _Found(path, by_writing, waits_for=waits_for)
    return _Found(path, night_of(moment, time_zone), moment, waits_for)


def _of_another_night(item: _Found) -> LeftOut:
    when = f"{item.time:%Y-%m-%d %H:%M} UTC" if item.time else "no time"
    return LeftOut(item.path, f"observed at {when}, in the night of {item.night}")
