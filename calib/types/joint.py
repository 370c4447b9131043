"""Cross-calibration: the result of a joint solution, with what a type is worth in it.

Published beside the coefficients (all telescopes, gauge of the reference type), in the schema of
ctao-calibpipe: the inter-calibration (each type in its own gauge) and the scaling factor of each
type, with ``coefficient = factor * inter-calibration`` for every telescope.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.fit.slope import NO_SLOPE, EnergySlope
from arraycal.calib.gauge.across_types import Joint, mean_of, mean_weights, scale_jointly
from arraycal.calib.result.verdict import with_remarks
from arraycal.calib.types.bins import (
    CONTRAST_BINS,
    ENERGY,
    contrast_bins,
    contrast_observer,
    contrast_trends,
)
from arraycal.calib.types.doubts import with_lone_reference, without_factors
from arraycal.calib.types.reference import NOT_SIMULATED, read_reference, reference_corrected
from arraycal.calib.wording import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sweep import Observer
    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

__all__ = [
    "ENERGY_SLOPES",
    "FACTORS",
    "INTER_PATH",
    "TYPES",
    "check_types",
    "contrast_observers",
    "describe_types",
    "energy_slopes",
    "joint_scale",
    "type_table",
    "with_types",
]

#: Name of what is summed for `describe_types`.
CONTRASTS = "contrasts"

INTER_PATH = "/dl2/monitoring/subarray/inter_calibration"
FACTORS_PATH = "/dl2/monitoring/subarray/cross_calibration/scaling_factors"

#: Scaling factors as ctao-calibpipe publishes them: of every type but the reference type.
FACTORS = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_ref": pl.String,
        "scaling_factor": pl.Float64,
        "scaling_factor_uncertainty": pl.Float64,
    }
)
INTER = pl.Schema(
    {"tel_type": pl.String, "tel_id": pl.Int64, "value": pl.Float64, "error": pl.Float64}
)

#: One row per type. `contrast` is the mean of ln c of the type minus that of the reference type,
#: over telescopes with a coefficient; `expected` was subtracted from it (and is in the factor);
#: `n_pairs` counts pair rows with the reference type, `reason` says why there is no factor.
TYPES = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_ref": pl.String,
        "gauge": pl.String,
        "n_telescopes": pl.Int64,
        "n_pairs": pl.Int64,
        "scaling_factor": pl.Float64,
        "error": pl.Float64,
        "systematic": pl.Float64,
        "contrast": pl.Float64,
        "contrast_error": pl.Float64,
        "contrast_systematic": pl.Float64,
        "expected": pl.Float64,
        "expected_error": pl.Float64,
        "reason": pl.String,
    }
)


#: One row per type with a fitted slope: d ln E / d ln E relative to the reference type, zero at the
#: pivot; NaN where the data do not tell.
ENERGY_SLOPES = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_ref": pl.String,
        "pivot": pl.Float64,
        "slope": pl.Float64,
        "error": pl.Float64,
    }
)


def energy_slopes(subarray: Subarray, configuration: Configuration) -> EnergySlope:
    """Slopes to fit: of every type but the reference type, if they are asked for.

    Raises
    ------
    WrongUsage
        If the estimator has no place for them.
    """
    options = configuration.CalculateCrossCalibration
    if not options.energy_slope:
        return NO_SLOPE
    if configuration.RelativeThroughputFitter.estimator == "pair":
        raise WrongUsage("energy_slope needs RelativeThroughputFitter.estimator: event")
    names = sorted(set(subarray.types))
    kinds = [code for code, name in enumerate(names) if name != options.reference_subsystem]
    return EnergySlope(tuple(kinds), math.log(options.energy_pivot))


def check_types(subarray: Subarray, reference: str) -> None:
    """Refuse an array whose types cannot be compared.

    Raises
    ------
    NothingToDo
        If all telescopes are of one type.
    WrongUsage
        If there is no telescope of the reference type.
    """
    types = sorted(set(subarray.types))
    if len(types) == 1:
        raise NothingToDo(
            f"all {len(subarray)} telescopes are of type {types[0]}: a cross-calibration compares "
            "types. Calibrate them with energy-inter."
        )
    if reference not in types:
        raise WrongUsage(
            f"reference_subsystem is {reference}, but the array has {', '.join(types)}. "
            f"Choose one of them: --set CalculateCrossCalibration.reference_subsystem={types[0]}"
        )


def joint_scale(fitted: Fit, subarray: Subarray, configuration: Configuration) -> Joint:
    """Fix the gauges of a joint solution as configured, see `arraycal.calib.gauge.across_types`."""
    reference = configuration.CalculateCrossCalibration.reference_subsystem
    return scale_jointly(fitted, subarray, configuration.RelativeThroughputFitter, reference)


def contrast_observers(
    learnt: Fit, chosen: Sequence[Showers], subarray: Subarray, configuration: Configuration
) -> dict[str, Observer]:
    """What a sweep shall sum for `describe_types`.

    Parameters
    ----------
    learnt : Fit
        Of the sample.
    chosen : sequence of Showers
        The sample.
    subarray : Subarray
        The telescopes.
    configuration : Configuration
        All options.
    """
    observer = contrast_observer(
        chosen,
        learnt.model,
        _compared(joint_scale(learnt, subarray, configuration)),
        len(set(subarray.types)),
        least=configuration.RelativeThroughputFitter.min_events,
    )
    return {CONTRASTS: observer}


def _compared(joint: Joint) -> npt.NDArray[np.bool_]:
    """Telescopes with a coefficient that are not far off."""
    known = np.isfinite(joint.scaled.fixed.log_throughput)
    return np.asarray(known & ~np.isin(np.arange(len(known)), joint.scaled.far))


def describe_types(
    result: CalibrationResult,
    joint: Joint,
    fitted: Fit,
    subarray: Subarray,
    configuration: Configuration,
) -> CalibrationResult:
    """Add everything about types to the result of a joint solution.

    Parameters
    ----------
    result : CalibrationResult
        With coefficients in the gauge of the reference type.
    joint : Joint
        Both gauges.
    fitted : Fit
        The joint solution, with what `contrast_observers` have summed.
    subarray : Subarray
        The telescopes.
    configuration : Configuration
        All options.

    Returns
    -------
    CalibrationResult
        With companion tables ``types``, ``contrast_bins`` and ``contrast_trends``, the published
        inter-calibration and scaling factors, and a remark on every contrast that depends on the
        energy. A simulation reference is subtracted from all of it.

    Raises
    ------
    WrongUsage
        If the simulation reference cannot be used.
    """
    options = configuration.CalculateCrossCalibration
    reference = options.reference_subsystem
    bins = CONTRAST_BINS.to_frame()
    if CONTRASTS in fitted.observed:
        bins = contrast_bins(
            fitted.observed[CONTRASTS],
            fitted.model,
            subarray.types,
            _compared(joint),
            reference,
            least=configuration.RelativeThroughputFitter.min_events,
        )
    types = type_table(joint, fitted, subarray, reference)
    if options.simulation_reference is not None:
        expected = read_reference(options.simulation_reference, reference)
        result, types, bins = reference_corrected(result, types, bins, expected)
    lines = contrast_trends(bins)
    result = with_types(result, types, joint, fitted, subarray, reference)
    return replace(
        result,
        extras=result.extras | {"contrast_bins": bins, "contrast_trends": lines},
        verdict=with_remarks(result.verdict, [*_uncorrected(types), *_remarks(lines)]),
    )


def with_types(
    result: CalibrationResult,
    types: pl.DataFrame,
    joint: Joint,
    fitted: Fit,
    subarray: Subarray,
    reference: str,
) -> CalibrationResult:
    """Add the table of types, the slopes if there are any, and what is published of them."""
    if fitted.model.now.slope.n_columns:
        result = _with_slopes(result, fitted, subarray, reference)
    result = replace(result, verdict=with_remarks(result.verdict, _without_factor(types)))
    described = replace(
        result,
        fit=result.fit | {"method": "joint", "reference_subsystem": reference},
        extras=result.extras | {"types": types},
        published=result.published
        | {INTER_PATH: _inter(joint, subarray), FACTORS_PATH: factors(types)},
    )
    return without_factors(with_lone_reference(described, reference))


def _with_slopes(
    result: CalibrationResult, fitted: Fit, subarray: Subarray, reference: str
) -> CalibrationResult:
    """Add the table of fitted slopes, the last columns of the solution."""
    slope, linear = fitted.model.now.slope, fitted.solution.linear
    names = sorted(set(subarray.types))
    n = slope.n_columns
    value, error = np.full(n, np.nan), np.full(n, np.nan)
    if linear is not None:
        value = linear.columns[-n:]
        error = np.where(np.isfinite(value), np.sqrt(np.diag(linear.covariance)[-n:]), np.nan)
    table = pl.DataFrame(
        {
            "tel_type": [names[kind] for kind in slope.kinds],
            "tel_ref": [reference] * n,
            "pivot": [math.exp(slope.log_pivot)] * n,
            "slope": value,
            "error": error,
        },
        schema=ENERGY_SLOPES,
    )
    return replace(
        result,
        extras=result.extras | {"energy_slopes": table},
    )


def factors(types: pl.DataFrame) -> pl.DataFrame:
    """Scaling factors of the peer's schema from `TYPES`."""
    known = types.filter(
        pl.col("scaling_factor").is_finite() & (pl.col("tel_type") != pl.col("tel_ref"))
    )
    return known.select(
        "tel_type",
        "tel_ref",
        "scaling_factor",
        pl.col("error").alias("scaling_factor_uncertainty"),
    )


