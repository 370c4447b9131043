"""The history as tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from arraycal.calib.history.errors import HistoryError
from arraycal.calib.history.tables import Coefficient, Run

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt

    from arraycal.calib.history.database import History

    Floats = npt.NDArray[np.float64]

__all__ = ["COEFFICIENTS", "RUNS", "Selection", "covariances", "recorded_coefficients", "runs"]

#: Bytes of a number in a covariance.
NUMBER = 8
#: Without a zone, as in the database; always UTC.
MOMENT: pl.DataType | type[pl.DataType] = pl.Datetime("us")

#: One row per run, in the order of nights.
RUNS = pl.Schema(
    {
        "run_id": pl.Int64,
        "night": pl.Date,
        "calibration": pl.String,
        "configuration_digest": pl.String,
        "status": pl.String,
        "verdict": pl.String,
        "unit": pl.String,
        "n_blocks": pl.Int64,
        "observed_from": MOMENT,
        "observed_until": MOMENT,
        "published": MOMENT,
        "result_path": pl.String,
    }
)

#: One row per telescope and run; numbers that are not known are NaN. Unit: that of the run.
COEFFICIENTS = pl.Schema(
    {
        "run_id": pl.Int64,
        "night": pl.Date,
        "calibration": pl.String,
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "value": pl.Float64,
        "error": pl.Float64,
        "systematic": pl.Float64,
        "n_events": pl.Int64,
        "flag": pl.String,
        "reason": pl.String,
    }
)
RUN_COLUMNS = [Run.id.label("run_id"), *(getattr(Run, name) for name in list(RUNS)[1:])]


@dataclass(frozen=True)
class Selection:
    """Which part of the history; None for all of it.

    Parameters
    ----------
    calibration : str, optional
        Name of the calibration.
    since, until : date, optional
        First and last night.
    configuration : str, optional
        Beginning of the digest of a configuration.
    """

    calibration: str | None = None
    since: date | None = None
    until: date | None = None
    configuration: str | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the selection as conditions on `Run`."""
        found = []
        if self.calibration is not None:
            found.append(Run.calibration == self.calibration)
        if self.since is not None:
            found.append(Run.night >= self.since)
        if self.until is not None:
            found.append(Run.night <= self.until)
        if self.configuration is not None:
            found.append(Run.configuration_digest.startswith(self.configuration, autoescape=True))
        return found


def runs(history: History, selection: Selection) -> pl.DataFrame:
    """Return the runs of a selection as a frame of schema `RUNS`."""
    query = (
        sa.select(*RUN_COLUMNS)
        .where(*selection.conditions())
        .order_by(Run.night, Run.calibration, Run.configuration_digest)
    )
    with history.reading() as connection:
        rows = connection.execute(query).all()
    return pl.DataFrame([tuple(row) for row in rows], schema=RUNS, orient="row")


def recorded_coefficients(
    history: History, selection: Selection, tel_ids: tuple[int, ...] = ()
) -> pl.DataFrame:
    """Return the coefficients of a selection as a frame of schema `COEFFICIENTS`.

    Parameters
    ----------
    history : History
        Where from.
    selection : Selection
        Which runs.
    tel_ids : tuple of int
        Which telescopes; all if empty.
    """
    columns: list[Any] = [
        Coefficient.run_id,
        Run.night,
        Run.calibration,
        *(getattr(Coefficient, name) for name in list(COEFFICIENTS)[3:]),
    ]
    query = (
        sa.select(*columns)
        .join(Run, Run.id == Coefficient.run_id)
        .where(*selection.conditions())
        .order_by(Run.calibration, Run.night, Run.id, Coefficient.tel_type, Coefficient.tel_id)
    )
    if tel_ids:
        query = query.where(Coefficient.tel_id.in_(tel_ids))
    with history.reading() as connection:
        rows = connection.execute(query).all()
    frame = pl.DataFrame([tuple(row) for row in rows], schema=COEFFICIENTS, orient="row")
    return frame.with_columns(pl.col("value", "error", "systematic").fill_null(float("nan")))


def covariances(history: History, selection: Selection) -> dict[int, Floats]:
    """Covariance of the finite coefficients of every run, ordered by telescope id.

    Raises
    ------
    HistoryError
        If one of them is no square matrix.
    """
    columns = (Run.id, Run.night, Run.calibration, Run.covariance)
    query = sa.select(*columns).where(*selection.conditions())
    with history.reading() as connection:
        rows = connection.execute(query).all()
    return {
        run_id: _square(data, f"{calibration} of {night} in the history at {history.name}")
        for run_id, night, calibration, data in rows
        if data is not None
    }


def _square(data: bytes, where: str) -> Floats:
    size = math.isqrt(len(data) // NUMBER)
    if len(data) != NUMBER * size**2:
        raise HistoryError(
            f"the covariance of {where} is damaged: {len(data)} bytes, expected those of a square "
            "matrix of 8-byte numbers. Calibrate the night again (arraycal nightly --night NIGHT "
            "--again), or restore a copy of the history."
        )
    return np.frombuffer(data, "<f8").astype(np.float64).reshape(size, size)
