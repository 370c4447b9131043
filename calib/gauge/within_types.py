"""The gauge: what fixes the common shift of the telescopes of a type, and who is left without.

Showers fix differences only. Which telescopes a gauge reaches, and why not the others, is decided
here; the change of the solution is `arraycal.calib.fit.network.fix_gauge`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import ROUNDING, systematic_error
from arraycal.calib.wording import counted, few_common

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import RelativeThroughputFitterOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "FAR_FACTOR",
    "NO_SCATTER",
    "Scaled",
    "anchor",
    "explained",
    "far_off",
    "gauge_component",
    "scale",
    "unconnected",
]

#: A telescope further than this factor from the median of its type is no part of the mean of the
#: type: no mirror and no camera is so much worse, but wrong units or empty files are.
FAR_FACTOR = 5.0
#: Reason of a telescope whose numbers are no measurement.
NO_SCATTER = "its values do not scatter at all"


@dataclass(frozen=True)
class Scaled:
    """ln c with covariance, and for telescopes without a value the flag and the reason.

    `systematic` is that of ln c, `gauges` what fixed the scale of each type, `far` are the nodes
    that are too far off to be part of the mean of their type.
    """

    fixed: network.Fixed
    systematic: Floats
    gauges: dict[str, str]
    flags: list[str]
    reasons: list[str]
    far: tuple[int, ...] = ()


def scale(fitted: Fit, subarray: Subarray, options: RelativeThroughputFitterOptions) -> Scaled:
    """Fix the gauge of every type; nothing gets a value that its gauge does not reach."""
    n = len(subarray)
    values, systematic = np.full(n, np.nan), np.full(n, np.nan)
    covariance = np.full((n, n), np.nan)
    flags, reasons, gauges = [""] * n, [""] * n, {}
    far: list[int] = []
    for tel_type in sorted(set(subarray.types)):
        members = np.flatnonzero(np.asarray(subarray.types) == tel_type)
        for node in members:
            flags[node], reasons[node] = unconnected(fitted, int(node), options)
        nodes, problem = gauge_component(fitted, subarray, tel_type, members, options)
        for node in members:
            if not reasons[node] and node not in nodes:
                flags[node], reasons[node] = problem
        if len(nodes):
            fixing = anchor(subarray, tel_type, nodes, options)
            fixing["left_out"] = _left_out(fitted, nodes, fixing, options.response_slope)
            far.extend(fixing["left_out"])
            fixed = network.fix_gauge(fitted.solution, nodes, **fixing)
            relative = {key: fixing[key] for key in ("gauge", "reference", "left_out")}
            slope, part = options.response_slope, np.ix_(nodes, nodes)
            values[nodes] = fixed.log_throughput[nodes] / slope
            covariance[part] = fixed.covariance[part] / slope**2
            systematic[nodes] = systematic_error(fitted, nodes, **relative) / slope
            gauges[tel_type] = "constraints" if fixing["constraints"] else fixing["gauge"]
            for node in _without_scatter(fixed, nodes, fixing):
                values[node] = systematic[node] = np.nan
                covariance[node, :] = covariance[:, node] = np.nan
                flags[node], reasons[node] = "degenerate", NO_SCATTER
    return Scaled(network.Fixed(values, covariance), systematic, gauges, flags, reasons, tuple(far))


def far_off(log_throughput: Floats, nodes: Indices) -> tuple[int, ...]:
    """Nodes of a type that are more than `FAR_FACTOR` from its median.

    None of two telescopes, and none where half of the telescopes or more are far from the median:
    which of them are wrong cannot be known then.
    """
    nodes = nodes[np.isfinite(log_throughput[nodes])]
    if not len(nodes):
        return ()
    s = log_throughput[nodes]
    far = np.abs(s - np.median(s)) > math.log(FAR_FACTOR)
    return tuple(nodes[far].tolist()) if 2 * far.sum() < len(nodes) else ()


def _left_out(fitted: Fit, nodes: Indices, fixing: dict[str, Any], slope: float) -> tuple[int, ...]:
    """Nodes that are too far off for the mean of a type, where a mean is its gauge."""
    if fixing["constraints"] or fixing["gauge"] == "reference":
        return ()
    return far_off(fitted.solution.log_throughput / slope, nodes)


def explained(
    scaled: Scaled, subarray: Subarray, left_out: Mapping[int, tuple[str, str]]
) -> Scaled:
    """Say of telescopes without a value why they were left out.

    An empty flag leaves the flag as it is, and the reason is added to that of the solution.
    """
    flags, reasons = list(scaled.flags), list(scaled.reasons)
    for tel_id, (flag, reason) in left_out.items():
        node = subarray.index[tel_id]
        if not np.isfinite(scaled.fixed.log_throughput[node]):
            before = reasons[node]
            reasons[node] = reason if flag or not before else f"{before}; {reason}"
            flags[node] = flag or flags[node]
    return replace(scaled, flags=flags, reasons=reasons)


def _without_scatter(fixed: network.Fixed, nodes: Indices, fixing: dict[str, Any]) -> list[np.intp]:
    """Telescopes whose error is zero although nothing fixes them: data that are no measurement."""
    exact = {c.node for c in fixing["constraints"] if c.log_error == 0}
    if not fixing["constraints"] and fixing["gauge"] == "reference":
        exact.add(fixing["reference"])
    error = np.sqrt(np.diag(fixed.covariance)[nodes])
    return [
        node
        for node, size in zip(nodes, error, strict=True)
        if size < ROUNDING and node not in exact
    ]


def unconnected(
    fitted: Fit,
    node: int,
    options: RelativeThroughputFitterOptions,
    *,
    among: str = "another telescope of its type",
) -> tuple[str, str]:
    """Flag and reason of a telescope that enough showers tie to no other; empty if one does."""
    if fitted.solution.component[node] >= 0:
        return "", ""
    candidates, used = (
        int(x[node]) for x in (fitted.summary.n_candidates, fitted.summary.n_events)
    )
    if candidates == 0:
        return "no_data", f"no selected shower in common with {among}"
    if used < options.min_events:
        lost = f" ({candidates} before the threshold margin)" if candidates > used else ""
        return (
            "few_events",
            f"{counted(used, 'shower')}{lost}, {options.min_events} needed (min_events)",
        )
    common = fitted.summary.log_ratio.n
    best = int(max(common[node].max(), common[:, node].max()))
    return "few_common", few_common(best, options.min_common_events)


def gauge_component(
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
        return members[component[members] == component[node]], (
            "island",
            f"not connected to the reference telescope {tel_id}",
        )
    connected = component[members][component[members] >= 0]
    if not len(connected):
        return nothing, ("no_data", "")
    chosen = int(component[constrained[0]]) if constrained else int(connected.min())
    nodes = members[component[members] == chosen]
    first = subarray.tel_ids[nodes[0]]
    return nodes, (
        "island",
        f"not connected to the largest group of {tel_type} (telescope {first} and others)",
    )


def anchor(
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
