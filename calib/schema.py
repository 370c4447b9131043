"""Contracts of the tables that cross a module border, and the sign conventions.

Signs
-----
* In every pair ``tel_id_1 < tel_id_2``.
* ``asymmetry = (v1 - v2) / (v1 + v2)`` and ``log_ratio = ln(v1 / v2)``: positive when telescope
  1 reports more. The two carry the same information, ``asymmetry = tanh(log_ratio / 2)``.
* In ROWS ``asymmetry = tanh((ln v_i - mean of ln v_j) / 2)`` over the other telescopes j of its
  type in the shower: positive when the telescope reports more than they do. Of two telescopes the
  one with the lower id has the ``asymmetry`` of their pair, the other its negative.
* A throughput coefficient above 1 belongs to a telescope that reports more light than its
  gauge: ``E[ln v_i] = ln(shower) + ln c_i``, so the corrected value is ``v_i / c_i``.

Units: energies TeV, distances m, logarithms are natural.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BLOCKS",
    "DISTANCE",
    "EVENT_KEYS",
    "EXPECTED",
    "LEFT_OUT",
    "NOTES",
    "PAIRS",
    "PARTICIPATION",
    "REJECTED",
    "ROWS",
    "SCHEMA_ID",
    "TIME",
    "check_schema",
    "pairs_with",
    "rows_with",
]

#: Changes whenever the content of a cached table changes its meaning: old caches then miss.
SCHEMA_ID = "rows-8"

#: Column of PAIRS and ROWS with the trigger time of the shower, where the file has it: s since
#: 1970, TAI.
TIME = "time_s"

#: Table of what a reader must know about single blocks.
NOTES = "block_notes"

#: What residuals are binned in, see `arraycal.calib.checks.residual_bins`.
DISTANCE, EXPECTED = "impact distance", "expected value"

#: One row per telescope and shower; the columns an observable asked for follow these keys.
EVENT_KEYS = pl.Schema({"obs_id": pl.Int64, "event_id": pl.Int64, "tel_id": pl.UInt16})

#: One row per shower and telescope pair. Uncertainties and impact distances may be NaN.
PAIRS = pl.Schema(
    {
        "obs_id": pl.Int64,
        "event_id": pl.Int64,
        "tel_type": pl.String,
        "tel_id_1": pl.UInt16,
        "tel_id_2": pl.UInt16,
        "value_1": pl.Float64,
        "value_2": pl.Float64,
        "uncertainty_1": pl.Float64,
        "uncertainty_2": pl.Float64,
        "impact_1_m": pl.Float64,
        "impact_2_m": pl.Float64,
        "asymmetry": pl.Float64,
        "asymmetry_uncertainty": pl.Float64,
        "log_ratio": pl.Float64,
    }
)

#: One row per telescope and shower that has another telescope to compare it with, ordered by shower
#: and, within one, by type and telescope. Distances may be NaN, as is the asymmetry of a telescope
#: that is alone of its type.
ROWS = pl.Schema(
    {
        "obs_id": pl.Int64,
        "event_id": pl.Int64,
        "tel_type": pl.String,
        "tel_id": pl.UInt16,
        "value": pl.Float64,
        "impact_m": pl.Float64,
        "asymmetry": pl.Float64,
    }
)

#: Selected rows of a telescope in showers with enough telescopes of its own and of another type.
PARTICIPATION = pl.Schema({"tel_type": pl.String, "tel_id": pl.Int64, "rows": pl.Int64})

#: Rows that were left out, by the first rule that refused them.
REJECTED = pl.Schema({"level": pl.String, "rule": pl.String, "rows": pl.Int64})

#: The same put together: with a row that the rule refused, as far as one was noted, else empty.
LEFT_OUT = pl.Schema(REJECTED | {"example": pl.String()})

#: One row per block file that was asked for.
BLOCKS = pl.Schema(
    {
        "path": pl.String,
        "status": pl.String,
        "reason": pl.String,
        "obs_ids": pl.String,
        "data_model": pl.String,
        "digest": pl.String,
        "n_events": pl.Int64,
        "n_pairs": pl.Int64,
        "cached": pl.Boolean,
    }
)


def pairs_with(shower_columns: Iterable[str]) -> pl.Schema:
    """PAIRS with further columns that describe the shower."""
    return pl.Schema(PAIRS | dict.fromkeys(shower_columns, pl.Float64()))


def rows_with(shower_columns: Iterable[str]) -> pl.Schema:
    """ROWS with further columns that describe the shower."""
    return pl.Schema(ROWS | dict.fromkeys(shower_columns, pl.Float64()))


def check_schema(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]]
) -> None:
    """Raise TypeError unless `frame` has exactly the columns and dtypes of `schema`."""
    expected = pl.Schema(schema)
    if frame.schema != expected:
        msg = f"expected columns {dict(expected)}, got {dict(frame.schema)}"
        raise TypeError(msg)
