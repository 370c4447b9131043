"""The cross-calibration of ctao-calibpipe in its three steps, for comparison.

1. Coefficients c of each type relative to its own reference telescope (an inter-calibration).
2. For every target type, every shower with at least N selected telescopes of it and of the
   reference type R, and every allowed pair: ``r = (E_i / c_i) / (E_j / c_j)``, i of the target type
   and j of R. The scaling factor is ``10 ** mean(log10 r)``, its error ``f sigma / sqrt(pairs)``.
3. The factor is multiplied by the participation factor ``W = sum_j n_j c_j / sum_j n_j`` over the
   reference telescopes, n_j the selected showers of each, and the coefficients of the target type
   by the product.

The means over pairs of ln r follow from the means of ln(E_i / E_j) by telescope pair, so the sums
of `arraycal.calib.fit.sums.summary` are all that is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.sums.summary import Moments

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Inter", "TypeFactor", "participation_factor", "three_step"]


@dataclass(frozen=True)
class Inter:
    """An inter-calibration as input.

    Parameters
    ----------
    value, error : array, shape (n,)
        Coefficients of the telescopes; NaN where it has none.
    covariance : array, shape (n, n)
        Their covariance; NaN likewise.
    """

    value: Floats
    error: Floats
    covariance: Floats


@dataclass(frozen=True)
class TypeFactor:
    """Scaling factor of a type.

    Parameters
    ----------
    tel_type : str
        The target type.
    value, error : float
        The factor as applied, and its error.
    ratio, ratio_error : float
        Without the participation factor.
    participation, participation_error : float
        W; 1 and 0 where it is not in use.
    n_ratios : int
        Pairs of telescopes and showers.
    uncorrected : tuple of int
        Nodes without a coefficient, whose energies were taken as they are.
    """

    tel_type: str
    value: float
    error: float
    ratio: float
    ratio_error: float
    participation: float
    participation_error: float
    n_ratios: int
    uncorrected: tuple[int, ...]


def three_step(
    log_ratio: Moments,
    inter: Inter,
    types: Sequence[str],
    reference: str,
    participation: Mapping[str, Floats] | None,
    allowed: Indices,
) -> list[TypeFactor]:
    """Scaling factors of all types but the reference type.

    Parameters
    ----------
    log_ratio : Moments
        Statistics of ln(E_i / E_j) by telescope pair.
    inter : Inter
        Coefficients by telescope.
    types : sequence of str, shape (n,)
        Type of each telescope.
    reference : str
        The reference type.
    participation : mapping of str to array, shape (n,), optional
        Selected showers by target type and telescope; None leaves the factor W out.
    allowed : array of int, shape (n_pairs, 2)
        Pairs that may be compared, see `arraycal.calib.subarray.allowed_pairs`.

    Returns
    -------
    list of TypeFactor
        In alphabetic order; none for a type without any pair.
    """
    kinds = np.asarray(types)
    found = []
    for tel_type in sorted(set(types) - {reference}):
        mean, variance, n, uncorrected = _ratios(log_ratio, inter, kinds, tel_type, reference)
        if n == 0:
            continue
        ratio = math.exp(mean)
        ratio_error = ratio * math.sqrt(variance / n)
        w, w_error = 1.0, 0.0
        if participation is not None:
            sides = allowed[(kinds[allowed] == tel_type).any(axis=1)].ravel()
            members = np.unique(sides[kinds[sides] == reference])
            w, w_error = participation_factor(participation[tel_type], inter, members)
        error = math.hypot(ratio_error * w, ratio * w_error)
        found.append(
            TypeFactor(tel_type, ratio * w, error, ratio, ratio_error, w, w_error, n, uncorrected)
        )
    return found


def _ratios(
    log_ratio: Moments, inter: Inter, kinds: npt.NDArray[np.str_], target: str, reference: str
) -> tuple[float, float, int, tuple[int, ...]]:
    """Mean and variance of ln r, number of ratios, nodes without a coefficient."""
    log_c = np.where(np.isfinite(inter.value), np.log(inter.value), 0.0)
    first, second = np.nonzero(log_ratio.n)
    forward = (kinds[first] == target) & (kinds[second] == reference)
    backward = (kinds[first] == reference) & (kinds[second] == target)
    first, second = first[forward | backward], second[forward | backward]
    if not len(first):
        return math.nan, math.nan, 0, ()
    sign = np.where(kinds[first] == target, 1.0, -1.0)
    n = log_ratio.n[first, second]
    mean = sign * (log_ratio.mean[first, second] - log_c[first] + log_c[second])
    overall = float(np.sum(n * mean) / n.sum())
    squares = log_ratio.m2[first, second] + n * (mean - overall) ** 2
    nodes = np.unique(np.concatenate([first, second]))
    uncorrected = tuple(int(node) for node in nodes[~np.isfinite(inter.value[nodes])])
    return overall, float(squares.sum() / n.sum()), int(n.sum()), uncorrected


def participation_factor(n_showers: Floats, inter: Inter, members: Indices) -> tuple[float, float]:
    """Mean coefficient of the reference telescopes, weighted with their showers, and its error."""
    known = members[np.isfinite(inter.value[members])]
    n = n_showers[known]
    if not n.sum():
        return 1.0, 0.0
    factor = float(np.sum(n * inter.value[known]) / n.sum())
    return factor, float(np.sqrt(np.sum((n * inter.error[known]) ** 2)) / n.sum())
