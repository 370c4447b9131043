"""Judgement on parts of the data that were compared: the table of them all, remarks, facts.

Takes what `arraycal.calib.checks.parts` finds, and says which parts contradict each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from arraycal.calib.wording import percent, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BLOCKS",
    "CHANCE",
    "CONSTANCY",
    "HALVES",
    "LARGEST",
    "NIGHTS",
    "NO_TELESCOPE",
    "TIME",
    "constancy_facts",
    "constancy_remarks",
    "judged",
    "not_compared",
]

#: What parts are: blocks of a night, stretches of time of a block, the first and the second halves
#: of all blocks, nights of a window.
BLOCKS, TIME, HALVES, NIGHTS = "blocks", "time", "halves", "nights"
#: Parts contradict each other when chance alone does so less often than this, that of 3 sigma, all
#: kinds of parts, types and tests together...
CHANCE = 0.0027
#: ...and, of a single telescope or type in one part, it deviates by more than this: a third of what
#: makes a telescope an outlier (`arraycal.calib.result.verdict`), as its coefficient is off by that
#: part in every block;
MIN_DEVIATION = 0.01
#: or, of all together, they scatter by more than this.
MIN_SCATTER = 0.005
#: Of so few parts nobody can tell which one is off.
AMBIGUOUS = 2
#: Kinds of which neither part is the usual one.
UNORDERED = (BLOCKS, NIGHTS)
#: `tel_id` where a type deviates as a whole, or nothing compares.
NO_TELESCOPE = -1

#: What deviates most in units of its error: type and telescope (`NO_TELESCOPE`: the type as a
#: whole), `difference` of its ln c relative to the other telescopes, weighted by what is known of
#: them, and the chance that anything would deviate as much.
LARGEST = {
    "deviating": pl.String(),
    "tel_id": pl.Int64(),
    "difference": pl.Float64(),
    "difference_error": pl.Float64(),
    "p_largest": pl.Float64(),
}

#: One row per kind of part and type, or all types where they share a gauge: all parts together.
#: `scatter` is the rms of ln c over parts beyond errors, `birge` the square root of chi2 over ndf;
#: then the part, or run of successive parts, and what deviates most in it. `changed`: one of the
#: tests is significant and of a size that matters.
CONSTANCY = pl.Schema(
    {
        "kind": pl.String(),
        "tel_type": pl.String(),
        "n_parts": pl.Int64(),
        "chi2": pl.Float64(),
        "ndf": pl.Int64(),
        "p_value": pl.Float64(),
        "birge": pl.Float64(),
        "scatter": pl.Float64(),
        "part": pl.String(),
        **LARGEST,
        "changed": pl.Boolean(),
    }
)


def judged(totals: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Table `CONSTANCY`; of all types together only contrasts are judged, not single telescopes."""
    table = pl.DataFrame(totals, CONSTANCY | {"is_contrast": pl.Boolean()})
    compared = table.filter(pl.col("ndf") > 0)
    chance = CHANCE / max(1, 2 * len(compared) - int(compared["is_contrast"].sum()))
    alone = (pl.col("p_largest") < chance) & (pl.col("difference").abs() > MIN_DEVIATION)
    together = (pl.col("p_value") < chance) & (pl.col("scatter") > MIN_SCATTER)
    # NaN, where nothing compares, is larger than anything to polars: no contradiction.
    changed = alone | (together & ~pl.col("is_contrast"))
    return table.with_columns(changed=changed).select(CONSTANCY.names())


def constancy_facts(table: pl.DataFrame, *, joint: bool) -> dict[str, Any]:
    """By kind, all types together; their showers are the same, so the sum has no probability."""
    facts: dict[str, Any] = {}
    for (kind,), own in table.group_by("kind", maintain_order=True):
        # The first row of a joint solution holds all types.
        rows = own.head(1) if joint else own
        facts |= {
            f"{kind}_chi2": float(rows["chi2"].sum()),
            f"{kind}_ndf": int(rows["ndf"].sum()),
            f"{kind}_probability": own.select(pl.col("p_value").fill_nan(None).min()).item(),
        }
    return facts


class _Wording(NamedTuple):
    """How a kind of part is spoken of: what contradicts, where, from what, and what follows."""

    fault: str
    place: str
    others: str
    advice: str
    untested: str


WORDING = {
    BLOCKS: _Wording(
        "the blocks contradict each other",
        "observation ",
        "the other blocks",
        "coefficients are means over the blocks and do not hold for each of them; leave out or "
        "calibrate apart what does not belong together",
        "constancy between blocks",
    ),
    TIME: _Wording(
        "telescopes changed within blocks",
        "observation ",
        "the rest of the block",
        "coefficients are means over the time and do not hold all of it; leave out what does not "
        "belong together",
        "constancy within blocks",
    ),
    HALVES: _Wording(
        "telescopes change in the course of the blocks",
        "",
        "the first halves",
        "coefficients are means over the time and do not hold all of it",
        "constancy in the course of all blocks",
    ),
    NIGHTS: _Wording(
        "the nights disagree",
        "",
        "the other nights",
        "coefficients are means over the window, and their errors those of the mean",
        "constancy between nights",
    ),
}


def constancy_remarks(table: pl.DataFrame) -> list[str]:
    """Say which parts contradict each other, and who deviates most."""
    changed = table.filter("changed")
    who = ("tel_type", "deviating", "tel_id")
    # What was said of single blocks need not be said again of all of them.
    said = changed.filter(pl.col("kind") == TIME)
    again = changed.filter(pl.col("kind") == HALVES).join(said, on=who, how="semi")
    told = changed.join(again, on=("kind", *who), how="anti", maintain_order="left")
    return [_remark(row) for row in told.iter_rows(named=True)]


def _remark(row: dict[str, Any]) -> str:
    words = WORDING[row["kind"]]
    unknown = f", of two {row['kind']} nobody knows which is off"
    _, error = relative(row["difference"], row["difference_error"])
    who = f"{row['tel_type']}: {words.place}{row['part']}, telescope {row['tel_id']}"
    if row["tel_id"] == NO_TELESCOPE:
        who = f"all {row['deviating']} against the other types: {words.place}{row['part']}"
    return (
        f"{words.fault} beyond their errors ({who} by {percent(row['difference'])} +- "
        f"{error:.1%} from {words.others}"
        f"{unknown if row['n_parts'] == AMBIGUOUS and row['kind'] in UNORDERED else ''}; all: "
        f"{row['scatter']:.1%} rms, chi2 / ndf = {row['chi2']:.0f} / {row['ndf']}): {words.advice}"
    )


def not_compared(table: pl.DataFrame) -> list[str]:
    """Say what has too few showers by part."""
    lost = table.filter(pl.col("ndf") == 0).group_by("kind", maintain_order=True).agg("tel_type")
    return [
        f"{WORDING[kind].untested}: {', '.join(types)} (no two telescopes have enough showers in "
        f"two parts)"
        for kind, types in lost.iter_rows()
    ]