def type_table(joint: Joint, fitted: Fit, subarray: Subarray, reference: str) -> pl.DataFrame:
    """What each type is worth, schema `TYPES`."""
    rows = []
    usable = np.isfinite(joint.scaled.fixed.log_throughput)
    inside = usable & ~np.isin(np.arange(len(subarray)), joint.scaled.far)
    kinds = np.asarray(subarray.types)
    means = {
        tel_type: mean_weights(len(subarray), np.flatnonzero(inside & (kinds == tel_type)))
        for tel_type in joint.types
    }
    common = fitted.summary.log_ratio.n
    common = common + common.T
    for tel_type, own in joint.types.items():
        members = kinds == tel_type
        row: dict[str, Any] = {
            "tel_type": tel_type,
            "tel_ref": reference,
            "gauge": own.gauge,
            "n_telescopes": int(np.count_nonzero(usable & members)),
            "n_pairs": 0
            if tel_type == reference
            else int(common[np.ix_(members, kinds == reference)].sum()),
            "expected": 0.0,
            "expected_error": 0.0,
            "reason": _reason(joint, tel_type, reference),
        }
        factor = own.log_factor if _is_known(joint, tel_type, reference) else None
        value = math.nan if factor is None else math.exp(factor.value)
        row |= {"scaling_factor": value, "error": math.nan, "systematic": math.nan}
        if factor is not None:
            row |= {
                "error": value * math.sqrt(factor.variance),
                "systematic": value * factor.systematic,
            }
        both = means[tel_type].any() and means[reference].any()
        contrast = mean_of(joint.solution, means[tel_type] - means[reference]) if both else None
        row |= {
            "contrast": contrast.value if contrast else math.nan,
            "contrast_error": math.sqrt(contrast.variance) if contrast else math.nan,
            "contrast_systematic": contrast.systematic if contrast else math.nan,
        }
        rows.append(row)
    return pl.DataFrame(rows, schema=TYPES)


