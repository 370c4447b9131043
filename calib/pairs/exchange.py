"""PAIRS as the event-wise asymmetry file of ctao-calibpipe, written and read.

Either half of a calibration can so be done by either program: its asymmetries can go into our
solver, ours into its fit. The file is an astropy table in HDF5 at ``/<label>/events`` with one row
for every shower and telescope pair. Impact distances and positions are not in it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.disk.files import sync
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.errors import CannotCompute, NothingToDo
from arraycal.calib.hdf5.file import (
    has_table,
    open_file,
    refuse_array_elsewhere,
    require_table,
)
from arraycal.calib.hdf5.writing import create_file
from arraycal.calib.schema import PAIRS, REJECTED, TIME, check_schema
from arraycal.calib.subarray import Subarray

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.table import QTable

    from arraycal.calib.observables import Observable

__all__ = [
    "Asymmetries",
    "is_asymmetry_file",
    "pairs_of_rows",
    "read_asymmetries",
    "telescopes_of",
    "write_asymmetries",
]

PAIR_LEVEL = "pair"
UNUSABLE_VALUE = "value is not a positive finite number"
KEYS = ("obs_id", "event_id", "tel_type", "tel_id_1", "tel_id_2")
#: Suffix of the uncertainty of a value, before that of the telescope.
UNCERTAINTY = "_uncert"
#: What astropy adds to the name of a table for that of its metadata.
META = ".__table_column_meta__"
#: A file in single precision is still the same measurement.
TOLERANCE = 1e-6
LARGEST_I4 = np.iinfo(np.int32).max


class Asymmetries(NamedTuple):
    """PAIRS of a file, and the REJECTED rows in it."""

    pairs: pl.DataFrame
    rejected: pl.DataFrame


def write_asymmetries(
    pairs: pl.DataFrame | pl.LazyFrame,
    observable: Observable,
    value_column: str,
    path: Path,
    *,
    unit: str,
) -> None:
    """Write PAIRS for the inter-calibration of ctao-calibpipe.

    Parameters
    ----------
    pairs : DataFrame or LazyFrame
        PAIRS, in any order; trigger times, which the peer does not have, are left out.
    observable : Observable
        The calibration; its label names the table and the statistic.
    value_column : str
        Name the compared column had in the block files.
    path : Path
        The file; one that exists is replaced, by a rename once the new one is complete.
    unit : str
        Unit of the value; empty for none.

    Raises
    ------
    OSError
        If the file cannot be written; nothing is left behind.
    """
    frame = pairs.lazy().drop(TIME, strict=False).collect()
    check_schema(frame, PAIRS)
    table = _to_table(frame, observable, value_column, unit)
    buffer = io.BytesIO()
    with create_file(buffer) as file:
        table.write(file, format="hdf5", path=_table_path(observable), serialize_meta=True)
    with scratch_folder(path.parent) as scratch:
        temporary = scratch / path.name
        temporary.write_bytes(buffer.getvalue())
        sync(temporary)
        temporary.replace(path)


def _table_path(observable: Observable) -> str:
    return f"/{observable.label}/events"


def _to_table(frame: pl.DataFrame, observable: Observable, value_column: str, unit: str) -> QTable:
    """Table with the columns, types and order of the peer."""
    from astropy import units as u
    from astropy.table import QTable

    label, scale = observable.label, u.Unit(unit) if unit else None
    obs_ids = np.unique(frame["obs_id"].to_numpy())
    integer = np.int32 if obs_ids.max(initial=0) <= LARGEST_I4 else np.int64
    table = QTable(meta={"obs_id": obs_ids.astype(integer)})
    table["obs_id"] = frame["obs_id"].to_numpy().astype(integer)
    table["event_id"] = frame["event_id"].to_numpy()
    table["tel_type"] = np.asarray(frame["tel_type"].to_list(), np.bytes_)
    sources = {"tel_id_1": "tel_id_1", "tel_id_2": "tel_id_2"}
    sources |= {f"{value_column}_{side}": f"value_{side}" for side in (1, 2)}
    sources |= {label: "asymmetry"}
    if observable.uncertainty:
        stem = f"{value_column}{UNCERTAINTY}"
        sources |= {f"{stem}_{side}": f"uncertainty_{side}" for side in (1, 2)}
        sources |= {f"{label}_uncertainty": "asymmetry_uncertainty"}
    for name, source in sources.items():
        values = frame[source].to_numpy()
        if name.startswith("tel_id") or scale is None:
            table[name] = values
        else:
            table[name] = values * (u.one if name.startswith(label) else scale)
    return table


def is_asymmetry_file(path: Path, observable: Observable) -> bool:
    """Say whether a file holds event-wise asymmetries of an observable.

    Parameters
    ----------
    path : Path
        Any file. One that cannot be opened holds none; reading it tells why.
    observable : Observable
        The calibration.
    """
    try:
        with open_file(path) as file:
            return has_table(file, _table_path(observable), path)
    except CannotCompute:
        return False


def read_asymmetries(path: Path, observable: Observable) -> Asymmetries:
    """Read event-wise asymmetries of ctao-calibpipe, or our own.

    Parameters
    ----------
    path : Path
        The file.
    observable : Observable
        The calibration.

    Returns
    -------
    Asymmetries
        PAIRS ordered by shower and pair, in the observable's unit, and REJECTED rows. Impact
        distances are NaN, as are uncertainties the file does not have. The statistic is computed
        again from the values.

    Raises
    ------
    CannotCompute
        If there is no such table, a column is missing, telescopes are not told apart, a row is
        repeated, or the stored asymmetry is not that of the stored values.
    """
    _require_table(path, observable)
    return pairs_of_rows(_read_columns(path, observable), observable, str(path))


def pairs_of_rows(frame: pl.DataFrame, observable: Observable, source: str) -> Asymmetries:
    """Make PAIRS of the rows of pairs that somebody else has formed.

    Parameters
    ----------
    frame : DataFrame
        Columns of PAIRS but for the statistic, in any order of rows and sides, and ``stored``: the
        asymmetry that came with them, null for none.
    observable : Observable
        The calibration.
    source : str
        Where they are from, for messages.

    Returns
    -------
    Asymmetries
        As of `read_asymmetries`.

    Raises
    ------
    CannotCompute
        If telescopes are not told apart, a row is repeated, or an asymmetry is not that of the
        values.
    """
    frame = _ascending(frame, source)
    usable = pl.all_horizontal(
        (pl.col(name).is_finite() & (pl.col(name) > 0)) for name in ("value_1", "value_2")
    )
    kept = frame.filter(usable)
    pairs = kept.with_columns(*observable.statistic).select(*PAIRS.names(), "stored")
    _check_statistic(pairs, source)
    pairs = pairs.select(PAIRS.names()).sort("obs_id", "event_id", "tel_id_1", "tel_id_2")
    if pairs.select("obs_id", "event_id", "tel_id_1", "tel_id_2").is_duplicated().any():
        msg = f"{source}: some showers have the same telescope pair twice. Produce it again."
        raise CannotCompute(msg)
    check_schema(pairs, PAIRS)
    lost = [(PAIR_LEVEL, UNUSABLE_VALUE, len(frame) - len(kept))]
    return Asymmetries(pairs, pl.DataFrame(lost, schema=REJECTED, orient="row"))


def _require_table(path: Path, observable: Observable) -> None:
    with open_file(path) as file:  # says so if it cannot be opened at all
        if has_table(file, _table_path(observable), path):
            return
        held = ", ".join(file) or "nothing"
        msg = f"{path}: there is no table {_table_path(observable)}; the file holds: {held}."
        raise CannotCompute(msg)


def telescopes_of(pairs: pl.DataFrame) -> Subarray:
    """Telescopes that appear in PAIRS, ordered by type and id.

    They all stand at the origin: rows of pairs do not say where they are.

    Raises
    ------
    NothingToDo
        If there is no telescope.
    CannotCompute
        If a telescope appears under two types.
    """
    if pairs.is_empty():
        raise NothingToDo("there is no pair of telescopes in it.")
    sides = [pairs.select("tel_type", tel_id=f"tel_id_{side}") for side in (1, 2)]
    found = pl.concat(sides).unique().sort("tel_type", "tel_id")
    if found["tel_id"].is_duplicated().any():
        twice = sorted(set(found.filter(found["tel_id"].is_duplicated())["tel_id"]))
        msg = f"telescopes {twice} appear under more than one type."
        raise CannotCompute(msg)
    types = tuple(found["tel_type"])
    origin = (0.0, 0.0, 0.0)
    return Subarray("", tuple(map(int, found["tel_id"])), types, types, (origin,) * len(found))


def _read_columns(path: Path, observable: Observable) -> pl.DataFrame:
    """Columns under the names of PAIRS, with the asymmetry the file states as ``stored``."""
    from astropy.table import QTable

    try:
        with open_file(path) as file:
            name = _table_path(observable)
            stored = require_table(file, name, path)
            stored.require_memory(len(stored))
            refuse_array_elsewhere(file, f"{name}{META}", path)
            table = QTable.read(file, path=name, format="hdf5")
        return _rename(table, observable, path)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        msg = f"{path}: {_table_path(observable)} cannot be read ({error}). Produce it again."
        raise CannotCompute(msg) from error


def _rename(table: QTable, observable: Observable, path: Path) -> pl.DataFrame:
    value = _value_column(list(table.colnames), observable, path)
    # The peer gives even the text column of an empty table numbers.
    text = np.asarray(table["tel_type"]).astype(str) if len(table) else np.empty(0, str)
    columns = {"tel_type": pl.Series(text.tolist(), dtype=pl.String)}
    for name in ("obs_id", "event_id", "tel_id_1", "tel_id_2"):
        columns[name] = pl.Series(_numbers(table, name, "", path)).cast(PAIRS[name])
    sources = {"stored": (observable.label, "")}
    for side in (1, 2):
        sources[f"value_{side}"] = (f"{value}_{side}", observable.unit)
        sources[f"uncertainty_{side}"] = (f"{value}{UNCERTAINTY}_{side}", observable.unit)
    for name, (source, unit) in sources.items():
        columns[name] = pl.Series(_numbers(table, source, unit, path)).cast(pl.Float64)
    missing = pl.lit(float("nan"))
    return pl.DataFrame(columns).with_columns(impact_1_m=missing, impact_2_m=missing)


def _value_column(names: list[str], observable: Observable, path: Path) -> str:
    """Name of the compared column, without the telescope; all needed columns are there."""
    absent = [name for name in (*KEYS, observable.label) if name not in names]
    values = [
        name.removesuffix("_1")
        for name in names
        if name.endswith("_1")
        and name != "tel_id_1"
        and not name.endswith(f"{UNCERTAINTY}_1")
        and f"{name.removesuffix('_1')}_2" in names
    ]
    if len(values) != 1:
        absent.append("<value>_1 and <value>_2")
    if absent:
        held = ", ".join(names)
        msg = f"{path}: {_table_path(observable)} lacks {', '.join(absent)}; it has {held}."
        raise CannotCompute(msg)
    return values[0]


def _numbers(table: QTable, name: str, unit: str, path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Column in a unit; NaN where the file does not have it."""
    from astropy.units import Quantity, UnitConversionError

    if name not in table.colnames:
        return np.full(len(table), np.nan)
    column = table[name]
    filled = column.filled(np.nan) if hasattr(column, "filled") else column
    try:
        bare = filled.to_value(unit) if isinstance(filled, Quantity) else filled
    except UnitConversionError as error:
        msg = f"{path}: {name} is in {filled.unit}, expected {unit or 'a pure number'}."
        raise CannotCompute(msg) from error
    values = np.asarray(bare)
    return values.astype(values.dtype.newbyteorder("="))


