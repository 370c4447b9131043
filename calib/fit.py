"""The loop around `summary` and `network`: weights and selection follow the solution.

A pass sums over all showers with the current model; the solution of those sums, the residuals
and the turn-on of the telescopes give the next model. The files are never read again: a pass
runs over cached PAIRS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from calib import network
from calib.model import Estimate, Model, split_values
from calib.summary import TURN_ON_EDGES, Summary, merge, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from calib.model import Split
    from calib.robust import Robust
    from calib.showers import Showers
    from calib.subarray import Subarray

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Windows = Callable[[], Iterable[Showers]]

__all__ = ["Fit", "FitOptions", "fit", "turn_on_threshold"]

#: Starting value of sigma(ln E); only the first pass uses it.
START_SIGMA = 0.2
#: Showers at which a telescope's own resolution counts as much as that of its type.
TRUST_SHOWERS = 100.0
#: Summed squared residuals (in units of their expectation) a resolution bin needs likewise.
TRUST_ROWS = 200.0
#: A pass that moves no telescope by more than this part of its error is the last.
SETTLED = 0.02
#: Passes after which resolutions and selection are held. Any fixed weights give an unbiased
#: solution, so they need not converge; a selection that follows every small step of the solution
#: would keep the iteration from ending.
ADAPTIVE_PASSES = 4
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
    robust : {"none", "huber", "tukey"}
        Weighting of outliers.
    threshold : None, "auto" or mapping of int to float
        No margin, thresholds from the data, or ln(value) by telescope id.
    margin : float
        Distance from the threshold in units of sigma.
    binned_resolution : bool
        Whether the resolution may depend on impact distance and shower value.
    max_iterations : int
        Largest number of passes.
    """

    estimator: str
    min_events: int
    min_common: int
    robust: Robust
    threshold: str | Mapping[int, float] | None
    margin: float
    binned_resolution: bool
    max_iterations: int


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
    systematic : array, shape (n,)
        Excess rms of ln c over splits of the showers by value, impact distance and
        multiplicity; NaN where no split constrains the telescope.
    passes : int
        Passes over the pairs, splits not counted.
    settled : bool
        Whether the last pass changed nothing that matters.
    """

    solution: network.Solution
    summary: Summary
    model: Model
    systematic: Floats
    passes: int
    settled: bool


def fit(windows: Windows, subarray: Subarray, options: FitOptions) -> Fit:
    """Iterate to a consistent solution.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window; called once per pass.
    subarray : Subarray
        The telescopes.
    options : FitOptions
        What to do.

    Returns
    -------
    Fit
        The solution and how it was reached.
    """
    model = Model.initial(subarray, variance=START_SIGMA**2, margin=options.margin)
    if options.estimator == "pair":
        summary = merge(summarise(showers, model) for showers in windows())
        solution = network.solve_pairs(summary, _components(summary, options))
        return Fit(solution, summary, model, np.full(len(subarray), np.nan), 1, settled=True)
    settled, previous = False, None
    for passes in range(1, options.max_iterations + 1):
        summary = merge(summarise(showers, model) for showers in windows())
        solution = network.solve_events(summary, _components(summary, options))
        if previous is not None and _unchanged(previous, solution):
            settled = True
            break
        if passes == options.max_iterations:
            break
        model = _next_model(model, summary, solution, subarray, options, passes)
        previous = solution if passes > ADAPTIVE_PASSES else None
    systematic = _systematic(windows, model, summary, options)
    return Fit(solution, summary, model, systematic, passes, settled)


def _components(summary: Summary, options: FitOptions) -> Indices:
    n_common = summary.log_ratio.n
    if options.estimator == "pair":
        n_common = np.where(network.pair_usable(summary), n_common, 0)
    return network.components(
        n_common, summary.n_events, min_common=options.min_common, min_events=options.min_events
    )


def _unchanged(before: network.Solution, after: network.Solution) -> bool:
    if not np.array_equal(before.component, after.component):
        return False
    connected = after.component >= 0
    if not connected.any():
        return True
    step = np.abs(after.log_throughput - before.log_throughput)[connected]
    error = np.sqrt(np.diag(after.covariance))[connected]
    return bool(np.all(step <= SETTLED * error))


def _next_model(
    model: Model,
    summary: Summary,
    solution: network.Solution,
    subarray: Subarray,
    options: FitOptions,
    passes: int,
) -> Model:
    s = np.where(np.isfinite(solution.log_throughput), solution.log_throughput, 0.0)
    if passes > ADAPTIVE_PASSES:
        return replace(model, now=replace(model.now, log_throughput=s))
    now = Estimate(
        log_throughput=s,
        variance=_variances(model.now, summary, subarray.type_codes),
        shape=_shapes(model.now, summary) if options.binned_resolution else model.now.shape,
    )
    return replace(
        model,
        now=now,
        selector=now,
        threshold=_thresholds(summary, subarray, options) if passes == 1 else model.threshold,
        # Outliers can only be told once the resolution is known: the first pass is unweighted.
        robust=options.robust,
    )


def _variances(before: Estimate, summary: Summary, kinds: Indices) -> Floats:
    """Solve the scoring equations, shrunk to the type where showers are few."""
    matrix, vector, now = summary.variance_matrix, summary.variance_vector, before.variance
    # Unknown: one variance for each type, then one for each telescope (as factors of `now`).
    by_type = np.eye(int(kinds.max()) + 1)[kinds] / now[:, None]
    pooled = by_type.T @ matrix @ by_type
    empty = np.diag(pooled) <= 0
    pooled[empty] = np.eye(len(pooled))[empty]
    right = np.where(empty, START_SIGMA**2, by_type.T @ vector)
    typical = np.maximum(np.linalg.solve(pooled, right), MIN_SIGMA**2)[kinds]
    # The prior fades as 1/N: telescopes with few showers take the value of their type.
    prior = TRUST_SHOWERS**2 / np.maximum(summary.n_events, 1.0)
    factor = np.linalg.solve(matrix + np.diag(prior), vector + prior * typical / now)
    return np.asarray(np.maximum(factor * now, MIN_SHARE * typical))


#: Variances are kept positive: sigma(ln value) of at least this, and at least this part of the
#: variance of the type. Both only matter for a handful of showers or noiseless toys.
MIN_SIGMA, MIN_SHARE = 1e-6, 0.05


def _shapes(before: Estimate, summary: Summary) -> Floats:
    """Update the relative variances; their row-weighted mean stays one for every type."""
    ratio = (summary.shape_observed + TRUST_ROWS) / (summary.shape_expected + TRUST_ROWS)
    shape = before.shape * np.maximum(ratio, MIN_SHARE)
    rows = np.maximum(summary.shape_expected, 0.0)
    mean = (shape * rows).sum(axis=(1, 2)) / np.maximum(rows.sum(axis=(1, 2)), 1e-300)
    mean = np.where(mean > 0, mean, 1.0)
    return np.asarray(shape / mean[:, None, None])


def _thresholds(summary: Summary, subarray: Subarray, options: FitOptions) -> Floats:
    shape = summary.turn_on.shape[:2]
    if options.threshold is None:
        return np.full(shape, -np.inf)
    if options.threshold == "auto":
        return np.stack([_type_thresholds(histogram) for histogram in summary.turn_on])
    assert not isinstance(options.threshold, str)  # noqa: S101  for the type checker
    values = np.asarray([options.threshold[tel_id] for tel_id in subarray.tel_ids])
    by_type = np.full(shape[0], -np.inf)
    # The strictest of a type: a pair must not be selected differently for its two telescopes.
    np.maximum.at(by_type, subarray.type_codes, values)
    return np.repeat(by_type[:, None], shape[1], axis=1)


def _type_thresholds(histograms: Floats) -> Floats:
    """Thresholds of one type by impact bin; sparse bins borrow from their neighbours."""
    result = np.empty(len(histograms))
    for index in range(len(histograms)):
        reach = 0
        histogram = histograms[index]
        while histogram.sum() < MIN_TURN_ON_ROWS and reach < len(histograms):
            reach += 1
            histogram = histograms[max(index - reach, 0) : index + reach + 1].sum(axis=0)
        result[index] = turn_on_threshold(histogram)
    return result


#: Rows from which the position of a turn-on can be told.
MIN_TURN_ON_ROWS = 500
SMOOTHING = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0


def turn_on_threshold(histogram: Floats) -> float:
    """Find where telescopes begin to lose showers: the half height of the rising edge.

    Parameters
    ----------
    histogram : array, shape (n_bins,)
        Counts in the bins of ``summary.TURN_ON_EDGES`` (under- and overflow at the ends).

    Returns
    -------
    float
        ln(value); ``-inf`` for an empty histogram.
    """
    if histogram.sum() == 0:
        return float("-inf")
    smooth = np.convolve(histogram, SMOOTHING, mode="same")
    peak = int(np.argmax(smooth))
    below = np.flatnonzero(smooth[:peak] < 0.5 * smooth[peak])
    edge = int(below[-1]) if len(below) else 0
    return float(TURN_ON_EDGES[min(edge, len(TURN_ON_EDGES) - 1)])


def _systematic(windows: Windows, model: Model, summary: Summary, options: FitOptions) -> Floats:
    """Excess rms of ln c over disjoint halves of the showers."""
    model = replace(model, split_at=_split_points(windows, model))
    n = len(model.now.variance)
    excess, count = np.zeros(n), np.zeros(n)
    for split in SPLITS:
        upper = merge(summarise(showers, model, split) for showers in windows())
        lower = _subtract(summary, upper)
        halves = [network.solve_events(half, _components(half, options)) for half in (upper, lower)]
        usable = _same_members(halves[0].component, halves[1].component)
        half = 0.5 * (halves[0].log_throughput - halves[1].log_throughput)
        noise = 0.25 * (np.diag(halves[0].covariance) + np.diag(halves[1].covariance))
        excess[usable] += half[usable] ** 2 - noise[usable]
        count[usable] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.sqrt(np.maximum(excess / count, 0.0)), np.nan)


def _same_members(one: Indices, two: Indices) -> npt.NDArray[np.bool_]:
    """Telescopes whose component has the same members in both halves, so that s compares."""
    same = np.zeros(len(one), np.bool_)
    for number in range(int(one.max(initial=-1)) + 1):
        members = one == number
        other = two[members]
        same[members] = bool(
            np.all(other == other[0]) and other[0] >= 0 and np.sum(two == other[0]) == members.sum()
        )
    return same


def _split_points(windows: Windows, model: Model) -> dict[Split, Floats]:
    """Medians by type, from the first window: any cut serves, a rough half is enough."""
    n_types = len(model.threshold)
    showers = next(iter(windows()))
    points: dict[Split, Floats] = {}
    for name, (values, kind) in split_values(showers, model).items():
        points[name] = np.array([_median(values[kind == code]) for code in range(n_types)])
    return points


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
        chi2=whole.chi2 - part.chi2,
    )
