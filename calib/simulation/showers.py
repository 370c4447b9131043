"""Toy showers: light in every telescope, and which of them trigger.

Takes settings and the throughput of each telescope, gives the `Sample` of showers that triggered
two telescopes or more. Plain arrays, no files.

The light of a shower follows from its *light-equivalent energy* L, the energy of the gamma
ray that would be as bright. For a gamma ray L is the energy E, for a proton ``L = 0.4 E``. With
throughput c_i, lateral profile f, a fluctuation u common to all telescopes and eps_i per image::

    size_i     = c_i A_T (L / TeV)^1.05 f(d_i) exp(u + eps_i)
    var(eps_i) = a_T^2 + b_T / max(expected size, threshold)
    f(d)       = 1 / sqrt(1 + (d / 150 m)^6)

A telescope triggers when size_i exceeds its threshold, so images at the threshold fluctuated
upwards: this selection bias is real, and the calibrations must deal with it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arraycal.calib.simulation.camera import Place, camera_edge, image_place
from arraycal.calib.simulation.geometry import direction_vector, displace, impact_distance_m

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from arraycal.calib.simulation.arrays import Layout
    from arraycal.calib.simulation.settings import SimulationSettings

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = [
    "Sample",
    "TrueImages",
    "TrueShowers",
    "draw_sample",
    "ln_lateral_profile",
]

#: Showers simulated at a time; bounds the memory of (showers x telescopes) arrays to some 50 MB.
BATCH_SHOWERS = 8192

#: Telescopes that make an array event.
STEREO = 2

#: Batches without any array event after which to give up.
MAX_EMPTY_BATCHES = 20

LIGHT_EXPONENT = 1.05
LIGHT_POOL_M = 150.0
#: Cherenkov light of a proton relative to a gamma ray of the same energy.
PROTON_LIGHT = 0.4
#: Upward fluctuation still simulated: 3 standard deviations of a proton's at the threshold.
REACH_MARGIN = 6.0

#: Height of the shower maximum: the elongation rate in an exponential atmosphere.
HEIGHT_AT_1_TEV_M, HEIGHT_PER_E_FOLD_M = 9000.0, -800.0
LOWEST_MAXIMUM_M = 1000.0


@dataclass(frozen=True)
class TrueShowers:
    """True showers; one entry per shower."""

    light_tev: Floats
    """Energy of the gamma ray that would be as bright."""
    energy_tev: Floats
    """Energy."""
    is_proton: Bools
    """Proton instead of gamma ray."""
    alt_deg: Floats
    """Altitude."""
    az_deg: Floats
    """Azimuth, from north through east."""
    core_x_m: Floats
    """Core on the ground, to the north."""
    core_y_m: Floats
    """Core on the ground, to the west."""
    h_max_m: Floats
    """Height of the shower maximum above sea level."""

    def cores_m(self) -> Floats:
        """Cores in the GroundFrame, shape (n, 3)."""
        return np.column_stack([self.core_x_m, self.core_y_m, np.zeros_like(self.core_x_m)])

    def directions(self) -> Floats:
        """Directions to the source as unit vectors in the GroundFrame, shape (n, 3)."""
        return direction_vector(self.alt_deg, self.az_deg)


@dataclass(frozen=True)
class TrueImages:
    """Images that triggered; one entry per image, by shower, then by telescope."""

    shower: Integers
    """Index of the shower."""
    telescope: Integers
    """Index of the telescope in the layout."""
    impact_m: Floats
    """Perpendicular distance of the telescope from the shower axis."""
    size: Floats
    """Photo-electrons."""
    ln_expected: Floats
    """ln(size) without the image's own fluctuation."""
    ln_excess: Floats
    """Share of it that is throughput and fluctuation of the shower, not energy or distance."""
    sigma: Floats
    """Standard deviation of the image's own fluctuation."""
    fov_lon_deg: Floats
    """Offset of the centroid from the pointing along the azimuth."""
    fov_lat_deg: Floats
    """The same along the altitude."""
    psi_deg: Floats
    """Angle of the image axis to that of the longitude."""
    leakage: Floats
    """Share of the light in the two outermost rings of pixels; 0 for a camera without edge."""


@dataclass(frozen=True)
class Sample:
    """Showers that triggered, with their images."""

    settings: SimulationSettings
    """What was simulated."""
    layout: Layout
    """The array."""
    showers: TrueShowers
    """The showers."""
    images: TrueImages
    """Their images."""
    n_simulated: int
    """Showers simulated for them."""

    def response(self, parameter: str) -> Floats:
        """One number of the kind of telescope of each image."""
        return self.layout.response(parameter)[self.images.telescope]


def ln_lateral_profile(impact_m: Floats) -> Floats:
    """Logarithm of the light at a distance relative to that inside the light pool."""
    squared = (impact_m / LIGHT_POOL_M) ** 2
    return -0.5 * np.log1p(squared * squared * squared)


