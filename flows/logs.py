"""Where log records of a run go: a file beside the results, and the run in the Prefect UI."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calib.errors import ArraycalError
from config.errors import ConfigurationError

__all__ = ["LOG_FILE", "log_file"]

log = logging.getLogger("arraycal.flows")

LOG_FILE = "arraycal.log"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_file(folder: Path, level: str) -> Iterator[Path]:
    """Add what happens inside to ``arraycal.log`` of a folder, tracebacks included.

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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOG_FILE
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    with logging_to(handler, level):
        try:
            yield path
        except (ArraycalError, ConfigurationError) as error:
            log.error("stopped: %s", error)  # noqa: TRY400  expected: the message says it all
            raise
        except BaseException:  # Ctrl-C too
            log.exception("stopped")
            raise


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
