"""The table of saturated telescopes, and what a result says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.result.verdict import with_remarks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arraycal.calib.pairs.saturation import Saturation
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["with_saturation"]

LEFT_OUT = "left out"

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
    lost = table.filter(pl.col("use") == LEFT_OUT)
    if len(lost):
        named = ", ".join(map(str, lost["tel_id"].unique().sort().to_list()))
        remarks.append(BLOCKS_WITHOUT.format(named, lost["path"].n_unique()))
    return replace(
        result,
        extras=result.extras | {"saturation": table},
        verdict=with_remarks(result.verdict, remarks),
    )
