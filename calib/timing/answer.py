"""From stamps to offsets in their gauge: the stages in order, and what each of them found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calib import network
from calib.normal import Normal, solve_normal
from calib.timing.detail import GUARD_COLUMNS, Detail, detail, systematic_ns
from calib.timing.fit import Fit, FitOptions, fit, settle, with_chunks
from calib.timing.guards import Checks, Pointing, check, pointing_solutions, refuse_mirrored
from calib.timing.solve import Nodes, constant_nodes, pooled
from calib.timing.steps import ADJACENT, Drift, History, drifts, find_jumps, locate
from calib.timing.trends import detrended, find_trends

if TYPE_CHECKING:
    import numpy.typing as npt

    from calib.changepoint import Step
    from calib.subarray import Subarray
    from calib.timing.fit import Windows
    from calib.timing.residuals import Model
    from calib.timing.showers import Plan, Showers
    from calib.timing.trends import Trends
    from config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["CURVATURE_BIAS", "Answer", "answer"]

#: Part by which the curvature of the front may be wrong: errors of core and maximum flatten it.
CURVATURE_BIAS = 0.03
#: A jump so close to the edge of a chunk, in showers, is at the edge.
NEAR_EDGE = 3


@dataclass(frozen=True)
class Answer:
    """Everything the stamps tell.

    Parameters
    ----------
    plan, model : Plan, Model
        Chunks of time; front, walk and noise.
    passes, settled, remarks
        How the loop ended.
    nodes : Nodes
        Which offset belongs to which telescope and time.
    offset_ns : array, shape (n_nodes,)
        Offsets in the gauge; NaN where the data do not constrain the node.
    covariance : array, shape (n_nodes, n_nodes)
        Their covariance; NaN likewise.
    component : array of int, shape (n_nodes,)
        Group of connected nodes; -1 for none.
    n_events : array, shape (n_nodes,)
        Showers.
    common : array, shape (n_nodes, n_nodes)
        Showers in common.
    systematic_ns : array, shape (n,)
        Excess rms over halves of the showers, by telescope.
    bowl_ns : array, shape (n,)
        What a curvature of the front wrong by `CURVATURE_BIAS` does to the offsets, by telescope.
    columns, column_error : dict of str to float
        Errors of front and walk belong to the names of `Model.names`.
    jumps : dict of int to list of Step
        Jumps by telescope index.
    history : History
        Offsets by chunk.
    drift : list of Drift
        By telescope.
    drifting : frozenset of int
        Telescopes whose offset is a line in time.
    reference_s : array, shape (n_nodes,)
        Date for which the offset of a node holds, if its clock drifts.
    detail : Detail
        Sums of the last pass.
    checks, pointings
        What the guards found.
    far : dict of int to float
        Nodes whose offset (ns) is beyond belief.
    anchored : bool
        Whether there is a reference, or a mean, to which offsets are relative.
    """

    plan: Plan
    model: Model
    passes: int
    settled: bool
    remarks: tuple[str, ...]
    nodes: Nodes
    offset_ns: Floats
    covariance: Floats
    component: Indices
    n_events: Floats
    common: Floats
    systematic_ns: Floats
    bowl_ns: Floats
    column_error: dict[str, float]
    jumps: dict[int, list[Step]]
    history: History
    drift: list[Drift]
    drifting: frozenset[int]
    reference_s: Floats
    detail: Detail
    checks: Checks
    pointings: list[Pointing]
    far: dict[int, float]
    anchored: bool

    @property
    def square_ns2(self) -> Floats:
        """Squared residuals of every telescope, ns^2."""
        return np.asarray(self.detail.sums.square * self.model.sigma_ns**2)


def answer(
    windows: Windows,
    subarray: Subarray,
    options: CalculateTimingCalibrationOptions,
    *,
    compensated: bool,
) -> Answer:
    """Solve for the clocks.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window; called once per pass.
    subarray : Subarray
        The telescopes.
    options : CalculateTimingCalibrationOptions
        What to do.
    compensated : bool
        What the stamps were taken for.

    Returns
    -------
    Answer
        Offsets and all that explains them.

    Raises
    ------
    CannotCompute
        If the stamps contradict the convention or the axes.
    """
    kinds = subarray.type_codes
    n_types = len(set(subarray.types))
    fitted = fit(windows, n_types, kinds, _fit_options(options))
    pointings = pointing_solutions(fitted)
    checks = check(pointings, subarray, compensated=compensated)
    trends = find_trends(fitted, options.step_probability)
    windows, fitted = _without_trends(windows, fitted, trends, kinds)
    drifting = frozenset(np.flatnonzero(trends.rate).tolist())
    jumps, past = find_jumps(fitted, options.step_probability, drifting)
    if jumps:
        fitted = _refined(windows, fitted, jumps, past, kinds)
        jumps, past = find_jumps(fitted, options.step_probability, drifting)
    cuts = {tel: [step.index for step in steps] for tel, steps in jumps.items()}
    nodes = constant_nodes(len(fitted.plan), len(subarray), cuts)
    model = _pooled_model(fitted, nodes)
    last = detail(windows, fitted.plan, model, n_types)
    normal, start = pooled(last.sums, model.offset_ns, nodes)
    common, n_events = _counts(last, nodes)
    component = network.components(
        common,
        n_events,
        min_common=options.min_common_events,
        min_events=options.min_events,
    )
    everything = solve_normal(normal, component)
    error = np.sqrt(np.diag(everything.covariance))[len(nodes) :]
    m = len(model.names())
    refuse_mirrored(everything.columns[m:], error[m:], last.direction_spread_deg)
    solution = solve_normal(_without_last(normal, len(GUARD_COLUMNS)), component)
    error = np.sqrt(np.diag(solution.covariance))[len(nodes) :]
    reference, line = trends.nodes(fitted.plan, nodes, last.sums.n_rows)
    total = start + solution.nodes + line
    gauge = _gauge(total, component, nodes, subarray, options)
    k = len(nodes)
    value = gauge.transform @ np.where(gauge.known, total, 0.0)
    covariance = gauge.transform @ solution.covariance[:k, :k] @ gauge.transform.T
    hidden = ~gauge.known
    value[hidden], covariance[hidden, :], covariance[:, hidden] = np.nan, np.nan, np.nan
    newest = np.ix_(nodes.newest, nodes.newest)
    return Answer(
        plan=fitted.plan,
        model=_with_columns(model, solution.columns),
        passes=fitted.passes,
        settled=fitted.settled,
        remarks=fitted.remarks,
        nodes=nodes,
        offset_ns=value,
        covariance=covariance,
        component=component,
        n_events=n_events,
        common=common,
        systematic_ns=systematic_ns(last.halves, gauge.transform[newest], options.min_events / 2),
        bowl_ns=(gauge.transform @ _bowl_ns(normal, model, component))[nodes.newest],
        column_error=dict(zip(model.names(), error.tolist(), strict=True)),
        jumps=jumps,
        history=past._replace(offset_ns=past.offset_ns + trends.chunks(fitted.plan)),
        drift=[
            Drift(rest.slope + rate, rest.error)
            for rest, rate in zip(drifts(past, cuts), trends.rate.tolist(), strict=True)
        ],
        drifting=drifting,
        reference_s=reference,
        detail=last,
        checks=checks,
        pointings=pointings,
        far=gauge.far,
        anchored=gauge.anchored,
    )


def _without_trends(
    windows: Windows, fitted: Fit, trends: Trends, kinds: Indices
) -> tuple[Windows, Fit]:
    """Take drifts out of the stamps and settle again."""
    if not trends.rate.any():
        return windows, fitted
    windows = detrended(windows, trends)
    model = fitted.model
    model = replace(model, offset_ns=model.offset_ns - trends.chunks(fitted.plan))
    return windows, _joined(fitted, settle(windows, fitted.plan, model, kinds))


def _joined(first: Fit, again: Fit) -> Fit:
    remarks = tuple(dict.fromkeys(first.remarks + again.remarks))
    return replace(again, passes=first.passes + again.passes, remarks=remarks)


def _fit_options(options: CalculateTimingCalibrationOptions) -> FitOptions:
    return FitOptions(
        clip=options.clip,
        scale=options.curvature_scale,
        fit_curvature=options.fit_curvature,
        fit_walk=options.fit_walk,
        chunk_duration_s=options.chunk_duration,
        chunk_showers=options.chunk_showers,
    )


def _without_last(normal: Normal, count: int) -> Normal:
    """Hold the last global columns at zero."""
    keep = slice(len(normal.vector) - count)
    matrix = normal.matrix[keep, keep]
    return replace(
        normal, matrix=matrix, curvature=matrix, vector=normal.vector[keep],
        meat=normal.meat[keep, keep],
    )  # fmt: skip


def _bowl_ns(normal: Normal, model: Model, component: Indices) -> Floats:
    """Shift of every node when the front is held at a wrong curvature, walks free.

    The change of the right-hand side is that of the stamps by the column of the curvature; without
    that column in the fit, nothing is known of it and the shift is 0.
    """
    if "curvature" not in model.columns:
        return np.zeros(normal.n_nodes)
    place = normal.n_nodes + model.names().index("curvature")
    size = normal.n_nodes + len(model.names())
    free = np.delete(np.arange(size), place)
    matrix = normal.matrix[np.ix_(free, free)]
    held = replace(
        normal, matrix=matrix, curvature=matrix, meat=normal.meat[np.ix_(free, free)],
        vector=CURVATURE_BIAS * normal.matrix[free, place],
    )  # fmt: skip
    return np.nan_to_num(solve_normal(held, component).nodes)


def _pooled_model(fitted: Fit, nodes: Nodes) -> Model:
    """Model with the offsets of the nodes in all their chunks."""
    normal, start = pooled(fitted.sums, fitted.model.offset_ns, nodes)
    seen = np.zeros(len(nodes), np.bool_)
    for chunk, rows in enumerate(fitted.sums.n_rows):
        seen[nodes.of[chunk]] |= rows > 0
    solution = solve_normal(normal, np.where(seen, 0, -1))
    offset = (start + solution.nodes)[nodes.of]
    offset = np.where(np.isfinite(offset), offset, fitted.model.offset_ns)
    return _with_columns(replace(fitted.model, offset_ns=offset), solution.columns)


def _with_columns(model: Model, columns: Floats) -> Model:
    by_name = dict(zip(model.names(), np.nan_to_num(columns), strict=True))
    walk = model.walk_ns + [by_name.get(f"walk_{kind}", 0.0) for kind in range(len(model.walk_ns))]
    log_scale = model.log_scale + float(by_name.get("curvature", 0.0))
    return replace(model, log_scale=log_scale, walk_ns=walk)


def _counts(last: Detail, nodes: Nodes) -> tuple[Floats, Floats]:
    """Showers in common of every two nodes, and of every node."""
    common, n_events = np.zeros((len(nodes), len(nodes))), np.zeros(len(nodes))
    for chunk, of in enumerate(nodes.of):
        # One triangle: the counts of a pair are added up from both.
        common[np.ix_(of, of)] += np.triu(last.common[chunk], 1)
        n_events[of] += last.sums.n_rows[chunk]
    return common, n_events


@dataclass(frozen=True)
class _Gauge:
    """What offsets are relative to: values are ``transform @ offsets`` of the known nodes."""

    transform: Floats
    known: Bools
    far: dict[int, float]
    anchored: bool


def _gauge(
    total: Floats,
    component: Indices,
    nodes: Nodes,
    subarray: Subarray,
    options: CalculateTimingCalibrationOptions,
) -> _Gauge:
    """Fix the common shift: a reference telescope, or the mean of the telescopes as they are now.

    Nodes too far off to be believed are neither known nor part of a mean.
    """
    reference = options.reference_telescope
    anchor = -1 if reference is None else subarray.index.get(reference, -1)
    newest = nodes.newest
    island = 0 if reference is None else component[newest[anchor]] if anchor >= 0 else -1
    known = (component == island) & np.isfinite(total) & (component >= 0)
    if reference is not None and (anchor < 0 or not known[newest[anchor]]):
        known[:] = False
    far: dict[int, float] = {}
    if known.any():
        distance = total - np.median(total[known])
        beyond = known & (np.abs(distance) > options.max_clock_offset * 1e6)
        far = {int(node): float(distance[node]) for node in np.flatnonzero(beyond)}
        known &= ~beyond
    anchors = newest[known[newest]] if reference is None else newest[[anchor]]
    anchored = bool(len(anchors)) and bool(known[anchors].all())
    if not anchored:
        known[:] = False
    weight = np.zeros(len(nodes))
    if anchored:
        weight[anchors] = 1.0 / len(anchors)
    return _Gauge(np.eye(len(nodes)) - weight[None, :], known, far, anchored)


def _refined(
    windows: Windows, fitted: Fit, jumps: dict[int, list[Step]], past: History, kinds: Indices
) -> Fit:
    """Cut chunks where clocks jump inside them, and settle again."""
    found: list[tuple[int, float, float, int, float]] = []
    for tel, steps in jumps.items():
        for low, high, size in _merged(steps, len(fitted.plan)):
            before = past.offset_ns[low, tel] if low < high else np.nan
            shift = fitted.model.offset_ns[low, tel] - before
            place = _place(windows, fitted, tel, (low, high), size)
            if place is not None and np.isfinite(shift):
                found.append((*place, tel, size))
    plan, offset = fitted.plan, fitted.model.offset_ns
    for jump in sorted(found):
        plan, offset = _cut(plan, offset, *jump)
    if plan is fitted.plan:
        return fitted
    model = replace(fitted.model, offset_ns=offset)
    return _joined(fitted, settle(windows, plan, model, kinds))


def _cut(
    plan: Plan, offset: Floats, shower: int, before_s: float, after_s: float, tel: int, size: float
) -> tuple[Plan, Floats]:
    """Put an edge where a clock jumps: a new one, or that of a neighbour of too short a chunk."""
    chunk = int(np.searchsorted(plan.edges, shower, side="right")) - 1
    least = int(np.median(np.diff(plan.edges))) // 2
    left, right = shower - plan.edges[chunk], plan.edges[chunk + 1] - shower
    same = [
        0 <= other < len(plan) and plan.obs_id[other] == plan.obs_id[chunk]
        for other in (chunk - 1, chunk + 1)
    ]
    level = offset[chunk - 1, tel] if chunk > 0 else np.nan
    level = level if np.isfinite(level) else offset[chunk, tel]
    offset = offset.copy()
    if left < least and same[0]:
        offset[chunk, tel] = level + size
        return plan.move(chunk, shower, before_s, after_s), offset
    if right < least and same[1]:
        offset[chunk, tel] = level
        return plan.move(chunk + 1, shower, before_s, after_s), offset
    if min(left, right) < NEAR_EDGE:
        return plan, offset
    offset = np.insert(offset, chunk, offset[chunk], axis=0)
    offset[chunk, tel], offset[chunk + 1, tel] = level, level + size
    return plan.split(shower, before_s, after_s), offset


def _merged(steps: list[Step], n_chunks: int) -> list[tuple[int, int, float]]:
    """First and last chunk a jump may be in, and its size; neighbours are one jump."""
    result: list[tuple[int, int, float]] = []
    previous = -2
    for step in steps:
        if step.index - previous <= ADJACENT and result:
            low, _, size = result[-1]
            result[-1] = (low, min(step.index, n_chunks - 1), size + step.size)
        else:
            result.append((step.index - 1, step.index, step.size))
        previous = step.index
    return result


def _place(
    windows: Windows, fitted: Fit, tel: int, span: tuple[int, int], size: float
) -> tuple[int, float, float] | None:
    """First shower behind a jump, with the dates of the showers on both sides."""
    low, high = span
    values, numbers, dates = [], [], []
    first = 0
    for showers, chunk in with_chunks(windows, fitted.plan):
        inside = (chunk >= low) & (chunk <= high)
        if inside.any():
            deviation, of = _deviations(showers, chunk, fitted.model, tel, low)
            keep = inside[of]
            values.append(deviation[keep])
            numbers.append(first + of[keep])
            dates.append(showers.time_s[of[keep]])
        first += len(showers)
    value = np.concatenate(values) if values else np.empty(0)
    if not len(value):
        return None
    at = locate(value, size)
    if at in (0, len(value)):
        return None
    date = np.concatenate(dates)
    return int(np.concatenate(numbers)[at]), float(date[at - 1]), float(date[at])


def _deviations(
    showers: Showers, chunk: Indices, model: Model, tel: int, level: int
) -> tuple[Floats, Indices]:
    """Stamps of a telescope against the others of its showers, at its level of one chunk."""
    rest = showers.delay_ns - showers.predict(model.log_scale)[0]
    rest = rest - model.walk_ns[showers.kind] * showers.brightness
    own = showers.telescope == tel
    offset = model.offset_ns[chunk[showers.shower], showers.telescope]
    # Chunks differ by a common shift; the others carry it.
    rest = rest - np.where(own, model.offset_ns[level, tel], offset)
    weight = np.where(own | np.isnan(rest), 0.0, 1.0 / model.sigma_ns[showers.telescope] ** 2)
    total = showers.total(weight)
    sound = total > 0
    mean = showers.total(weight * np.nan_to_num(rest)) / np.where(sound, total, 1.0)
    rows = np.flatnonzero(own & sound[showers.shower] & np.isfinite(rest))
    return rest[rows] - mean[showers.shower[rows]], showers.shower[rows]
