"""Threshold scan, continued: solutions at every margin, their differences and what these mean.

With g_e the gradient of shower e and B the inverse normal equations, the difference of the
solutions at a margin T and at the margin in use is a sum over showers, and its event-clustered
covariance is

    Var(s_T - s_0) = sum_e (B_T g_e,T - B_0 g_e,0) (B_T g_e,T - B_0 g_e,0)^T

For nested samples and efficient weights this is ``Var(s_T) - Var(s_0)`` (Hausman 1978); unlike that
difference it is never negative and holds for any weights. All differences of a type are judged
together by Hotelling's T-squared, because the covariance is estimated from the showers that
differ, and one by one, because a single telescope with a threshold of its own must not hide
among many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from scipy.special import fdtrc, stdtr

from arraycal.calib.fit import network
from arraycal.calib.fit.normal import solve_normal
from arraycal.calib.wording import percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.checks.scan import ScanSums
    from arraycal.calib.fit.sums.summary import Summary
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import RelativeThroughputFitterOptions

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "CHANCE",
    "SCAN",
    "SCAN_TYPES",
    "SMALLEST",
    "GaugeGroup",
    "compare_margins",
    "scan_remarks",
]

#: One row per telescope with a coefficient and margin. `difference` is that of ln c from the margin
#: in use, the geometric mean of the telescopes that have a value at both being the same. `value` is
#: the coefficient of the result times exp(`difference`), `error` its error at this margin about
#: that geometric mean. NaN where too few showers are left.
SCAN = pl.Schema(
    {
        "tel_type": pl.String,
        "tel_id": pl.Int64,
        "margin": pl.Float64,
        "value": pl.Float64,
        "error": pl.Float64,
        "difference": pl.Float64,
        "difference_error": pl.Float64,
        "n_events": pl.Int64,
    }
)

#: One row per type and margin. `rms` is that of the differences beyond their noise; `chi2`, `ndf`
#: and `p_value` judge all of them together; `tel_id` is the telescope that differs most in units of
#: its error (-1: none), `p_largest` the chance that any of the type would differ as much. Changed:
#: either is significant and of a size that matters. `plateau`: nothing has changed at this margin
#: nor at any larger one that has enough showers.
SCAN_TYPES = pl.Schema(
    {
        "tel_type": pl.String,
        "margin": pl.Float64,
        "in_use": pl.Boolean,
        "n_telescopes": pl.Int64,
        "n_showers_changed": pl.Int64,
        "rms": pl.Float64,
        "chi2": pl.Float64,
        "ndf": pl.Int64,
        "p_value": pl.Float64,
        "tel_id": pl.Int64,
        "difference": pl.Float64,
        "difference_error": pl.Float64,
        "p_largest": pl.Float64,
        "changed": pl.Boolean,
        "plateau": pl.Boolean,
    }
)

_JUDGED = pl.Schema({name: kind for name, kind in SCAN_TYPES.items() if name != "plateau"})

#: Chance of finding a change in a type where there is none, all margins and both tests together:
#: that of 3 sigma.
CHANCE = 0.0027
#: Changes of ln c below this do not matter.
SMALLEST = 0.005
#: Eigenvalues of a covariance below this part of the largest are rounding.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class GaugeGroup:
    """Telescopes that share a gauge.

    Parameters
    ----------
    nodes : array of int, shape (m,)
        The telescopes, all with a coefficient.
    anchors : array of int
        Those of them whose geometric mean is taken to be the same at all margins.
    """

    nodes: Indices
    anchors: Indices


def compare_margins(
    sums: Mapping[float, ScanSums],
    in_use: float,
    subarray: Subarray,
    value: Floats,
    groups: Sequence[GaugeGroup],
    options: RelativeThroughputFitterOptions,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Solve at every margin and compare with the margin in use.

    Parameters
    ----------
    sums : mapping of float to ScanSums
        By margin, that in use among them.
    in_use : float
        The margin of the result.
    subarray : Subarray
        The telescopes.
    value : array, shape (n,)
        Coefficients of the result, NaN where there is none.
    groups : sequence of Group
        Telescopes to compare.
    options : RelativeThroughputFitterOptions
        Least numbers of showers, response slope.

    Returns
    -------
    tuple of two DataFrames
        `SCAN` and `SCAN_TYPES`.
    """
    here = _solve(sums[in_use], options)
    chance = CHANCE / (2 * max(len(sums) - 1, 1))
    rows, tests = [], []
    for margin in sorted(sums):
        there = here if margin == in_use else _solve(sums[margin], options)
        found = _differences(there, here, groups, options.response_slope)
        rows += _rows(margin, found, value, subarray, sums[margin].summary)
        for code, tel_type in enumerate(sorted(set(subarray.types))):
            known = np.flatnonzero((subarray.type_codes == code) & np.isfinite(found.value))
            tests.append(
                (
                    *(tel_type, margin, margin == in_use),
                    *_test(found, known, sums[margin].n_changed[code], subarray, chance),
                )
            )
    return (
        pl.DataFrame(rows, schema=SCAN, orient="row").sort("tel_type", "tel_id", "margin"),
        _with_plateau(pl.DataFrame(tests, schema=_JUDGED, orient="row")),
    )


