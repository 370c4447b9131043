"""When a shower's light reaches a telescope: directions, the spherical front, the air.

The Cherenkov front is well described by a sphere that contracts onto a point on the shower axis
(Chitnis and Bhat 1999, 2001): with the core k, the unit vector n towards the source and the
radius R, light reaches the position r at

    t(r) = (|r - k - R n| - R) / c',     c' = c / n_air

up to a constant of the shower. R is the distance to the shower maximum times a factor rho that is
fitted: triggers fire on early light, so that rho lies above 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = [
    "C_M_PER_NS",
    "Front",
    "arrival_ns",
    "core_slopes",
    "direction",
    "front",
    "refractive_index",
    "separation_deg",
]

#: Speed of light in vacuum, m/ns.
C_M_PER_NS = 0.299792458
#: Refractivity of air at sea level between 350 and 400 nm, and the scale height of its decrease.
REFRACTIVITY_AT_SEA_LEVEL, REFRACTIVITY_SCALE_M = 2.9e-4, 8500.0


def refractive_index(altitude_m: float) -> float:
    """Refractive index of air at a height above sea level.

    Examples
    --------
    >>> round(1e4 * (refractive_index(2200.0) - 1), 2)
    2.24
    """
    return 1.0 + REFRACTIVITY_AT_SEA_LEVEL * float(np.exp(-altitude_m / REFRACTIVITY_SCALE_M))


def direction(alt_deg: Floats, az_deg: Floats) -> Floats:
    """Unit vectors towards the source in the GroundFrame (x north, y west, z up), shape (..., 3).

    Azimuth counts from north through east, so that y has the opposite sign of the sine.

    Examples
    --------
    >>> direction(np.array(0.0), np.array(90.0)).round(6).tolist()
    [0.0, -1.0, 0.0]
    """
    alt, az = np.radians(alt_deg), np.radians(az_deg)
    x, y = np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az)
    return np.stack(np.broadcast_arrays(x, y, np.sin(alt)), axis=-1)


def separation_deg(one: Floats, two: Floats) -> Floats:
    """Angle between unit vectors, in degrees; exact also for small angles."""
    chord = np.linalg.norm(one - two, axis=-1)
    return np.asarray(np.degrees(2.0 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0))))


class Front(NamedTuple):
    """What the arrival time depends on, one value per telescope and shower.

    Parameters
    ----------
    along_m : array, shape (n_rows,)
        Position along the axis from the core, towards the source, ``(r - k) . n``.
    square_m2 : array, shape (n_rows,)
        ``|r - k|^2``.
    """

    along_m: Floats
    square_m2: Floats

    @property
    def distance_m(self) -> Floats:
        """Distance from the shower axis, shape (n_rows,)."""
        return np.sqrt(np.maximum(self.square_m2 - self.along_m**2, 0.0))


def front(position_m: Floats, core_m: Floats, towards: Floats) -> Front:
    """Place telescopes relative to shower axes.

    Parameters
    ----------
    position_m, core_m, towards : array, shape (n_rows, 3)
        Telescope, core on the ground, unit vector towards the source.

    Returns
    -------
    Front
        The two numbers the arrival time is made of.
    """
    relative = position_m - core_m
    along = np.einsum("ij,ij->i", relative, towards)
    return Front(along, np.einsum("ij,ij->i", relative, relative))


def arrival_ns(place: Front, radius_m: Floats, speed_m_per_ns: float) -> tuple[Floats, Floats]:
    """Arrival time of the front, and its derivative with respect to ln(radius).

    Parameters
    ----------
    place : Front
        Where the telescopes are.
    radius_m : array, shape (n_rows,)
        Radius R of the front at the core; infinite for a plane.
    speed_m_per_ns : float
        c'.

    Returns
    -------
    time_ns, slope_ns : array, shape (n_rows,)
        ``(|r - k - R n| - R) / c'`` and ``R dt/dR``.

    Notes
    -----
    The difference of two lengths of kilometres is written as a quotient, which keeps its digits.
    """
    excess = place.square_m2 - 2.0 * radius_m * place.along_m
    length = np.sqrt(radius_m**2 + excess)
    time = excess / (length + radius_m)
    slope = radius_m * ((radius_m - place.along_m) / length - 1.0)
    return time / speed_m_per_ns, slope / speed_m_per_ns


def core_slopes(
    place: Front, relative_m: Floats, towards: Floats, radius_m: Floats, speed_m_per_ns: float
) -> tuple[Floats, Floats]:
    """Derivatives of `arrival_ns` with respect to the core on the ground.

    Parameters
    ----------
    place : Front
        Where the telescopes are.
    relative_m : array, shape (2, n_rows)
        Telescope minus core along x and y.
    towards : array, shape (2, n_rows)
        Unit vector towards the source along x and y.
    radius_m : array, shape (n_rows,)
        Radius R of the front at the core.
    speed_m_per_ns : float
        c'.

    Returns
    -------
    time, slope : array, shape (2, n_rows)
        Of the arrival time, and of its derivative with respect to ln(radius), ns/m.

    Notes
    -----
    With P = k + R n the point the front contracts onto, and L = |r - P|, ``dL/dk = -(r - P) / L``.
    """
    length = np.sqrt(radius_m**2 + place.square_m2 - 2.0 * radius_m * place.along_m)
    pull = (relative_m - radius_m * towards) / length
    lever = (radius_m - place.along_m) / length
    slope = radius_m / length * (towards + lever * pull)
    return -pull / speed_m_per_ns, slope / speed_m_per_ns
