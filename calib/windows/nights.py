"""The nights of a window: which are in it, and how well they agree, as tables and remarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import chdtrc

from arraycal.calib.checks.judged_parts import NO_TELESCOPE
from arraycal.calib.history.window import LEFT_OUT, WindowNight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.fit.sums.kept import Sums

__all__ = [
    "STABILITY",
    "WINDOW",
    "inherited",
    "left_out",
    "stability_table",
    "unsettled",
    "window_table",
]

#: Names in a sentence, before it says how many more there are.
MAX_NAMED = 5

#: One row per night of the window, `night` as YYYY-MM-DD; many successive nights without a run are
#: one row, "YYYY-MM-DD to YYYY-MM-DD". `chi2` and `ndf` compare the night with
#: all others together (telescopes that both have); 0 degrees of freedom where nothing compares.
WINDOW = pl.Schema(
    {
        "night": pl.String,
        "status": pl.String,
        "reason": pl.String,
        "verdict": pl.String,
        "n_blocks": pl.Int64,
        "n_showers": pl.Int64,
        "chi2": pl.Float64,
        "ndf": pl.Float64,
    }
)

#: One row per telescope: `scatter` is the rms of ln c over the nights beyond what their errors
#: explain, `chi2` that of its nights with the probability to be as large by chance; `night` is the
#: one that deviates most, by `largest_pull`.
STABILITY = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "n_nights": pl.Int64,
        "scatter": pl.Float64,
        "chi2": pl.Float64,
        "probability": pl.Float64,
        "night": pl.String,
        "largest_pull": pl.Float64,
    }
)


def window_table(nights: Sequence[WindowNight], parts: pl.DataFrame) -> pl.DataFrame:
    """Table `WINDOW`, from the nights as `arraycal.calib.checks.parts.CONSTANCY_PARTS`."""
    # The first row of a night is of all types, where they share a gauge.
    joint = pl.col("tel_type").str.contains("-", literal=True)
    compared = {
        part: (chi2, ndf)
        for part, chi2, ndf in parts.filter(joint | joint.any().not_())
        .group_by("part")
        .agg(pl.col("chi2", "ndf").sum())
        .iter_rows()
    }
    rows = []
    for night in nights:
        sums = night.sums
        chi2, ndf = compared.get(night.text, (0.0, 0))
        rows.append(
            (
                night.text,
                night.status,
                night.reason,
                night.verdict,
                0 if sums is None else int((sums.tables["blocks"]["status"] == "ok").sum()),
                0 if sums is None else int(sums.summary.n_showers),
                chi2,
                float(ndf),
            )
        )
    return pl.DataFrame(rows, schema=WINDOW, orient="row")


def stability_table(deviations: pl.DataFrame) -> pl.DataFrame:
    """Table `STABILITY`, from the nights as `arraycal.calib.checks.parts.CONSTANCY_DEVIATIONS`.

    A throughput that scatters by t from night to night differs from the mean of n - 1 others by
    ``t^2 n / (n - 1)`` in the square, beside the statistical error. A night with the share h of
    the information deviates from the mean of all by ``1 - h`` of what it deviates from the others,
    so ``sum (1 - h) pull^2`` is chi-square with n - 1 degrees of freedom; the showers of the
    telescope stand for its information.
    """
    n = pl.len()
    step, error = pl.col("difference"), pl.col("difference_error")
    pull = step / error
    share = pl.col("n_events") / pl.col("n_events").sum()
    worst = pull.abs().fill_nan(None).arg_max()
    telescopes = deviations.filter(pl.col("tel_id") != NO_TELESCOPE)
    table = telescopes.group_by("tel_type", "tel_id").agg(
        n_nights=n.cast(pl.Int64),
        scatter=((step**2 - error**2).mean() * (n - 1) / n).clip(lower_bound=0.0).sqrt(),
        chi2=((1.0 - share) * pull.fill_nan(0.0) ** 2).sum(),
        probability=pl.lit(float("nan")),
        night=pl.col("part").gather(worst).first(),
        largest_pull=pull.gather(worst).first(),
    )
    ndf = np.maximum(table["n_nights"].to_numpy() - 1, 0)
    chance = np.where(ndf > 0, chdtrc(np.maximum(ndf, 1), table["chi2"].to_numpy()), np.nan)
    table = table.with_columns(probability=pl.Series(chance, dtype=pl.Float64))
    return table.select(STABILITY.names()).cast(STABILITY).sort("tel_type", "tel_id")


def left_out(nights: Sequence[WindowNight]) -> list[str]:
    """Say which runs are left out, and why."""
    lost = [f"{n.night}: {n.reason}" for n in nights if n.status == LEFT_OUT]
    if not lost:
        return []
    more = f"; and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
    runs = "1 run" if len(lost) == 1 else f"{len(lost)} runs"
    return [f"{runs} of the window left out ({'; '.join(lost[:MAX_NAMED])}{more})"]


def unsettled(used: Sequence[tuple[WindowNight, Sums]]) -> list[str]:
    """Say which runs ended before their iteration did; a window has none of its own."""
    nights = [str(night.night) for night, sums in used if not sums.settled]
    if not nights:
        return []
    more = f" and {len(nights) - MAX_NAMED} more" if len(nights) > MAX_NAMED else ""
    text = (
        f"the iteration of {len(nights)} of {len(used)} runs in use did not settle "
        f"({', '.join(nights[:MAX_NAMED])}{more}): calibrate them again with a larger "
        "ShowerSelection.max_iterations, all nights of the window alike"
    )
    return [text]


def inherited(used: Sequence[tuple[WindowNight, Sums]]) -> list[str]:
    """Pass on what runs have found in their showers, which a window cannot judge anew."""
    found = [(night.night, sums.remarks) for night, sums in used if sums.remarks]
    if not found:
        return []
    night, remarks = found[-1]
    text = (
        f"{len(found)} of {len(used)} runs in use are degraded for what a window does not see "
        f"({night}: {'; '.join(remarks)})"
    )
    return [text]
