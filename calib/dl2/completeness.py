"""Whether rows are missing from a table for a part of the block: a job that was killed.

Rows are counted against the triggers, part by part. Quality cuts and failed reconstructions cost
rows here and there; a shortfall is told only where, for a part of the block, less than a quarter is
left of what the rest has, by far more than chance allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]

__all__ = ["N_PARTS", "Shortfall", "find_shortfall"]

#: Parts of a block that are looked at, and all runs of them.
N_PARTS = 64
#: Rows per trigger in the run over those elsewhere, below which it is a shortfall.
LEFT_SHARE = 0.25
#: Twice the difference of the log likelihoods: chance gives it once in 1e11 runs, and a night has
#: 2,000 runs in each of some hundred tables.
SIGNIFICANT = 50.0
#: Missing rows in the run over all triggers: fewer matter to no coefficient.
LEAST_SHARE = 0.01


class Shortfall(NamedTuple):
    """A run of parts in which rows are missing: half-open, with its numbers."""

    first: int
    stop: int
    rows: int
    triggers: int
    share_elsewhere: float


def find_shortfall(found: Counts, expected: Counts) -> Shortfall | None:
    """Find the run of parts whose rows are missing.

    Parameters
    ----------
    found, expected : array of int, shape (n_parts,)
        Rows and triggers.

    Returns
    -------
    Shortfall or None
        The most significant one.
    """
    found = np.minimum(found, expected)
    first, last = np.triu_indices(len(found))
    rows, triggers = (np.append(0, np.cumsum(counts)) for counts in (found, expected))
    inside, n_inside = (total[last + 1] - total[first] for total in (rows, triggers))
    outside, n_outside = rows[-1] - inside, triggers[-1] - n_inside
    share = outside / np.maximum(n_outside, 1)
    significance = 2.0 * (
        _log_likelihood(inside, n_inside)
        + _log_likelihood(outside, n_outside)
        - _log_likelihood(rows[-1:], triggers[-1:])
    )
    short = (inside < LEFT_SHARE * share * n_inside) & (significance > SIGNIFICANT)
    short &= share * n_inside - inside > LEAST_SHARE * triggers[-1]
    if not short.any():
        return None
    worst = int(np.argmax(np.where(short, significance, -np.inf)))
    return Shortfall(
        int(first[worst]),
        int(last[worst]) + 1,
        int(inside[worst]),
        int(n_inside[worst]),
        float(share[worst]),
    )


def _log_likelihood(found: Counts, expected: Counts) -> npt.NDArray[np.float64]:
    """Binomial log likelihood at its maximum, without the constant."""
    missing = expected - found
    total = np.maximum(expected, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(n > 0, n * np.log(n / total), 0.0) for n in (found, missing)]
    return np.asarray(terms[0] + terms[1])
