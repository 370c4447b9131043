"""A published result, read back: what ``result.json`` and ``monitoring.h5`` hold of it.

The tables are those of the monitoring file, which keeps types and what is not finite; the facts
are those of ``result.json``, which keeps what is no table. Together they are the whole result: its
report comes out as it was published.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib import hdf5
from arraycal.calib.disk.texts import read_json
from arraycal.calib.errors import CannotCompute, WrongUsage
from arraycal.calib.monitoring.published_tables import POSITION, SERVICE
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.publish.writing import MONITORING, RESULT
from arraycal.calib.result.result import CLOCK_OFFSET, THROUGHPUT, CalibrationResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["DAMAGES", "read_result"]

#: Tables that every result has.
TABLES = ("telescopes", "pairs", "rejected", "blocks", "residuals")
#: What is read of ``result.json``, and of which type it is.
FACTS: dict[str, type] = {
    "calibration": str,
    "verdict": dict,
    "obs_ids": list,
    "fit": dict,
    "covariance": dict,
    "configuration": str,
    "provenance": dict,
}
NAMES: dict[type, str] = {str: "text", dict: "an object", list: "a list", type(None): "null"}
#: What reading damaged files raises.
DAMAGES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    pl.exceptions.PolarsError,
)


def read_result(folder: Path) -> CalibrationResult:
    """Read a published result back.

    Parameters
    ----------
    folder : Path
        Folder with ``result.json`` and ``monitoring.h5``.

    Returns
    -------
    CalibrationResult
        As it was published, but for `published`, which only the monitoring file needs.

    Raises
    ------
    WrongUsage
        If there is no result in the folder.
    CannotCompute
        If a file is damaged, or the two are of different runs.
    OSError
        If they cannot be read.
    """
    facts = _facts(folder / RESULT)
    path = folder / MONITORING
    names = (*TABLES, *facts.get("extras", {}))
    with hdf5.open_file(path) as file:
        group = f"{SERVICE}/{facts['calibration']}"
        _refuse_another_run(file, path, group, facts)
        tables = {name: _table(file, path, f"{group}/{name}") for name in names}
    try:
        return _result(facts, tables)
    except DAMAGES as error:
        raise _damaged(folder / RESULT, error) from error


def _facts(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise WrongUsage(
            f"{path.parent}: there is no {RESULT}. Expected the folder of a result."
        ) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    missing = [name for name in FACTS if not isinstance(content, dict) or name not in content]
    if missing:
        raise CannotCompute(
            f"{path}: expected the {RESULT} of a calibration, and it has no {', '.join(missing)}."
        )
    for name, expected in (FACTS | {"extras": dict}).items():
        found = type(content.get(name, expected()))
        if found is not expected:
            here = NAMES.get(found, "a number")
            raise CannotCompute(
                f"{path}: expected {NAMES[expected]} as {name}, found {here}. "
                "The file is damaged: run the calibration again with --overwrite."
            )
    return dict(content)


def _damaged(path: Path, error: Exception) -> CannotCompute:
    return CannotCompute(
        f"{path}: the file is damaged ({type(error).__name__}: {error}). "
        "Run the calibration again with --overwrite."
    )


def _refuse_another_run(file: hdf5.File, path: Path, group: str, facts: dict[str, Any]) -> None:
    """Refuse two files of different runs: one was replaced without the other."""
    table = _table(file, path, f"{group}/provenance")
    there = dict(table.select("key", "value").iter_rows()).get("time_utc", "")
    here = str(facts["provenance"].get("time_utc", ""))
    if there != here:
        raise CannotCompute(
            f"{path.parent}: {RESULT} was made at {here or 'an unknown time'} and {MONITORING} at "
            f"{there or 'an unknown time'}; expected files of one run. Run the calibration again "
            "with --overwrite."
        )


def _table(file: hdf5.File, path: Path, name: str) -> pl.DataFrame:
    table = hdf5.require_table(file, name, path)
    rows = table.read_few()
    columns = ((column, table.column(column, rows)) for column in table.columns)
    return pl.DataFrame([_series(name, values) for name, values in columns])


def _series(name: str, values: np.ndarray[Any, Any]) -> pl.Series:
    if values.dtype.kind == "U":
        return pl.Series(name, values.tolist(), pl.String)
    return pl.Series(name, values)


def _result(facts: dict[str, Any], tables: dict[str, pl.DataFrame]) -> CalibrationResult:
    tel_ids = tuple(int(tel_id) for tel_id in facts["covariance"]["tel_ids"])
    matrix = _finite_or_nan(facts["covariance"]["matrix"])
    telescopes = tables["telescopes"]
    verdict = facts["verdict"]
    calibration = str(facts["calibration"])
    return CalibrationResult(
        calibration=calibration,
        telescopes=telescopes.drop(POSITION),
        pairs=tables["pairs"],
        blocks=tables["blocks"],
        rejected=tables["rejected"],
        residuals=tables["residuals"],
        tel_ids=tel_ids,
        covariance=np.array(matrix, np.float64).reshape(len(tel_ids), len(tel_ids)),
        obs_ids=tuple(int(obs_id) for obs_id in facts["obs_ids"]),
        positions_m=_positions(telescopes.select("tel_id", *POSITION).iter_rows()),
        fit=_finite_or_nan(facts["fit"]),
        verdict=Verdict(verdict["status"], tuple(verdict["reasons"]), tuple(verdict["untested"])),
        configuration=str(facts["configuration"]),
        provenance=dict(facts["provenance"]),
        extras={name: table for name, table in tables.items() if name not in TABLES},
        quantity=CLOCK_OFFSET if calibration == TIMING_CROSS.name else THROUGHPUT,
    )


def _positions(rows: Iterable[tuple[Any, ...]]) -> dict[int, tuple[float, float, float]]:
    return {tel_id: (x, y, z) for tel_id, x, y, z in rows if math.isfinite(x + y + z)}


def _finite_or_nan(value: Any) -> Any:  # noqa: ANN401  JSON values have no common type
    """Put NaN where ``result.json`` has null."""
    if value is None:
        return math.nan
    if isinstance(value, dict):
        return {key: _finite_or_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite_or_nan(item) for item in value]
    return value
