"""Which files belong to a night, by observation time.

Where the time of a file cannot be read, the date in its path tells. A file that has neither may be
of any night that began before it was last written: it is a failed block of the night in which it
was written, and is named in every earlier one that is looked at. Nothing is dropped in silence: a
file that is not taken is left out with its reason, or waits because it may still be growing, or is
of another night and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from arraycal.calib.dl2.observed import dates_in, night_of, observation_start
from arraycal.calib.dl2.products import product_in
from arraycal.calib.errors import BeingWritten, CannotCompute
from arraycal.calib.hdf5 import is_being_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["LeftOut", "NightFiles", "night_files"]

BEING_WRITTEN = "another program has it open for writing"


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
        Files that looked like part of the night and are not, or of which nobody can tell.
    n_others : int
        Files of other nights.
    others : tuple of (date, Path)
        Those of them whose observation time says of which night they are.
    """

    night: date
    blocks: tuple[Path, ...] = ()
    waiting: tuple[LeftOut, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    n_others: int = 0
    others: tuple[tuple[date, Path], ...] = ()


@dataclass(frozen=True)
class _Site:
    """What is the same for all candidates of a night."""

    night: date
    time_zone: str
    now: datetime
    settle_s: float
    by_path: Mapping[Path, date]
    root: Path | None
    time_of: Callable[[Path], datetime]


@dataclass(frozen=True)
class _Found:
    """A candidate, where it belongs, and why."""

    path: Path
    place: Literal["block", "waiting", "left out", "other night"]
    reason: str = ""
    time: datetime | None = None


def night_files(  # noqa: PLR0913  what a site is
    night: date,
    time_zone: str,
    candidates: Iterable[Path],
    *,
    by_path: Iterable[Path] = (),
    by_next_path: Iterable[Path] = (),
    root: Path | None = None,
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
    by_path, by_next_path : iterable of Path
        Those of them whose path says that they belong to the night, or to the next one.
    root : Path, optional
        Folder below which a date in a name is that of a night; by default dates count anywhere.
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
    stated = dict.fromkeys(by_next_path, night + timedelta(days=1)) | dict.fromkeys(by_path, night)
    site = _Site(night, time_zone, now, settle_s, stated, root, time_of)
    found = [_unless_product(_look_at(path, site)) for path in candidates]
    found.sort(key=lambda item: (item.time or now, str(item.path)))
    others = [item for item in found if item.place == "other night"]
    return NightFiles(
        night,
        blocks=tuple(item.path for item in found if item.place == "block"),
        waiting=tuple(LeftOut(i.path, i.reason) for i in found if i.place == "waiting"),
        left_out=tuple(LeftOut(i.path, i.reason) for i in found if i.place == "left out"),
        n_others=len(others),
        others=tuple((night_of(item.time, time_zone), item.path) for item in others if item.time),
    )


def _unless_product(found: _Found) -> _Found:
    """Leave a file out that a calibration has made, whatever it is called."""
    product = product_in(found.path) if found.place == "block" else ""
    return (
        replace(found, place="left out", reason=f"it is {product}, no block") if product else found
    )


def _look_at(path: Path, site: _Site) -> _Found:
    try:
        state = path.stat()
    except OSError as error:
        # Whatever it is, nothing says that it was finished before this moment.
        return _undated(path, site, site.now, waits_for=f"cannot be looked at: {error.strerror}")
    # The change time too: a copy may bring the modification time of its original along.
    changed = datetime.fromtimestamp(max(state.st_mtime, state.st_ctime), UTC)
    age_s = (site.now - changed).total_seconds()
    waits_for = f"it changed {max(age_s, 0):.0f} s ago, and may be growing"
    waits_for = waits_for if age_s < site.settle_s else ""
    try:
        moment = site.time_of(path)
    except CannotCompute as error:
        if isinstance(error, BeingWritten):
            waits_for = BEING_WRITTEN
        written = datetime.fromtimestamp(state.st_mtime, UTC)
        what = str(error).removeprefix(f"{path}: ").rstrip(".")
        return _undated(path, site, written, waits_for=waits_for, what=what)
    return _dated(path, site, moment, waits_for)


def _dated(path: Path, site: _Site, moment: datetime, waits_for: str) -> _Found:
    """Place a file whose observation time is known."""
    night = night_of(moment, site.time_zone)
    if night == site.night:
        # Its time may be known from an earlier look: it was not opened now.
        waits_for = waits_for or (BEING_WRITTEN if is_being_written(path) else "")
        return _Found(path, "waiting" if waits_for else "block", waits_for, moment)
    if site.by_path.get(path) != site.night:
        return _Found(path, "other night", time=moment)
    reason = f"observed at {moment:%Y-%m-%d %H:%M} UTC, in the night of {night}"
    return _Found(path, "left out", reason, moment)


def _undated(
    path: Path, site: _Site, written: datetime, *, waits_for: str = "", what: str = ""
) -> _Found:
    """Place a file whose observation time cannot be read: by its path, else by its writing."""
    stated = _stated(path, site)
    last = night_of(written, site.time_zone)
    if site.night not in stated if stated else site.night > last:
        return _Found(path, "other night")
    if waits_for:
        return _Found(path, "waiting", waits_for)
    if stated == {site.night} or (not stated and site.night == last):
        return _Found(path, "block")
    unknown = (
        f"its path states several dates ({', '.join(map(str, sorted(stated)))})"
        if stated
        else f"no date is in its path either, and it was written on {written:%Y-%m-%d}"
    )
    reason = (
        f"it may be of this night: {what}; {unknown}. Mend it or take it away, or put it into a "
        "folder with the date of its night"
    )
    return _Found(path, "left out", reason)


def _stated(path: Path, site: _Site) -> set[date]:
    """Nights that the path of a file states."""
    if path in site.by_path:
        return {site.by_path[path]}
    is_below = site.root is not None and path.is_relative_to(site.root)
    return dates_in(path.relative_to(site.root) if is_below and site.root else path)
