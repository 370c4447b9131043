"""The table of saturated telescopes, and what a result says of them."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.pairs.saturation import SATURATED, Saturation, saturated_from
from arraycal.calib.result.verdict import with_remarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arraycal.calib.result.result import CalibrationResult

__all__ = ["with_saturation"]

LEFT_OUT = "left out"

#: A telescope is saturated alone where less than this part of its type is,
FEW_OF_TYPE = 0.5
#: or if its ceiling is lower than this part of the median of its type.
LOW_CEILING = 0.5

BLOCKS_WITHOUT = (
    "telescopes {} are left out of blocks ({} in all) that have most of their images saturated"
)

#: The estimator of pairs selects nothing.
UNPROTECTED = (
    "saturated images are in use (table saturation): estimator: pair knows no ceiling; "
    "use estimator: event"
)

#: One row for every block and telescope that saturates: see `Saturation`, and what was made of it.
SATURATION = pl.Schema(
    {
        "path": pl.String,
        "tel_id": pl.Int64,
        "level": pl.Float64,
        "images": pl.Int64,
        "saturated": pl.Int64,
        "ceiling": pl.Float64,
        "share": pl.Float64,
        "use": pl.String,
    }
)


def with_saturation(
    result: CalibrationResult, blocks: Iterable[tuple[str, Sequence[Saturation]]]
) -> CalibrationResult:
    """Add the table ``saturation`` of all findings, by path of the block, if there are any."""
    rows = [
        (path, *item, item.share, LEFT_OUT if item.mostly else "ceiling")
        for path, found in blocks
        for item in found
    ]
    if not rows:
        return result
    table = pl.DataFrame(rows, schema=SATURATION, orient="row")
    remarks = [UNPROTECTED] if result.fit["estimator"] == "pair" else []
    result, odd = _with_odd(result, table)
    remarks += odd
    lost = table.filter(pl.col("use") == LEFT_OUT)
    if len(lost):
        named = ", ".join(map(str, lost["tel_id"].unique().sort().to_list()))
        remarks.append(BLOCKS_WITHOUT.format(named, lost["path"].n_unique()))
    return replace(
        result,
        extras=result.extras | {"saturation": table},
        verdict=with_remarks(result.verdict, remarks),
    )


def _with_odd(
    result: CalibrationResult, table: pl.DataFrame
) -> tuple[CalibrationResult, list[str]]:
    """Flag telescopes with a coefficient that saturate unlike their type."""
    kinds = dict(result.telescopes.select("tel_id", "tel_type").rows())
    reasons = {tel_id: text for tel_id, text in _odd(table, kinds).items() if tel_id in kinds}
    told = pl.col("tel_id").is_in(list(reasons)) & (pl.col("flag") == "ok")
    named = result.telescopes.filter(told)["tel_id"].sort().to_list()
    if not named:
        return result, []
    reason = pl.col("tel_id").replace_strict(reasons, default="", return_dtype=pl.String)
    telescopes = result.telescopes.with_columns(
        flag=pl.when(told).then(pl.lit(SATURATED)).otherwise("flag"),
        reason=pl.when(told).then(reason).otherwise("reason"),
    )
    remarks = [
        f"{kinds[tel_id]} {tel_id} saturates unlike its type: {reasons[tel_id]}; showers that are "
        "brighter in it are not used of it"
        for tel_id in named
    ]
    return replace(result, telescopes=telescopes), remarks


def _odd(table: pl.DataFrame, kinds: dict[int, str]) -> dict[int, str]:
    """What is said of telescopes that saturate unlike the others of their type, by id."""
    columns = list(Saturation._fields)
    found = {
        key[0]: [Saturation(*row) for row in part.select(columns).rows()]
        for key, part in table.group_by("tel_id")
    }
    lowest = {tel_id: min(item.ceiling for item in items) for tel_id, items in found.items()}
    odd = {}
    for tel_id, items in found.items():
        own = [other for other, kind in kinds.items() if kind == kinds.get(tel_id)]
        ceilings = [lowest[other] for other in own if other in lowest]
        few = len(ceilings) < FEW_OF_TYPE * len(own)
        if few or lowest[tel_id] < LOW_CEILING * statistics.median(ceilings or [0.0]):
            odd[tel_id] = saturated_from(items)
    return odd
