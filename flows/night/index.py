"""The index over the nights, brought up to date when nights were calibrated."""

import logging
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.errors import ArraycalError
from arraycal.calib.history.known import sqlite_path
from arraycal.calib.nights.index import night_folders, update_index
from arraycal.calib.nights.record import file_stamp, read_night
from arraycal.calib.report.elements import text
from arraycal.calib.report.nights_page import NightTrends
from arraycal.config.errors import ConfigurationError
from arraycal.config.models import TrendMonitorOptions
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import configured
from arraycal.flows.jobs.parameters import NightOptions

if TYPE_CHECKING:
    from arraycal.calib.report.trends_page import SeenTrends

__all__ = ["index_nights"]

log = logging.getLogger("arraycal.flows")


def index_nights(
    root: Path, options: NightOptions, settings: Settings, *, always: bool = False
) -> "list[SeenTrends] | None":
    """Bring the index of the nights below a folder up to date.

    Parameters
    ----------
    root : Path
        Folder of the folders of the nights.
    options : NightOptions
        Their calibrations say how trends are judged.
    settings : Settings
        Where the history is.
    always : bool
        Whether to write the page without news, too.

    Returns
    -------
    list of SeenTrends or None
        The trends that are on the page; None if there was no news, and nothing was written.

    Raises
    ------
    ConfigurationError
        If the options make no sense on this machine.
    OSError
        If the folder cannot be read or written.
    """
    monitors = {
        item.calibration: configured(item, settings).TrendMonitor for item in options.calibrations
    }
    seen: list[SeenTrends] = []

    def found() -> NightTrends:
        # A run without news needs neither database nor figures.
        from arraycal.calib.report.trends_page import flagged_telescopes, trends_section

        try:
            seen.extend(_look(root, monitors, settings))
        except (ArraycalError, ConfigurationError, OSError) as error:
            log.warning("the index shows no trends: %s", error)
            return NightTrends((f'<p class="quiet">There are no trends: {text(error)}</p>',))
        return NightTrends(tuple(trends_section(seen)), flagged_telescopes(seen))

    judged = {name: monitor.model_dump_json() for name, monitor in monitors.items()}
    state = f"{judged} {_history_stamp(settings)}"
    return seen if update_index(root, found, state=state, always=always) else None


def _look(
    root: Path, monitors: dict[str, TrendMonitorOptions], settings: Settings
) -> "list[SeenTrends]":
    from arraycal.calib.history.database import read_history
    from arraycal.calib.history.reading import Selection
    from arraycal.calib.history.trends import view_trends
    from arraycal.calib.report.trends_page import SeenTrends

    nights = night_folders(root)
    with read_history(settings.history_url) as history:
        selections = {
            name: Selection(name, since=_since(nights, monitor))
            for name, monitor in monitors.items()
        }
        found = [
            (name, view_trends(history, selections[name], monitor, root))
            for name, monitor in monitors.items()
        ]
    return [SeenTrends(name, view.trends, view.remarks) for name, view in found]


def _since(nights: dict[date, Path], monitor: TrendMonitorOptions) -> date | None:
    """First night that counts, so that the covariances of years are not read.

    It is counted from the newest night with results: an empty one may bear any date.
    """
    for night in sorted(nights, reverse=True):
        record = read_night(nights[night])
        if record is not None and any(item.folder for item in record.calibrations):
            return night - timedelta(days=monitor.look_back - 1)
    return None


def _history_stamp(settings: Settings) -> str:
    """Return what changes with the history; nothing for a server, whose news are the nights'."""
    # SQLAlchemy could tell, but a run without news starts without it.
    path = sqlite_path(settings.history_url)
    if path is None:
        return ""
    return f"{file_stamp(path)} {file_stamp(path.with_name(f'{path.name}-wal'))}"
