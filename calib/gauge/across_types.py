"""One gauge for telescopes of all types, and what a type is worth in it.

The joint solution knows every telescope up to one shift. Two gauges are read off it: each type's
own (`own`: what an inter-calibration publishes), and that of the reference type, carried to all
others (`scaled`: what a cross-calibration publishes). Their ratio is the scaling factor of a type,

    ln f_T = (t_T - ln N_T) - (t_R - ln N_R),    t_T = a_T . s

where ``a_T . s`` is the type's gauge as a linear function of the solution: one telescope or a mean
of the type. With the geometric mean and equal norms N it is the type contrast
``mean_T s - mean_R s``. Everything is linear in s, so all errors come from the full covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import ROUNDING
from arraycal.calib.gauge.within_types import (
    NO_SCATTER,
    Scaled,
    anchor,
    far_off,
    gauge_component,
    unconnected,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.loop import Fit
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import RelativeThroughputFitterOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Joint", "LinearFunction", "TypeGauge", "mean_of", "scale_jointly"]


class LinearFunction(NamedTuple):
    """A linear function of the solution: its value, variance and excess rms over the splits."""

    value: float
    variance: float
    systematic: float


@dataclass(frozen=True)
class TypeGauge:
    """A type in its own gauge.

    Parameters
    ----------
    gauge : str
        What fixes it: ``reference``, ``geometric_mean``, ``arithmetic_mean`` or ``constraints``.
    nodes : array of int
        Telescopes it reaches; empty if it cannot be fixed.
    reason : str
        Why not.
    fixed : network.Fixed
        ln c of those telescopes.
    log_factor : Linear or None
        ln of the scaling factor to the reference type; None if nothing connects the two.
    """

    gauge: str
    nodes: Indices
    reason: str
    fixed: network.Fixed
    log_factor: LinearFunction | None


@dataclass(frozen=True)
class Joint:
    """A joint solution in both gauges.

    Parameters
    ----------
    scaled : Scaled
        Every telescope in the gauge of the reference type.
    types : dict of str to TypeGauge
        Every type in its own.
    solution : _State
        What `mean_of` needs for further linear functions.
    connected : array of int
        Telescopes connected to the reference type.
    """

    scaled: Scaled
    types: dict[str, TypeGauge]
    solution: _State
    connected: Indices


class _State(NamedTuple):
    """ln c up to a shift, covariance, and half differences with theirs and their components."""

    s: Floats
    covariance: Floats
    halves: tuple[tuple[Floats, Floats, Indices], ...]


class _Gauge(NamedTuple):
    """A gauge as a linear function: ``value = weights . s`` at the solution."""

    value: float
    weights: Floats


def scale_jointly(
    fitted: Fit,
    subarray: Subarray,
    options: RelativeThroughputFitterOptions,
    reference_type: str,
) -> Joint:
    """Fix the gauges of a joint solution.

    Parameters
    ----------
    fitted : Fit
        Solution of all telescopes of all types.
    subarray : Subarray
        The telescopes.
    options : RelativeThroughputFitterOptions
        Gauge, norms, references, constraints. A type without a configured reference telescope has
        the geometric mean. Constraints make all coefficients absolute, and so stand in the place
        of the reference type's gauge.
    reference_type : str
        The type whose gauge all get.

    Returns
    -------
    Joint
        Nothing gets a value that its gauge does not reach.
    """
    anchors = {
        tel_type: _anchor_of(fitted, subarray, tel_type, reference_type, options)
        for tel_type in sorted(set(subarray.types))
    }
    nodes, problem, own = anchors[reference_type]
    component = fitted.solution.component
    connected = np.flatnonzero(component == component[nodes[0]]) if len(nodes) else nodes
    state, absolute = _state(fitted, subarray, connected, options)
    zero = _Gauge(0.0, np.zeros(len(subarray)))
    norm = math.log(options.throughput_normalisation.get(reference_type, 1.0))
    base = zero if absolute or not len(nodes) else _gauge(state.s, nodes, own, subarray)
    norm = 0.0 if absolute else norm
    fixed = _fixed(state, connected, base, norm)
    types = {
        tel_type: _type_gauge(state, anchors[tel_type], base, norm, connected, subarray, options)
        for tel_type in anchors
    }
    if absolute:
        types[reference_type] = _as_it_is(types[reference_type], fixed)
    relative = mean_weights(len(subarray), connected) if absolute else base.weights
    flags, reasons = _flags(fitted, subarray, options, reference_type, connected, problem)
    exact = _exact(fixed, connected, base, absolute=absolute)
    _refuse(fixed, exact, connected, base, flags, reasons)
    gauge = "constraints" if absolute else f"{types[reference_type].gauge} of {reference_type}"
    systematic = _systematic_of_nodes(state, connected, relative)
    far = tuple(
        node
        for own in types.values()
        if own.gauge.endswith("mean")
        for node in far_off(fixed.log_throughput, own.nodes)
    )
    scaled = Scaled(fixed, systematic, {reference_type: gauge}, flags, reasons, far)
    return Joint(scaled, types, state, connected)


def mean_of(state: _State, weights: Floats) -> LinearFunction:
    """Value, variance and systematic error of ``weights . s``, whose weights sum to zero.

    Telescopes of weight zero need no value.
    """
    used = weights != 0
    w, part = weights[used], np.ix_(used, used)
    squares = []
    for difference, covariance, component in state.halves:
        if used.any() and _together(component[used]):
            squares.append(float(w @ difference[used]) ** 2 - float(w @ covariance[part] @ w))
    systematic = math.sqrt(max(float(np.mean(squares)), 0.0)) if squares else math.nan
    return LinearFunction(
        float(w @ state.s[used]), float(w @ state.covariance[part] @ w), systematic
    )


def mean_weights(n: int, nodes: Indices) -> Floats:
    """Weights of the mean over some telescopes, shape (n,)."""
    weights = np.zeros(n)
    weights[nodes] = 1.0 / max(len(nodes), 1)
    return weights


class _Anchor(NamedTuple):
    """Telescopes the own gauge of a type reaches, why none, and its arguments."""

    nodes: Indices
    problem: tuple[str, str]
    own: dict[str, Any]


def _anchor_of(
    fitted: Fit,
    subarray: Subarray,
    tel_type: str,
    reference_type: str,
    options: RelativeThroughputFitterOptions,
) -> _Anchor:
    changes: dict[str, object] = {}
    if tel_type != reference_type:
        changes["constraints"] = ()
    if options.effective_gauge == "reference" and tel_type not in options.reference_telescopes:
        changes["gauge"] = "geometric_mean"
    adapted = options.model_copy(update=changes)
    members = np.flatnonzero(np.asarray(subarray.types) == tel_type)
    nodes, problem = gauge_component(fitted, subarray, tel_type, members, adapted)
    return _Anchor(nodes, problem, anchor(subarray, tel_type, nodes, adapted))


def _state(
    fitted: Fit, subarray: Subarray, connected: Indices, options: RelativeThroughputFitterOptions
) -> tuple[_State, bool]:
    """Solution in ln c, with constraints if there are any among the connected telescopes."""
    slope = options.response_slope
    s, covariance = fitted.solution.log_throughput, fitted.solution.covariance
    constraints = anchor(subarray, "", connected, options)["constraints"]
    if constraints:
        fixed = network.fix_gauge(
            fitted.solution, connected, "geometric_mean", constraints=constraints
        )
        inside = np.ix_(connected, connected)
        s, covariance = s.copy(), covariance.copy()
        s[connected], covariance[inside] = fixed.log_throughput[connected], fixed.covariance[inside]
    halves = tuple(
        (half.log_throughput / slope, half.covariance / slope**2, half.component)
        for half in fitted.half_differences
    )
    return _State(s / slope, covariance / slope**2, halves), bool(constraints)


def _gauge(s: Floats, nodes: Indices, own: dict[str, Any], subarray: Subarray) -> _Gauge:
    """Gauge of some telescopes as a linear function of the solution."""
    weights = np.zeros(len(subarray))
    if own["gauge"] == "reference":
        weights[own["reference"]] = 1.0
        return _Gauge(float(s[own["reference"]]), weights)
    nodes = nodes[~np.isin(nodes, far_off(s, nodes))]
    if own["gauge"] == "geometric_mean":
        return _Gauge(float(s[nodes].mean()), mean_weights(len(subarray), nodes))
    c = np.exp(s[nodes] - s[nodes].mean())
    weights[nodes] = c / c.sum()
    return _Gauge(float(s[nodes].mean() + np.log(c.mean())), weights)


def _fixed(state: _State, nodes: Indices, gauge: _Gauge, norm: float) -> network.Fixed:
    """Apply a gauge to some telescopes; NaN for all others."""
    n = len(state.s)
    values, full = np.full(n, np.nan), np.full((n, n), np.nan)
    values[nodes] = state.s[nodes] - gauge.value + norm
    full[np.ix_(nodes, nodes)] = _transformed(state.covariance, nodes, gauge.weights)
    return network.Fixed(values, full)


def _transformed(covariance: Floats, nodes: Indices, weights: Floats) -> Floats:
    """Covariance of ``s_i - weights . s`` over `nodes`."""
    transform = np.eye(len(weights))[nodes] - weights[None, :]
    return np.asarray(transform @ covariance @ transform.T)


def _type_gauge(
    state: _State,
    anchored: _Anchor,
    base: _Gauge,
    base_norm: float,
    connected: Indices,
    subarray: Subarray,
    options: RelativeThroughputFitterOptions,
) -> TypeGauge:
    nodes, problem, own = anchored
    if not len(nodes):
        return TypeGauge(
            str(own["gauge"]), nodes, problem[1], _fixed(state, nodes, base, 0.0), None
        )
    gauge = _gauge(state.s, nodes, own, subarray)
    tel_type = subarray.types[nodes[0]]
    norm = math.log(options.throughput_normalisation.get(tel_type, 1.0))
    factor = None
    if np.isin(nodes, connected).all():
        raw = mean_of(state, gauge.weights - base.weights)
        # The gauge itself need not be linear (arithmetic mean), its error is.
        value = (gauge.value - norm) - (base.value - base_norm)
        factor = LinearFunction(value, raw.variance, raw.systematic)
    return TypeGauge(str(own["gauge"]), nodes, "", _fixed(state, nodes, gauge, norm), factor)


def _as_it_is(type_gauge: TypeGauge, fixed: network.Fixed) -> TypeGauge:
    """Return the reference type under constraints: its own gauge is the common one."""
    n = len(fixed.log_throughput)
    values, full = np.full(n, np.nan), np.full((n, n), np.nan)
    part = np.ix_(type_gauge.nodes, type_gauge.nodes)
    values[type_gauge.nodes], full[part] = (
        fixed.log_throughput[type_gauge.nodes],
        fixed.covariance[part],
    )
    return TypeGauge(
        "constraints",
        type_gauge.nodes,
        "",
        network.Fixed(values, full),
        LinearFunction(0.0, 0.0, 0.0),
    )


def _flags(
    fitted: Fit,
    subarray: Subarray,
    options: RelativeThroughputFitterOptions,
    reference_type: str,
    connected: Indices,
    problem: tuple[str, str],
) -> tuple[list[str], list[str]]:
    """Flag and reason of every telescope, empty for those connected to the reference type."""
    flags, reasons = [], []
    among = set(connected.tolist())
    for node in range(len(subarray)):
        flag, reason = unconnected(fitted, node, options, among="another telescope")
        if not flag and not len(connected):
            why = problem[1] or "none of its telescopes has enough data"
            flag, reason = "no_reference", f"no scale from the reference type: {why}"
        elif not flag and node not in among:
            flag, reason = "island", f"not connected to the reference type {reference_type}"
        flags.append(flag)
        reasons.append(reason)
    return flags, reasons


def _exact(fixed: network.Fixed, connected: Indices, base: _Gauge, *, absolute: bool) -> set[int]:
    """Telescopes whose error is zero although nothing fixes them: data that are no measurement."""
    if absolute:
        return set()
    variance = np.diag(fixed.covariance)
    # One that is the gauge has no error by definition.
    free = base.weights <= 1 - ROUNDING
    return {int(node) for node in connected if variance[node] < ROUNDING**2 and free[node]}


def _refuse(
    fixed: network.Fixed,
    exact: set[int],
    connected: Indices,
    base: _Gauge,
    flags: list[str],
    reasons: list[str],
) -> None:
    """Remove telescopes whose data are no measurement, and all if such are the scale."""
    anchors = set(np.flatnonzero(base.weights).tolist())
    lost = set(connected.tolist()) if anchors and anchors <= exact else exact
    for node in lost:
        fixed.log_throughput[node] = np.nan
        fixed.covariance[node, :] = fixed.covariance[:, node] = np.nan
        if not flags[node] and node in exact:
            flags[node], reasons[node] = "degenerate", NO_SCATTER
        elif not flags[node]:
            flags[node] = "no_reference"
            reasons[node] = f"no scale from the reference type: {NO_SCATTER}"


def _systematic_of_nodes(state: _State, nodes: Indices, weights: Floats) -> Floats:
    """Excess rms of ``s_i - weights . s`` over the splits, shape (n,); NaN outside `nodes`."""
    n = len(weights)
    squares = np.full((len(state.halves), n), np.nan)
    support = weights != 0
    for number, (difference, covariance, component) in enumerate(state.halves):
        if not len(nodes) or (support.any() and not _together(component[support])):
            continue
        own = component[support][0] if support.any() else component[nodes[0]]
        inside = nodes[component[nodes] == own]
        # Outside the component there is no value, and no weight either.
        known = np.where(support, difference, 0.0)
        noise = np.diag(_transformed(covariance, inside, weights))
        squares[number, inside] = (difference[inside] - weights @ known) ** 2 - noise
    found = np.isfinite(squares)
    total = np.where(found, squares, 0.0).sum(axis=0)
    mean = np.divide(total, found.sum(axis=0), out=np.full(n, np.nan), where=found.any(axis=0))
    return np.asarray(np.sqrt(np.maximum(mean, 0.0)))


def _together(component: Indices) -> bool:
    """Whether all are in one component."""
    return bool(component[0] >= 0 and np.all(component == component[0]))
