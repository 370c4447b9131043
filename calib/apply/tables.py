"""Tables of a file of corrected values: rows of the block, what was done, and how often."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib import dl2, hdf5
from arraycal.calib.column_descriptions import describe
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5.writing import Column
from arraycal.calib.monitoring.clock_intervals import offsets_at
from arraycal.calib.monitoring.correction import by_telescope, correct_stamps
from arraycal.calib.monitoring.file_metadata import key_value, text_column
from arraycal.calib.monitoring.published_tables import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from arraycal.calib.monitoring.read_coefficients import Coefficients

    Part = tuple[str, Mapping[str, Column]]

__all__ = [
    "COUNTS",
    "SERVICE_APPLY",
    "Tally",
    "facts_of",
    "service_tables",
    "table_columns",
    "time_parts",
    "value_parts",
]

#: Group of what explains the corrections.
SERVICE_APPLY = f"{SERVICE}/apply"
TRIGGER = "/dl1/event/telescope/trigger"
#: Rows of the trigger table read at a time.
TRIGGER_ROWS = 500_000
#: Suffix of a corrected column.
CORRECTED = "_corrected"
LARGEST_I4 = np.iinfo(np.int32).max

#: One row per telescope with rows. `no_value` rows have no number (or time) to correct;
#: `uncorrected` ones have one, but the telescope has no coefficient: for that `reason`.
COUNTS = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "rows": pl.Int64,
        "corrected": pl.Int64,
        "no_value": pl.Int64,
        "uncorrected": pl.Int64,
        "reason": pl.String,
    }
)


class Tally:
    """Counts rows by telescope while they pass."""

    def __init__(self) -> None:
        self.repeated = 0
        self._counts: dict[int, list[int]] = {}

    def add(self, tel_id: int, rows: int, corrected: int, no_value: int) -> None:
        """Count rows of a telescope."""
        counts = self._counts.setdefault(tel_id, [0, 0, 0])
        for index, number in enumerate((rows, corrected, no_value)):
            counts[index] += number

    def table(self, corrections: pl.DataFrame) -> pl.DataFrame:
        """Return the counts, schema `COUNTS`."""
        rows = [(tel_id, *numbers) for tel_id, numbers in self._counts.items()]
        schema = dict.fromkeys(("tel_id", "rows", "corrected", "no_value"), pl.Int64)
        counts = pl.DataFrame(rows, schema=schema, orient="row")
        left = pl.col("rows") - pl.col("corrected") - pl.col("no_value")
        return (
            counts.join(by_telescope(corrections), on="tel_id")
            .with_columns(left.alias("uncorrected"))
            .select(COUNTS.names())
            .sort("tel_type", "tel_id")
        )


def value_parts(
    block: dl2.Block, column: str, corrections: pl.DataFrame, tally: Tally, *, stream: bool
) -> Iterator[Part]:
    """Corrected energies or sizes, part by part.

    Parameters
    ----------
    block : Block
        The file.
    column : str
        What to correct.
    corrections : DataFrame
        Of `arraycal.calib.monitoring.correction.for_array`.
    tally : Tally
        Counts the rows.
    stream : bool
        False reads all rows at once.

    Yields
    ------
    (str, mapping of str to Column)
        Path of a telescope's table, and rows to add to it: keys, ``column``,
        ``column_corrected``, under the name the block has for it; the same for its uncertainty,
        and the validity, if there are any.

    Raises
    ------
    CannotCompute, UnsortedRows
        See `arraycal.calib.dl2.block.windows`.
    """
    factors = dict(corrections.select("tel_id", "factor").iter_rows())
    scaled = [name for name in (column, f"{column}_uncert") if _is_number(block, name)]
    valid = f"{column.removesuffix('_energy')}_is_valid"
    valid = valid if valid in block.columns and valid.endswith("_tel_is_valid") else ""
    group, stored = block.columns[column].group, block.columns[column].stored
    wanted = [*scaled, valid] if valid else scaled
    for window in dl2.windows(block, wanted, stream=stream):
        tally.repeated += window.repeated
        for (tel_id,), rows in window.events.group_by("tel_id", maintain_order=True):
            columns = _keys(rows["obs_id"].to_numpy(), rows["event_id"].to_numpy(), block)
            columns["tel_id"] = Column(rows["tel_id"].to_numpy().astype(np.int32))
            for name in scaled:
                columns |= _scaled(rows[name].to_numpy(), name, factors[tel_id], block)
            if valid:
                columns[valid] = Column(rows[valid].to_numpy())
            _count(tally, tel_id, columns[stored].data, columns[stored + CORRECTED].data)
            yield f"{group}/tel_{tel_id:03d}", columns


def _is_number(block: dl2.Block, name: str) -> bool:
    source = block.columns.get(name)
    return source is not None and source.scope == "telescope" and source.kind not in {"bool", "int"}


def _keys(
    obs_id: npt.NDArray[Any], event_id: npt.NDArray[Any], block: dl2.Block
) -> dict[str, Column]:
    """Keys in the types ctapipe writes."""
    kind = np.int32 if max(block.obs_ids, default=0) <= LARGEST_I4 else np.int64
    return {"obs_id": Column(obs_id.astype(kind)), "event_id": Column(event_id.astype(np.int64))}


def _scaled(
    values: npt.NDArray[np.float64], name: str, factor: float, block: dl2.Block
) -> dict[str, Column]:
    unit, stored = block.columns[name].kind, block.columns[name].stored
    return {
        stored: Column(values, unit, description="As in the block"),
        stored + CORRECTED: Column(
            values * factor, unit, description="Value times the factor of the telescope"
        ),
    }


def _count(
    tally: Tally, tel_id: int, values: npt.NDArray[np.float64], corrected: npt.NDArray[np.float64]
) -> None:
    without = int(np.count_nonzero(~np.isfinite(values)))
    done = int(np.count_nonzero(np.isfinite(corrected)))
    tally.add(tel_id, len(values), done, without)


def time_parts(block: dl2.Block, corrections: pl.DataFrame, tally: Tally) -> Iterator[Part]:
    """Corrected trigger times, part by part, in the order of the block.

    Parameters
    ----------
    block : Block
        The file.
    corrections : DataFrame
        Of `arraycal.calib.monitoring.correction.for_array`, ordered by telescope.
    tally : Tally
        Counts the rows.

    Yields
    ------
    (str, mapping of str to Column)
        The path of the trigger table, and rows to add to it: keys, ``time``, ``time_corrected``.

    Raises
    ------
    CannotCompute
        If there are no high-resolution stamps, or a stamp makes no sense.
    """
    tel_ids = corrections["tel_id"].to_numpy()
    with hdf5.open_file(block.path) as file:
        table = hdf5.require_table(file, TRIGGER, block.path)
        table.require("obs_id", "event_id", "tel_id", "time")
        if table.time_format("time") != "ctao_high_res" or table.dtype["time"].shape != (2,):
            raise CannotCompute(
                f"time of {TRIGGER} is {table.time_format('time') or 'no time'}, expected "
                "ctao_high_res: stamps before data model v7 are rounded to a microsecond."
            )
        step = max(TRIGGER_ROWS // table.chunk_rows, 1) * table.chunk_rows
        for start in range(0, len(table), step):
            rows = table.read(start, start + step)
            found = rows["tel_id"].astype(np.int64)
            strangers = np.setdiff1d(found, tel_ids).tolist()
            if strangers:
                raise CannotCompute(
                    f"{TRIGGER} has rows of telescopes {strangers}, not in the layout."
                )
            stamps = np.ascontiguousarray(rows["time"])
            corrected = correct_stamps(stamps, offsets_at(stamps, found, corrections))
            for tel_id in np.unique(found).tolist():
                mine = found == tel_id
                counts = [int(np.count_nonzero(t[mine].any(axis=1))) for t in (stamps, corrected)]
                total = int(np.count_nonzero(mine))
                tally.add(tel_id, total, counts[1], total - counts[0])
            yield (
                TRIGGER,
                _keys(rows["obs_id"], rows["event_id"], block)
                | {
                    "tel_id": Column(found.astype(np.int16)),
                    "time": Column(stamps, time_format="ctao_high_res"),
                    "time_corrected": Column(
                        corrected, time_format="ctao_high_res", description="time - offset"
                    ),
                },
            )


def service_tables(
    coefficients: Coefficients,
    corrections: pl.DataFrame,
    counts: pl.DataFrame,
    provenance: Mapping[str, Any],
) -> Iterator[Part]:
    """Tables that explain the corrections."""
    yield f"{SERVICE_APPLY}/factors", table_columns(corrections)
    yield f"{SERVICE_APPLY}/counts", table_columns(counts)
    yield f"{SERVICE_APPLY}/coefficients", key_value(facts_of(coefficients))
    yield f"{SERVICE_APPLY}/provenance", key_value(provenance)


def facts_of(coefficients: Coefficients) -> dict[str, Any]:
    """What the coefficients are and where they come from, as plain data."""
    formula = "corrected = measured * factor, factor = value ** -response_slope"
    if coefficients.quantity == "time":
        formula = "corrected = stamp - offset"
        if len(coefficients.intervals):
            formula += " (of the interval from valid_from to valid_to that the stamp lies in)"
        if (coefficients.intervals["drift"] != 0).any():
            formula += ", offset + drift * (stamp - reference) of a clock that drifts"
    return {
        "file": str(coefficients.path),
        "table": coefficients.table,
        "calibration": coefficients.calibration or "not of arraycal",
        "quantity": coefficients.quantity,
        "columns": json.dumps(list(coefficients.columns)),
        "response_slope": coefficients.slope,
        "obs_ids": json.dumps(list(coefficients.obs_ids)),
        "formula": formula,
    }


def table_columns(frame: pl.DataFrame) -> dict[str, Column]:
    """Columns of a table of telescopes."""
    columns = {}
    for series in frame:
        text, unit = describe(series.name, "apply", clocks="offset" in frame.columns)
        if series.dtype == pl.String:
            columns[series.name] = text_column(series.to_list(), text)
        else:
            columns[series.name] = Column(series.to_numpy(), unit, description=text)
    return columns