def draw_sample(
    settings: SimulationSettings, throughput: Mapping[int, float], rng: np.random.Generator
) -> Sample:
    """Simulate showers until ``settings.n_showers`` of them triggered.

    Parameters
    ----------
    settings : SimulationSettings
        What to simulate.
    throughput : mapping of int to float
        Throughput by telescope id.
    rng : Generator
        Random numbers.

    Returns
    -------
    Sample
        Exactly ``settings.n_showers`` showers and all their images.

    Raises
    ------
    ValueError
        If the showers are too faint for the array.
    """
    source = _make_source(settings, throughput)
    batches: list[tuple[TrueShowers, TrueImages]] = []
    n_triggered = 0
    while n_triggered < settings.n_showers:
        batches.append(_draw_batch(source, rng))
        n_triggered += len(batches[-1][0].light_tev)
        if n_triggered == 0 and len(batches) == MAX_EMPTY_BATCHES:
            msg = (
                f"none of {MAX_EMPTY_BATCHES * BATCH_SHOWERS} showers triggered {STEREO} "
                "telescopes; raise energy_max_tev or the throughput."
            )
            raise ValueError(msg)
    showers, images = _join(batches, settings.n_showers)
    return Sample(settings, source.layout, showers, images, len(batches) * BATCH_SHOWERS)


@dataclass(frozen=True)
class _Source:
    """Where showers come from: spectrum, and how far from the array they are worth simulating.

    Notes
    -----
    Cores are uniform on a disc whose radius R(L) is where no telescope can trigger any more, and
    showers of light L are drawn in proportion to R(L)^2 times the spectrum. The triggered
    showers are distributed as if all cores fell on the largest disc, without simulating the
    faint showers far away.
    """

    settings: SimulationSettings
    layout: Layout
    ln_c: Floats
    ln_threshold: Floats
    ln_light: Floats
    """Grid of ln(L / TeV)."""
    radius_m: Floats
    """R on that grid."""
    cumulative: Floats
    """Cumulative distribution on that grid."""


def _make_source(settings: SimulationSettings, throughput: Mapping[int, float]) -> _Source:
    """Tabulate the distribution of showers."""
    layout = settings.layout()
    ln_c = np.log([throughput[tel_id] for tel_id in layout.tel_ids.tolist()])
    ln_threshold = np.log(layout.response("threshold"))
    ln_light = np.linspace(np.log(settings.energy_min_tev), np.log(settings.energy_max_tev), 4000)
    ln_yield = np.log(layout.response("light_yield")) + ln_c - ln_threshold
    brightest = ln_yield + LIGHT_EXPONENT * ln_light[:, None] + np.log(REACH_MARGIN)
    # The lateral profile solved for the distance at which the brightest image just triggers.
    reach = LIGHT_POOL_M * np.maximum(np.exp(2 * brightest) - 1, 0.0) ** (1 / 6)
    slant = 1 / np.cos(np.radians(settings.zenith_deg))
    distance = np.hypot(*layout.positions_m[:, :2].T)
    farthest = np.where(brightest > 0, distance + slant * reach, 0.0).max(axis=1)
    radius_m = np.minimum(farthest, layout.radius_m + settings.core_margin_m)
    density = np.exp((1 - settings.spectral_index) * ln_light) * radius_m**2
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    if not cumulative[-1] > 0:
        msg = f"no telescope triggers up to energy_max_tev={settings.energy_max_tev}; raise it."
        raise ValueError(msg)
    return _Source(
        settings, layout, ln_c, ln_threshold, ln_light, radius_m, cumulative / cumulative[-1]
    )


def _draw_batch(source: _Source, rng: np.random.Generator) -> tuple[TrueShowers, TrueImages]:
    """Simulate `BATCH_SHOWERS` showers and keep those that trigger two telescopes."""
    showers = _draw_showers(source, rng)
    images = _draw_images(source, showers, rng)
    kept = np.bincount(images.shower, minlength=BATCH_SHOWERS) >= STEREO
    images = _select(images, kept[images.shower])
    images.shower[:] = (np.cumsum(kept) - 1)[images.shower]
    return _select(showers, kept), images


