"""The distance curve f_T(d): how much light telescopes of a type see at an impact distance.

A natural cubic spline through one value per knot. In the cardinal basis, splines that are one at
one knot and zero at the others, the parameters are those values, so the fit is linear and its
covariance is that of the curve at the knots. One knot is held at zero: a constant belongs to the
free shower term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.intp]

__all__ = ["Knots"]


@dataclass(frozen=True)
class Knots:
    """Where the curve of each type is supported.

    Parameters
    ----------
    positions_m : tuple of tuple of float
        Rising knots by type code, as many for each type, m; empty for no curve.
    """

    positions_m: tuple[tuple[float, ...], ...] = ()

    @staticmethod
    def spaced(ranges_m: list[tuple[float, float]], n: int) -> Knots:
        """Return `n` knots at equal steps over the range of each type."""
        return Knots(tuple(tuple(np.linspace(low, high, n).tolist()) for low, high in ranges_m))

    @property
    def n_free(self) -> int:
        """Parameters of the curve of one type."""
        return len(self.positions_m[0]) - 1 if self.positions_m else 0

    @property
    def n_columns(self) -> int:
        """Parameters of all curves."""
        return len(self.positions_m) * self.n_free

    @property
    def zero(self) -> int:
        """Number of the knot that is held at zero: one in the middle, where there is much data."""
        return (self.n_free + 1) // 2

    def columns(self, impact_m: Floats, kind: Indices) -> Floats:
        """Basis splines at the distances of rows.

        Parameters
        ----------
        impact_m : array, shape (n_rows,)
            Impact distance, m.
        kind : array of int, shape (n_rows,)
            Code of the type.

        Returns
        -------
        array, shape (n_rows, n_columns)
            Derivatives of f by the parameters, type after type; those of other types are zero.
        """
        from scipy.interpolate import CubicSpline  # costs a third of a second

        result = np.zeros((len(impact_m), self.n_columns))
        for code, knots in enumerate(self.positions_m):
            rows = np.flatnonzero(kind == code)
            unit = np.delete(np.eye(len(knots)), self.zero, axis=1)
            basis = CubicSpline(knots, unit, bc_type="natural")
            result[rows, code * self.n_free : (code + 1) * self.n_free] = basis(impact_m[rows])
        return result

    def at(self, impact_m: Floats, kind: Indices, parameters: Floats) -> Floats:
        """Values f_T(d) of rows for `parameters` of shape (n_columns,); zero without a curve."""
        from scipy.interpolate import CubicSpline

        result = np.zeros(len(impact_m))
        for code, knots in enumerate(self.positions_m):
            rows = np.flatnonzero(kind == code)
            free = parameters[code * self.n_free : (code + 1) * self.n_free]
            values = np.insert(free, self.zero, 0.0)
            result[rows] = CubicSpline(knots, values, bc_type="natural")(impact_m[rows])
        return result
