"""The loop: predictions and weights follow the solution until nothing moves any more.

The model is linear in the offsets and the walk and nearly so in ln(radius), so that few passes
settle it (Gauss-Newton). While the loop runs every chunk has offsets of its own; a clock that
jumps therefore disturbs neither the front nor the walk nor the noise of the telescopes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.timing.acquire import Acquirer
from arraycal.calib.timing.residuals import FrontModel, stamp_residuals
from arraycal.calib.timing.showers import make_plan
from arraycal.calib.timing.solve import solve_chunks
from arraycal.calib.timing.sums import ClockSums, empty_sums, sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from arraycal.calib.timing.showers import Plan, StampedShowers
    from arraycal.calib.timing.solve import ChunkSolution
    from arraycal.config.models import CalculateTimingCalibrationOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]
    Windows = Callable[[], Iterable[StampedShowers]]

__all__ = [
    "ClockFit",
    "ClockFitOptions",
    "fit_clocks",
    "joined",
    "moved_scale",
    "one_pass",
    "settle_clocks",
    "with_chunks",
]

MAX_PASSES = 10
#: What is said of stamps without any image size.
NO_SIZES = "no image has a finite size above 0, so that the trigger walk is not fitted"
#: Movements of a pass that end the loop: of offsets and walk (ns), of ln(radius), of a noise.
SETTLED_NS, SETTLED_SCALE, SETTLED_NOISE = 0.01, 2e-3, 0.02
#: Showers at which a telescope's own noise counts as much as that of its type.
TRUST_ROWS = 30.0
#: A telescope with so many times the variance of most of its type says nothing about the others.
UNUSUAL = 10.0
#: The quantum of the stamps, 0.25 ns, alone is a noise of 0.07 ns.
LEAST_SIGMA_NS = 0.1
#: Stamps that scatter more come from no clock. A larger noise would take them all in, and their
#: weights beside those of clocks leave no digits to solve with.
MOST_SIGMA_NS = 1000.0
#: Largest step of ln(radius) in a pass, and where it ends: data that want more have no curvature.
MAX_SCALE_STEP, SCALE_RANGE = 0.5, (np.log(0.2), np.log(10.0))
#: A scale with a larger error than this is not determined, and held where it was.
MAX_SCALE_ERROR = 0.5


@dataclass(frozen=True)
class ClockFitOptions:
    """What the loop may do; see ``CalculateTimingCalibrationOptions``.

    Parameters
    ----------
    clip : float
        Stamps further off than this many sigma are left out.
    scale : float
        Scale of the front's radius to start from, or to hold.
    fit_curvature, fit_walk : bool
        Whether to fit them.
    chunk_duration_s : float
        Least duration of a chunk.
    chunk_showers : int
        Least number of showers in it.
    """

    clip: float
    scale: float
    fit_curvature: bool
    fit_walk: bool
    chunk_duration_s: float
    chunk_showers: int

    @classmethod
    def of(cls, options: CalculateTimingCalibrationOptions) -> ClockFitOptions:
        """Take from the configuration what the loop needs."""
        return cls(
            clip=options.clip,
            scale=options.curvature_scale,
            fit_curvature=options.fit_curvature,
            fit_walk=options.fit_walk,
            chunk_duration_s=options.chunk_duration,
            chunk_showers=options.chunk_showers,
        )


@dataclass(frozen=True)
class ClockFit:
    """Where the loop ended.

    Parameters
    ----------
    plan : Plan
        Chunks of time.
    model : FrontModel
        Offsets of every chunk, front, walk, noise.
    sums : ClockSums
        Of the last pass, made with `model`.
    solution : ChunkSolution
        What the last pass would still have changed, with its errors.
    passes : int
        Passes over the stamps.
    settled : bool
        Whether the loop ended because a pass changed nothing that matters.
    remarks : tuple of str
        What a reader must know.
    """

    plan: Plan
    model: FrontModel
    sums: ClockSums
    solution: ChunkSolution
    passes: int
    settled: bool
    remarks: tuple[str, ...] = ()


def with_chunks(windows: Windows, plan: Plan) -> Iterator[tuple[StampedShowers, Indices]]:
    """Yield the windows with the chunk of each shower."""
    first = 0
    for showers in windows():
        if len(showers):
            yield showers, plan.chunks(first, len(showers))
            first += len(showers)


def one_pass(windows: Windows, plan: Plan, model: FrontModel) -> ClockSums:
    """Sum over all showers with one model, by chunk."""
    n = model.offset_ns.shape[1]
    total = empty_sums(len(plan), n, len(model.names()))
    for showers, chunk in with_chunks(windows, plan):
        found = stamp_residuals(showers, chunk, model)
        low, high = int(chunk[0]), int(chunk[-1]) + 1
        total.add(sums(showers, chunk - low, high - low, found, n), low, high)
    return total


def fit_clocks(
    windows: Windows, n_types: int, kinds: Indices, options: ClockFitOptions
) -> ClockFit:
    """Find offsets, front and walk.

    Parameters
    ----------
    windows : callable
        Returns the showers window by window; called once per pass.
    n_types : int
        Number of telescope types.
    kinds : array of int, shape (n,)
        Type of every telescope.
    options : ClockFitOptions
        What to do.

    Returns
    -------
    ClockFit
        The model and how it was reached.
    """
    plan = make_plan(windows(), options.chunk_duration_s, options.chunk_showers)
    start = float(np.log(options.scale))
    acquirer = Acquirer(len(kinds), plan, start)
    first, with_sizes = 0, False
    for showers in windows():
        acquirer.follow(showers, first)
        first += len(showers)
        with_sizes |= bool((showers.brightness > 0).any())
    remarks = () if with_sizes or not options.fit_walk else (NO_SIZES,)
    columns = ("curvature",) * options.fit_curvature + ("walk",) * (options.fit_walk and with_sizes)
    model = FrontModel(
        offset_ns=acquirer.offset_ns,
        log_scale=start,
        walk_ns=np.zeros(n_types),
        sigma_ns=np.minimum(acquirer.sigma_ns, MOST_SIGMA_NS),
        clip=options.clip,
        columns=columns,
    )
    settled = settle_clocks(windows, plan, model, kinds)
    return replace(settled, remarks=remarks + settled.remarks)


def settle_clocks(windows: Windows, plan: Plan, model: FrontModel, kinds: Indices) -> ClockFit:
    """Repeat the pass until nothing moves; see `fit_clocks`."""
    remarks: list[str] = []
    settled = False
    passes = 0
    while passes < MAX_PASSES:
        passes += 1
        total = one_pass(windows, plan, model)
        solution = solve_chunks(total)
        if "curvature" in model.columns and _undetermined(model, solution):
            model = replace(model, columns=tuple(c for c in model.columns if c != "curvature"))
            remarks.append("the data do not determine the curvature of the front, it is held")
            continue
        better = _improved(model, total, solution, kinds)
        settled = _is_settled(model, better)
        if settled:
            break
        model = better
    if not settled:
        # The sums are those of the model that is returned.
        passes += 1
        total = one_pass(windows, plan, model)
        solution = solve_chunks(total)
    return ClockFit(plan, model, total, solution, passes, settled, tuple(remarks))


def _undetermined(model: FrontModel, solution: ChunkSolution) -> bool:
    place = model.names().index("curvature")
    return bool(solution.column_error[place] > MAX_SCALE_ERROR)


def _improved(
    model: FrontModel, total: ClockSums, solution: ChunkSolution, kinds: Indices
) -> FrontModel:
    by_name = dict(zip(model.names(), solution.columns, strict=True))
    walk = model.walk_ns + [by_name.get(f"walk_{kind}", 0.0) for kind in range(len(model.walk_ns))]
    return replace(
        model,
        offset_ns=model.offset_ns + np.nan_to_num(solution.offset_ns),
        log_scale=moved_scale(model.log_scale, by_name.get("curvature", 0.0)),
        walk_ns=walk,
        sigma_ns=_noise(model.sigma_ns, total, kinds),
    )


def moved_scale(log_scale: float, step: float) -> float:
    """Step ln of the scale of the front's radius, within bounds.

    Stamps without a curved front ask for steps of any size, to radii nothing can be computed with.
    """
    step = float(np.clip(step, -MAX_SCALE_STEP, MAX_SCALE_STEP))
    return float(np.clip(log_scale + step, *SCALE_RANGE))


def _noise(sigma: Floats, total: ClockSums, kinds: Indices) -> Floats:
    """Noise of the telescopes from their residuals, shrunk to their type where these are few.

    A residual has the variance 1/w - 1/W when the weights are right; the noise is scaled until its
    squared residuals are what they should be.
    """
    result = sigma.copy()
    for kind in np.unique(kinds):
        own = kinds == kind
        expected = total.expected[own]
        if expected.sum() <= 0:
            continue
        # In the type's common noise, so that a telescope with few rows takes after the others.
        square = total.square[own] * sigma[own] ** 2
        common = _usual(square, expected)
        variance = (square + TRUST_ROWS * common) / (expected + TRUST_ROWS)
        result[own] = np.sqrt(np.clip(variance, LEAST_SIGMA_NS**2, MOST_SIGMA_NS**2))
    return result


def _usual(square: Floats, expected: Floats) -> float:
    """Variance that most telescopes agree on: the mean without those far above the median.

    One of them with stamps from no clock would make all its siblings noisy.
    """
    some = expected > 0
    variance = square[some] / expected[some]
    near = variance <= UNUSUAL * np.median(variance)
    return float(square[some][near].sum() / expected[some][near].sum())


def _is_settled(old: FrontModel, new: FrontModel) -> bool:
    moved = np.nan_to_num(np.abs(new.offset_ns - old.offset_ns)).max(initial=0.0)
    walked = np.abs(new.walk_ns - old.walk_ns).max(initial=0.0)
    noisier = np.abs(np.log(new.sigma_ns / old.sigma_ns)).max(initial=0.0)
    return bool(
        moved < SETTLED_NS
        and walked < SETTLED_NS
        and noisier < SETTLED_NOISE
        and abs(new.log_scale - old.log_scale) < SETTLED_SCALE
    )


def joined(first: ClockFit, again: ClockFit) -> ClockFit:
    """Return the second of two fits, with the passes and remarks of both."""
    remarks = tuple(dict.fromkeys(first.remarks + again.remarks))
    return replace(again, passes=first.passes + again.passes, remarks=remarks)
