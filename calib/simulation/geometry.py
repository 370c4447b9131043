"""Shower axes: directions, distances from telescopes, arrival of the light front.

Positions are in the GroundFrame: x to the north, y to the west, z up, in metres.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = [
    "altitude_azimuth",
    "arrival_delay_ns",
    "direction_vector",
    "displace",
    "impact_distance_m",
    "shift_direction",
    "sky_axes",
]

SPEED_OF_LIGHT_M_PER_NS = 0.299792458


def direction_vector(alt_deg: Floats | float, az_deg: Floats | float) -> Floats:
    """Turn directions into unit vectors to the source.

    Parameters
    ----------
    alt_deg, az_deg : array, shape (n,)
        Altitude, and azimuth from north through east.

    Returns
    -------
    array, shape (n, 3)
        In the GroundFrame: x to the north, y to the west, z up.

    Examples
    --------
    >>> (direction_vector(0.0, 90.0) + 0.0).round(12).tolist()  # the east is minus y
    [0.0, -1.0, 0.0]
    """
    alt, az = np.radians(alt_deg), np.radians(az_deg)
    return np.stack([np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az), np.sin(alt)], axis=-1)


def sky_axes(alt_deg: Floats, az_deg: Floats) -> tuple[Floats, Floats]:
    """Unit vectors towards higher altitude and azimuth at directions, shape (n, 3) each."""
    alt, az = np.radians(alt_deg), np.radians(az_deg)
    up = np.stack([-np.sin(alt) * np.cos(az), np.sin(alt) * np.sin(az), np.cos(alt)], axis=-1)
    return up, np.stack([-np.sin(az), -np.cos(az), np.zeros_like(az)], axis=-1)


def altitude_azimuth(directions: Floats) -> tuple[Floats, Floats]:
    """Altitude and azimuth (0 to 360), deg, of unit vectors in the GroundFrame."""
    azimuth = np.degrees(np.arctan2(-directions[..., 1], directions[..., 0]))
    return np.degrees(np.arcsin(np.clip(directions[..., 2], -1, 1))), azimuth % 360


def displace(
    alt_deg: Floats, az_deg: Floats, spread_deg: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scatter directions on the sky by a Gaussian.

    Parameters
    ----------
    alt_deg, az_deg, spread_deg : array, shape (n,)
        Directions, and the standard deviation per coordinate.
    rng : Generator
        Random numbers.

    Returns
    -------
    tuple of array
        Altitude and azimuth, deg.
    """
    shift = np.radians(spread_deg)[:, None] * rng.normal(size=(len(spread_deg), 2))
    return _shift(alt_deg, az_deg, shift)


def shift_direction(
    alt_deg: Floats, az_deg: Floats, shift_deg: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Shift directions towards higher altitude and azimuth.

    Parameters
    ----------
    alt_deg, az_deg : array, shape (n,)
        Directions.
    shift_deg : array, shape (n, 2) or (2,)
        Small angles on the sky along altitude and azimuth.

    Returns
    -------
    tuple of array
        Altitude and azimuth, deg.
    """
    return _shift(alt_deg, az_deg, np.broadcast_to(np.radians(shift_deg), (len(alt_deg), 2)))


def _shift(alt_deg: Floats, az_deg: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Shift directions by angles in radians, shape (n, 2)."""
    up, side = sky_axes(alt_deg, az_deg)
    moved = direction_vector(alt_deg, az_deg) + shift[:, :1] * up + shift[:, 1:] * side
    return altitude_azimuth(moved / np.linalg.norm(moved, axis=1, keepdims=True))


def impact_distance_m(positions_m: Floats, cores_m: Floats, directions: Floats) -> Floats:
    """Compute the perpendicular distance of telescopes from shower axes.

    Parameters
    ----------
    positions_m, cores_m, directions : array, shape (..., 3)
        Telescope, any point of the axis, unit vector of the axis; broadcast together.

    Returns
    -------
    array
        Distances, m.

    Notes
    -----
    ``d^2 = |r - k|^2 - ((r - k) . n)^2``, in single components because a cross product of
    large arrays costs several times as much.
    """
    dx, dy, dz = (positions_m[..., i] - cores_m[..., i] for i in range(3))
    along = dx * directions[..., 0] + dy * directions[..., 1] + dz * directions[..., 2]
    squared: Floats = dx * dx + dy * dy + dz * dz - along * along
    return np.sqrt(np.maximum(squared, 0.0))


def arrival_delay_ns(
    positions_m: Floats, cores_m: Floats, directions: Floats, radius_m: Floats
) -> Floats:
    """Compute when the light front reaches telescopes.

    Parameters
    ----------
    positions_m, cores_m, directions : array, shape (n, 3)
        Telescope, core and unit vector to the source.
    radius_m : array, shape (n,)
        Distance from the core of the point the front spreads from.

    Returns
    -------
    array, shape (n,)
        Time after the arrival at the core, ns.

    Notes
    -----
    ``(|r - k - R n| - R) / c``: a sphere about a point of the axis. Telescopes towards the source
    see it first. The light travels at c, without the refraction of the air.
    """
    emission = cores_m + radius_m[:, None] * directions
    distance: Floats = np.linalg.norm(positions_m - emission, axis=1)
    return (distance - radius_m) / SPEED_OF_LIGHT_M_PER_NS
