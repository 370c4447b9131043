"""A published result into the history: one transaction, which replaces an older version."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from arraycal.calib.fit.sums.kept import FORMAT, pack
from arraycal.calib.history.digest import configuration_digest
from arraycal.calib.history.tables import KEY, Coefficient, Run, StoredSums
from arraycal.calib.schema import NOTES

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from arraycal.calib.dl2.observed import Span
    from arraycal.calib.history.database import History
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.config.models import Configuration

__all__ = ["RecordedResult", "entry_of", "record"]

BLOCK_COLUMNS = ("path", "status", "reason", "obs_ids", "digest")
INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class RecordedResult:
    """What the history keeps of a result.

    Parameters
    ----------
    run : dict
        Columns of `Run` except ``id``.
    coefficients : list of dict
        Columns of `Coefficient` except ``run_id``.
    sums : bytes or None
        From ``arraycal.calib.fit.sums.kept.pack``; None for a result whose sums windows of nights
        cannot use.
    """

    run: dict[str, Any]
    coefficients: list[dict[str, Any]]
    sums: bytes | None = None


def entry_of(
    result: CalibrationResult,
    night: date,
    configuration: Configuration,
    *,
    result_path: Path,
    span: Span | None = None,
    unit: str = "",
) -> RecordedResult:
    """Make the entry of a result.

    Parameters
    ----------
    result : CalibrationResult
        As published.
    night : date
        To which it belongs.
    configuration : Configuration
        All options.
    result_path : Path
        Where its numbers are.
    span : Span, optional
        First and last trigger of its blocks.
    unit : str
        Of the coefficients; empty for throughputs.

    Returns
    -------
    RecordedResult
        Plain values, ready for the database.
    """
    run = {
        "night": night,
        "calibration": result.calibration,
        "configuration_digest": configuration_digest(configuration),
        "configuration": result.configuration,
        "status": result.verdict.status,
        "verdict": str(result.verdict),
        "unit": unit,
        "blocks": result.blocks.select(BLOCK_COLUMNS).to_dicts(),
        "obs_ids": list(result.obs_ids),
        "n_blocks": int((result.blocks["status"] == "ok").sum()),
        "observed_from": None if span is None else _naive(span.start),
        "observed_until": None if span is None else _naive(span.stop),
        "published": _published(result),
        "versions": dict(result.provenance.get("versions", {})),
        "fit": result.to_json()["fit"],
        "covariance": np.asarray(result.covariance).astype("<f8").tobytes(),
        "result_path": str(result_path),
    }
    columns = ("tel_id", "tel_type", "value", "error", "systematic", "n_events", "flag", "reason")
    rows = result.telescopes.select(columns).iter_rows(named=True)
    return RecordedResult(_storable(run), [_storable(row) for row in rows], _packed(result))


def _packed(result: CalibrationResult) -> bytes | None:
    """Sums with what the verdict and the notes on blocks say beyond them."""
    sums = result.sums
    if sums is None:
        return None
    remarks = tuple(text for text in result.verdict.reasons if text not in sums.judged)
    notes = {name: result.extras[name] for name in result.extras if name == NOTES}
    return pack(replace(sums, remarks=remarks, tables=sums.tables | notes))


def _published(result: CalibrationResult) -> datetime:
    try:
        return _naive(datetime.fromisoformat(str(result.provenance.get("time_utc"))))
    except ValueError:
        return _naive(datetime.now(UTC))


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _storable(value: Any) -> Any:  # noqa: ANN401  values of a row have no common type
    """Replace what a database has no place for: NaN, and bytes of file names that are no text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    return value


def record(history: History, entry: RecordedResult) -> int:
    """Put an entry into the history, in place of one with the same key.

    Parameters
    ----------
    history : History
        From `open_history`.
    entry : RecordedResult
        From `entry_of`.

    Returns
    -------
    int
        Number of the run; the same as before when it replaces one.

    Raises
    ------
    HistoryError
        If the database is damaged; it has not changed then.
    OSError
        If it cannot be written, or stays locked; it has not changed then.
    """
    with history.writing() as connection:
        insert: Any = INSERTS[connection.dialect.name](Run).values(**entry.run)
        others = {name: insert.excluded[name] for name in entry.run if name not in KEY}
        # The row stays locked until the end: of two publishers of one night, the second waits
        # here and then replaces all that the first has written.
        run_id: int = connection.execute(
            insert.on_conflict_do_update(index_elements=KEY, set_=others).returning(Run.id)
        ).scalar_one()
        connection.execute(sa.delete(Coefficient).where(Coefficient.run_id == run_id))
        if entry.coefficients:
            rows = [{"run_id": run_id, **row} for row in entry.coefficients]
            connection.execute(sa.insert(Coefficient), rows)
        connection.execute(sa.delete(StoredSums).where(StoredSums.run_id == run_id))
        if entry.sums is not None:
            stored = {"run_id": run_id, "format": FORMAT, "content": entry.sums}
            connection.execute(sa.insert(StoredSums).values(**stored))
    return run_id