def _is_known(joint: Joint, *names: str) -> bool:
    """Whether each of the types has a coefficient: without one its factor says nothing."""
    known = np.isfinite(joint.scaled.fixed.log_throughput)
    return all(bool(known[joint.types[name].nodes].any()) for name in names)


def _reason(joint: Joint, tel_type: str, reference: str) -> str:
    own = joint.types[tel_type]
    if own.log_factor is not None:
        for name in (tel_type, reference):
            if not _is_known(joint, name):
                why = joint.scaled.reasons[joint.types[name].nodes[0]]
                return f"no telescope of {name} has a coefficient: {why}"
        return ""
    if own.reason:
        return own.reason
    base = joint.types[reference]
    if tel_type == reference:
        return "no telescope of it has enough data"
    if not len(own.nodes):
        return "no telescope of it has enough data in common with the others"
    return base.reason or f"not connected to the reference type {reference}"


def _inter(joint: Joint, subarray: Subarray) -> pl.DataFrame:
    """Coefficients of each type in its own gauge, those that have one."""
    parts = [INTER.to_frame()]
    for tel_type, own in joint.types.items():
        sound = [joint.scaled.flags[node] != "degenerate" for node in own.nodes]
        nodes = own.nodes[np.asarray(sound, np.bool_)]
        parts.append(
            pl.DataFrame(
                {
                    "tel_type": [tel_type] * len(nodes),
                    "tel_id": np.asarray(subarray.tel_ids)[nodes],
                    "value": own.fixed.value[nodes],
                    "error": own.fixed.error[nodes],
                },
                schema=INTER,
            )
        )
    return pl.concat(parts).sort("tel_type", "tel_id")


def _without_factor(types: pl.DataFrame) -> list[str]:
    """Types with coefficients and yet neither a gauge of their own nor a factor."""
    lost = types.filter(pl.col("scaling_factor").is_nan() & (pl.col("n_telescopes") > 0))
    return [
        f"{row['tel_type']} has no inter-calibration and no scaling factor: {row['reason']}"
        for row in lost.iter_rows(named=True)
    ]


def _uncorrected(types: pl.DataFrame) -> list[str]:
    """Types that a simulation reference should have corrected and could not."""
    names = types.filter(pl.col("reason") == NOT_SIMULATED)["tel_type"]
    return [f"the factor of {name} is not corrected: {NOT_SIMULATED}" for name in names]


def _remarks(lines: pl.DataFrame) -> list[str]:
    flagged = lines.filter((pl.col("covariate") == ENERGY.name) & (pl.col("flag") != "ok"))
    return [
        f"the contrast of {row['tel_type']} with {row['tel_ref']} changes by "
        f"{percent(row['span'])} over the energies ({abs(row['significance']):.1f} sigma): "
        "one factor does not describe it"
        for row in flagged.iter_rows(named=True)
    ]
