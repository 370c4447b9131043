"""What a comparison of types cannot know: who is alone, whose noise is whose, who is not compared.

A single telescope of a type gives no difference to its like. Of the noise of a pair across types
only the sum is known then, and where the reference type has one telescope left it is the scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.fit.loop import fit
from arraycal.calib.fit.resolutions import inseparable
from arraycal.calib.result.result import Verdict
from arraycal.calib.result.verdict import with_remarks
from arraycal.calib.wording import listed, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit, FitOptions
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Windows = Callable[[], Iterable[Showers]]

__all__ = ["ALONE", "NO_FACTOR", "with_lone_reference", "with_resolution_doubt", "without_factors"]

#: Flags of a telescope that is the scale, and of one of an array whose types nothing compares.
ALONE, NO_FACTOR = "alone", "no_factor"
#: Resolutions of types that are tried where nobody knows them, relative to each other.
RATIO = 2.0


def with_lone_reference(result: CalibrationResult, reference: str) -> CalibrationResult:
    """Say so if the reference type has one telescope with a coefficient.

    Parameters
    ----------
    result : CalibrationResult
        In the gauge of the reference type.
    reference : str
        That type.

    Returns
    -------
    CalibrationResult
        Degraded and with a flag if the telescope has no error, because it is the scale.
    """
    lone = (pl.col("tel_type") == reference) & pl.col("value").is_finite()
    found = result.telescopes.filter(lone)
    if len(found) != 1 or found["error"][0] > 0:
        return result
    name, value = f"{reference} {found['tel_id'][0]}", found["value"][0]
    reason = f"the only {reference} with a coefficient: the scale, {value:.4g} by definition"
    told = pl.when(lone & (pl.col("flag") == "ok"))
    telescopes = result.telescopes.with_columns(
        flag=told.then(pl.lit(ALONE)).otherwise("flag"),
        reason=told.then(pl.lit(reason)).otherwise("reason"),
    )
    remark = (
        f"the reference is a single telescope, {name}: its value is {value:.4g} by definition, "
        "nothing tests it, and whatever is wrong with it is in all other coefficients"
    )
    return replace(result, telescopes=telescopes, verdict=with_remarks(result.verdict, [remark]))


def without_factors(result: CalibrationResult) -> CalibrationResult:
    """Take the numbers out of a comparison of types in which no two types are compared.

    Parameters
    ----------
    result : CalibrationResult
        With the table ``types``.

    Returns
    -------
    CalibrationResult
        Unusable and without coefficients if none but the reference type has any.
    """
    types = result.extras["types"]
    others = types.filter(pl.col("tel_type") != pl.col("tel_ref"))
    # A type whose own gauge is missing has no factor, and yet coefficients and a contrast.
    if (others["scaling_factor"].is_finite() | (others["n_telescopes"] > 0)).any():
        return result
    why = "; ".join(f"{kind}: {why}" for kind, why in others.select("tel_type", "reason").rows())
    reason = (
        f"no type is compared with {types['tel_ref'][0]}, so there is no scaling factor ({why})"
    )
    known = pl.col("value").is_finite()
    missing = [pl.lit(float("nan")).alias(name) for name in ("value", "error", "systematic")]
    telescopes = result.telescopes.with_columns(
        *missing,
        flag=pl.when(known).then(pl.lit(NO_FACTOR)).otherwise("flag"),
        reason=pl.when(known).then(pl.lit("no type is compared with another")).otherwise("reason"),
    )
    return replace(
        result,
        telescopes=telescopes,
        tel_ids=(),
        covariance=np.empty((0, 0)),
        published={path: table.clear() for path, table in result.published.items()},
        verdict=Verdict("unusable", (reason, *result.verdict.reasons), result.verdict.untested),
    )


def with_resolution_doubt(
    result: CalibrationResult,
    fitted: Fit,
    windows: Windows,
    subarray: Subarray,
    options: FitOptions,
    reference: str,
) -> CalibrationResult:
    """Say by how much contrasts may be off where resolutions of types cannot be told apart.

    Parameters
    ----------
    result : CalibrationResult
        Of the joint solution.
    fitted : Fit
        That solution, with equal resolutions of such types.
    windows : callable
        Returns the showers window by window.
    subarray : Subarray
        The telescopes.
    options : FitOptions
        Of the solution.
    reference : str
        The reference type.

    Returns
    -------
    CalibrationResult
        Degraded if there are such types: solved again with one of them having twice the resolution
        of the others, and one after the other the contrasts compared. Unchanged otherwise.
    """
    untold = np.flatnonzero(inseparable(fitted.summary, subarray.type_codes))
    if not len(untold):
        return result
    names = sorted(set(subarray.types))
    code, n_types = names.index(reference), len(names)
    largest = 0.0
    for kind in untold:
        assumed = np.where(np.arange(n_types) == kind, RATIO**2, 1.0)
        # Weights stay plain: what is asked is what the assumption changes.
        other = fit(windows, subarray, replace(options, robust="none", type_variance=assumed))
        moved = other.solution.log_throughput - fitted.solution.log_throughput
        largest = max(largest, _largest_contrast(moved, subarray.type_codes, code))
    return replace(
        result, verdict=with_remarks(result.verdict, [_doubt([names[k] for k in untold], largest)])
    )


def _largest_contrast(moved: Floats, kinds: npt.NDArray[np.intp], reference: int) -> float:
    """Largest change of the mean of a type relative to that of the reference type."""
    known = np.isfinite(moved)
    means = [moved[known & (kinds == code)] for code in range(int(kinds.max()) + 1)]
    if not len(means[reference]):
        return 0.0
    base = means[reference].mean()
    return max(abs(float(values.mean() - base)) for values in means if len(values))


def _doubt(names: Sequence[str], largest: float) -> str:
    change, _ = relative(largest)
    return (
        f"equal resolutions are assumed across types: those of {listed(list(names))} cannot be "
        "told apart, no two telescopes of one of them see showers together. If one had "
        f"{RATIO:g} times the resolution of the other, contrasts would be off by {change:.1%}"
    )