class _Solved(NamedTuple):
    """Solution at one margin, n telescopes and m global columns.

    `s` (n,); `bread` (n, n + m), its answer to the gradient of a shower; sums over showers of the
    products of gradients: `meat` with themselves, `cross` with those at the margin in use.
    """

    s: Floats
    bread: Floats
    meat: Floats
    cross: Floats
    component: Indices
    scale: float


def _solve(sums: ScanSums, options: RelativeThroughputFitterOptions) -> _Solved:
    summary = sums.summary
    component = network.components(
        summary.log_ratio.n,
        summary.n_events,
        min_common=options.min_common_events,
        min_events=options.min_events,
    )
    equations = network.equations(summary, component)
    linear = solve_normal(equations, component)
    clusters = summary.n_showers
    scale = clusters / (clusters - 1) if clusters > 1 else np.nan
    bread = linear.bread[: len(component)]
    return _Solved(linear.nodes, bread, equations.meat, sums.cross, component, scale)


class _Differences(NamedTuple):
    """Differences of ln c with covariance, and the error of ln c at the margin itself."""

    value: Floats
    covariance: Floats
    error: Floats


def _differences(
    there: _Solved, here: _Solved, groups: Sequence[GaugeGroup], slope: float
) -> _Differences:
    n = len(here.s)
    value, error = np.full(n, np.nan), np.full(n, np.nan)
    covariance = np.full((n, n), np.nan)
    for group in groups:
        nodes, anchors = _shared(group, there, here)
        if not len(anchors):
            continue
        gauge = np.eye(len(nodes)) - np.isin(nodes, anchors) / len(anchors)
        one, zero = gauge @ there.bread[nodes], gauge @ here.bread[nodes]
        own = one @ there.meat @ one.T * there.scale
        error[nodes] = np.sqrt(np.maximum(np.diag(own), 0.0)) / slope
        value[nodes] = gauge @ (there.s[nodes] - here.s[nodes]) / slope
        mixed = one @ there.cross @ zero.T
        spread = one @ there.meat @ one.T + zero @ here.meat @ zero.T - mixed - mixed.T
        same = there is here
        covariance[np.ix_(nodes, nodes)] = 0.0 if same else spread * there.scale / slope**2
    return _Differences(value, covariance, error)


def _shared(group: GaugeGroup, there: _Solved, here: _Solved) -> tuple[Indices, Indices]:
    """Telescopes of a group that are connected at both margins, and the anchors among them."""
    nodes = group.nodes
    known = np.isfinite(there.s[nodes]) & np.isfinite(here.s[nodes])
    both = there.component[nodes] * len(here.s) + here.component[nodes]
    anchored = both[known & np.isin(nodes, group.anchors)]
    if not len(anchored):
        return nodes[:0], nodes[:0]
    shared = nodes[known & (both == np.bincount(anchored).argmax())]
    return shared, np.intersect1d(shared, group.anchors)


