"""How far robust weights would move the telescopes of few showers: one step, in the sweep.

Outlying values hide in a resolution that has taken them in. Of 640 values 5 % show nevertheless;
of 300 not even 15 %. What tells there is that weights which let go of them move the throughput.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.fit.weighing import weigh, weigh_kept

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.model import Model
    from arraycal.calib.fit.showers import Showers
    from arraycal.calib.fit.weighing import WeighedRows

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

__all__ = ["Pull", "pull_of_window"]


@dataclass(frozen=True)
class Pull:
    """Sums of the step, arrays of shape (n,): gradient of ln c and its derivative."""

    gradient: Floats
    weight: Floats

    def __add__(self, other: Pull) -> Pull:
        """Merge sums of disjoint showers."""
        return Pull(self.gradient + other.gradient, self.weight + other.weight)

    @property
    def step(self) -> Floats:
        """Step of ln c of each telescope, the others held; 0 without showers."""
        empty = np.zeros_like(self.gradient)
        return np.divide(self.gradient, self.weight, out=empty, where=self.weight > 0)


def pull_of_window(
    showers: Showers, model: Model, _: WeighedRows, few: Flags, variance: Floats
) -> Pull:
    """Sums of the showers of some telescopes.

    Parameters
    ----------
    showers : Showers
        The rows.
    model : Model
        With plain weights.
    few : array of bool, shape (n,)
        The telescopes.
    variance : array, shape (n,)
        That the robust weights go by, of every telescope.
    """
    n = len(few)
    theirs = np.logical_or.reduceat(few[showers.node], showers.shower_start[:-1])
    if not theirs.any():
        return Pull(np.zeros(n), np.zeros(n))
    part = showers.some(theirs)
    rows = weigh(part, model)
    scale = (variance / model.selector.variance)[part.node]
    values = rows.values._replace(sigma2=rows.values.sigma2 * scale)
    rows = weigh_kept(part, replace(model, robust="tukey"), values, rows.used)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.nan_to_num(rows.weight * (1.0 - rows.weight / rows.total[part.group]))
    return Pull(
        np.where(few, np.bincount(part.node, rows.weight * rows.residual, n), 0.0),
        np.where(few, np.bincount(part.node, left, n), 0.0),
    )
