"""What the history says as a flat table, in files for other software: Parquet, CSV, ECSV."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import polars as pl

from arraycal.calib.column_descriptions import HISTORY, describe
from arraycal.calib.disk.files import replace_file
from arraycal.calib.errors import WrongUsage
from arraycal.calib.trends.trends import is_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from arraycal.calib.history.trends import TrendView

__all__ = [
    "EXPORTS",
    "FORMATS",
    "check_destination",
    "export_table",
    "exported_coefficients",
    "run_table",
    "trend_table",
]

#: Of a run, beside its coefficients.
OF_RUN = ("configuration_digest", "published", "status", "unit")


def exported_coefficients(view: TrendView) -> pl.DataFrame:
    """Every coefficient with its run, and for those in the trends the relative value."""
    ours = view.runs.select("run_id", *OF_RUN, in_trend="chosen")
    table = view.coefficients.join(ours, on="run_id", maintain_order="left")
    key = ["calibration", "tel_type", "tel_id", "night"]
    relative = view.trends.nights.select(
        *key, "relative", "outlier", relative_error="error", in_trend=pl.lit(value=True)
    )
    table = table.join(relative, on=[*key, "in_trend"], how="left", maintain_order="left")
    first = ("night", "calibration", "configuration_digest", "published", "status")
    numbers = ("value", "error", "systematic", "unit", "n_events", "flag", "reason")
    last = ("in_trend", "relative", "relative_error", "outlier")
    return table.select(*first, "tel_type", "tel_id", *numbers, *last).with_columns(
        pl.col("relative", "relative_error").fill_null(math.nan),
        pl.col("outlier").fill_null(value=False),
    )


def trend_table(view: TrendView) -> pl.DataFrame:
    """One row per calibration and telescope, with the unit of the calibration."""
    unit = pl.col("calibration").map_elements(
        lambda name: "ns" if is_clock(name) else "", return_dtype=pl.String
    )
    return view.trends.telescopes.with_columns(
        pl.col("step", "step_error").fill_null(math.nan), unit=unit
    )


def run_table(view: TrendView) -> pl.DataFrame:
    """One row per run."""
    return view.runs.drop("run_id")


#: What can be written, by name.
EXPORTS: Mapping[str, Callable[[TrendView], pl.DataFrame]] = {
    "coefficients": exported_coefficients,
    "trends": trend_table,
    "runs": run_table,
}


def check_destination(path: Path, suffixes: tuple[str, ...], *, overwrite: bool) -> None:
    """Refuse a file of unknown type, one that exists, or one without a folder.

    Raises
    ------
    WrongUsage
        Before anything is read.
    """
    if path.suffix.lower() not in suffixes:
        found = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise WrongUsage(f"{path}: found {found}, expected {', '.join(suffixes)}.")
    if path.is_dir():
        raise WrongUsage(f"{path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise WrongUsage(f"{path}: there is no folder {path.parent}. Create it first.")
    if path.exists() and not overwrite:
        raise WrongUsage(f"{path} exists. Replace it with --overwrite, or choose another name.")


def export_table(table: pl.DataFrame, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a table whole or not at all; the suffix says how.

    Parameters
    ----------
    table : DataFrame
        One of `EXPORTS`.
    path : Path
        ``.parquet``, ``.csv`` or ``.ecsv``; replaced if it exists.
    provenance : mapping
        Written into the header of an ECSV file.

    Raises
    ------
    OSError
        If it cannot be written; what was there stays.
    """
    replace_file(path, FORMATS[path.suffix.lower()](table, provenance))


def _parquet(table: pl.DataFrame, _: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _csv(table: pl.DataFrame, _: Mapping[str, Any]) -> bytes:
    return table.write_csv().encode()


def _ecsv(table: pl.DataFrame, provenance: Mapping[str, Any]) -> bytes:
    """Columns with astropy units where all rows have the same; dates as ISO text."""
    from astropy.table import Table

    units = set(table["unit"]) if len(table) else {""}
    unit = units.pop() if len(units) == 1 else ""
    texts = table.with_columns(
        pl.selectors.temporal().dt.to_string("iso:strict").fill_null(""),
        pl.selectors.string().fill_null(""),
    )
    columns = {column.name: column.to_numpy() for column in texts}
    # Arrays of Python objects would be written as JSON.
    whole = Table({n: c.astype(str) if c.dtype == object else c for n, c in columns.items()})
    for name, column in whole.columns.items():
        column.description, own = describe(name, HISTORY, clocks=unit == "ns")
        column.unit = own or None
    whole.meta = {"provenance": dict(provenance)}
    text = io.StringIO()
    whole.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


#: How to write, by suffix.
FORMATS: Mapping[str, Callable[[pl.DataFrame, Mapping[str, Any]], bytes]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".ecsv": _ecsv,
}
