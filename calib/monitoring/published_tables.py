"""The monitoring file: coefficients where ctapipe and ctao-calibpipe look for them.

The coefficients are in one table, at the path of the observable; a calibration may publish more
tables beside it. It has a row for every telescope
*with* a coefficient. A telescope without one gets no row, as in the files of ctao-calibpipe: its
cross-calibration names such a telescope in a warning and takes its energies as they are, while a
single NaN among the telescopes of its reference type turns every factor it writes into NaN.

Everything else is in companion tables below ``/dl2/service/arraycal/<calibration>``; there
every telescope has its row, with the reason for a missing coefficient.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.column_descriptions import describe
from arraycal.calib.hdf5.writing import Column, create_file, set_attributes, write_table
from arraycal.calib.monitoring.file_metadata import (
    Product,
    key_value,
    reference_metadata,
    text_column,
)
from arraycal.calib.result.result import CLOCK_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["SERVICE", "monitoring_file"]

#: Group of the companion tables.
SERVICE = "/dl2/service/arraycal"
#: Version of the layout of the companion tables.
LAYOUT_VERSION = "1"

POSITION = ("pos_x", "pos_y", "pos_z")


def monitoring_file(result: CalibrationResult, observable: Observable) -> bytes:
    """Build the monitoring file of a result, in memory.

    Parameters
    ----------
    result : CalibrationResult
        What to write.
    observable : Observable
        Which calibration it is.

    Returns
    -------
    bytes
        The content of an HDF5 file.
    """
    buffer = io.BytesIO()
    with create_file(buffer) as file:
        about = Product(
            description=f"Array calibration: {result.calibration}",
            levels="DL2",
            model="arraycal monitoring",
            model_version=LAYOUT_VERSION,
            activity=result.calibration,
        )
        set_attributes(file, reference_metadata(about, result.obs_ids, result.provenance))
        obs_ids = {"obs_id": np.asarray(result.obs_ids, np.uint64)}
        published = {observable.monitoring_path: _coefficients(result)} | result.published
        for path, table in published.items():
            write_table(file, path, _columns(result, table, path), obs_ids)
        for name, columns in _companions(result):
            write_table(file, f"{SERVICE}/{result.calibration}/{name}", columns, obs_ids)
    return buffer.getvalue()


def _coefficients(result: CalibrationResult) -> pl.DataFrame:
    known = result.telescopes.filter(pl.col("value").is_finite()).sort("tel_type", "tel_id")
    return known.select("tel_type", "tel_id", "value", "error")


def _companions(result: CalibrationResult) -> Iterator[tuple[str, Mapping[str, Column]]]:
    """Tables that explain the coefficients."""
    yield "telescopes", _columns(result, result.telescopes, "telescopes") | _positions(result)
    for name in ("pairs", "rejected", "blocks", "residuals"):
        yield name, _columns(result, getattr(result, name), name)
    for name, table in result.extras.items():
        yield name, _columns(result, table, name)
    if result.tel_ids:  # HDF5 has no column of arrays without elements
        yield (
            "covariance",
            {
                "tel_id": Column(np.asarray(result.tel_ids, np.int64)),
                "covariance": Column(
                    np.asarray(result.covariance, np.float64),
                    description="Covariance of the coefficients with those of the rows, in order",
                ),
            },
        )
    lines = result.configuration.splitlines()
    yield "configuration", {"line": text_column(lines, "YAML, line by line")}
    facts = {
        "verdict": str(result.verdict),
        "untested": "; ".join(result.verdict.untested),
        **result.fit,
    }
    yield "fit", key_value(facts)
    yield "provenance", key_value(result.provenance)


def _columns(result: CalibrationResult, frame: pl.DataFrame, table: str) -> dict[str, Column]:
    """Columns of a table of the result, text of any length included."""
    columns, clocks = {}, result.quantity == CLOCK_OFFSET
    for series in frame:
        description, unit = describe(series.name, table, clocks=clocks)
        if series.dtype == pl.String:
            columns[series.name] = text_column(series.fill_null("").to_list(), description)
        else:
            columns[series.name] = Column(series.to_numpy(), unit=unit, description=description)
    return columns


def _positions(result: CalibrationResult) -> dict[str, Column]:
    unknown = (np.nan,) * 3
    rows = [result.positions_m.get(tel_id, unknown) for tel_id in result.telescopes["tel_id"]]
    positions = np.asarray(rows, np.float64).reshape(-1, 3)
    columns = {}
    for axis, name in enumerate(POSITION):
        description, unit = describe(name)
        columns[name] = Column(positions[:, axis], unit, description=description)
    return columns