def _draw_showers(source: _Source, rng: np.random.Generator) -> TrueShowers:
    """Draw energies, directions, cores and heights."""
    settings, n = source.settings, BATCH_SHOWERS
    ln_light = np.interp(rng.random(n), source.cumulative, source.ln_light)
    is_proton = rng.random(n) < settings.proton_fraction
    spread = np.where(is_proton, settings.proton_spread_deg, settings.gamma_spread_deg)
    alt, az = displace(
        np.full(n, 90 - settings.zenith_deg), np.full(n, settings.azimuth_deg), spread, rng
    )
    radius = np.interp(ln_light, source.ln_light, source.radius_m) * np.sqrt(rng.random(n))
    angle = 2 * np.pi * rng.random(n)
    height = HEIGHT_AT_1_TEV_M + HEIGHT_PER_E_FOLD_M * ln_light
    height += settings.h_max_spread_m * np.where(is_proton, 2, 1) * rng.normal(size=n)
    return TrueShowers(
        light_tev=np.exp(ln_light),
        energy_tev=np.exp(ln_light) / np.where(is_proton, PROTON_LIGHT, 1.0),
        is_proton=is_proton,
        alt_deg=alt,
        az_deg=az,
        core_x_m=radius * np.cos(angle),
        core_y_m=radius * np.sin(angle),
        h_max_m=np.maximum(height, source.layout.altitude_m + LOWEST_MAXIMUM_M),
    )


def _draw_images(source: _Source, showers: TrueShowers, rng: np.random.Generator) -> TrueImages:
    """Draw the light in every telescope and keep what triggers."""
    settings, layout, proton = source.settings, source.layout, showers.is_proton
    impact = impact_distance_m(
        layout.positions_m, showers.cores_m()[:, None], showers.directions()[:, None]
    )
    fluctuation = np.where(proton, settings.proton_fluctuation, settings.gamma_fluctuation)
    ln_common = fluctuation * rng.normal(size=len(proton))
    ln_shower = LIGHT_EXPONENT * np.log(showers.light_tev) + ln_common
    ln_expected = ln_shower[:, None] + ln_lateral_profile(impact)
    ln_expected += np.log(layout.response("light_yield")) + source.ln_c
    # Most telescopes are too far away to trigger whatever their fluctuation.
    within_reach = ln_expected > source.ln_threshold - np.log(REACH_MARGIN)
    shower, telescope = np.nonzero(within_reach)
    ln_light = ln_expected[within_reach]
    place = _places(source, showers, shower, telescope)
    leakage = np.zeros(len(shower))
    if settings.camera.truncation:
        ln_kept, leakage, place = camera_edge(place, np.exp(ln_light), telescope, layout)
        ln_light += ln_kept
    images = TrueImages(
        shower=shower,
        telescope=telescope,
        impact_m=impact[within_reach],
        size=np.exp(ln_light),
        ln_expected=ln_light,
        ln_excess=source.ln_c[telescope] + ln_common[shower],
        sigma=_image_fluctuation(source, ln_light, telescope, proton[shower]),
        **place._asdict(),
        leakage=leakage,
    )
    images.size[:] *= np.exp(images.sigma * rng.normal(size=len(shower)))
    return _select(images, images.size > np.exp(source.ln_threshold)[telescope])


def _places(source: _Source, showers: TrueShowers, shower: Integers, telescope: Integers) -> Place:
    """Find where images lie in the field of view."""
    settings, directions = source.settings, showers.directions()
    slant = (showers.h_max_m - source.layout.altitude_m) / directions[:, 2]
    maxima = showers.cores_m() + slant[:, None] * directions
    return image_place(
        source.layout.positions_m[telescope],
        maxima[shower],
        directions[shower],
        90 - settings.zenith_deg,
        settings.azimuth_deg,
    )


def _image_fluctuation(
    source: _Source, ln_expected: Floats, telescope: Integers, is_proton: Bools
) -> Floats:
    """Fluctuation of ln(size) of single images, one standard deviation."""
    variance = source.layout.response("resolution_noise")[telescope]
    variance *= np.exp(-np.maximum(ln_expected, source.ln_threshold[telescope]))
    variance += source.layout.response("resolution_floor")[telescope] ** 2
    return np.sqrt(variance) * np.where(is_proton, source.settings.proton_resolution_factor, 1.0)


_Columns = TypeVar("_Columns", TrueShowers, TrueImages)


def _select(columns: _Columns, rows: Bools | slice) -> _Columns:
    """Rows of a dataclass of arrays."""
    return type(columns)(**{f.name: vars(columns)[f.name][rows] for f in fields(columns)})


def _concatenate(parts: Sequence[_Columns]) -> _Columns:
    """Join dataclasses of arrays end to end."""
    names = [f.name for f in fields(parts[0])]
    return type(parts[0])(**{n: np.concatenate([vars(part)[n] for part in parts]) for n in names})


def _join(
    batches: Sequence[tuple[TrueShowers, TrueImages]], n_showers: int
) -> tuple[TrueShowers, TrueImages]:
    """Join batches and keep the first `n_showers` showers."""
    showers = _concatenate([showers for showers, _ in batches])
    images = _concatenate([images for _, images in batches])
    first = np.cumsum([0] + [len(showers.light_tev) for showers, _ in batches[:-1]])
    images.shower[:] += np.repeat(first, [len(images.shower) for _, images in batches])
    return _select(showers, slice(n_showers)), _select(images, images.shower < n_showers)