def _ascending(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """Exchange the sides of pairs that are not in ascending order of telescope id."""
    if (frame["tel_id_1"] == frame["tel_id_2"]).any():
        msg = f"{source}: some rows pair a telescope with itself. Produce it again."
        raise CannotCompute(msg)
    turned = pl.col("tel_id_1") > pl.col("tel_id_2")
    names = ("tel_id_{}", "value_{}", "uncertainty_{}", "impact_{}_m")
    one, two = (tuple(name.format(side) for name in names) for side in (1, 2))
    exchanged = [
        pl.when(turned).then(pl.col(other)).otherwise(pl.col(name)).alias(name)
        for name, other in zip(one + two, two + one, strict=True)
    ]
    stored = pl.when(turned).then(-pl.col("stored")).otherwise(pl.col("stored")).alias("stored")
    return frame.with_columns(*exchanged, stored)


def _check_statistic(pairs: pl.DataFrame, source: str) -> None:
    stated = pairs.filter(pl.col("stored").is_not_null())
    difference = (stated["stored"] - stated["asymmetry"]).abs()
    wrong = int((~(difference <= TOLERANCE)).sum())  # NaN counts as wrong
    if wrong:
        msg = (
            f"{source}: in {wrong} of {len(pairs)} rows the stored asymmetry is not that of the "
            "stored values. Produce it again."
        )
        raise CannotCompute(msg)
