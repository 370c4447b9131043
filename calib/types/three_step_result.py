"""The three-step method from pairs to a result, with an inter-calibration made here or read."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import Fit
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import empty_summary, merge_summaries
from arraycal.calib.gauge.within_types import Scaled
from arraycal.calib.pairs.rules import pairs_to_form
from arraycal.calib.result.assemble import assemble
from arraycal.calib.result.verdict import with_remarks, with_untested
from arraycal.calib.types.doubts import without_factors
from arraycal.calib.types.joint import FACTORS_PATH, INTER_PATH, TYPES, check_types, factors
from arraycal.calib.types.three_step import Inter, TypeFactor, three_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.observables import Observable
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

    Floats = npt.NDArray[np.float64]
    Windows = Callable[[], Iterable[Showers]]

__all__ = ["three_step_result"]

#: The second and third step take means of all blocks at once.
UNTESTED = ("constancy between and within blocks, and residuals: not with method: three_step",)


def three_step_result(
    windows: Windows,
    inter: Inter,
    participation: pl.DataFrame,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    tables: dict[str, Any],
) -> CalibrationResult:
    """Run the second and third step.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window.
    inter : Inter
        Outcome of the first step.
    participation : DataFrame
        Schema ``arraycal.calib.schema.PARTICIPATION``.
    subarray : Subarray
        The telescopes.
    observable, configuration
        What was asked for.
    tables : dict
        Further arguments of `arraycal.calib.result.assemble.assemble`.

    Returns
    -------
    CalibrationResult
        A telescope without inter-calibration, or of a type without a factor, has no coefficient.
    """
    options = configuration.CalculateCrossCalibration
    reference = options.reference_subsystem
    check_types(subarray, reference)
    model = Model.initial(subarray, variance=1.0, margin=0.0)
    summary = merge_summaries([empty_summary(model), *(summarise(s, model) for s in windows())])
    found = three_step(
        summary.log_ratio,
        inter,
        subarray.types,
        reference,
        _by_node(participation, subarray) if options.participation_factor else None,
        pairs_to_form(observable, configuration, subarray),
    )
    scaled = _scaled(inter, found, subarray, reference)
    fixed = scaled.fixed
    component = np.where(np.isfinite(fixed.log_throughput), 0, -1)
    covariance = np.nan_to_num(fixed.covariance)
    solution = network.Solution(fixed.log_throughput, covariance, component, math.nan, math.nan)
    fitted = Fit(solution, summary, model, (), 1, settled=True)
    result = assemble(fitted, subarray, observable, configuration, **tables, scaled=scaled)
    return _with_types(result, inter, found, subarray, reference)


def _by_node(participation: pl.DataFrame, subarray: Subarray) -> dict[str, Floats]:
    counts = {tel_type: np.zeros(len(subarray)) for tel_type in set(subarray.types)}
    for tel_type, tel_id, rows in participation.iter_rows():
        counts[tel_type][subarray.index[tel_id]] += rows
    return counts


def _scaled(inter: Inter, found: list[TypeFactor], subarray: Subarray, reference: str) -> Scaled:
    """Coefficients times the factors of their types, as ln c."""
    n = len(subarray)
    factor = {item.tel_type: (item.value, item.error) for item in found} | {reference: (1.0, 0.0)}
    f, f_error = np.asarray([factor.get(kind, (np.nan, np.nan)) for kind in subarray.types]).T
    relative = f_error / f
    kinds = np.asarray(subarray.types)
    same = kinds[:, None] == kinds[None, :]
    c = inter.value
    shared = np.where(same, np.outer(relative, relative), 0.0)
    covariance = inter.covariance / np.outer(c, c) + shared
    value = np.log(c * f)
    flags, reasons = [""] * n, [""] * n
    for node, tel_type in enumerate(subarray.types):
        if not np.isfinite(c[node]):
            flags[node], reasons[node] = "no_inter", NO_INTER
        elif tel_type not in factor:
            flags[node], reasons[node] = "no_factor", f"no shower compares {tel_type}-{reference}"
    fixed = network.Fixed(value, covariance)
    gauge = f"inter-calibration of {reference}"
    return Scaled(fixed, np.full(n, np.nan), {reference: gauge}, flags, reasons)


NO_INTER = "the inter-calibration has no coefficient, or none with an error"


def _with_types(
    result: CalibrationResult,
    inter: Inter,
    found: list[TypeFactor],
    subarray: Subarray,
    reference: str,
) -> CalibrationResult:
    types = _types(result, found, subarray, reference)
    steps = pl.DataFrame(
        {
            "tel_type": [item.tel_type for item in found],
            "ratio": [item.ratio for item in found],
            "ratio_error": [item.ratio_error for item in found],
            "participation_factor": [item.participation for item in found],
            "participation_factor_error": [item.participation_error for item in found],
            "n_ratios": [item.n_ratios for item in found],
        }
    )
    known = np.isfinite(inter.value)
    coefficients = pl.DataFrame(
        {
            "tel_type": np.asarray(subarray.types)[known].tolist(),
            "tel_id": np.asarray(subarray.tel_ids)[known],
            "value": inter.value[known],
            "error": inter.error[known],
        }
    )
    remarks = [
        f"{item.tel_type}: energies of {len(item.uncorrected)} telescopes without "
        "inter-calibration were taken as they are"
        for item in found
        if item.uncorrected
    ]
    described = replace(
        result,
        fit=result.fit
        | {"estimator": "three_step", "method": "three_step", "reference_subsystem": reference},
        extras=result.extras | {"types": types, "steps": steps},
        published=result.published | {INTER_PATH: coefficients, FACTORS_PATH: factors(types)},
        verdict=with_untested(with_remarks(result.verdict, remarks), UNTESTED),
    )
    return without_factors(described)


def _types(
    result: CalibrationResult, found: list[TypeFactor], subarray: Subarray, reference: str
) -> pl.DataFrame:
    by_type = {item.tel_type: item for item in found}
    valued = result.telescopes.filter(pl.col("value").is_finite())
    counts = dict(valued.group_by("tel_type").len().iter_rows())
    rows = []
    for tel_type in sorted(set(subarray.types)):
        item = by_type.get(tel_type)
        own = tel_type == reference
        value, error = (item.value, item.error) if item else (1.0 if own else math.nan, 0.0)
        lost = [name for name in (tel_type, reference) if not counts.get(name)]
        reason = "" if item or own else f"no shower compares it with {reference}"
        if lost and not reason:
            value, reason = math.nan, f"no telescope of {lost[0]} has a coefficient"
        rows.append(
            dict.fromkeys(TYPES, math.nan)
            | {
                "tel_type": tel_type,
                "tel_ref": reference,
                "gauge": "inter-calibration",
                "n_telescopes": counts.get(tel_type, 0),
                "n_pairs": item.n_ratios if item else 0,
                "scaling_factor": value,
                "error": math.nan if reason else error,
                "expected": 0.0,
                "expected_error": 0.0,
                "reason": reason,
            }
        )
    return pl.DataFrame(rows, schema=TYPES)
