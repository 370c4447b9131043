"""Coefficients from a monitoring file, ours or of ctao-calibpipe.

Takes the file; gives one factor or time offset per telescope, and what it is a factor of. That is
never guessed: our files say which calibration made a table (companions below
``/dl2/service/arraycal/<calibration>``), in a file of another program it has to be stated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib import hdf5
from arraycal.calib.disk.files import file_digest
from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.monitoring.clock_intervals import INTERVALS, read_intervals
from arraycal.calib.monitoring.origin import (
    TABLES,
    CoefficientTable,
    Quantity,
    calibration_of,
    configuration_of,
    quantity_of,
    refuse_column,
    refuse_unusable,
    slope_of,
    source_columns,
)
from arraycal.calib.monitoring.published_tables import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "COEFFICIENTS",
    "TABLES",
    "CoefficientTable",
    "Coefficients",
    "Quantity",
    "read_coefficients",
]

#: Columns of the number and its error in a table.
NUMBERS: dict[CoefficientTable, tuple[str, str]] = {
    "cross": ("value", "error"),
    "inter": ("value", "error"),
    "timing": ("offset", "error"),
}
#: What h5py raises on an attribute that makes no sense.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)

#: One row per telescope the file names. `value` is a throughput coefficient without unit, or a
#: time offset in ns; NaN with its `reason` where there is none. Positions are NaN if not stated.
COEFFICIENTS = pl.Schema(
    {
        "tel_id": pl.Int64,
        "tel_type": pl.String,
        "value": pl.Float64,
        "error": pl.Float64,
        "reason": pl.String,
        "pos_x": pl.Float64,
        "pos_y": pl.Float64,
        "pos_z": pl.Float64,
    }
)
POSITION = ("pos_x", "pos_y", "pos_z")
#: Telescopes a message names.
MAX_LISTED = 5
NAN_VALUE = "its coefficient is NaN"


@dataclass(frozen=True)
class Coefficients:
    """What to correct, and by how much.

    Parameters
    ----------
    path : Path
        The file.
    table : str
        The table in it.
    calibration : str
        Name of our calibration that made it; empty for another program's.
    quantity : {"energy", "size", "time"}
        What the coefficients belong to.
    columns : tuple of str
        Columns to correct: the first of them that a block has.
    slope : float
        d ln(quantity) / d ln(throughput): the quantity is corrected by ``value ** slope``.
    obs_ids : tuple of int
        Observations they were made from, as far as the file says.
    telescopes : DataFrame
        Schema `COEFFICIENTS`, ordered by telescope.
    digest : str
        Hash of the file.
    intervals : DataFrame
        Schema ``arraycal.calib.monitoring.clock_intervals.INTERVALS``: offsets of the clocks that
        jump.
    """

    path: Path
    table: str
    calibration: str
    quantity: Quantity
    columns: tuple[str, ...]
    slope: float
    obs_ids: tuple[int, ...]
    telescopes: pl.DataFrame
    digest: str
    intervals: pl.DataFrame = field(default_factory=INTERVALS.to_frame)


def read_coefficients(
    path: Path,
    *,
    table: CoefficientTable | None = None,
    quantity: Quantity | None = None,
    column: str | None = None,
) -> Coefficients:
    """Read the coefficients of a monitoring file.

    Parameters
    ----------
    path : Path
        ``monitoring.h5``, ours or of ctao-calibpipe.
    table : {"cross", "inter", "timing"}, optional
        Which table; by default the cross-calibration if there is one, else the
        inter-calibration.
    quantity : {"energy", "size", "time"}, optional
        What the coefficients belong to, needed if the file does not say.
    column : str, optional
        The column to correct; by default the one the file names, or ctapipe's usual one.

    Raises
    ------
    WrongUsage
        If there is no file, the choice of table is open, or the quantity is unknown or
        contradicts the file, or the column belongs to another quantity.
    CannotCompute
        If the file is damaged, has no such table, a coefficient can be none, or the file calls
        itself unusable.
    NothingToDo
        If the table has no rows.
    """
    if not path.exists():
        raise WrongUsage(
            f"{path}: expected a file of coefficients, such as the monitoring.h5 of a "
            "calibration; there is nothing. Check the path."
        )
    with hdf5.open_file(path) as file:
        chosen = _choose(file, path, table)
        stored = hdf5.require_table(file, TABLES[chosen], path)
        calibration = calibration_of(file, path, chosen)
        found = quantity_of(path, chosen, calibration, quantity)
        refuse_unusable(file, path, calibration)
        telescopes = _telescopes(stored, NUMBERS[chosen], positive=chosen != "timing")
        options = configuration_of(file, path, calibration) if calibration else {}
        usual = source_columns(calibration, found, options)
        refuse_column(path, found, column, usual[0] if calibration else "")
        return Coefficients(
            path=path,
            table=TABLES[chosen],
            calibration=calibration,
            quantity=found,
            columns=(column,) if column else usual,
            slope=1.0 if found == "time" else slope_of(options, path),
            obs_ids=_obs_ids(file, TABLES[chosen]),
            telescopes=_with_companion(telescopes, file, path, calibration),
            digest=file_digest(path),
            intervals=read_intervals(file, path, calibration if found == "time" else ""),
        )


def _choose(file: hdf5.File, path: Path, wanted: CoefficientTable | None) -> CoefficientTable:
    found = [name for name, table in TABLES.items() if hdf5.has_table(file, table, path)]
    if wanted is None and "timing" in found and len(found) > 1:
        raise WrongUsage(
            f"{path} holds throughput and timing coefficients. Say which to apply: "
            f"--table {' or '.join(found)}."
        )
    if wanted is None and found:
        return found[0]
    if wanted in found:
        return wanted
    expected = f"table {TABLES[wanted]}" if wanted else "table of coefficients"
    there = ", ".join(found) or ", ".join(hdf5.child_names(file, "/", path)) or "nothing"
    raise CannotCompute(
        f"{path}: there is no {expected}; the file holds: {there}. "
        f"Coefficients are looked for in {', '.join(TABLES.values())}."
    )


def _telescopes(table: hdf5.Table, numbers: tuple[str, str], *, positive: bool) -> pl.DataFrame:
    """Rows of the table, checked: schema `COEFFICIENTS` without positions."""
    table.require("tel_type", "tel_id", *numbers)
    rows = table.read_few()
    if not len(rows):
        raise NothingToDo(
            f"{table.path}: {table.name} has no rows: no telescope has a coefficient."
        )
    where = f"{table.path}: {table.name}"
    for name, kinds in (("tel_id", "iu"), (numbers[0], "fiu"), (numbers[1], "fiu")):
        if table.dtype[name].kind not in kinds or table.dtype[name].shape:
            raise CannotCompute(f"{where}: column {name} is {table.dtype[name]}, not a number.")
    frame = pl.DataFrame(
        {
            "tel_id": rows["tel_id"].astype(np.int64),
            "tel_type": table.column("tel_type", rows).astype(np.str_).tolist(),
            "value": rows[numbers[0]].astype(np.float64) * _in_ns(table, numbers[0]),
            "error": rows[numbers[1]].astype(np.float64) * _in_ns(table, numbers[1]),
        }
    )
    _refuse(frame, pl.col("tel_id").is_duplicated(), f"{where}: more than one row for")
    nonsense = pl.col("value").is_infinite() | pl.col("error").is_infinite()
    nonsense |= pl.col("error") < 0
    if positive:
        nonsense |= pl.col("value") <= 0
    _refuse(frame, nonsense, f"{where}: a coefficient or error that can be none for")
    reason = pl.when(pl.col("value").is_nan()).then(pl.lit(NAN_VALUE)).otherwise(pl.lit(""))
    return frame.with_columns(reason.alias("reason"))


def _refuse(frame: pl.DataFrame, bad: pl.Expr, what: str) -> None:
    rows = frame.filter(bad)
    if len(rows):
        listed = ", ".join(
            f"telescope {row['tel_id']} ({row['value']:g} ± {row['error']:g})"
            for row in rows.head(MAX_LISTED).iter_rows(named=True)
        )
        more = f" and {len(rows) - MAX_LISTED} more" if len(rows) > MAX_LISTED else ""
        raise CannotCompute(f"{what} {listed}{more}. Produce the coefficients again.")


#: Nanoseconds in a unit of time; no unit is what ctao-calibpipe's coefficients have.
NANOSECONDS = {"": 1.0, "ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def _in_ns(table: hdf5.Table, column: str) -> float:
    unit = table.unit(column)
    if unit not in NANOSECONDS:
        raise CannotCompute(f"{table.path}: {column} of {table.name} is in {unit}, expected ns.")
    return NANOSECONDS[unit]


def _obs_ids(file: hdf5.File, table: str) -> tuple[int, ...]:
    try:
        stored = np.atleast_1d(file[table].attrs.get("obs_id", ()))
        return tuple(sorted({int(obs_id) for obs_id in stored}))
    except DAMAGE:
        return ()  # they serve a remark only


def _with_companion(
    telescopes: pl.DataFrame, file: hdf5.File, path: Path, calibration: str
) -> pl.DataFrame:
    """Add what our file knows of telescopes: where they stand, why one has no coefficient."""
    name = f"{SERVICE}/{calibration}/telescopes"
    table = hdf5.find_table(file, name, path) if calibration else None
    if table is None:
        nowhere = [pl.lit(np.nan).alias(axis) for axis in POSITION]
        return telescopes.with_columns(nowhere).select(COEFFICIENTS.names()).sort("tel_id")
    table.require("tel_id", "tel_type", *POSITION)
    rows = table.read_few()
    columns: dict[str, npt.NDArray[Any] | list[str]] = {
        "tel_id": rows["tel_id"].astype(np.int64),
        "its_type": table.column("tel_type", rows).tolist(),
        "why": _reasons(table, rows),
        **{axis: rows[axis].astype(np.float64) for axis in POSITION},
    }
    known = pl.DataFrame(columns).unique("tel_id", keep="first")
    both = known.join(telescopes, on="tel_id", how="full", coalesce=True)
    text = pl.coalesce("reason", "why", pl.lit("no row in the file"))
    return both.select(
        "tel_id",
        pl.coalesce("tel_type", "its_type").alias("tel_type"),
        pl.col("value", "error").fill_null(np.nan),
        text.alias("reason"),
        pl.col(*POSITION).fill_null(np.nan),
    ).sort("tel_id")


def _reasons(table: hdf5.Table, rows: npt.NDArray[Any]) -> list[str]:
    if "reason" not in table.columns:
        return [""] * len(rows)
    return [text or "no coefficient" for text in table.column("reason", rows).tolist()]
