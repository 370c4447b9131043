"""The loop around `summary` and `network`: weights and selection follow the solution.

A pass sums over a sample of the showers with the current model; the solution of those sums, the
residuals and the turn-on of the telescopes give the next model. With the last one all showers are
swept, block by block and wherever that is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arraycal.calib.fit import network, resolutions
from arraycal.calib.fit.model import NO_CURVE, Model, resolution, split_values
from arraycal.calib.fit.sketch import merge_sketches, quotas, sketch
from arraycal.calib.fit.slope import NO_SLOPE
from arraycal.calib.fit.sums.block_sums import (
    sums_by_block,
    sums_of_pass,
    time_halves,
)
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import STEERING, Summary, empty_summary, merge_summaries
from arraycal.calib.fit.sweep import sweep_blocks
from arraycal.calib.fit.thresholds import ceilings, own_offsets, thresholds
from arraycal.calib.spread import over_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.curve import Knots
    from arraycal.calib.fit.model import Estimate, Split
    from arraycal.calib.fit.robust import Robust
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.sketch import Sketch
    from arraycal.calib.fit.slope import EnergySlope
    from arraycal.calib.fit.sweep import Observer, Sweep
    from arraycal.calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Windows = Callable[[], Iterable[Showers]]
    Observers = Callable[["Fit", Sequence[Showers]], Mapping[str, Observer]]

__all__ = [
    "SPLITS",
    "Fit",
    "FitOptions",
    "carried_on",
    "fit",
    "half_differences",
    "in_both",
    "no_observers",
    "solve_summary",
    "systematic_error",
]

#: A pass that moves no telescope by more than this part of its error is the last.
SETTLED = 0.02
#: Passes before the selection begins. The first gives the throughputs, the second the
#: resolutions around them: around nothing, a telescope of unusual throughput would look noisy,
#: and the margin, which follows the noise, would swallow it.
WARM_UP = 2
#: Resolutions and selection are held once a pass moves no telescope by more than this part of its
#: error. Any fixed weights give an unbiased solution; a selection that followed every small step
#: would keep the iteration from ending.
STATIONARY = 0.5
#: Passes after which resolutions and throughputs go half of each step: with few showers the
#: selection may go to and fro between two sets of rows.
UNDAMPED = 6
#: Passes kept for the end, with everything held.
FINAL_PASSES = 4
#: Sweeps over all showers, at most.
MAX_SWEEPS = 5
#: Steps within this part of the resolution change gradients by less than a per cent.
NEAR = 0.1
#: An error below this belongs to data without noise.
ROUNDING = 1e-12
#: Splits that cut at the middle of a quantity of the shower; the last split is by time.
SPLITS: tuple[Split, ...] = ("value", "impact", "multiplicity")


@dataclass(frozen=True)
class FitOptions:
    """What the loop may do; see the configuration sections of the same names.

    Parameters
    ----------
    estimator : {"event", "pair"}
        Which solver.
    min_events, min_common : int
        Least number of showers of a telescope, and in common with a neighbour.
    robust : {"auto", "none", "huber", "tukey"}
        Weighting of outliers; ``auto`` is for `arraycal.calib.fit.outlying.fit_robustly`.
    threshold : None, "auto" or mapping of int to float
        No margin, thresholds from the data, or ln(value) by telescope id.
    margin : float
        Distance from the threshold in units of sigma.
    binned_resolution : bool
        Whether the resolution may depend on impact distance and shower value.
    max_iterations : int
        Largest number of passes.
    knots : Knots
        Of the distance curves to fit along; none by default.
    slope : EnergySlope
        Energy slopes of types to fit along; none by default.
    ceiling : mapping of int to float, optional
        ln(value) by telescope id above which telescopes saturate.
    type_variance : array, shape (n_types,), optional
        Relative variances of types whose resolutions cannot be told apart; equal by default.
    typical : array of bool, shape (n,), optional
        Telescopes whose resolution is that of their type; by default all have their own.
    """

    estimator: str
    min_events: int
    min_common: int
    robust: Robust | Literal["auto"]
    threshold: str | Mapping[int, float] | None
    margin: float
    binned_resolution: bool
    max_iterations: int
    knots: Knots = NO_CURVE
    slope: EnergySlope = NO_SLOPE
    ceiling: Mapping[int, float] | None = None
    type_variance: Floats | None = None
    typical: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Fit:
    """Result of the loop.

    Parameters
    ----------
    solution : network.Solution
        Log throughputs up to a shift per component.
    summary : Summary
        Sums of the last pass.
    model : Model
        Weights and selection of the last pass.
    half_differences : tuple of network.Solution
        Half the difference of ln c between disjoint halves of the showers, split by value, impact
        distance, multiplicity and time within the block; see `systematic_error`.
    passes : int
        Passes over the pairs, splits not counted.
    settled : bool
        Whether the last pass changed nothing that matters.
    halves : tuple of Summary
        Sums of the upper halves, in the order of `SPLITS`, and of the later one.
    chunks : dict of int to dict of int to Summary
        Sums of the last pass by block and time chunk, see `arraycal.calib.fit.sums.block_sums`.
    chunk_edges_s : dict of int to array
        Where the chunks of each block begin and end.
    blocks : dict of int to Summary
        Sums of the last pass by block, of those with any shower; only what a solver reads.
    by_block : tuple of int
        Telescopes whose errors are clustered by block, see `arraycal.calib.fit.block_errors`.
    observed : dict of str to Any
        What observers have summed.
    """

    solution: network.Solution
    summary: Summary
    model: Model
    half_differences: tuple[network.Solution, ...]
    passes: int
    settled: bool
    halves: tuple[Summary, ...] = ()
    chunks: Mapping[int, Mapping[int, Summary]] = field(default_factory=dict)
    chunk_edges_s: Mapping[int, Floats] = field(default_factory=dict)
    blocks: Mapping[int, Summary] = field(default_factory=dict)
    by_block: tuple[int, ...] = ()
    observed: Mapping[str, Any] = field(default_factory=dict)


def no_observers(_: Fit, __: Sequence[Showers]) -> Mapping[str, Observer]:
    """Sum nothing else."""
    return {}


def fit(
    windows: Windows,
    subarray: Subarray,
    options: FitOptions,
    start: Estimate | None = None,
    observers: Observers = no_observers,
) -> Fit:
    """Learn a model on a sample of showers, and solve the sums over all of them.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window, or a `arraycal.calib.spread.BlockWindows`. Read
        twice, or once more where the solution has left the neighbourhood of the model.
    subarray : Subarray
        The telescopes.
    options : FitOptions
        What to do.
    start : Estimate, optional
        To start from; weights are then robust from the first pass.
    observers : callable
        Given the fit of the sample and the sample, what else to sum; the result has it in
        `observed`.

    Returns
    -------
    Fit
        The solution and how it was reached.
    """
    model = Model.initial(
        subarray,
        variance=resolutions.START_SIGMA**2,
        margin=options.margin,
        knots=options.knots,
        slope=options.slope,
    )
    if start is not None:
        model = replace(model, now=start, selector=start, robust=_robust(options))
    quota = quotas(subarray)
    known = merge_sketches(over_blocks(windows, partial(sketch, quota=quota)), quota)
    chosen, edges = known.showers, known.edges_s
    if not chosen:
        return _nothing(model)
    if options.estimator == "pair":
        learnt = _plain(chosen, model, options)
        swept = sweep_blocks(windows, model, edges, observers(learnt, chosen))
        return _of_sweep(learnt, swept, options, edges)
    learnt = _learn(known, model, subarray, options)
    model = replace(learnt.model, split_at=_split_points(chosen, learnt.model))
    watched = observers(replace(learnt, model=model), chosen)
    for _ in range(MAX_SWEEPS):
        swept = sweep_blocks(windows, model, edges, watched)
        found = _of_sweep(replace(learnt, model=model), swept, options, edges)
        if known.is_all or not _has_left(found):
            break
        model = replace(model, now=_moved(model.now, found.solution))
    return found


def _plain(chosen: Sequence[Showers], model: Model, options: FitOptions) -> Fit:
    """Fit of a model that there is nothing to learn of."""
    summary = merge_summaries(summarise(showers, model) for showers in chosen)
    return Fit(solve_summary(summary, options), summary, model, (), 1, settled=True)


def _learn(known: Sketch, model: Model, subarray: Subarray, options: FitOptions) -> Fit:
    """Iterate over the sample to a consistent solution."""
    held = stationary = settled = False
    previous: network.Solution | None = None
    for passes in range(1, options.max_iterations + 1):
        last = model
        summary = sums_of_pass(known.showers, model)
        solution = solve_summary(summary, options)
        step = _largest_step(previous, solution)
        if held and step <= SETTLED:
            settled = stationary
            break
        if not held and passes > WARM_UP + 1:
            stationary = step <= STATIONARY
            held = stationary or passes >= options.max_iterations - FINAL_PASSES
        now = _next_estimate(model, summary, solution, subarray, options, passes, held=held)
        model = _next_model(model, now, summary, subarray, options, passes, held=held)
        previous = solution
    return Fit(solution, summary, last, (), passes, settled)


def _of_sweep(learnt: Fit, swept: Sweep, options: FitOptions, edges: Mapping[int, Floats]) -> Fit:
    """Solve the sums over all showers; what steered the model is that of the sample."""
    kept = {name: getattr(learnt.summary, name) for name in STEERING}
    summary = replace(swept.whole, **kept)
    halves = swept.halves
    if halves:
        halves = (*halves, time_halves(swept.chunks, edges, learnt.model)[1])
    return replace(
        learnt,
        solution=solve_summary(summary, options),
        summary=summary,
        halves=halves,
        half_differences=half_differences(summary, halves, options),
        chunks=swept.chunks,
        chunk_edges_s=edges,
        blocks=sums_by_block(swept.chunks, learnt.model),
        observed=swept.observed,
    )


def _has_left(found: Fit) -> bool:
    """Whether the solution of all showers has left the neighbourhood of the model.

    The normal equations are exact for fixed weights. Gradients, which errors are made of, are those
    at the model: they change by the square of a step over the resolution. Robust weights follow the
    solution.
    """
    solution, now = found.solution, found.model.now
    connected = solution.component >= 0
    step = np.abs(_moved(now, solution).log_throughput - now.log_throughput)[connected]
    if not len(step):
        return False
    if (step > NEAR * np.sqrt(now.variance[connected])).any():
        return True
    error = np.sqrt(np.maximum(np.diag(solution.covariance), 0.0))[connected]
    return found.model.robust != "none" and bool((step > SETTLED * error).any())


def _moved(now: Estimate, solution: network.Solution) -> Estimate:
    curve = now.curve if solution.linear is None else solution.linear.prediction
    return replace(now, log_throughput=carried_on(now.log_throughput, solution), curve=curve)


def solve_summary(
    summary: Summary, options: FitOptions, columns: Floats | None = None
) -> network.Solution:
    """Solve sums with the estimator of the options, for the telescopes that are tied together.

    Parameters
    ----------
    summary : Summary
        The sums.
    options : FitOptions
        Estimator and least numbers of showers.
    columns : array, shape (m,), optional
        Values at which global columns are held; by default they are fitted along.
    """
    component = _components(summary, options)
    if options.estimator == "pair":
        return network.solve_pairs(summary, component)
    return network.solve_events(summary, component, columns)


def _nothing(model: Model) -> Fit:
    """Return the fit of no shower at all."""
    n = len(model.now.variance)
    nan = np.full(n, np.nan)
    solution = network.Solution(nan, np.zeros((n, n)), np.full(n, -1), 0.0, 0.0)
    return Fit(solution, empty_summary(model), model, (), 0, settled=True)


def _components(summary: Summary, options: FitOptions) -> Indices:
    n_common = summary.log_ratio.n
    if options.estimator == "pair":
        n_common = np.where(network.pair_usable(summary), n_common, 0)
    return network.components(
        n_common, summary.n_events, min_common=options.min_common, min_events=options.min_events
    )


def _largest_step(before: network.Solution | None, after: network.Solution) -> float:
    """Largest move of a telescope in units of its error; infinite if the components changed."""
    if before is None or not np.array_equal(before.component, after.component):
        return float("inf")
    connected = after.component >= 0
    if not connected.any():
        return 0.0
    step = np.abs(after.log_throughput - before.log_throughput)[connected]
    error = np.sqrt(np.maximum(np.diag(after.covariance), 0.0))[connected]
    # Noiseless data have no error; rounding is no step.
    return float(np.max(np.divide(step, error, out=np.zeros_like(step), where=error > ROUNDING)))


def _next_estimate(
    model: Model,
    summary: Summary,
    solution: network.Solution,
    subarray: Subarray,
    options: FitOptions,
    passes: int,
    *,
    held: bool,
) -> Estimate:
    now = _moved(model.now, solution)
    if passes < WARM_UP or held:
        return now
    variance = resolutions.variances(model.now, summary, subarray.type_codes, options.type_variance)
    if options.typical is not None:
        usual = resolutions.medians(variance, subarray.type_codes)
        variance = np.where(options.typical, usual, variance)
    shape = resolutions.shapes(model.now, summary) if options.binned_resolution else model.now.shape
    if passes <= UNDAMPED:
        return replace(now, variance=variance, shape=shape)
    return replace(
        now,
        log_throughput=0.5 * (now.log_throughput + model.now.log_throughput),
        variance=np.sqrt(variance * model.now.variance),
        shape=np.sqrt(shape * model.now.shape),
    )


def _next_model(
    model: Model,
    now: Estimate,
    summary: Summary,
    subarray: Subarray,
    options: FitOptions,
    passes: int,
    *,
    held: bool,
) -> Model:
    """Let the selection follow, thresholds first, those of single telescopes next."""
    model = replace(model, now=now)
    if passes < WARM_UP or held:
        return model
    if passes == WARM_UP:
        model = replace(model, threshold=thresholds(summary, subarray, options.threshold))
    elif passes == WARM_UP + 1 and options.threshold == "auto":
        offset = own_offsets(summary, subarray, now)
        model = replace(model, threshold_offset=offset)
    return replace(
        model,
        selector=model.now,
        ceiling=ceilings(subarray, options.ceiling),
        # Outliers can only be told once the resolution is known.
        robust=_robust(options),
    )


def _robust(options: FitOptions) -> Robust:
    return "none" if options.robust == "auto" else options.robust


def carried_on(before: Floats, solution: network.Solution) -> Floats:
    """Take the new log throughputs; keep the old one of a telescope that has dropped out.

    A telescope that loses its showers to the margin for once must come back with its own
    throughput, not as an average one. The mean of a component says nothing, so it stays as it was.
    """
    s = before.copy()
    for number in range(int(solution.component.max(initial=-1)) + 1):
        nodes = solution.component == number
        new = solution.log_throughput[nodes]
        s[nodes] = new + (before[nodes] - new).mean()
    return s


def half_differences(
    summary: Summary, halves: Iterable[Summary], options: FitOptions
) -> tuple[network.Solution, ...]:
    """Half the difference between the solutions of disjoint halves of the showers.

    Parameters
    ----------
    summary : Summary
        Sums of all showers.
    halves : iterable of Summary
        Sums of the upper half, by split.
    options : FitOptions
        Of the solution.
    """
    differences = []
    for upper in halves:
        one, two = (solve_summary(half, options) for half in (upper, _subtract(summary, upper)))
        differences.append(
            network.Solution(
                log_throughput=0.5 * (one.log_throughput - two.log_throughput),
                covariance=0.25 * (one.covariance + two.covariance),
                component=in_both(one.component, two.component),
                chi2=0.0,
                ndf=0.0,
            )
        )
    return tuple(differences)


def systematic_error(
    fitted: Fit,
    nodes: Indices,
    gauge: network.Gauge,
    reference: int | None = None,
    left_out: Indices | Sequence[int] = (),
) -> Floats:
    """Excess rms of ln c over the splits, beyond what their statistical errors explain.

    Parameters
    ----------
    fitted : Fit
        With its half differences.
    nodes : array of int, shape (m,)
        Telescopes of one component.
    gauge : {"reference", "geometric_mean", "arithmetic_mean"}
        Which telescopes the error is relative to, see `network.fix_gauge`.
    reference : int, optional
        Node of the reference telescope.
    left_out : array or sequence of int
        Nodes that are no part of a mean.

    Returns
    -------
    array, shape (m,)
        Zero where nothing exceeds the statistical errors; NaN where no split by a quantity of the
        shower has enough showers in both halves: time alone tells nothing of the others.
    """
    squares, known = [], False
    for number, half in enumerate(fitted.half_differences):
        shared = half.component[nodes]
        if np.all((shared >= 0) & (shared == shared[0])):
            fixed = network.fix_gauge(half, nodes, gauge, reference=reference, left_out=left_out)
            difference, noise = fixed.log_throughput[nodes], np.diag(fixed.covariance)[nodes]
            squares.append(difference**2 - noise)
            known |= number < len(SPLITS)
    if not known:
        return np.full(len(nodes), np.nan)
    return np.asarray(np.sqrt(np.maximum(np.mean(squares, axis=0), 0.0)))


def in_both(one: Indices, two: Indices) -> Indices:
    """Number telescopes that are in one component in either half; -1 where one half has none.

    Each half has a free shift of its own, so that differences compare and nothing else does.
    """
    known = (one >= 0) & (two >= 0)
    both = np.where(known, one * len(one) + two, -1)
    values, label = np.unique(both, return_inverse=True)
    return np.asarray(np.where(known, label - np.searchsorted(values, 0), -1), np.intp)


def _split_points(chosen: Sequence[Showers], model: Model) -> dict[Split, Floats]:
    """Medians by type, from the sample: any cut serves, a rough half is enough."""
    found: dict[Split, list[Floats]] = {name: [] for name in SPLITS}
    kinds = [showers.kind[showers.group_start] for showers in chosen]
    for showers in chosen:
        for name, values in split_values(showers, resolution(showers, model.selector).mean).items():
            found[name].append(values)
    kind = np.concatenate(kinds)
    return {
        name: np.array(
            [_median(np.concatenate(parts)[kind == code]) for code in range(len(model.threshold))]
        )
        for name, parts in found.items()
    }


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def _subtract(whole: Summary, part: Summary) -> Summary:
    """Sums of the showers of `whole` that are not in `part`; only what a solver reads."""
    return replace(
        whole,
        weight=whole.weight - part.weight,
        weighted=whole.weighted - part.weighted,
        curvature=whole.curvature - part.curvature,
        meat=whole.meat - part.meat,
        log_ratio=replace(whole.log_ratio, n=whole.log_ratio.n - part.log_ratio.n),
        n_showers=whole.n_showers - part.n_showers,
        n_groups=whole.n_groups - part.n_groups,
        n_rows=whole.n_rows - part.n_rows,
        n_events=whole.n_events - part.n_events,
        columns=whole.columns - part.columns,
        chi2=whole.chi2 - part.chi2,
    )
