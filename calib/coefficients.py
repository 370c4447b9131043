"""Solution to COEFFICIENTS: gauge by type, reasons for every telescope without a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from calib import network
from calib.fit import ROUNDING, systematic_error
from calib.pairs import TELESCOPE_LEVEL
from calib.quality import is_outlier, judge
from calib.result import PAIR_RESULTS, RESIDUALS, TELESCOPES, CalibrationResult
from calib.schema import REJECTED
from calib.summary import RESIDUAL_EDGES
from config.dumping import to_yaml

if TYPE_CHECKING:
    import numpy.typing as npt

    from calib.fit import Fit
    from calib.observables import Observable
    from calib.subarray import Subarray
    from config.models import Configuration, RelativeThroughputFitterOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["assemble"]


@dataclass(frozen=True)
class _Scaled:
    """ln c with covariance, and for telescopes without a value the flag and the reason.

    `systematic` is that of ln c, `gauges` what fixed the scale of each type.
    """

    fixed: network.Fixed
    systematic: Floats
    gauges: dict[str, str]
    flags: list[str]
    reasons: list[str]


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

    Returns
    -------
    CalibrationResult
        The result, judged.
    """
    options = configuration.RelativeThroughputFitter
    scaled = _scale(fitted, subarray, options)
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
        positions_m=dict(zip(subarray.tel_ids, subarray.positions_m, strict=True)),
        fit=_fit_facts(fitted, scaled, options),
        residuals=_residual_table(fitted, subarray),
        verdict=judge(telescopes, blocks, _remarks(fitted, subarray, scaled, options)),
        configuration=to_yaml(configuration),
        provenance=provenance,
    )


def _remarks(
    fitted: Fit, subarray: Subarray, scaled: _Scaled, options: RelativeThroughputFitterOptions
) -> list[str]:
    """What a reader must know beside the missing telescopes and blocks."""
    remarks = []
    if not fitted.settled:
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


def _with_margin(rejected: pl.DataFrame, fitted: Fit) -> pl.DataFrame:
    """Add the rows the fit left out to those that were left out before it."""
    row = (TELESCOPE_LEVEL, BELOW_MARGIN, int(fitted.summary.n_below_margin))
    lost = pl.DataFrame([row], schema=REJECTED, orient="row").filter(pl.col("rows") > 0)
    return pl.concat([rejected, lost])


#: Name of the rule by which the fit itself leaves rows out, see `calib.model.above_margin`.
BELOW_MARGIN = "expected value too close to the threshold (ShowerSelection)"


def _scale(fitted: Fit, subarray: Subarray, options: RelativeThroughputFitterOptions) -> _Scaled:
    """Fix the gauge of every type; nothing gets a value that its gauge does not reach."""
    n = len(subarray)
    values, systematic = np.full(n, np.nan), np.full(n, np.nan)
    covariance = np.full((n, n), np.nan)
    flags, reasons, gauges = [""] * n, [""] * n, {}
    for tel_type in sorted(set(subarray.types)):
        members = np.flatnonzero(np.asarray(subarray.types) == tel_type)
        for node in members:
            flags[node], reasons[node] = _unconnected(fitted, int(node), options)
        nodes, problem = _gauge_component(fitted, subarray, tel_type, members, options)
        for node in members:
            if not reasons[node] and node not in nodes:
                flags[node], reasons[node] = problem
        if len(nodes):
            anchor = _anchor(subarray, tel_type, nodes, options)
            fixed = network.fix_gauge(fitted.solution, nodes, **anchor)
            relative = {key: anchor[key] for key in ("gauge", "reference")}
            slope, part = options.response_slope, np.ix_(nodes, nodes)
            values[nodes] = fixed.log_throughput[nodes] / slope
            covariance[part] = fixed.covariance[part] / slope**2
            systematic[nodes] = systematic_error(fitted, nodes, **relative) / slope
            gauges[tel_type] = "constraints" if anchor["constraints"] else anchor["gauge"]
            for node in _without_scatter(fixed, nodes, anchor):
                values[node] = systematic[node] = np.nan
                covariance[node, :] = covariance[:, node] = np.nan
                flags[node], reasons[node] = "degenerate", "its values do not scatter at all"
    return _Scaled(network.Fixed(values, covariance), systematic, gauges, flags, reasons)


def _without_scatter(fixed: network.Fixed, nodes: Indices, anchor: dict[str, Any]) -> list[np.intp]:
    """Telescopes whose error is zero although nothing fixes them: data that are no measurement."""
    exact = {c.node for c in anchor["constraints"] if c.log_error == 0}
    if not anchor["constraints"] and anchor["gauge"] == "reference":
        exact.add(anchor["reference"])
    error = np.sqrt(np.diag(fixed.covariance)[nodes])
    return [
        node
        for node, size in zip(nodes, error, strict=True)
        if size < ROUNDING and node not in exact
    ]


