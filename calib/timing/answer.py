"""From stamps to offsets in their gauge: the stages in order, and what each of them found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.fit import network
from arraycal.calib.fit.normal import solve_normal
from arraycal.calib.timing.convention.contradiction import (
    contradictions_of,
    foreign_blocks,
    mostly_clipped,
    restless_array,
    untested_convention,
)
from arraycal.calib.timing.convention.plane_wave_test import (
    block_solutions,
    check_convention,
    pointing_solutions,
    refuse_mirrored,
)
from arraycal.calib.timing.detail import GUARD_COLUMNS, counts, detail, systematic_ns
from arraycal.calib.timing.fit import (
    ClockFitOptions,
    fit_clocks,
    joined,
    moved_scale,
    settle_clocks,
)
from arraycal.calib.timing.refine import refined
from arraycal.calib.timing.shapes import bowl_ns, walk_ns, walk_shifts, without_last
from arraycal.calib.timing.solve import constant_nodes, pooled
from arraycal.calib.timing.steps import Drift, drifts, find_jumps
from arraycal.calib.timing.trends import detrended, find_trends
from arraycal.calib.timing.trust import residual_rms_ns, restless, trusted_gauge

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.checks.changepoint import Step
    from arraycal.calib.fit.normal import Normal, NormalSolution
    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.convention.plane_wave_test import Checks, PointingOffsets
    from arraycal.calib.timing.detail import Detail
    from arraycal.calib.timing.fit import ClockFit, Windows
    from arraycal.calib.timing.residuals import FrontModel
    from arraycal.calib.timing.showers import Plan
    from arraycal.calib.timing.solve import Nodes
    from arraycal.calib.timing.steps import ClockCourse
    from arraycal.calib.timing.trends import ClockTrends
    from arraycal.calib.timing.trust import Trusted
    from arraycal.config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Answer", "answer"]


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
    walk_shift_ns : array, shape (n,)
        Error by telescope where errors of the cores may make the walk; 0 where they are known.
    columns, column_error : dict of str to float
        Errors of front and walk belong to the names of `Model.names`.
    jumps : dict of int to list of Step
        Jumps by telescope index.
    history : ClockCourse
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
    left_out : tuple of int
        Telescopes (by index) that are too far off to be part of that mean.
    noisy : dict of int to float
        Telescopes whose stamps are not those of a clock, and the rms of their residuals, ns.
    restless : frozenset of int
        Telescopes whose offset did not settle.
    vague : dict of int to float
        Nodes whose error (ns) is too large.
    clipped : dict of int to (int, int)
        Nodes most of whose stamps were left out: how many, and of how many.
    contradictions : tuple of str
        Why no offset is believed: the stamps as a whole are not those of these showers.
    foreign : dict of int to float
        Observations whose stamps are those of other showers, see `contradiction.foreign_blocks`.
    """

    plan: Plan
    model: FrontModel
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
    walk_shift_ns: Floats
    column_error: dict[str, float]
    jumps: dict[int, list[Step]]
    history: ClockCourse
    drift: list[Drift]
    drifting: frozenset[int]
    reference_s: Floats
    detail: Detail
    checks: Checks
    pointings: list[PointingOffsets]
    far: dict[int, float]
    anchored: bool
    left_out: tuple[int, ...]
    noisy: dict[int, float]
    restless: frozenset[int]
    vague: dict[int, float]
    clipped: dict[int, tuple[int, int]]
    contradictions: tuple[str, ...]
    foreign: dict[int, float]

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
    fitted = fit_clocks(
        windows, len(set(subarray.types)), subarray.type_codes, ClockFitOptions.of(options)
    )
    guarded = _guarded(fitted, subarray, options.max_residual_rms, compensated=compensated)
    followed = _followed(windows, fitted, subarray.type_codes, options.step_probability)
    if not guarded[1]:  # until chunks were cut where all clocks jump
        limit_ns = options.max_residual_rms
        guarded = _guarded(followed.fitted, subarray, limit_ns, compensated=compensated)
    solved = _solved(followed, subarray, options, guarded[0])
    k = len(solved.nodes)
    trusted = trusted_gauge(
        solved.total, solved.solution.covariance[:k, :k], solved.component, solved.nodes, subarray,
        options,
    )  # fmt: skip
    return _told(followed, solved, trusted, guarded, options)


