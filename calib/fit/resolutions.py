"""Resolutions of a pass: what the residuals of the pairs say of the noise of every telescope.

Takes SUMMARY, gives the variances and shapes of the next `arraycal.calib.fit.model.Estimate`.
Weights and selection hang on them. A telescope whose variance is taken too large weighs too little
in the mean of its showers, and by the spectrum every cut on that mean then shifts it: near the
threshold a tenth of a variance is as much as 0.1 % of a throughput. Telescopes of a type are built
alike, so each keeps a resolution of its own only as far as the data show that there are
differences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from arraycal.calib.fit.model import VALUE_CENTRES
from arraycal.calib.fit.noise import smooth_shape

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Estimate
    from arraycal.calib.fit.sums.summary import Summary

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["START_SIGMA", "far_noisier", "inseparable", "medians", "shapes", "usual", "variances"]

#: Starting value of sigma(ln E); only the first pass uses it.
START_SIGMA = 0.2
#: Showers at which a telescope's own resolution counts as much as that of its type.
TRUST_SHOWERS = 100.0
#: Rows at which a resolution bin counts as much as the law of its type and distance.
TRUST_ROWS = 200.0
#: Relative difference of variances that is no telescope's own: the margin cuts a little of the
#: noise of those close to their threshold (4 % measured between telescopes of equal resolution
#: whose throughputs are 0.88 and 1.18), and the law of the resolution does not fit perfectly.
ALIKE = 0.05
#: A variance of more than this many times the median of the type (twice the resolution) is far off;
#: it stays when the selection has taken nearly all rows that showed it.
FAR_NOISIER = 4.0
#: Variances are kept positive: sigma(ln value) of at least this, and at least this part of the
#: variance of the type. Both only matter for a handful of showers or noiseless toys.
MIN_SIGMA, MIN_SHARE = 1e-6, 0.05


def variances(
    before: Estimate, summary: Summary, kinds: Indices, assumed: Floats | None = None
) -> Floats:
    """Solve the scoring equations and draw telescopes towards their type.

    Parameters
    ----------
    before : Estimate
        Of the pass that gave the sums.
    summary : Summary
        The sums.
    kinds : array of int, shape (n,)
        Code of the type of every telescope.
    assumed : array, shape (n_types,), optional
        Relative variances of types that are `inseparable`; equal by default.

    Returns
    -------
    array, shape (n,)
        Variance of ln(value) of every telescope, averaged over its showers.

    Notes
    -----
    Empirical Bayes: with tau^2 the variance by which the telescopes of a type differ beyond their
    own errors e_i, a deviation from the type is multiplied by ``tau^2 / (tau^2 + e_i^2)``.

    References
    ----------
    DerSimonian, Laird 1986, Controlled Clinical Trials 7, 177: the estimate of tau^2.
    """
    matrix, vector, now = summary.variance_matrix, summary.variance_vector, before.variance
    typical = _of_types(summary, now, kinds, assumed)
    # The prior fades as 1/N: telescopes with few showers take the value of their type.
    prior = TRUST_SHOWERS**2 / np.maximum(summary.n_events, 1.0)
    inverse = np.linalg.inv(matrix + np.diag(prior))
    own = inverse @ (vector + prior * typical / now) * now / typical
    error2 = inverse**2 @ summary.variance_meat * (now / typical) ** 2 + ALIKE**2
    between = np.zeros(len(now))
    for code in np.unique(kinds):
        known = (kinds == code) & (summary.n_events >= TRUST_SHOWERS)
        between[kinds == code] = _excess(own[known] - 1.0, error2[known])
    kept = between / (between + error2)
    found = typical * np.maximum(1.0 + kept * (own - 1.0), MIN_SHARE)
    lost = (summary.n_events < TRUST_SHOWERS) & (summary.n_candidates >= TRUST_SHOWERS)
    # As one of its type it would spoil the means of the showers by which others are selected.
    return np.where(lost & far_noisier(now, kinds), now, found)


def far_noisier(variance: Floats, kinds: Indices) -> npt.NDArray[np.bool_]:
    """Telescopes that are not built like the others of their type, or no longer work like them."""
    return variance > FAR_NOISIER * medians(variance, kinds)


def medians(variance: Floats, kinds: Indices) -> Floats:
    """Median of the type of every telescope."""
    result = np.empty(len(variance))
    for code in np.unique(kinds):
        result[kinds == code] = np.median(variance[kinds == code])
    return result


def usual(variance: Floats, kinds: Indices) -> Floats:
    """Lower median of the type of every telescope: of four of which two are noisy, a quiet one."""
    result = np.empty(len(variance))
    for code in np.unique(kinds):
        own = np.sort(variance[kinds == code])
        result[kinds == code] = own[(len(own) - 1) // 2]
    return result


def inseparable(summary: Summary, kinds: Indices) -> npt.NDArray[np.bool_]:
    """Types whose resolutions the pairs cannot tell from each other.

    Parameters
    ----------
    summary : Summary
        The sums.
    kinds : array of int, shape (n,)
        Code of the type of every telescope.

    Returns
    -------
    array of bool, shape (n_types,)
        Where all pairs of a type, and of those it is linked with, are across types and form no odd
        cycle: what one variance gains the next one may lose.

    Notes
    -----
    A pair knows the sum of two variances. The smallest eigenvalue of the signless Laplacian of a
    graph is zero exactly if it is bipartite.
    """
    links = _type_links(summary, kinds)
    values, vectors = np.linalg.eigh(np.diag(links.sum(axis=1)) + links)
    null = np.abs(vectors[:, values < ROUNDING]) > ROUNDING
    return np.asarray(null.any(axis=1) & links.any(axis=1))


def _type_links(summary: Summary, kinds: Indices) -> Floats:
    """1 for every two types, or one type with itself, that have pairs."""
    of_type = np.eye(int(kinds.max()) + 1)[kinds]
    common = summary.log_ratio.n
    return np.asarray(of_type.T @ (common + common.T) @ of_type > 0, float)


def _shared(summary: Summary, kinds: Indices, assumed: Floats | None) -> Floats:
    """Types by unknowns; inseparable types that are linked share one."""
    n_types = int(kinds.max()) + 1
    untold = inseparable(summary, kinds)
    if not untold.any():
        return np.eye(n_types)
    links = np.where(np.outer(untold, untold), _type_links(summary, kinds), 0.0)
    _, label = sparse.csgraph.connected_components(links, directed=False)
    relative = np.ones(n_types) if assumed is None else assumed
    return np.asarray(np.eye(int(label.max()) + 1)[label] * relative[:, None])


#: Eigenvalues of small graphs below this are zero.
ROUNDING = 1e-9


def _of_types(summary: Summary, now: Floats, kinds: Indices, assumed: Floats | None) -> Floats:
    """Variance of the type of every telescope, from all telescopes of the type together."""
    shared = _shared(summary, kinds, assumed)
    by_type = shared[kinds] / now[:, None]
    pooled = by_type.T @ summary.variance_matrix @ by_type
    empty = np.diag(pooled) <= 0
    pooled[empty] = np.eye(len(pooled))[empty]
    right = np.where(empty, START_SIGMA**2, by_type.T @ summary.variance_vector)
    found = shared @ np.linalg.solve(pooled, right)
    return np.asarray(np.maximum(found, MIN_SIGMA**2)[kinds])


def _excess(deviation: Floats, error2: Floats) -> float:
    """Variance of deviations beyond their errors."""
    if len(deviation) < 2:  # noqa: PLR2004  a single telescope is its type
        return 0.0
    weight = 1.0 / error2
    mean = float(weight @ deviation / weight.sum())
    excess = float(weight @ (deviation - mean) ** 2) - (len(deviation) - 1)
    return max(0.0, excess / float(weight.sum() - (weight**2).sum() / weight.sum()))


def shapes(before: Estimate, summary: Summary) -> Floats:
    """Update the relative variances; their row-weighted mean stays one for every type.

    Returns
    -------
    array, shape (n_types, n_impact_bins, n_value_bins)
        Variance relative to the average of the telescope.
    """
    rows = np.maximum(summary.shape_expected, 0.0)
    ratio = np.divide(summary.shape_observed, rows, out=np.ones_like(rows), where=rows > 0)
    found = before.shape * np.maximum(ratio, MIN_SHARE)
    law = np.stack(
        [smooth_shape(*of_type, VALUE_CENTRES) for of_type in zip(found, rows, strict=True)]
    )
    # What many rows show beyond the law is theirs.
    shape = (rows * found + TRUST_ROWS * law) / (rows + TRUST_ROWS)
    mean = (shape * rows).sum(axis=(1, 2)) / np.maximum(rows.sum(axis=(1, 2)), 1e-300)
    mean = np.where(mean > 0, mean, 1.0)
    return np.asarray(np.maximum(shape / mean[:, None, None], MIN_SHARE))