def _unconnected(
    fitted: Fit, node: int, options: RelativeThroughputFitterOptions
) -> tuple[str, str]:
    """Flag and reason of a telescope that enough showers tie to no other; empty if one does."""
    if fitted.solution.component[node] >= 0:
        return "", ""
    candidates, used = (
        int(x[node]) for x in (fitted.summary.n_candidates, fitted.summary.n_events)
    )
    if candidates == 0:
        return "no_data", "no selected shower in common with another telescope of its type"
    if used < options.min_events:
        lost = f" ({candidates} before the threshold margin)" if candidates > used else ""
        showers = "1 shower" if used == 1 else f"{used} showers"
        return "few_events", f"{showers}{lost}, {options.min_events} needed (min_events)"
    common = fitted.summary.log_ratio.n
    best = int(max(common[node].max(), common[:, node].max()))
    return "few_common", (
        f"at most {best} showers in common with any telescope, "
        f"{options.min_common_events} needed (min_common_events)"
    )


def _gauge_component(
    fitted: Fit,
    subarray: Subarray,
    tel_type: str,
    members: Indices,
    options: RelativeThroughputFitterOptions,
) -> tuple[Indices, tuple[str, str]]:
    """Telescopes the gauge of a type can reach, and why not the others."""
    component = fitted.solution.component
    nothing = np.empty(0, np.intp)
    constrained = [
        subarray.index[c.tel_id] for c in options.constraints if c.tel_id in subarray.index
    ]
    constrained = [node for node in constrained if node in members and component[node] >= 0]
    if not constrained and options.effective_gauge == "reference":
        tel_id = options.reference_telescopes.get(tel_type)
        if tel_id is None:
            return nothing, ("no_reference", f"no reference telescope is configured for {tel_type}")
        node = subarray.index.get(tel_id)
        if node is None or node not in members:
            return nothing, (
                "no_reference",
                f"reference telescope {tel_id} is no {tel_type} of this array",
            )
        if component[node] < 0:
            return nothing, (
                "no_reference",
                f"the reference telescope {tel_id} has too little data",
            )
        return np.flatnonzero(component == component[node]), (
            "island",
            f"not connected to the reference telescope {tel_id}",
        )
    connected = component[members][component[members] >= 0]
    if not len(connected):
        return nothing, ("no_data", "")
    chosen = int(component[constrained[0]]) if constrained else int(connected.min())
    nodes = np.flatnonzero(component == chosen)
    first = subarray.tel_ids[nodes[0]]
    return nodes, (
        "island",
        f"not connected to the largest group of {tel_type} (telescope {first} and others)",
    )


def _anchor(
    subarray: Subarray, tel_type: str, nodes: Indices, options: RelativeThroughputFitterOptions
) -> dict[str, Any]:
    """Arguments of `network.fix_gauge` for the telescopes of a type."""
    slope = options.response_slope
    constraints = [
        network.Constraint(
            subarray.index[c.tel_id], slope * math.log(c.value), slope * c.error / c.value
        )
        for c in options.constraints
        if subarray.index.get(c.tel_id, -1) in nodes
    ]
    reference = options.reference_telescopes.get(tel_type)
    return {
        "gauge": options.effective_gauge,
        "log_norm": slope * math.log(options.throughput_normalisation.get(tel_type, 1.0)),
        "reference": None if reference is None else subarray.index.get(reference),
        "constraints": constraints,
    }


def _telescope_table(fitted: Fit, subarray: Subarray, scaled: _Scaled) -> pl.DataFrame:
    n = len(subarray)
    fixed, summary = scaled.fixed, fitted.summary
    deviation, z = np.full(n, np.nan), np.full(n, np.nan)
    for number in range(int(fitted.solution.component.max(initial=-1)) + 1):
        nodes = np.flatnonzero(
            (fitted.solution.component == number) & np.isfinite(fixed.log_throughput)
        )
        if len(nodes) > 1:
            deviation[nodes], z[nodes] = network.leave_one_out(fixed, nodes)
    outlier = is_outlier(deviation, z)
    flags = [flag or ("outlier" if outlier[i] else "ok") for i, flag in enumerate(scaled.flags)]
    reasons = [
        reason
        or (f"{deviation[i]:+.1%} from its siblings, {z[i]:+.1f} sigma" if outlier[i] else "")
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
    fitted: Fit, scaled: _Scaled, options: RelativeThroughputFitterOptions
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
