"""Tables of the user's own, of whichever library, as polars frames with our columns.

Only the columns that are asked for are looked at, one by one: polars, pandas, astropy tables,
numpy record arrays and mappings of lists all give a column by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from arraycal.calib.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

__all__ = ["ColumnRequest", "column_kind", "column_names", "picked"]


class ColumnRequest(NamedTuple):
    """A column that is wanted.

    Parameters
    ----------
    source : str
        Its name in the user's table.
    dtype : polars.DataType
        What it becomes.
    unit : str
        Its unit, for tables that say one.
    needed : bool
        Whether its absence is an error; else it is left out.
    """

    source: str
    dtype: pl.DataType
    unit: str = ""
    needed: bool = True


def column_names(table: Any) -> list[str]:  # noqa: ANN401  any library's table
    """Names of the columns of a table, of whichever library.

    Raises
    ------
    WrongUsage
        If it does not look like a table.

    Examples
    --------
    >>> column_names({"tel_id": [1, 2]})
    ['tel_id']
    """
    if isinstance(table, pl.LazyFrame):
        return table.collect_schema().names()
    if isinstance(table, np.ndarray) and table.dtype.names:
        return list(table.dtype.names)
    # `columns` of an astropy table is a mapping by name, of polars and pandas a list of names.
    names = getattr(table, "columns", None)
    if names is None and hasattr(table, "keys"):
        names = table.keys()
    if names is None:
        raise WrongUsage(
            f"expected a table (polars, pandas, astropy or a mapping of columns), found "
            f"{type(table).__name__}."
        )
    return [str(name) for name in names]


def column_kind(table: Any, name: str) -> str:  # noqa: ANN401  any library's table
    """``bool``, ``int`` or the unit of a number, as `arraycal.calib.criteria` wants it.

    Examples
    --------
    >>> column_kind({"is_valid": [True, False]}, "is_valid")
    'bool'
    """
    column = table.select(name).head(1).collect() if isinstance(table, pl.LazyFrame) else table
    values = column[name]
    found = np.asarray(values).dtype.kind
    unit = getattr(values, "unit", None)
    return {"b": "bool", "i": "int", "u": "int"}.get(found, "" if unit is None else str(unit))


def picked(
    table: Any,  # noqa: ANN401  any library's table
    requests: Mapping[str, ColumnRequest],
) -> pl.DataFrame:
    """Take columns of a table of whichever library.

    Parameters
    ----------
    table
        Of polars, pandas, astropy, numpy, or a mapping of columns.
    requests : mapping of str to ColumnRequest
        What is wanted, by the name that it gets.

    Returns
    -------
    DataFrame
        Those that are there. Missing numbers are NaN.

    Raises
    ------
    WrongUsage
        If a needed column is missing, or a column holds something else.
    """
    names = column_names(table)
    _require(names, (request.source for request in requests.values() if request.needed))
    wanted = {name: request for name, request in requests.items() if request.source in names}
    if isinstance(table, pl.LazyFrame):
        table = table.select({item.source for item in wanted.values()}).collect()
    return pl.DataFrame(
        [_series(table[request.source], name, request) for name, request in wanted.items()]
    )


def _require(names: list[str], needed: Iterable[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise WrongUsage(
            f"the table has no column {', '.join(missing)}; it has {', '.join(names) or 'none'}. "
            "Rename yours, or name them to arraycal.pairs (value=, uncertainty=, impact=)."
        )


def _series(column: Any, name: str, request: ColumnRequest) -> pl.Series:  # noqa: ANN401
    try:
        if isinstance(column, pl.Series) and not column.dtype.is_float():
            found = column.cast(request.dtype)
        elif request.dtype.is_float():
            found = pl.Series(_numbers(column, request.unit), dtype=request.dtype)
        else:
            found = pl.Series(_integers(column)).cast(request.dtype)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise WrongUsage(
            f"column {request.source} cannot be read as {request.dtype}: {error}"
        ) from error
    if request.dtype.is_float():
        return found.fill_null(float("nan")).alias(name)
    if found.null_count():
        raise WrongUsage(f"column {request.source} has {found.null_count()} rows without a value.")
    return found.alias(name)


def _numbers(column: Any, unit: str) -> npt.NDArray[np.float64]:  # noqa: ANN401
    """Numbers in a unit, if the column says which it has; NaN for masked ones."""
    if getattr(column, "unit", None) is not None:
        from astropy.units import Quantity

        # A UnitConversionError is a TypeError.
        column = Quantity(column).to_value(unit)
    return np.ma.filled(np.ma.asarray(np.ma.masked_array(column, dtype=float)), np.nan)


def _integers(column: Any) -> npt.NDArray[np.int64]:  # noqa: ANN401
    """Whole numbers, also if they come as floating-point ones."""
    values = np.asarray(column)
    if np.ma.is_masked(column):
        raise ValueError("some rows have no value")
    found = values.astype(np.int64)
    if not np.array_equal(found, values):
        raise ValueError("it holds numbers that are no whole ones")
    return found
