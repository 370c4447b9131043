"""Whether parts of the data (nights, blocks, stretches of time) tell one set of throughputs.

Parts share no shower, so they are independent. Each is solved by itself, with its own
event-clustered covariance: that of the model would call any unexpected noise a disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import chdtrc

from arraycal.calib.fit.loop import in_both, solve_summary
from arraycal.calib.fit.normal import members
from arraycal.calib.fit.sums.summary import merge_summaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from arraycal.calib.fit.loop import FitOptions
    from arraycal.calib.fit.network import Solution
    from arraycal.calib.fit.sums.summary import Summary

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = [
    "Against",
    "Constancy",
    "Difference",
    "against_others",
    "common_change",
    "constancy_of",
    "difference",
]

#: Eigenvalues of a covariance below this part of the largest are rounding.
NO_VARIANCE = 1e-10
#: A telescope that is off by more errors has changed by itself.
CHANGED_ALONE = 4.0


class Against(NamedTuple):
    """Solutions of a part and of all other parts together; None where there is no other."""

    own: Solution
    others: Solution | None


def against_others(
    parts: Sequence[Summary],
    options: FitOptions,
    columns: Floats | None = None,
    runs: Sequence[tuple[int, int]] | None = None,
) -> list[Against]:
    """Solve each part, and all others together.

    Parameters
    ----------
    parts : sequence of Summary
        Sums of disjoint showers.
    options : FitOptions
        A part needs the least numbers of showers by itself to be compared.
    columns : array, shape (m,), optional
        Values at which the global columns are held; by default each part has its own.
    runs : sequence of (int, int), optional
        First part, and the one after the last, to take as one; by default each by itself.

    Returns
    -------
    list of Against
        One per part, or run of parts.
    """
    before = list(accumulate(parts[:-1], lambda one, two: merge_summaries([one, two])))
    after = list(accumulate(parts[:0:-1], lambda one, two: merge_summaries([one, two])))[::-1]
    found = []
    for start, stop in runs or [(number, number + 1) for number in range(len(parts))]:
        rest = [*before[max(start - 1, 0) : start], *after[stop - 1 : stop]]
        others = solve_summary(merge_summaries(rest), options, columns) if rest else None
        own = merge_summaries(parts[start:stop])
        found.append(Against(solve_summary(own, options, columns), others))
    return found


@dataclass(frozen=True)
class Difference:
    """A part against all others.

    Parameters
    ----------
    log_ratio : array, shape (n,)
        ln c of the part minus that of the others, zero on average over the telescopes that both
        have; NaN for the rest.
    error : array, shape (n,)
        Its statistical error.
    chi2, ndf : float
        Of all telescopes together, with the full covariance.
    n_compared : array, shape (n,)
        Over how many telescopes the average is zero.
    alone, alone_error : array, shape (n,)
        The change of one telescope that explains most, if all others stayed what they were, with
        its error: the contrast with the others, weighted by what is known of them. Of a single
        telescope that changed it is that change, and no other is more significant.
    precision : array, shape (n, n)
        Pseudo-inverse of the covariance of `log_ratio`.
    """

    log_ratio: Floats
    error: Floats
    chi2: float
    ndf: float
    n_compared: Floats
    alone: Floats
    alone_error: Floats
    precision: Floats


def difference(pair: Against, nodes: Indices | None = None) -> Difference:
    """Compare a part with the others.

    Parameters
    ----------
    pair : Against
        Both solutions.
    nodes : array of int, optional
        Telescopes to compare; all by default.
    """
    one, two = pair
    n = len(one.component)
    log_ratio, error, chi2, ndf = np.full(n, np.nan), np.full(n, np.nan), 0.0, 0.0
    n_compared, alone, alone_error = np.zeros(n), np.full(n, np.nan), np.full(n, np.nan)
    full = np.zeros((n, n))
    for shared in () if two is None else members(in_both(one.component, two.component)):
        assert two is not None  # noqa: S101  or there were nothing shared
        both = np.isfinite(one.log_throughput[shared]) & np.isfinite(two.log_throughput[shared])
        own = shared[both & _among(shared, nodes)]
        if len(own) < 2:  # noqa: PLR2004  a single telescope compares with nothing
            continue
        step = one.log_throughput[own] - two.log_throughput[own]
        centre = np.eye(len(own)) - 1.0 / len(own)
        part = np.ix_(own, own)
        covariance = centre @ (one.covariance[part] + two.covariance[part]) @ centre
        log_ratio[own] = step - step.mean()
        error[own] = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        n_compared[own] = len(own)
        precision, rank = _precision(covariance)
        chi2 += float(log_ratio[own] @ precision @ log_ratio[own])
        ndf += rank
        alone[own], alone_error[own] = _explained(log_ratio[own], precision, np.eye(len(own)))
        full[part] = precision
    return Difference(log_ratio, error, chi2, ndf, n_compared, alone, alone_error, full)


def common_change(found: Difference, groups: Sequence[Indices]) -> tuple[Floats, Floats]:
    """Change common to a group of telescopes that explains most, if all others stayed the same.

    Parameters
    ----------
    found : Difference
        Of all telescopes.
    groups : sequence of array of int
        Telescopes of each group.

    Returns
    -------
    (array, array), shape (n_groups,)
        Changes of ln c and their errors; NaN where nothing compares. A single telescope that
        explains more than any group is no change of its group: it is left out.
    """
    step, precision = np.nan_to_num(found.log_ratio), found.precision
    n = len(step)
    common = np.array([np.isin(np.arange(n), group) for group in groups], float)
    for _ in range(n):
        change, error = _explained(step, precision, common)
        alone, alone_error = _explained(step, precision, np.eye(n))
        most = np.nan_to_num(np.abs(change) / error).max(initial=0.0)
        z = np.nan_to_num(np.abs(alone) / alone_error)
        worst = int(z.argmax())
        # A group of one telescope explains as much as that one.
        if z[worst] <= max(CHANGED_ALONE, most * (1 + NO_VARIANCE)):
            break
        own = precision[worst]
        precision = precision - np.outer(own, own) / own[worst]
    return change, error


def _explained(step: Floats, precision: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Best amplitude of each direction by itself, and its error; NaN if nothing is known of it."""
    information = np.einsum("ij,jk,ik->i", directions, precision, directions)
    scale = NO_VARIANCE * np.trace(precision)
    information = np.where(information > scale, information, np.nan)
    return directions @ precision @ step / information, 1.0 / np.sqrt(information)


