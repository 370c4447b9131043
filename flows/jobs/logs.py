"""Where log records of a run go: a file beside the results, and the run in the Prefect UI."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from arraycal.calib.errors import ArraycalError, NothingToDo
from arraycal.calib.wording import continued
from arraycal.config.errors import ConfigurationError

__all__ = ["LOG_FILE", "escape_last_resort", "log_file"]

log = logging.getLogger("arraycal.flows")

LOG_FILE = "arraycal.log"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Records in which no text does more than to be read; their later lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return continued(super().format(record))


class _LogFile(logging.FileHandler):
    """Says once, and in one line, that the log cannot be written; the work goes on without it."""

    _is_broken = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  of logging
        """Say so instead of a traceback for every record."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._say(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file; what a full disk has kept in memory is lost."""
        try:
            super().close()
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        if self._is_broken:
            return
        self._is_broken = True
        with suppress(OSError):
            line = f"arraycal: the log {self.baseFilename} cannot be written: {error.strerror}"
            print(line, file=sys.stderr)  # noqa: T201  logging itself has failed


def escape_last_resort() -> None:
    """Escape what goes to the terminal because there is no log yet."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())


@contextmanager
def log_file(folder: Path, level: str) -> Iterator[Path]:
    """Add what happens inside to ``arraycal.log`` of a folder, tracebacks included.

    Where there is nothing to do, nothing is written.

    Parameters
    ----------
    folder : Path
        Created if missing.
    level : str
        Least severity.

    Yields
    ------
    Path
        The log file.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOG_FILE
    before = path.stat().st_size if path.exists() else None
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(_Formatter(FORMAT))
    try:
        with logging_to(handler, level):
            yield from _with_the_reason(path)
    except NothingToDo:
        _undo(path, before, made)
        raise


def _with_the_reason(path: Path) -> Iterator[Path]:
    """Yield the log; say in it what stopped the run."""
    try:
        yield path
    except NothingToDo as error:
        log.warning("%s", error)
        raise
    except (ArraycalError, ConfigurationError) as error:
        log.error("stopped: %s", error)  # noqa: TRY400  expected: the message says it all
        raise
    except BaseException:  # Ctrl-C too
        log.exception("stopped")
        raise


def _undo(path: Path, before: int | None, made: Sequence[Path]) -> None:
    """Take back a log and the folders made for it."""
    if before is not None:
        os.truncate(path, before)
        return
    path.unlink(missing_ok=True)
    for folder in made:
        try:
            folder.rmdir()
        except OSError:  # something else is in it by now
            return


@contextmanager
def logging_to(handler: logging.Handler, level: str) -> Iterator[None]:
    """Send records of arraycal to a handler for a while."""
    logger = logging.getLogger("arraycal")
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
