"""Folders of results: never in the place of a file of ours."""

import re
from pathlib import Path

from arraycal.calib.nights.record import NIGHT_FILE
from arraycal.calib.publish.writing import FILES, INDEX, LOCK
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import HISTORY_FILE, Settings
from arraycal.flows.jobs.logs import LOG_FILE
from arraycal.flows.jobs.path_patterns import absolute, inside

__all__ = ["output_folder"]

#: Files that we write into folders of results; SQLite keeps some beside its own.
OWN = {*FILES, INDEX, LOCK, NIGHT_FILE, LOG_FILE, ".lock", ".index.lock"}
#: What SQLite adds to the name of a database for the files beside it.
BESIDE = ("", "-wal", "-shm", "-journal")
DATABASES = {HISTORY_FILE + more for more in BESIDE}
SQLITE_URL = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")


def output_folder(text: str, settings: Settings) -> Path:
    """Make the folder of results absolute.

    Parameters
    ----------
    text : str
        As given.
    settings : Settings
        Where relative ones start, and where the history is.

    Raises
    ------
    ConfigurationError
        If it leaves the output folder of the machine, or a folder there would be in the place of
        a file of ours.
    """
    path = inside(text, absolute(settings.output_root), "output_root")
    for name in Path(text).parts:
        if name in OWN | DATABASES:
            raise ConfigurationError(
                f"output {text}: {name} is the name of a file that arraycal writes; expected a "
                "folder of another name. Choose one"
            )
    database = SQLITE_URL.match(settings.history_url)
    if database is not None:
        file = Path(database["path"]).resolve()
        taken = {file.with_name(file.name + more) for more in BESIDE}
        if any(place.resolve() in taken for place in (path, *path.parents)):
            raise ConfigurationError(
                f"output {text} is in the place of the history {file}; expected a folder of its "
                "own. Choose another"
            )
    return path
