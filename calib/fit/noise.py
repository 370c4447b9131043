"""Resolution against impact distance and expected value: floor and counting noise.

The noise of ln(value) has a part that stays and a part that falls with the light of the image,

    sigma^2 = a(d) + b(d) / v,    v = value expected of the telescope,

as photo-electron statistics and night-sky noise make it. Binned alone, the resolution would be
unknown just where it matters: telescopes near their threshold, which the selection keeps out,
would be weighed like bright ones, tilt the mean of their shower, and be selected by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["smooth_shape"]

#: Rows of a distance bin at which its own floor and its own counting noise count as much as those
#: of its type. The core adds to the floor at some distances; photo-electrons count the same at all.
TRUST_ROWS = np.array([50.0, 1000.0])
#: The falling part grows no further than this many e-folds below the typical value: nothing
#: that faint is recorded, and the law need not hold there.
REACH = 3.0
ROUNDS = 4
#: The law stays above this part of the mean variance.
LEAST = 1e-3


def smooth_shape(shape: Floats, rows: Floats, values: Floats) -> Floats:
    """Fit floor and counting noise to binned variances.

    Parameters
    ----------
    shape : array, shape (n_impact_bins, n_value_bins)
        Variance in each bin, of one type; not used where there are no rows.
    rows : array, shape (n_impact_bins, n_value_bins)
        Rows it was found from.
    values : array, shape (n_value_bins,)
        ln(value) of the bins.

    Returns
    -------
    array, shape (n_impact_bins, n_value_bins)
        ``a + b / v`` of each distance, pulled towards that of all distances where rows are few;
        neither part is negative. One everywhere without any row.

    Notes
    -----
    Least squares with the weights of a chi-square distributed variance, ``rows / variance^2``. The
    variance is that of the fit, in a few rounds: with that of the bins themselves, low fluctuations
    would count most.
    """
    total = rows.sum()
    if total <= 0:
        return np.ones_like(shape)
    typical = float((rows * values).sum() / total)
    falling = np.exp(np.minimum(typical - values, REACH))
    basis = np.stack([np.ones_like(falling), falling])
    mean = float((rows * shape).sum() / total)
    law = np.full_like(shape, mean)
    for _ in range(ROUNDS):
        law = np.maximum(_fitted(shape, rows / law**2, basis, total), LEAST * mean)
    return law


def _fitted(shape: Floats, weight: Floats, basis: Floats, total: float) -> Floats:
    """One weighted fit of every distance, with a pull towards that of all."""
    matrix = np.einsum("dv,iv,jv->dij", weight, basis, basis)
    vector = np.einsum("dv,iv->di", weight * shape, basis)
    common = _positive(matrix.sum(axis=0), vector.sum(axis=0))
    trust = TRUST_ROWS * np.diag(matrix.sum(axis=0)) / total
    parts = np.array(
        [
            _positive(m + np.diag(trust), t + trust * common)
            for m, t in zip(matrix, vector, strict=True)
        ]
    )
    return np.asarray(parts @ basis)


def _positive(matrix: Floats, vector: Floats) -> Floats:
    """Solve ``matrix x = vector`` for x >= 0 in the least-squares sense."""
    from scipy.optimize import nnls  # costs a fifth of a second

    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, values[-1] * EPSILON))
    return np.asarray(nnls(root[:, None] * vectors.T, vectors.T @ vector / root)[0])


#: Parts the data cannot tell from each other are regularised by this share of what they can tell.
EPSILON = 1e-9
