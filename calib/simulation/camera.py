"""Images in the camera: where they lie, what falls over its edge, what the analysis measures.

Takes true showers and light, gives positions in the field of view and measured sizes. A camera is
round; an image is an elongated Gaussian about the direction of the shower maximum. Everything
here follows from the shower and its light: nothing is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import log_ndtr

from arraycal.calib.simulation.geometry import direction_vector, sky_axes

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.simulation.arrays import Layout
    from arraycal.calib.simulation.settings import CameraSettings

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = [
    "Edge",
    "Place",
    "brightest_pixel_pe",
    "camera_edge",
    "field_of_view_deg",
    "image_extent_deg",
    "image_place",
    "measured_size",
    "n_pixels",
]

#: Light of the brightest pixel over that of the mean pixel of an image.
PEAK_OVER_MEAN = 1.5


class Place(NamedTuple):
    """Where images lie in the field of view; arrays of shape (n_images,)."""

    fov_lon_deg: Floats
    """Offset of the centroid from the pointing along the azimuth."""
    fov_lat_deg: Floats
    """The same along the altitude."""
    psi_deg: Floats
    """Angle of the major axis to that of the longitude, -90 to 90."""


class Edge(NamedTuple):
    """What the edge of the camera does to images; arrays of shape (n_images,)."""

    ln_kept: Floats
    """ln of the share of the light that falls on pixels."""
    leakage: Floats
    """Share of that light in the two outermost rings of pixels."""
    place: Place
    """Where the light on the pixels has its centroid."""


def field_of_view_deg(
    directions: Floats, pointing_alt_deg: float, pointing_az_deg: float
) -> tuple[Floats, Floats]:
    """Turn directions into offsets from the pointing, as ctapipe's TelescopeFrame has them.

    Parameters
    ----------
    directions : array, shape (n, 3)
        Unit vectors in the GroundFrame.
    pointing_alt_deg, pointing_az_deg : float
        The pointing.

    Returns
    -------
    tuple of array, shape (n,)
        Longitude and latitude, deg.

    Examples
    --------
    >>> seen = direction_vector(np.array([71, 70]), np.array([180, 181]))
    >>> lon, lat = field_of_view_deg(seen, 70.0, 180.0)
    >>> lat.round(3).tolist(), lon[1:].round(3).tolist()  # a degree of azimuth is cos(70 deg)
    ([1.0, 0.003], [0.342])
    """
    up, side = sky_axes(np.array([pointing_alt_deg]), np.array([pointing_az_deg]))
    forward = directions @ direction_vector(pointing_alt_deg, pointing_az_deg)
    lon = np.degrees(np.arctan2(directions @ side[0], forward))
    return lon, np.degrees(np.arcsin(np.clip(directions @ up[0], -1, 1)))


def image_place(
    positions_m: Floats,
    maxima_m: Floats,
    directions: Floats,
    pointing_alt_deg: float,
    pointing_az_deg: float,
) -> Place:
    """Find the centroids and axes of images.

    Parameters
    ----------
    positions_m, maxima_m, directions : array, shape (n_images, 3)
        Telescope, shower maximum and unit vector to the source, in the GroundFrame.
    pointing_alt_deg, pointing_az_deg : float
        The pointing.

    Returns
    -------
    Place
        The centroid is the direction of the shower maximum; the axis goes through the source.
    """
    sight = maxima_m - positions_m
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    lon, lat = field_of_view_deg(sight, pointing_alt_deg, pointing_az_deg)
    source_lon, source_lat = field_of_view_deg(directions, pointing_alt_deg, pointing_az_deg)
    psi = np.degrees(np.arctan2(lat - source_lat, lon - source_lon))
    return Place(lon, lat, (psi + 90) % 180 - 90)


def image_extent_deg(size: Floats) -> tuple[Floats, Floats]:
    """Length and width of images of a size, deg: they grow with its logarithm."""
    bright = np.log10(size)
    return 0.06 + 0.05 * bright, 0.03 + 0.02 * bright


def camera_edge(place: Place, size: Floats, telescope: Integers, layout: Layout) -> Edge:
    """Light that falls over the edge of the camera and near it.

    Parameters
    ----------
    place : Place
        Where the images lie.
    size : array, shape (n_images,)
        Photo-electrons of the whole image.
    telescope : array, shape (n_images,)
        Index of the telescope in the layout.
    layout : Layout
        The array.

    Returns
    -------
    Edge
        Of a Gaussian whose centre is at radius r and whose spread along the radius is s, a
        straight edge at R keeps the share ``Phi(t)``, ``t = (R - r) / s``, whose centroid is
        at ``r - s phi(t) / Phi(t)``.
    """
    length, width = image_extent_deg(size)
    radius = np.hypot(place.fov_lon_deg, place.fov_lat_deg)
    turn = np.radians(place.psi_deg) - np.arctan2(place.fov_lat_deg, place.fov_lon_deg)
    spread = np.hypot(length * np.cos(turn), width * np.sin(turn))
    to_edge = (layout.response("camera_radius_deg")[telescope] - radius) / spread
    rings = 2 * layout.response("pixel_pitch_deg")[telescope] / spread
    ln_kept = log_ndtr(to_edge)
    inward = spread * np.exp(-(to_edge**2) / 2 - ln_kept) / np.sqrt(2 * np.pi)
    scale = 1 - inward / radius
    return Edge(
        ln_kept,
        -np.expm1(log_ndtr(to_edge - rings) - ln_kept),
        Place(place.fov_lon_deg * scale, place.fov_lat_deg * scale, place.psi_deg),
    )


def n_pixels(size: Floats) -> Integers:
    """Count the pixels that survive cleaning: they grow with the size."""
    return np.ceil(size**0.6).astype(np.int64) + 3


def brightest_pixel_pe(size: Floats) -> Floats:
    """Photo-electrons of the brightest pixel."""
    brightest: Floats = PEAK_OVER_MEAN * size / n_pixels(size)
    return brightest


def measured_size(
    size: Floats, telescope: Integers, layout: Layout, camera: CameraSettings
) -> tuple[Floats, Floats]:
    """Photo-electrons that the analysis finds in images, and in their brightest pixel.

    Parameters
    ----------
    size : array, shape (n_images,)
        Photo-electrons on the pixels.
    telescope : array, shape (n_images,)
        Index of the telescope in the layout.
    layout : Layout
        The array.
    camera : CameraSettings
        How the camera errs.

    Returns
    -------
    tuple of array, shape (n_images,)
        Size and brightest pixel.

    Notes
    -----
    ``(q (1 - (1 - m / M)^2) - loss) exp(bias)``: with pixels spread evenly between 0 and the
    brightest M, those above the limit m lose the share ``(1 - m / M)^2`` of the light q.
    """
    brightest = brightest_pixel_pe(size)
    limit = layout.by_type(camera.saturation_pe, np.inf)[telescope]
    clipped = np.minimum(brightest, limit)
    linear = size * (1 - (1 - clipped / brightest) ** 2)
    scale = np.exp(layout.by_type(camera.size_bias, 0.0))[telescope]
    return (linear - camera.cleaning_loss_pe) * scale, clipped * scale
