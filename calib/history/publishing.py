"""A published result: the night it belongs to, and its entry in the history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.dl2.observed import Span, nights_of, observation_span
from arraycal.calib.errors import CannotCompute
from arraycal.calib.history.errors import HistoryError
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import date

    from arraycal.calib.result.result import CalibrationResult
    from arraycal.config.models import Configuration

__all__ = ["NOT_RECORDED", "NightUnknown", "record_result"]


class NightUnknown(CannotCompute):
    """The blocks do not say to which night a result belongs, or name several."""


#: Why a published result may be missing in the history.
NOT_RECORDED = (HistoryError, NightUnknown, ConfigurationError, OSError)
#: Nights in a message, before it says how many more there are.
MAX_NAMED = 4


def record_result(
    result: CalibrationResult,
    configuration: Configuration,
    result_path: Path,
    *,
    url: str,
    time_zone: str = "UTC",
    night: date | None = None,
) -> int:
    """Put a published result into the history.

    Parameters
    ----------
    result : CalibrationResult
        As published.
    configuration : Configuration
        All options.
    result_path : Path
        Where its numbers are.
    url : str
        SQLAlchemy URL of the history.
    time_zone : str
        Of the site, an IANA name.
    night : date, optional
        Night of the result; by default that of the blocks in use.

    Returns
    -------
    int
        Number of the run.

    Raises
    ------
    NightUnknown
        If no night is given, and the blocks have no time stamps or are of several nights.
    HistoryError, ConfigurationError, OSError
        See `open_history`.
    """
    # Not before: a run that finds nothing new needs no database.
    from arraycal.calib.history.database import open_history
    from arraycal.calib.history.recording import entry_of, record

    used = result.blocks.filter(pl.col("status") == "ok")["path"]
    spans = [span for path in used if (span := observation_span(Path(path)))]
    if night is None:
        night = _only_night(nights_of(spans, time_zone))
    starts, stops = [span.start for span in spans], [span.stop for span in spans]
    span = Span(min(starts), max(stops)) if spans else None
    entry = entry_of(
        result,
        night,
        configuration,
        result_path=result_path,
        span=span,
        unit=result.quantity.unit,
    )
    with open_history(url) as history:
        return record(history, entry)


def _only_night(nights: list[date]) -> date:
    if len(nights) == 1:
        return nights[0]
    if not nights:
        raise NightUnknown(
            "no block has valid time stamps, so its night is not known; state it with --night"
        )
    named = ", ".join(night.isoformat() for night in nights[:MAX_NAMED])
    more = " and others" if len(nights) > MAX_NAMED else ""
    raise NightUnknown(
        f"the blocks are of {len(nights)} nights ({named}{more}), and the history keeps results by "
        "night; run the nights one by one and merge them, or state one with --night"
    )