def _guarded(
    fitted: ClockFit, subarray: Subarray, limit_ns: float, *, compensated: bool
) -> tuple[Checks, list[PointingOffsets]]:
    """Check the convention, but not of stamps of other showers, which would be accused of it."""
    foreign = foreign_blocks(fitted)
    pointings = [] if foreign else pointing_solutions(fitted, limit_ns)
    blocks = [] if foreign else block_solutions(fitted, limit_ns)
    checks = check_convention(pointings, subarray, compensated=compensated, blocks=blocks)
    return checks, pointings


class _Followed(NamedTuple):
    """Clocks followed through time: lines taken out of the stamps, jumps at edges of chunks."""

    windows: Windows
    fitted: ClockFit
    trends: ClockTrends
    jumps: dict[int, list[Step]]
    past: ClockCourse

    @property
    def cuts(self) -> dict[int, list[int]]:
        """First chunks behind the jumps, by telescope."""
        return {tel: [step.index for step in steps] for tel, steps in self.jumps.items()}

    def drift(self) -> list[Drift]:
        """Slopes of all telescopes, with the lines that were taken out."""
        rates = self.trends.rate.tolist()
        rests = drifts(self.past, self.cuts)
        return [
            Drift(rest.slope + rate, rest.error) for rest, rate in zip(rests, rates, strict=True)
        ]

    def moving(self) -> frozenset[int]:
        """Telescopes whose clocks jump or drift."""
        drifting = {tel for tel, drift in enumerate(self.drift()) if drift.is_sure}
        return self.trends.drifting | {tel for tel, steps in self.jumps.items() if steps} | drifting


def _followed(windows: Windows, fitted: ClockFit, kinds: Indices, probability: float) -> _Followed:
    trends = find_trends(fitted, probability)
    windows, fitted = _without_trends(windows, fitted, trends, kinds)
    jumps, past = find_jumps(fitted, probability, trends.drifting)
    if jumps:
        fitted = refined(windows, fitted, jumps, past, kinds)
        jumps, past = find_jumps(fitted, probability, trends.drifting)
    return _Followed(windows, fitted, trends, jumps, past)


class _Solved(NamedTuple):
    """Offsets between jumps, up to a constant, from all showers at once."""

    nodes: Nodes
    model: FrontModel
    detail: Detail
    normal: Normal
    solution: NormalSolution
    total: Floats
    component: Indices
    common: Floats
    n_events: Floats
    reference_s: Floats
    noisy: dict[int, float]
    restless: frozenset[int]
    clipped: dict[int, tuple[int, int]]
    contradictions: tuple[str, ...]

    @property
    def column_error(self) -> dict[str, float]:
        """Errors of front and walk."""
        error = np.sqrt(np.diag(self.solution.covariance))[len(self.nodes) :]
        return dict(zip(self.model.names(), error.tolist(), strict=True))


def _solved(
    followed: _Followed,
    subarray: Subarray,
    options: CalculateTimingCalibrationOptions,
    checks: Checks,
) -> _Solved:
    fitted = followed.fitted
    nodes = constant_nodes(len(fitted.plan), len(subarray), followed.cuts)
    model = _pooled_model(fitted, nodes)
    last = detail(followed.windows, fitted.plan, model, len(set(subarray.types)))
    normal, start = pooled(last.sums, model.offset_ns, nodes)
    common, n_events = counts(last, nodes)
    rms = residual_rms_ns(last.sums, model.sigma_ns)
    noisy, moving = rms > options.max_residual_rms, restless(fitted, options.max_error)
    clipped = mostly_clipped(last.sums, nodes)
    contradictions = contradictions_of(fitted, options.curvature_scale) or (
        *untested_convention(checks, last.sums, options),
        *restless_array(followed.moving(), last.sums, options.min_events),
    )
    doubtful = (noisy | moving)[nodes.telescope] | bool(contradictions)
    doubtful[list(clipped)] = True
    component = network.components(
        np.where(doubtful[:, None] | doubtful, 0.0, common),
        n_events,
        min_common=options.min_common_events,
        min_events=options.min_events,
    )
    _refuse_mirrored(normal, component, model, last)
    solution = solve_normal(without_last(normal, len(GUARD_COLUMNS)), component)
    reference, line = followed.trends.nodes(fitted.plan, nodes, last.sums.n_rows)
    total = start + solution.nodes + line
    return _Solved(
        nodes, model, last, normal, solution, total, component, common, n_events, reference,
        noisy={int(tel): float(rms[tel]) for tel in np.flatnonzero(noisy)},
        restless=frozenset(np.flatnonzero(moving).tolist()), clipped=clipped,
        contradictions=contradictions,
    )  # fmt: skip


