"""The sums of several nights, solved as one.

Normal equations, gradients and counts of disjoint showers add up exactly; weights and selection of
each night stay as they were. Only chi-square is about a point: that of night k at the common
solution x is

    chi2_k(x) = chi2_k(p_k) - 2 (x - p_k) . g_k + (x - p_k)^T A_k (x - p_k),   g_k = v_k - A_k p_k

with the normal equations ``A_k x = v_k`` of the night and the point p_k its residuals were taken
at. With fixed weights that is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.loop import Fit, carried_on, half_differences, solve_summary
from arraycal.calib.fit.normal import Normal, laplacian
from arraycal.calib.fit.sums.columns import with_columns
from arraycal.calib.fit.sums.summary import merge_summaries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from arraycal.calib.fit import network
    from arraycal.calib.fit.loop import FitOptions
    from arraycal.calib.fit.model import Estimate
    from arraycal.calib.fit.sums.kept import Sums
    from arraycal.calib.fit.sums.summary import Summary

    Floats = npt.NDArray[np.float64]

__all__ = ["merged_fit"]


def merged_fit(nights: Sequence[Sums], options: FitOptions) -> Fit:
    """Solve the sums of several nights as one.

    Parameters
    ----------
    nights : sequence of Sums
        Of the same telescopes, curves and slopes; at least one.
    options : FitOptions
        Estimator and least numbers of showers; weights and selection are those of the nights.

    Returns
    -------
    Fit
        With no passes of its own; settled if all nights were. The model is that of the last
        night, at the common solution.
    """
    summary = merge_summaries(night.summary for night in nights)
    solution = solve_summary(summary, options)
    if options.estimator == "event":
        chi2 = sum(_chi2(night, solution) for night in nights)
        summary, solution = replace(summary, chi2=chi2), replace(solution, chi2=chi2)
    filled = [night for night in nights if night.summary.n_showers]
    whole = all(night.halves for night in filled)
    halves = [night.halves for night in filled] if whole else []
    uppers = tuple(merge_summaries(split) for split in zip(*halves, strict=True))
    model = nights[-1].model
    now = _moved(model.now, solution)
    threshold = np.max([night.model.threshold for night in nights], axis=0)
    return Fit(
        solution=solution,
        summary=summary,
        model=replace(model, now=now, threshold=threshold),
        half_differences=half_differences(summary, uppers, options),
        passes=0,
        settled=all(night.settled for night in nights),
        halves=uppers,
    )


def _moved(point: Estimate, solution: network.Solution) -> Estimate:
    """Take the solution for the point around which residuals are taken, as far as it is known."""
    s = carried_on(point.log_throughput, solution)
    curve = point.curve if solution.linear is None else solution.linear.prediction
    known = np.isfinite(s)
    return replace(point, log_throughput=np.where(known, s, point.log_throughput), curve=curve)


def _chi2(night: Sums, solution: network.Solution) -> float:
    """Chi-square of a night's telescope rows at a solution."""
    normal, point = _normal(night.summary), night.model.now
    moved = _moved(point, solution)
    here = np.concatenate([point.log_throughput, point.curve])
    step = np.concatenate([moved.log_throughput, moved.curve]) - here
    gradient = normal.vector - normal.matrix @ here
    return float(night.summary.chi2 - 2 * step @ gradient + step @ normal.matrix @ step)


def _normal(summary: Summary) -> Normal:
    """Equations of all links, the weakest included."""
    weighted, weight = summary.weighted, laplacian(summary.weight)
    nodes = Normal(
        matrix=weight,
        vector=weighted.sum(axis=1) - weighted.sum(axis=0),
        curvature=weight,
        meat=summary.meat,
        n_nodes=len(weight),
        n_clusters=summary.n_showers,
    )
    return with_columns(nodes, summary.columns) if len(summary.columns.vector) else nodes