def _among(some: Indices, nodes: Indices | None) -> npt.NDArray[np.bool_]:
    return np.ones(len(some), np.bool_) if nodes is None else np.isin(some, nodes)


def _precision(covariance: Floats) -> tuple[Floats, int]:
    """Pseudo-inverse of a covariance, and its rank."""
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.T))
    sound = value > NO_VARIANCE * max(float(value.max(initial=0.0)), np.finfo(float).tiny)
    inverse = np.divide(1.0, value, out=np.zeros_like(value), where=sound)
    return np.asarray((vector * inverse) @ vector.T), int(sound.sum())


@dataclass(frozen=True)
class Constancy:
    """Whether one set of throughputs describes all parts: chi-square, ndf and its probability."""

    chi2: float
    ndf: float
    probability: float


def constancy_of(solutions: Sequence[Solution], nodes: Indices | None = None) -> Constancy:
    """Test whether parts agree, each with its own event-clustered covariance.

    The solutions s_k with covariances C_k are compared with their best mean, the minimum of
    ``sum_k (s_k - s)^T C_k^+ (s_k - s)``: chi-square with ``sum_k rank C_k - rank sum_k C_k^+``
    degrees of freedom, whatever the weights of the parts were.

    Parameters
    ----------
    solutions : sequence of Solution
        Of the parts, at least one.
    nodes : array of int, optional
        Telescopes to compare; all by default.

    Returns
    -------
    Constancy
        NaN as probability where there is nothing to compare.
    """
    found = [part for solution in solutions for part in _parts(solution, nodes)]
    n = len(solutions[0].component)
    total, vector, rank = np.zeros((n, n)), np.zeros(n), 0
    for s, precision, own in found:
        total, vector, rank = total + precision, vector + precision @ s, rank + own
    inverse, used = _precision(total)
    mean = inverse @ vector
    chi2 = sum(float((s - mean) @ precision @ (s - mean)) for s, precision, _ in found)
    ndf = rank - used
    return Constancy(chi2, ndf, float(chdtrc(ndf, chi2)) if ndf > 0 else float("nan"))


def _parts(solution: Solution, among: Indices | None) -> Iterator[tuple[Floats, Floats, int]]:
    """Values, inverse covariance and rank of each component, in an array of all telescopes."""
    n = len(solution.component)
    for nodes in members(solution.component):
        known = nodes[np.isfinite(solution.log_throughput[nodes]) & _among(nodes, among)]
        part = np.ix_(known, known)
        centre = np.eye(len(known)) - 1.0 / max(len(known), 1)
        precision, rank = _precision(centre @ solution.covariance[part] @ centre)
        s, full = np.zeros(n), np.zeros((n, n))
        s[known], full[part] = solution.log_throughput[known], precision
        yield s, full, rank
