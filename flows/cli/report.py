"""``arraycal report``: reports written again from the results they are about."""

import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from arraycal.calib.disk.locks import exclusive
from arraycal.calib.errors import ArraycalError, CannotCompute, WrongUsage
from arraycal.calib.nights.index import night_folders, unreadable_nights
from arraycal.calib.nights.record import (
    NIGHT_FILE,
    CalibrationRecord,
    file_digests,
    read_night,
    write_night,
)
from arraycal.calib.publish.reading import DAMAGES, read_result
from arraycal.calib.publish.writing import (
    INDEX,
    MONITORING,
    REPORT,
    RESULT,
    publish_report,
    reserved,
)
from arraycal.flows.jobs.site_settings import find_site
from arraycal.flows.night.index import index_nights
from arraycal.flows.night.options import checked, read_options
from arraycal.flows.night.run import LOCK_FILE
from arraycal.flows.terminal.console import stderr, stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["report"]

log = logging.getLogger("arraycal.flows")


def report(arguments: Namespace) -> Exit:
    """Write the reports of a result, a night, or all nights again.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.

    Returns
    -------
    Exit
        ``USABLE`` when all were written, ``DEGRADED`` when some could not be or the record of a
        night cannot be read, ``UNUSABLE`` when none could, ``NOTHING_TO_DO`` for a night without
        results.

    Raises
    ------
    WrongUsage
        If there is nothing to report on in the folder, or no nights for the index.
    ArraycalError
        If it is one result, and damaged.
    OSError
        If the folder cannot be written.
    """
    folder = Path(arguments.folder).expanduser().absolute()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise WrongUsage(f"{folder}: expected a folder with results, found {found}.")
    nights = night_folders(folder)
    if nights:
        return _report_root(folder, nights, index_alone=arguments.index)
    if arguments.index:
        raise WrongUsage(
            f"{folder}: --index needs the folder of the nights: expected folders such as "
            f"2026-03-01 with {NIGHT_FILE}, found {_content(folder)}."
        )
    if (folder / RESULT).exists():
        with _night_of(folder):
            _rebuild(folder)
        return Exit.USABLE
    if (folder / NIGHT_FILE).exists() or next(folder.glob(f"*/{RESULT}"), None):
        return _verdict(list(_rebuild_night(folder)))
    raise WrongUsage(
        f"{folder}: expected {RESULT} (a result), folders with it, or folders of nights "
        f"such as 2026-03-01 with {NIGHT_FILE}, found {_content(folder)}."
    )


def _report_root(folder: Path, nights: Mapping[date, Path], *, index_alone: bool) -> Exit:
    """Rebuild every report of the nights and of results beside them, and write the index."""
    # Beside the nights lie results that are of none, such as those of merged nights.
    places = [] if index_alone else [*nights.values(), folder]
    done = [ok for place in places for ok in _rebuild_night(place)]
    site = find_site()
    for line in site.history_lines():
        stderr().print(line, markup=False, soft_wrap=True)
    settings = site.settings
    options = checked(read_options(settings.nightly_options, "ARRAYCAL_NIGHTLY_OPTIONS"))
    index_nights(folder, options, settings, always=True)
    _say(folder / INDEX)
    unreadable = unreadable_nights(folder)
    for reason in unreadable.values():
        stdout().print(f"not read: {reason}", markup=False, soft_wrap=True)
    return Exit.DEGRADED if unreadable or not all(done) else Exit.USABLE


def _verdict(done: list[bool]) -> Exit:
    if not done:
        stdout().print("nothing to do: the night has no results", markup=False)
        return Exit.NOTHING_TO_DO
    return Exit.USABLE if all(done) else Exit.DEGRADED if any(done) else Exit.UNUSABLE


def _rebuild_night(folder: Path) -> Iterator[bool]:
    """Rebuild the reports of a night one by one, and tell of each whether it could be done."""
    for path in sorted(path.parent for path in folder.glob(f"*/{RESULT}")):
        try:
            with _night_of(path):
                _rebuild(path)
        except ArraycalError as error:
            stdout().print(f"not written: {error}", markup=False, soft_wrap=True)
            yield False
        else:
            yield True


def _rebuild(folder: Path) -> None:
    try:
        with reserved(folder, wait=True):
            page = publish_report(read_result(folder), folder)
    except DAMAGES as error:
        # What can be read may still be no result: another type deep in it, a column less.
        raise CannotCompute(
            f"{folder}: no report can be made of the result ({type(error).__name__}: {error}). "
            "Run the calibration again with --overwrite."
        ) from error
    _say(page)


def _say(path: Path) -> None:
    stdout().print(f"{path}", markup=False, soft_wrap=True)


@contextmanager
def _night_of(folder: Path) -> Iterator[None]:
    """Keep runs of the night away meanwhile, and tell ``night.json`` of the new report."""
    night = folder.parent
    if not (night / NIGHT_FILE).exists():
        yield
        return
    with exclusive(night / LOCK_FILE):
        yield
        record = read_night(night)
        if record is None:
            return
        items = tuple(_with_report(item, folder) for item in record.calibrations)
        if items != record.calibrations:
            write_night(night, replace(record, calibrations=items))


def _with_report(item: CalibrationRecord, folder: Path) -> CalibrationRecord:
    """Return the record with the digest of the new report, if the result is the published one."""
    found = file_digests(folder)
    is_same = all(found.get(name) == item.digests.get(name) for name in (MONITORING, RESULT))
    if item.folder != folder.name or not is_same:
        return item
    return replace(item, digests=item.digests | {REPORT: found[REPORT]})


def _content(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004  a sentence
    return ", ".join(names[:5]) + more if names else "nothing"
