"""Whether the history holds a result: asked by every run that finds nothing new.

Therefore without SQLAlchemy where the history is a file: it takes longer to start than all else
that such a run does.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from datetime import date

__all__ = ["is_recorded", "sqlite_path"]

SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")
#: The newest result of a calibration of a night.
QUERY = (
    "SELECT max(published) FROM runs "
    "WHERE night = ? AND calibration = ? AND configuration_digest = ?"
)


def sqlite_path(url: str) -> Path | None:
    """File of a history; None for one on a server."""
    found = SQLITE.match(url)
    return None if found is None else Path(found["path"])


def is_recorded(url: str, night: date, calibration: str, configuration: str, made: str) -> bool:
    """Tell whether the history holds a result, or a later one of its night.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of the history.
    night : date
        Of the result.
    calibration : str
        Name of the calibration.
    configuration : str
        Its `arraycal.calib.history.digest.configuration_digest`: an experiment with other options
        is another result.
    made : str
        When the result was made, ISO 8601; empty if that is not known, then any result will do.

    Returns
    -------
    bool
        False too if the file is not there or no history: who records will say so.

    Raises
    ------
    HistoryError, ConfigurationError, OSError
        See `arraycal.calib.history.database.open_history`; of a server only.
    """
    path, key = sqlite_path(url), (night, calibration, configuration)
    newest = _in_server(url, *key) if path is None else _in_file(path, *key)
    if newest is None or not made:
        return newest is not None
    return newest >= datetime.fromisoformat(made).astimezone(UTC).replace(tzinfo=None)


def _in_file(path: Path, night: date, calibration: str, configuration: str) -> datetime | None:
    address = f"file:{quote(str(path))}?mode=rw"  # nothing is written, and no file is made
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            (newest,) = connection.execute(
                QUERY, (night.isoformat(), calibration, configuration)
            ).fetchone()
    except sqlite3.DatabaseError:
        return None
    return None if newest is None else datetime.fromisoformat(newest)


def _in_server(url: str, night: date, calibration: str, configuration: str) -> datetime | None:
    from arraycal.calib.history.database import open_history
    from arraycal.calib.history.reading import Selection, runs

    # Who asks records what is missing: an empty database gets its tables now.
    with open_history(url) as history:
        found = runs(history, Selection(calibration, night, night, configuration))[
            "published"
        ].to_list()
    return max(found, default=None)
