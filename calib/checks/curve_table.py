"""Distance curves, what they leave, and what was noted of the blocks, as tables of the result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.checks.residual_bins import ResidualObserver, residual_bins
from arraycal.calib.schema import NOTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.sweep import Observer
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

__all__ = [
    "BLOCK_NOTES",
    "DISTANCE_CURVE",
    "residual_observers",
    "with_curves",
    "with_notes",
    "with_residuals",
]

#: Value of each curve at its knots, ln(value) relative to the knot that is held at zero (error
#: zero); NaN where the data do not tell.
DISTANCE_CURVE = pl.Schema(
    {
        "tel_type": pl.String,
        "impact_m": pl.Float64,
        "log_value": pl.Float64,
        "error": pl.Float64,
    }
)

#: Name of what is summed for `with_residuals`.
RESIDUALS = "residual_bins"

#: What a reader must know about the selection in a block: where the pointing came from, which cut
#: could not be applied.
BLOCK_NOTES = pl.Schema({"path": pl.String, "topic": pl.String, "note": pl.String})


def with_curves(result: CalibrationResult, fitted: Fit, subarray: Subarray) -> CalibrationResult:
    """Add the distance curves of a fit to its result, if it has any."""
    knots, linear = fitted.model.now.knots, fitted.solution.linear
    if linear is None:
        return result
    n = len(subarray)
    error = np.sqrt(np.diag(linear.covariance)[n:])
    value, error = linear.columns, np.where(np.isfinite(linear.columns), error, np.nan)
    tables = []
    for code, tel_type in enumerate(sorted(set(subarray.types))):
        own = slice(code * knots.n_free, (code + 1) * knots.n_free)
        columns = {
            "tel_type": [tel_type] * (knots.n_free + 1),
            "impact_m": knots.positions_m[code],
            "log_value": np.insert(value[own], knots.zero, 0.0),
            "error": np.insert(error[own], knots.zero, 0.0),
        }
        tables.append(pl.DataFrame(columns, schema=DISTANCE_CURVE))
    return replace(
        result,
        extras=result.extras | {"distance_curve": pl.concat(tables)},
    )


def with_residuals(
    result: CalibrationResult, fitted: Fit, subarray: Subarray, *, least: int, unit: str
) -> CalibrationResult:
    """Add what the distance curves of a fit do not explain, if it has any.

    Parameters
    ----------
    result, fitted : CalibrationResult, Fit
        The result and where it is from, with what `residual_observers` have summed.
    subarray : Subarray
        The telescopes.
    least : int
        Telescope events a bin needs.
    unit : str
        Unit of the value; without one it is the size of an image in p.e.

    Returns
    -------
    CalibrationResult
        With the table ``residual_bins`` of ``arraycal.calib.checks.residual_bins``.
    """
    if RESIDUALS not in fitted.observed:
        return result
    sums = fitted.observed[RESIDUALS]
    bins = residual_bins(sums, subarray.types, least=least, unit=unit or "p.e.")
    return replace(result, extras=result.extras | {"residual_bins": bins})


def residual_observers(learnt: Fit) -> dict[str, Observer]:
    """What a sweep shall sum for `with_residuals`: nothing where there are no curves."""
    if learnt.solution.linear is None:
        return {}
    n_types = len(learnt.model.threshold)
    return {RESIDUALS: ResidualObserver(learnt.solution.component >= 0, n_types)}


def with_notes(
    result: CalibrationResult, notes: Sequence[tuple[str, str, str]]
) -> CalibrationResult:
    """Add notes of (path, topic, text) to a result, if there are any."""
    if not notes:
        return result
    table = pl.DataFrame(list(notes), schema=BLOCK_NOTES, orient="row")
    return replace(result, extras=result.extras | {NOTES: table})