def _rows(
    margin: float,
    found: _Differences,
    value: Floats,
    subarray: Subarray,
    summary: Summary,
) -> list[tuple[object, ...]]:
    there = value * np.exp(found.value)
    spread = np.sqrt(np.maximum(np.diag(found.covariance), 0.0))
    return [
        (
            *(subarray.types[node], subarray.tel_ids[node], margin),
            *(there[node], there[node] * found.error[node]),
            *(found.value[node], spread[node], int(summary.n_events[node])),
        )
        for node in np.flatnonzero(np.isfinite(value))
    ]


def _test(
    found: _Differences, nodes: Indices, n_changed: float, subarray: Subarray, chance: float
) -> tuple[object, ...]:
    """Columns of `SCAN_TYPES` from `n_telescopes` to `changed`."""
    difference, covariance = found.value[nodes], found.covariance[np.ix_(nodes, nodes)]
    spread, n = np.sqrt(np.maximum(np.diag(covariance), 0.0)), int(n_changed)
    if not len(nodes) or not spread.any():
        nothing = (float("nan"), 0, float("nan"), -1, *(float("nan"),) * 3)
        return (len(nodes), n, 0.0 if len(nodes) else float("nan"), *nothing, False)
    chi2, ndf = _hotelling(difference, covariance)
    rms = math.sqrt(max(float(np.mean(difference**2 - spread**2)), 0.0))
    z = np.divide(np.abs(difference), spread, out=np.zeros_like(spread), where=spread > 0)
    worst = int(z.argmax())
    together, alone = float("nan"), float("nan")
    if n > ndf + 1:
        together = float(fdtrc(ndf, n - ndf, chi2 * (n - ndf) / (ndf * (n - 1))))
        alone = min(1.0, len(nodes) * 2 * float(stdtr(n - 1, -z[worst])))
    changed = (together < chance and rms > SMALLEST) or (
        alone < chance and abs(difference[worst]) > SMALLEST
    )
    return (
        *(len(nodes), n, rms, chi2, ndf, together),
        *(subarray.tel_ids[nodes[worst]], difference[worst], spread[worst], alone, bool(changed)),
    )


def _hotelling(difference: Floats, covariance: Floats) -> tuple[float, int]:
    """Squared length of a vector in units of its covariance, and the rank of the latter."""
    size, direction = np.linalg.eigh(covariance)
    known = size > RANK_TOLERANCE * size[-1]
    return float(np.sum((direction.T @ difference)[known] ** 2 / size[known])), int(known.sum())


def _with_plateau(tests: pl.DataFrame) -> pl.DataFrame:
    """Margins of each type from which on nothing has changed."""
    table = tests.sort("tel_type", "margin")
    spoilt = pl.col("changed").reverse().cum_max().reverse().over("tel_type")
    return table.with_columns(plateau=~spoilt & (pl.col("n_telescopes") > 0))


def scan_remarks(tests: pl.DataFrame) -> list[str]:
    """What speaks against the margin in use, by type."""
    return [
        _remark(part)
        for (_,), part in tests.group_by("tel_type", maintain_order=True)
        if not part.filter("in_use")["plateau"].all()
        and len(part.filter(pl.col("n_telescopes") > 0))
    ]


def _remark(part: pl.DataFrame) -> str:
    in_use = part.filter("in_use")["margin"].item()
    worst = part.filter((pl.col("margin") > in_use) & pl.col("changed")).row(0, named=True)
    return (
        f"throughputs of {worst['tel_type']} still change when the margin from the threshold grows "
        f"from {in_use:g} to {worst['margin']:g} sigma: by {worst['rms']:.1%} rms, telescope "
        f"{worst['tel_id']} by {percent(worst['difference'])} (raise ShowerSelection.margin)"
    )
