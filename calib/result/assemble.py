"""Solution to COEFFICIENTS: gauge by type, reasons for every telescope without a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.fit import network
from arraycal.calib.fit.resolutions import far_noisier, medians
from arraycal.calib.fit.sums.summary import RESIDUAL_EDGES
from arraycal.calib.gauge.outliers import stands_out
from arraycal.calib.gauge.within_types import explained, scale
from arraycal.calib.pairs.matching import TELESCOPE_LEVEL, merge_rejected
from arraycal.calib.result.result import PAIR_RESULTS, RESIDUALS, TELESCOPES, CalibrationResult
from arraycal.calib.result.verdict import judge
from arraycal.calib.schema import REJECTED
from arraycal.calib.wording import percent
from arraycal.config.dumping import to_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.gauge.within_types import Scaled
    from arraycal.calib.observables import Observable
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration, RelativeThroughputFitterOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["assemble"]


def assemble(  # noqa: PLR0913
    fitted: Fit,
    subarray: Subarray,
    observable: Observable,
    configuration: Configuration,
    *,
    blocks: pl.DataFrame,
    rejected: pl.DataFrame,
    obs_ids: tuple[int, ...],
    provenance: dict[str, Any],
    scaled: Scaled | None = None,
    left_out: Mapping[int, tuple[str, str]] | None = None,
) -> CalibrationResult:
    """Put the result together.

    Parameters
    ----------
    fitted : Fit
        Solution, sums and model of the last pass.
    subarray : Subarray
        The telescopes.
    observable, configuration
        What was asked for.
    blocks, rejected : DataFrame
        Tables to pass on.
    obs_ids : tuple of int
        Observations used.
    provenance : dict
        To pass on.
    scaled : Scaled, optional
        The solution with its gauge fixed; by default each type in its own.
    left_out : mapping of int to (str, str), optional
        Flag and reason of telescopes that were kept out of the solution, by id.

    Returns
    -------
    CalibrationResult
        The result, judged.
    """
    options = configuration.RelativeThroughputFitter
    scaled = explained(scaled or scale(fitted, subarray, options), subarray, left_out or {})
    telescopes = _telescope_table(fitted, subarray, scaled)
    known = np.flatnonzero(np.isfinite(scaled.fixed.log_throughput))
    known = known[np.argsort(np.asarray(subarray.tel_ids)[known], kind="stable")]
    c = scaled.fixed.value[known]
    return CalibrationResult(
        calibration=observable.name,
        telescopes=telescopes,
        pairs=_pair_table(fitted, subarray),
        blocks=blocks,
        rejected=_with_margin(rejected, fitted),
        tel_ids=tuple(subarray.tel_ids[node] for node in known),
        covariance=scaled.fixed.covariance[np.ix_(known, known)] * np.outer(c, c),
        obs_ids=obs_ids,
        positions_m={
            tel_id: place
            for tel_id, place in zip(subarray.tel_ids, subarray.positions_m, strict=True)
            if tel_id not in subarray.unplaced
        },
        fit=_fit_facts(fitted, scaled, options),
        residuals=_residual_table(fitted, subarray),
        verdict=judge(
            telescopes,
            blocks,
            [*_remarks(fitted, subarray, scaled, options), *_distance(observable, configuration)],
        ),
        configuration=to_yaml(configuration),
        provenance=provenance,
    )


def _remarks(
    fitted: Fit, subarray: Subarray, scaled: Scaled, options: RelativeThroughputFitterOptions
) -> list[str]:
    """What a reader must know beside the missing telescopes and blocks."""
    remarks = []
    # A window of nights has no passes; it says which of its nights did not settle.
    if fitted.passes and not fitted.settled:
        remarks.append("the iteration did not settle (raise ShowerSelection.max_iterations)")
    known = np.isfinite(scaled.fixed.log_throughput)
    idle = [
        c.tel_id for c in options.constraints if not known[subarray.index.get(c.tel_id, [])].any()
    ]
    if idle:
        remarks.append(f"the constraints on telescopes {idle} were not used, they have no data")
    for code, tel_type in enumerate(sorted(set(subarray.types))):
        nodes = np.flatnonzero((subarray.type_codes == code) & known)
        if len(nodes) == 2 and np.isfinite(fitted.model.threshold[code]).any():  # noqa: PLR2004
            remarks.append(
                f"the selection assumes equal resolutions of the only two {tel_type}, which two "
                "telescopes cannot tell apart"
            )
    return remarks


def _distance(observable: Observable, configuration: Configuration) -> list[str]:
    """Say so if sizes are compared whatever the distances."""
    if observable.brightest is None:
        return []
    filters = getattr(configuration, observable.section).event_filters
    fitted = configuration.RelativeThroughputFitter.estimator == "event"
    if filters.equidistant_event_selection or (fitted and configuration.DistanceCurve.knots):
        return []
    return [DISTANCE_IGNORED]


#: Telescopes nearer to the usual core see more light.
DISTANCE_IGNORED = (
    "sizes depend on the distance, and nothing takes that into account: set DistanceCurve.knots "
    "(with estimator: event) or event_filters.equidistant_event_selection, or use the preset "
    "image-inter"
)


def _with_margin(rejected: pl.DataFrame, fitted: Fit) -> pl.DataFrame:
    """Add the rows the fit left out to those that were left out before it."""
    row = (TELESCOPE_LEVEL, BELOW_MARGIN, int(fitted.summary.n_below_margin))
    lost = pl.DataFrame([row], schema=REJECTED, orient="row").filter(pl.col("rows") > 0)
    return merge_rejected([rejected, lost])


#: Name of the rule by which the fit itself leaves rows out, see
#: `arraycal.calib.fit.selection.within_margin`.
BELOW_MARGIN = "expected value too close to the threshold (ShowerSelection)"


def _telescope_table(fitted: Fit, subarray: Subarray, scaled: Scaled) -> pl.DataFrame:
    n = len(subarray)
    fixed, summary = scaled.fixed, fitted.summary
    deviation, z = np.full(n, np.nan), np.full(n, np.nan)
    # Siblings are of one type also where one solution holds several.
    groups = fitted.solution.component * n + subarray.type_codes
    valued = np.isfinite(fixed.log_throughput) & (fitted.solution.component >= 0)
    outlier = np.isin(np.arange(n), scaled.far)
    for group in np.unique(groups[valued]):
        nodes = np.flatnonzero((groups == group) & valued)
        if len(nodes) > 1:
            deviation[nodes], z[nodes] = network.leave_one_out(fixed, nodes)
            outlier[nodes] |= stands_out(deviation[nodes], z[nodes])
    flags = [flag or ("outlier" if outlier[i] else "ok") for i, flag in enumerate(scaled.flags)]
    noisy = _noisy(fitted, subarray)
    apart = {
        int(i): _apart(deviation[i], z[i], far=i in scaled.far) for i in np.flatnonzero(outlier)
    }
    reasons = [
        "; ".join(filter(None, (reason or apart.get(i), noisy.get(i))))
        for i, reason in enumerate(scaled.reasons)
    ]
    common = summary.log_ratio.n + summary.log_ratio.n.T
    value = fixed.value
    return pl.DataFrame(
        {
            "tel_type": list(subarray.types),
            "tel_id": list(subarray.tel_ids),
            "value": value,
            "error": fixed.error,
            "systematic": np.where(np.isfinite(value), value * scaled.systematic, np.nan),
            "n_events": summary.n_events.astype(np.int64),
            "n_candidates": summary.n_candidates.astype(np.int64),
            "n_partners": (common > 0).sum(axis=1),
            "component": fitted.solution.component.astype(np.int64),
            "deviation": deviation,
            "z": z,
            "flag": flags,
            "reason": reasons,
        },
        schema=TELESCOPES,
    )


def _noisy(fitted: Fit, subarray: Subarray) -> dict[int, str]:
    """Say of telescopes with data, by node, how much more their values scatter than expected."""
    variance, kinds = fitted.model.now.variance, subarray.type_codes
    far = far_noisier(variance, kinds) & (fitted.summary.n_candidates > 0)
    sigma, usual = np.sqrt(variance), np.sqrt(medians(variance, kinds))
    return {
        int(
            node
        ): f"its values scatter by {sigma[node]:.0%}, those of its type by {usual[node]:.0%}"
        for node in np.flatnonzero(far)
    }


def _apart(deviation: float, z: float, *, far: bool) -> str:
    """How far a telescope is from its siblings; `far`: too far to be part of their mean."""
    size = f", {z:+.1f} sigma" if np.isfinite(z) else ""
    left_out = ", not part of the mean that is the norm" if far else ""
    return f"{percent(deviation)} from its siblings{size}{left_out}"


def _pair_table(fitted: Fit, subarray: Subarray) -> pl.DataFrame:
    asymmetry, log_ratio = fitted.summary.asymmetry, fitted.summary.log_ratio
    first, second = np.nonzero(log_ratio.n)
    order = np.lexsort((np.asarray(subarray.tel_ids)[second], np.asarray(subarray.tel_ids)[first]))
    first, second = first[order], second[order]
    s, component = fitted.solution.log_throughput, fitted.solution.component
    same = (component[first] >= 0) & (component[first] == component[second])
    fitted_ratio = np.where(same, s[first] - s[second], np.nan)
    mean, error = log_ratio.mean[first, second], log_ratio.error[first, second]
    n = log_ratio.n[first, second]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.where(n > 1, asymmetry.m2[first, second] / (n - 1), np.nan))
        pull = (mean - fitted_ratio) / error
    usable = network.pair_usable(fitted.summary)[first, second]
    variance = network.resistances(fitted.solution.covariance)[first, second]
    types = np.asarray(subarray.types)
    return pl.DataFrame(
        {
            "tel_type": [
                "-".join(dict.fromkeys(pair))
                for pair in zip(types[first], types[second], strict=True)
            ],
            "tel_id_1": np.asarray(subarray.tel_ids)[first],
            "tel_id_2": np.asarray(subarray.tel_ids)[second],
            "n_events": n.astype(np.int64),
            "mean_asymmetry": asymmetry.mean[first, second],
            "mean_asymmetry_error": asymmetry.error[first, second],
            "std_asymmetry": spread,
            "mean_log_ratio": mean,
            "mean_log_ratio_error": error,
            "fitted_log_ratio": fitted_ratio,
            "pull": np.where(error > 0, pull, np.nan),
            "variance": np.where(same, variance, np.nan),
            "flag": np.where(usable, np.where(same, "ok", "unconnected"), "single_event").tolist(),
        },
        schema=PAIR_RESULTS,
    )


def _fit_facts(
    fitted: Fit, scaled: Scaled, options: RelativeThroughputFitterOptions
) -> dict[str, Any]:
    summary, solution = fitted.summary, fitted.solution
    gauges = set(scaled.gauges.values()) or {options.effective_gauge}
    by_type = ", ".join(f"{gauge} ({tel_type})" for tel_type, gauge in scaled.gauges.items())
    return {
        "estimator": options.estimator,
        "gauge": next(iter(gauges)) if len(gauges) == 1 else by_type,
        "robust": fitted.model.robust,
        "threshold_margin": bool(np.isfinite(fitted.model.threshold).any()),
        "chi2": solution.chi2,
        "ndf": solution.ndf,
        "passes": fitted.passes,
        "settled": fitted.settled,
        "n_showers": int(summary.n_showers),
        "n_telescope_events": int(summary.n_rows),
        "n_below_margin": int(summary.n_below_margin),
        "n_outliers": int(summary.n_outliers),
    }


def _residual_table(fitted: Fit, subarray: Subarray) -> pl.DataFrame:
    """Histogram of the pair residuals in units of their expected size, by type."""
    types = sorted(set(subarray.types))
    low, high = RESIDUAL_EDGES[:-1], RESIDUAL_EDGES[1:]
    return pl.concat(
        pl.DataFrame(
            {
                "tel_type": [tel_type] * len(low),
                "low": low,
                "high": high,
                "rows": rows.astype(np.int64),
            },
            schema=RESIDUALS,
        )
        for tel_type, rows in zip(types, fitted.summary.residuals, strict=True)
    )
