"""The energy slope k_T: how much faster than the reference type a type's energies rise.

``y = x_e + s_i + k_T (ln E_e - ln E0)`` for every type but the reference type, with E_e the
inverse-variance mean of the whole shower. A telescope's own energy would sort by its own
fluctuation; the noise of that mean is uncorrelated with the difference of any two telescopes.
Throughputs are then those at the pivot E0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.fit.showers import Showers

    Floats = npt.NDArray[np.float64]

__all__ = ["NO_SLOPE", "EnergySlope"]


@dataclass(frozen=True)
class EnergySlope:
    """Which types have a slope, and where it is zero.

    Parameters
    ----------
    kinds : tuple of int
        Codes of the types; empty for no slope.
    log_pivot : float
        ln E0.
    """

    kinds: tuple[int, ...] = ()
    log_pivot: float = 0.0

    @property
    def n_columns(self) -> int:
        """Number of slopes."""
        return len(self.kinds)

    def distance(
        self, showers: Showers, mean: Floats, weight: Floats, parameters: Floats
    ) -> Floats:
        """``ln E_e - ln E0`` of every group.

        Parameters
        ----------
        showers : Showers
            The rows.
        mean : array, shape (n_groups,)
            Mean of ``y - s`` with `weight`, slopes not taken out.
        weight : array, shape (n_rows,)
            Inverse variance of every row.
        parameters : array, shape (n_columns,)
            The slopes.

        Returns
        -------
        array, shape (n_groups,)
            With share h_T of the weight in type T the mean is
            ``x + sum_T h_T k_T (x - ln E0)``; solved for x.
        """
        rise = np.zeros(len(showers.y))
        for kind, slope in zip(self.kinds, parameters, strict=True):
            rise[showers.kind == kind] = slope
        stretch = 1.0 + showers.total(weight * rise) / showers.total(weight)
        return (mean - self.log_pivot) / stretch

    def columns(self, showers: Showers, distance: Floats) -> Floats:
        """Distance of the shower from the pivot for rows of each type, (n_rows, n_columns)."""
        own = showers.kind[:, None] == np.asarray(self.kinds, np.intp)
        return np.where(own, distance[showers.group][:, None], 0.0)


NO_SLOPE = EnergySlope()
