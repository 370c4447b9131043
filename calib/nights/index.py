"""``index.html`` beside the folders of the nights: one page over all of them.

It is made from the ``night.json`` of every night, and written again only when they say something
new: a run without news reads them and leaves the page alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

from arraycal.calib.disk.files import replace_file
from arraycal.calib.disk.locks import exclusive
from arraycal.calib.errors import CannotCompute
from arraycal.calib.nights.record import NIGHT_FILE, NightRecord, load_night
from arraycal.calib.publish.writing import INDEX, REPORT, own_version
from arraycal.calib.report.nights_page import (
    NO_TRENDS,
    UNREADABLE,
    CalibrationEntry,
    NightEntry,
    NightTrends,
    nights_page,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["INDEX", "night_folders", "unreadable_nights", "update_index"]

LOCK_FILE = ".index.lock"
#: Changes whenever the same nights give another page.
LAYOUT = 7
MARKS = re.compile(r'<meta name="arraycal-marks" content="([0-9a-f]+)">')
#: Bytes of a page in which its marks are.
HEAD_BYTES = 2000


def night_folders(root: Path) -> dict[date, Path]:
    """Folders of nights with a record, by date, in order.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    found = {}
    for folder in root.iterdir():
        try:
            night = date.fromisoformat(folder.name)
        except ValueError:
            continue
        # `fromisoformat` also takes 20260302 and 2026-W10-1, which no run has written.
        if folder.name == night.isoformat() and (folder / NIGHT_FILE).is_file():
            found[night] = folder
    return dict(sorted(found.items()))


def update_index(
    root: Path,
    trends: Callable[[], NightTrends] = lambda: NO_TRENDS,
    *,
    state: str = "",
    always: bool = False,
) -> bool:
    """Write the index of the nights below a folder, whole or not at all, if there is news.

    Parameters
    ----------
    root : Path
        Folder of the folders of the nights.
    trends : callable
        Gives the trends over the nights; called only when the page is written.
    state : str
        Changes with the trends.
    always : bool
        Whether to write the page without news, too.

    Returns
    -------
    bool
        Whether it was written.

    Raises
    ------
    OSError
        If the folder cannot be read or written; an earlier index stays then.
    """
    with exclusive(root / LOCK_FILE):
        entries = [_read_entry(*item) for item in night_folders(root).items()]
        marks = _marks(entries, state)
        if not always and _marks_of(root / INDEX) == marks:
            return False
        page = nights_page(entries, trends(), marks=marks)
        replace_file(root / INDEX, page.encode("utf-8", "replace"))
        return True


def unreadable_nights(root: Path) -> dict[date, str]:
    """Nights below a folder whose record cannot be read, each with the reason.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    entries = [_read_entry(*item) for item in night_folders(root).items()]
    return {item.night: "; ".join(item.reasons) for item in entries if item.status == UNREADABLE}


def _read_entry(night: date, folder: Path) -> NightEntry:
    """Return the entry of a night; one whose record cannot be read says why."""
    try:
        record = load_night(folder)
    except CannotCompute as error:
        return NightEntry(night, UNREADABLE, (str(error),))
    if record.night != night:
        reason = f"{NIGHT_FILE} of {night} is that of {record.night}. Calibrate the night again."
        return NightEntry(night, UNREADABLE, (reason,))
    return _entry(record)


def _entry(record: NightRecord) -> NightEntry:
    return NightEntry(
        night=record.night,
        status=record.status,
        reasons=(*record.reasons, *record.remarks),
        calibrations=tuple(
            CalibrationEntry(
                name=item.calibration,
                status=item.status,
                reasons=item.reasons,
                report=f"{record.night}/{item.folder}/{REPORT}" if item.folder else "",
                n_blocks=item.n_blocks,
                outliers=item.outliers,
                trends=item.trends,
            )
            for item in record.calibrations
        ),
        is_complete=record.is_complete,
        n_blocks=len(record.blocks),
    )


def _marks(entries: Sequence[NightEntry], state: str) -> str:
    content = [LAYOUT, own_version(), state, [asdict(entry) for entry in entries]]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def _marks_of(path: Path) -> str:
    """Return what the page that is there was made from; empty without one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    found = MARKS.search(head)
    return found[1] if found else ""
