"""The table of residuals by telescope, and what a result says of values that do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.fit.outlying import FAR, LEAST_ROWS, PULLED, find_outlying
from arraycal.calib.fit.resolutions import usual
from arraycal.calib.result.verdict import with_remarks, with_untested
from arraycal.calib.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.outlying import Outlying
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

__all__ = ["RESIDUAL_TESTS", "with_deviations"]

#: One row per telescope with showers in use. `resolution` is the fitted sigma of ln(value), `usual`
#: the lower median of its type; `width` the width of the residuals about the mean of the shower
#: over the one that belongs to the resolution; `n_outlying` values more than 4 such widths off (of
#: two telescopes that contradict each other half a value each), `share` their part of `n_events`,
#: `expected` that of the other telescopes of the type, `chance` that of finding so many. `flag` is
#: `ok`, `outlying`, `width`, `noisy`, `pulled` or `few` (not tested).
RESIDUAL_TESTS = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "n_events": pl.Int64,
        "resolution": pl.Float64,
        "usual": pl.Float64,
        "width": pl.Float64,
        "width_error": pl.Float64,
        "n_outlying": pl.Float64,
        "share": pl.Float64,
        "expected": pl.Float64,
        "chance": pl.Float64,
        "flag": pl.String,
    }
)

#: Telescopes of a type that contradict each other, and nobody knows which is off.
AMBIGUOUS = 2


def with_deviations(
    result: CalibrationResult, fitted: Fit, subarray: Subarray, *, joint: bool
) -> CalibrationResult:
    """Test the residuals of every telescope against its fitted resolution.

    Parameters
    ----------
    result : CalibrationResult
        Of the fit.
    fitted : Fit
        With the sums of the last pass; no further pass is made.
    subarray : Subarray
        The telescopes.
    joint : bool
        Whether showers are seen by telescopes of all types together.

    Returns
    -------
    CalibrationResult
        With the table `RESIDUAL_TESTS`, degraded by telescopes and types whose values do not fit
        their showers. Not tested with the estimator of pairs, which knows no resolutions.
    """
    if result.fit["estimator"] == "pair":
        untested = ["residuals of single values: not with the estimator of pairs"]
        return replace(result, verdict=with_untested(result.verdict, untested))
    model, kinds = fitted.model, subarray.type_codes
    robust = model.robust != "none"
    found = find_outlying(fitted.summary, model.now.variance, kinds, robust=robust)
    table = _table(found, fitted, subarray)
    remarks = [*_remarks(table, fitted), *_type_remarks(found, fitted, subarray)]
    verdict = with_remarks(result.verdict, remarks)
    return replace(
        result,
        extras=result.extras | {"residual_tests": table},
        verdict=with_untested(verdict, [*_untested(table, joint=joint)]),
    )


def _table(found: Outlying, fitted: Fit, subarray: Subarray) -> pl.DataFrame:
    variance = fitted.model.now.variance
    # Values that are far off make a telescope look noisy, but noise does not make values far off.
    pulled = fitted.observed.get(PULLED, np.zeros(len(variance), np.bool_))
    flag = np.select(
        [found.tailed, found.noisy, found.misfit, pulled, ~found.tested],
        ["outlying", "noisy", "width", "pulled", "few"],
        "ok",
    )
    table = pl.DataFrame(
        {
            "tel_type": list(subarray.types),
            "tel_id": list(subarray.tel_ids),
            "n_events": found.n_rows.astype(np.int64),
            "resolution": np.sqrt(variance),
            "usual": np.sqrt(usual(variance, subarray.type_codes)),
            "width": found.width,
            "width_error": found.width_error,
            "n_outlying": found.n_outlying,
            "share": found.share,
            "expected": found.expected,
            "chance": found.chance,
            "flag": flag.tolist(),
        },
        schema=RESIDUAL_TESTS,
    )
    return table.filter(pl.col("n_events") > 0).sort("tel_type", "tel_id")


def _remarks(table: pl.DataFrame, fitted: Fit) -> Iterator[str]:
    for row in table.filter(~pl.col("flag").is_in(["ok", "few"])).iter_rows(named=True):
        yield TEXTS[row["flag"]].format(**_named(row), effect=_effect(fitted))


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"name": f"{row['tel_type']} {row['tel_id']}", "far": f"{FAR:g}"}


def _effect(fitted: Fit) -> str:
    robust = fitted.model.robust
    if robust == "none":
        return "they pull its coefficient and those it is compared with; set robust: auto"
    return f"they count less or not at all (robust: {robust}); find out where they come from"


#: What is said of a telescope, by flag.
TEXTS = {
    "pulled": "some values of {name} lie off, too few to be told one by one, and without robust "
    "weights they pull its coefficient by more than chance: {effect}",
    "outlying": "{share:.1%} of the values of {name} lie more than {far} sigma from the mean of "
    "their shower ({expected:.1%} of those of its type): {effect}",
    "noisy": "the values of {name} scatter by {resolution:.0%}, those of its type by {usual:.0%}: "
    "they do not fit the showers that the other telescopes see, and what they pull of these is in "
    "no error",
    "width": "the residuals of {name} are {width:.2f} +- {width_error:.2f} times as wide as its "
    "fitted resolution: it is not described by the model",
}


def _type_remarks(found: Outlying, fitted: Fit, subarray: Subarray) -> Iterator[str]:
    for code, tel_type in enumerate(sorted(set(subarray.types))):
        members = (subarray.type_codes == code) & (found.n_rows > 0)
        if (found.type_tailed & members).any() and not (found.tailed & members).any():
            share = found.type_share[members].max()
            yield (
                f"{share:.1%} of the values of the {tel_type} lie more than {FAR:g} sigma from the "
                f"mean of their shower: {_effect(fitted)}"
            )


def _untested(table: pl.DataFrame, *, joint: bool) -> Iterator[str]:
    few = table.filter(pl.col("flag") == "few")
    if len(few):
        names = [f"{kind} {tel_id}" for kind, tel_id in few.select("tel_type", "tel_id").rows()]
        yield (
            f"whether the values of {listed(names)} fit their showers (fewer than {LEAST_ROWS} "
            "telescope events each)"
        )
    for tel_type, seen in table.group_by("tel_type", maintain_order=True):
        if len(seen) == AMBIGUOUS and not joint:
            yield (
                f"which of the only two {tel_type[0]} is off where they contradict each other, and "
                "whether one is noisier than the other"
            )
