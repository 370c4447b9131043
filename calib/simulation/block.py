"""A simulated observation block in memory: what is true of its showers and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from arraycal.calib.simulation.arrays import Layout
    from arraycal.calib.simulation.settings import SimulationSettings

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["Images", "SimulatedBlock", "SimulatedShowers"]


@dataclass(frozen=True)
class SimulatedShowers:
    """Showers of a block; one entry per shower. What starts with ``rec_`` is reconstructed."""

    time: Integers
    """Earliest time stamp of its telescopes: quarter nanoseconds TAI since 1970."""
    energy_tev: Floats
    """True energy."""
    is_proton: Bools
    """Proton instead of gamma ray."""
    alt_deg: Floats
    """True altitude."""
    az_deg: Floats
    """True azimuth, from north through east."""
    core_x_m: Floats
    """True core on the ground, to the north."""
    core_y_m: Floats
    """True core on the ground, to the west."""
    h_max_m: Floats
    """True height of the shower maximum above sea level."""
    h_first_m: Floats
    """Height of the first interaction above sea level."""
    rec_alt_deg: Floats
    """Altitude; like all geometry NaN when the reconstruction failed."""
    rec_az_deg: Floats
    """Azimuth."""
    rec_direction_error_deg: Floats
    """Expected error of the direction per coordinate."""
    rec_core_x_m: Floats
    """Core on the ground, to the north."""
    rec_core_y_m: Floats
    """Core on the ground, to the west."""
    rec_h_max_m: Floats
    """Height of the shower maximum above sea level."""
    rec_is_valid: Bools
    """Whether the geometry was reconstructed."""
    rec_mean_size: Floats
    """Mean size of the images used, photo-electrons."""
    rec_energy_tev: Floats
    """Energy from all valid images."""
    rec_energy_uncert_tev: Floats
    """Its spread over the images."""
    rec_gammaness: Floats
    """Gammaness from all valid images."""


@dataclass(frozen=True)
class Images:
    """Images of a block; one entry per triggered telescope, by shower, then by telescope."""

    shower: Integers
    """Index of the shower."""
    telescope: Integers
    """Index of the telescope in the layout."""
    time: Integers
    """Time stamp: quarter nanoseconds TAI since 1970."""
    size: Floats
    """Photo-electrons on the pixels."""
    measured_size: Floats
    """Photo-electrons the analysis finds."""
    brightest_pe: Floats
    """Photo-electrons it finds in the brightest pixel."""
    fov_lon_deg: Floats
    """Offset of the centroid from the pointing along the azimuth."""
    fov_lat_deg: Floats
    """The same along the altitude."""
    psi_deg: Floats
    """Angle of the image axis to that of the longitude."""
    leakage: Floats
    """Share of the light in the two outermost rings of pixels."""
    impact_m: Floats
    """True perpendicular distance of the telescope from the shower axis."""
    rec_impact_m: Floats
    """The same from the reconstructed axis; NaN without one."""
    is_clean: Bools
    """Whether an image survived cleaning; otherwise it has no parameters."""
    is_valid: Bools
    """Whether energy and gammaness could be reconstructed."""
    energy_tev: Floats
    """Reconstructed energy, NaN if not valid."""
    gammaness: Floats
    """Reconstructed gammaness, NaN if not valid."""


@dataclass(frozen=True)
class SimulatedBlock:
    """One observation block in memory."""

    obs_id: int
    """Id of the block."""
    settings: SimulationSettings
    """What was simulated."""
    layout: Layout
    """The array."""
    pointing_alt_deg: float
    """Altitude of the common pointing."""
    pointing_az_deg: float
    """Azimuth of the common pointing."""
    start_s: int
    """Start, whole seconds TAI since 1970."""
    duration_s: float
    """Duration."""
    run: Mapping[str, Any]
    """Values of the simulation table."""
    showers: SimulatedShowers
    """The showers."""
    images: Images
    """Their images."""