def _refuse_mirrored(normal: Normal, component: Indices, model: FrontModel, last: Detail) -> None:
    """Solve with the columns of the guard, which come last."""
    everything = solve_normal(normal, component)
    m = len(model.names())
    error = np.sqrt(np.diag(everything.covariance))[normal.n_nodes + m :]
    refuse_mirrored(everything.columns[m:], error, last.direction_spread_deg)


def _told(
    followed: _Followed,
    solved: _Solved,
    trusted: Trusted,
    guarded: tuple[Checks, list[PointingOffsets]],
    options: CalculateTimingCalibrationOptions,
) -> Answer:
    fitted, nodes, k, gauge = followed.fitted, solved.nodes, len(solved.nodes), trusted.gauge
    value, covariance = gauge.apply(solved.total, solved.solution.covariance[:k, :k])
    newest = np.ix_(nodes.newest, nodes.newest)
    shapes = solved.normal, solved.model, solved.component
    bowl = gauge.transform @ bowl_ns(*shapes)
    walk = walk_shifts(*shapes)
    walked = walk_ns(gauge.transform @ walk.nodes_ns, walk.log_scale, bowl)
    walked *= options.core_resolution is None
    past, lines = followed.past, followed.trends.chunks(fitted.plan)
    return Answer(
        plan=fitted.plan,
        model=_with_columns(solved.model, solved.solution.columns),
        passes=fitted.passes,
        settled=fitted.settled,
        remarks=fitted.remarks,
        nodes=nodes,
        offset_ns=value,
        covariance=covariance,
        component=solved.component,
        n_events=solved.n_events,
        common=solved.common,
        systematic_ns=systematic_ns(
            solved.detail.halves, gauge.transform[newest], options.min_events / 2
        ),
        bowl_ns=bowl[nodes.newest],
        walk_shift_ns=walked[nodes.newest],
        column_error=solved.column_error,
        jumps=followed.jumps,
        history=past._replace(offset_ns=past.offset_ns + lines),
        drift=followed.drift(),
        drifting=followed.trends.drifting,
        reference_s=solved.reference_s,
        detail=solved.detail,
        checks=guarded[0],
        pointings=guarded[1],
        far=gauge.far,
        anchored=gauge.anchored,
        left_out=gauge.left_out,
        noisy=solved.noisy,
        restless=solved.restless,
        vague=trusted.vague,
        clipped=solved.clipped,
        contradictions=solved.contradictions,
        foreign=foreign_blocks(fitted),
    )


def _without_trends(
    windows: Windows, fitted: ClockFit, trends: ClockTrends, kinds: Indices
) -> tuple[Windows, ClockFit]:
    """Take drifts out of the stamps and settle again."""
    if not trends.rate.any():
        return windows, fitted
    windows = detrended(windows, trends)
    model = fitted.model
    model = replace(model, offset_ns=model.offset_ns - trends.chunks(fitted.plan))
    return windows, joined(fitted, settle_clocks(windows, fitted.plan, model, kinds))


def _pooled_model(fitted: ClockFit, nodes: Nodes) -> FrontModel:
    """Model with the offsets of the nodes in all their chunks."""
    normal, start = pooled(fitted.sums, fitted.model.offset_ns, nodes)
    seen = np.zeros(len(nodes), np.bool_)
    for chunk, rows in enumerate(fitted.sums.n_rows):
        seen[nodes.of[chunk]] |= rows > 0
    solution = solve_normal(normal, np.where(seen, 0, -1))
    offset = (start + solution.nodes)[nodes.of]
    offset = np.where(np.isfinite(offset), offset, fitted.model.offset_ns)
    return _with_columns(replace(fitted.model, offset_ns=offset), solution.columns)


def _with_columns(model: FrontModel, columns: Floats) -> FrontModel:
    by_name = dict(zip(model.names(), np.nan_to_num(columns), strict=True))
    walk = model.walk_ns + [by_name.get(f"walk_{kind}", 0.0) for kind in range(len(model.walk_ns))]
    log_scale = moved_scale(model.log_scale, float(by_name.get("curvature", 0.0)))
    return replace(model, log_scale=log_scale, walk_ns=walk)
