"""Toy showers: light, triggers, reconstruction and arrival times of one observation block.

Takes `SimulationSettings` and the throughput of each telescope, gives a `Block` of plain arrays.
No files.

The light of a shower follows from its *light-equivalent energy* L, the energy of the gamma
ray that would be as bright. For a gamma ray L is the energy E, for a proton ``L = 0.4 E``. With
throughput c_i, lateral profile f, a fluctuation u common to all telescopes and eps_i per image::

    size_i  = c_i A_T (L / TeV)^1.05 f(d_i) exp(u + eps_i)
    var(eps_i) = a_T^2 + b_T / max(expected size, threshold)
    f(d)    = 1 / sqrt(1 + (d / 150 m)^6)
    E_rec,i = L c_i exp(u + eps_i + eta_i),     var(eta_i) constant per type

so that ln(E_rec,i) of one shower differ by ln(c_i) and noise, whatever the shower. A telescope
triggers when size_i exceeds its threshold, so images at the threshold fluctuated upwards: this
selection bias is real, and the calibrations must deal with it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.simulation_arrays import ArrayName, Layout, make_layout
from calib.simulation_files import Block, Images, Showers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["SimulationSettings", "arrival_delay_ns", "impact_distance_m", "simulate_block"]

SPEED_OF_LIGHT_M_PER_NS = 0.299792458
QUANTA_PER_NS = 4
"""Time stamps count quarters of a nanosecond."""

LIGHT_EXPONENT = 1.05
LIGHT_POOL_M = 150.0
PROTON_LIGHT = 0.4
"""Cherenkov light of a proton relative to a gamma ray of the same energy."""
REACH_MARGIN = 6.0
"""Upward fluctuation still simulated: 3 standard deviations of a proton's at the threshold."""

HEIGHT_AT_1_TEV_M, HEIGHT_PER_E_FOLD_M = 9000.0, -800.0
"""Height of the shower maximum, from the elongation rate in an exponential atmosphere."""

NIGHT_START_S = 1_592_172_000
"""2020-06-14T22:00:00 TAI; in the past, so that every leap second is known."""

BATCH_SHOWERS = 8192


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """What to simulate."""

    array: ArrayName = "mixed"
    """``north``: 4 LST + 9 MST; ``south``: 14 MST + 37 SST; ``mixed``: 4 LST + 14 MST + 37 SST."""
    n_blocks: int = 2
    """Number of observation blocks, one file each."""
    n_showers: int = 20_000
    """Showers per block that triggered at least two telescopes."""
    seed: int = 0
    """Seed of everything random."""
    first_obs_id: int = 1001
    """Observation block id of the first block; the others follow."""
    throughput_scatter: float = 0.08
    """Standard deviation of ln(throughput) of the telescopes."""
    throughput: Mapping[int, float] | None = None
    """Throughput of given telescopes, by id, instead of the drawn one."""
    proton_fraction: float = 0.25
    """Share of protons among simulated showers of equal light."""
    spectral_index: float = 2.62
    """Index of the power law of the light-equivalent energy."""
    energy_min_tev: float = 0.01
    """Lowest light-equivalent energy, TeV."""
    energy_max_tev: float = 100.0
    """Highest light-equivalent energy, TeV."""
    core_margin_m: float = 250.0
    """Cores fall up to this distance outside the array, m."""
    zenith_deg: float = 20.0
    """Zenith angle of the pointing, deg."""
    azimuth_deg: float = 180.0
    """Azimuth of the pointing from north through east, deg."""
    gamma_spread_deg: float = 0.5
    """Standard deviation of the gamma rays' direction about the pointing, per coordinate, deg."""
    proton_spread_deg: float = 1.5
    """The same for protons, deg."""
    gamma_fluctuation: float = 0.12
    """Fluctuation of ln(light) common to all images of a gamma-ray shower."""
    proton_fluctuation: float = 0.3
    """The same for a proton shower."""
    proton_resolution_factor: float = 1.5
    """How much more the images of protons fluctuate individually."""
    energy_follows_size: float = 1.0
    """Correlation of an image's fluctuation in ln(energy) with that in ln(size)."""
    core_error_m: float = 20.0
    """Error of the reconstructed core per coordinate with two telescopes, m; more reduce it."""
    direction_error_deg: float = 0.1
    """Error of the reconstructed direction per coordinate with two telescopes, deg."""
    h_max_spread_m: float = 900.0
    """Fluctuation of the height of the shower maximum, m; twice that for protons."""
    h_max_error_m: float = 800.0
    """Error of the reconstructed height of the shower maximum with two telescopes, m."""
    invalid_fraction: float = 0.01
    """Share of images whose reconstruction failed."""
    invalid_geometry_fraction: float = 0.005
    """Share of showers whose geometry, and with it every energy, failed."""
    front_radius_scale: float = 1.3
    """Radius of the light front over the distance to the shower maximum."""
    block_duration_s: float = 1200.0
    """Duration of a block, s."""
    write_dl1: bool = True
    """Write the image parameters; False halves the time and the size of the files."""

    def __post_init__(self) -> None:
        """Refuse settings that no night can have."""
        layout = make_layout(self.array)
        unknown = set(self.throughput or {}) - set(layout.tel_ids.tolist())
        if unknown:
            msg = (
                f"throughput is given for telescopes {sorted(unknown)}, but array "
                f"{self.array!r} has {layout.tel_ids.tolist()}."
            )
            raise ValueError(msg)
        if min((self.throughput or {0: 1.0}).values()) <= 0:
            raise ValueError("throughput must be positive.")
        if self.n_blocks < 1 or self.n_showers < 1:
            msg = f"n_blocks={self.n_blocks}, n_showers={self.n_showers}: both must be at least 1."
            raise ValueError(msg)

    @property
    def obs_ids(self) -> tuple[int, ...]:
        """Ids of the observation blocks."""
        return tuple(range(self.first_obs_id, self.first_obs_id + self.n_blocks))


def simulate_block(
    settings: SimulationSettings,
    obs_id: int,
    throughput: Mapping[int, float],
    rng: np.random.Generator | int,
) -> Block:
    """Simulate one observation block in memory.

    Parameters
    ----------
    settings : SimulationSettings
        What to simulate.
    obs_id : int
        Id of the block.
    throughput : mapping of int to float
        Throughput by telescope id.
    rng : Generator or int
        Random numbers, or their seed.

    Returns
    -------
    Block
        Exactly ``settings.n_showers`` showers and all their images.
    """
    rng = np.random.default_rng(rng)
    layout = make_layout(settings.array)
    ln_c = np.log([throughput[tel_id] for tel_id in layout.tel_ids.tolist()])
    draw = _Draw(settings, layout, ln_c)
    batches: list[tuple[_Showers, _Images]] = []
    n_triggered = 0
    while n_triggered < settings.n_showers:
        batches.append(draw.batch(rng))
        n_triggered += len(batches[-1][0].light_tev)
    showers, images = _merge(batches, settings.n_showers)
    n_simulated = len(batches) * BATCH_SHOWERS
    return _reconstruct(settings, layout, obs_id, showers, images, n_simulated, rng)


@dataclass(frozen=True)
class _Showers:
    """True showers; one entry per shower."""

    light_tev: Floats
    energy_tev: Floats
    is_proton: npt.NDArray[np.bool_]
    alt_deg: Floats
    az_deg: Floats
    core_x_m: Floats
    core_y_m: Floats
    h_max_m: Floats

    def core(self) -> Floats:
        """Core positions on the ground, shape (n, 3)."""
        return _on_ground(np.column_stack([self.core_x_m, self.core_y_m]))


@dataclass(frozen=True)
class _Images:
    """Images that triggered; one entry per image, by shower, then by telescope."""

    shower: Integers
    telescope: Integers
    impact_m: Floats
    size: Floats
    ln_expected: Floats
    """ln(size) without the image's own fluctuation."""
    ln_excess: Floats
    """Share of it that is throughput and fluctuation of the shower, not energy or distance."""
    sigma: Floats
    """Standard deviation of the image's own fluctuation."""


def _select(columns: Any, rows: Any) -> Any:
    """Rows of a dataclass of arrays."""
    return type(columns)(**{f.name: getattr(columns, f.name)[rows] for f in fields(columns)})


def _concatenate(parts: Sequence[Any]) -> Any:
    """Dataclasses of arrays, end to end."""
    return type(parts[0])(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(parts[0])}
    )


def direction_vector(alt_deg: Floats, az_deg: Floats) -> Floats:
    """Unit vectors to the source in the GroundFrame (x north, y west, z up), shape (n, 3).

    Parameters
    ----------
    alt_deg, az_deg : array, shape (n,)
        Altitude, and azimuth from north through east.

    Examples
    --------
    >>> direction_vector(np.array([0.0]), np.array([90.0])).round(12)  # the east is minus y
    array([[ 0., -1.,  0.]])
    """
    alt, az = np.radians(alt_deg), np.radians(az_deg)
    return np.stack([np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az), np.sin(alt)], axis=-1)


def altitude_azimuth(directions: Floats) -> tuple[Floats, Floats]:
    """Altitude and azimuth (0 to 360), deg, of unit vectors in the GroundFrame."""
    azimuth = np.degrees(np.arctan2(-directions[..., 1], directions[..., 0]))
    return np.degrees(np.arcsin(np.clip(directions[..., 2], -1, 1))), azimuth % 360


def displace(
    alt_deg: Floats | float, az_deg: Floats | float, spread_deg: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scatter directions on the sky by a Gaussian of `spread_deg` per coordinate.

    Returns
    -------
    tuple of array
        Altitude and azimuth, deg.
    """
    alt, az = np.radians(np.broadcast_arrays(alt_deg, az_deg, spread_deg)[:2])
    up = np.stack([-np.sin(alt) * np.cos(az), np.sin(alt) * np.sin(az), np.cos(alt)], axis=-1)
    side = np.stack([-np.sin(az), -np.cos(az), np.zeros_like(az)], axis=-1)
    shift = np.radians(spread_deg)[:, None, None] * rng.normal(size=(len(spread_deg), 2, 1))
    moved = direction_vector(np.degrees(alt), np.degrees(az)) + shift[:, 0] * up + shift[:, 1] * side
    return altitude_azimuth(moved / np.linalg.norm(moved, axis=1, keepdims=True))


def impact_distance_m(positions_m: Floats, cores_m: Floats, directions: Floats) -> Floats:
    """Perpendicular distance of telescopes from shower axes.

    Parameters
    ----------
    positions_m, cores_m, directions : array, shape (..., 3)
        Telescope, any point of the axis, unit vector of the axis; broadcast together.

    Notes
    -----
    ``d^2 = |r - k|^2 - ((r - k) . n)^2``, in single components because a cross product of
    large arrays costs several times as much.
    """
    dx, dy, dz = (positions_m[..., i] - cores_m[..., i] for i in range(3))
    along = dx * directions[..., 0] + dy * directions[..., 1] + dz * directions[..., 2]
    return np.sqrt(np.maximum(dx * dx + dy * dy + dz * dz - along * along, 0.0))


def ln_lateral_profile(impact_m: Floats) -> Floats:
    """Logarithm of the light at a distance relative to that inside the light pool."""
    squared = (impact_m / LIGHT_POOL_M) ** 2
    return -0.5 * np.log1p(squared * squared * squared)


def arrival_delay_ns(
    positions_m: Floats, cores_m: Floats, directions: Floats, radius_m: Floats
) -> Floats:
    """Arrival time of the light front relative to its arrival at the core, ns.

    Parameters
    ----------
    positions_m, cores_m, directions : array, shape (n, 3)
        Telescope, core and unit vector to the source.
    radius_m : array, shape (n,)
        Distance from the core of the point the front spreads from.

    Notes
    -----
    ``(|r - k - R n| - R) / c``: a sphere about a point of the axis. Telescopes towards the source
    see it first. The light travels at c, without the refraction of the air.
    """
    emission = cores_m + radius_m[:, None] * directions
    return (np.linalg.norm(positions_m - emission, axis=1) - radius_m) / SPEED_OF_LIGHT_M_PER_NS


class _Draw:
    """Draws showers and their images in batches of bounded size.

    Parameters
    ----------
    settings : SimulationSettings
        What to simulate.
    layout : Layout
        The array.
    ln_c : array, shape (n_telescopes,)
        Logarithm of each telescope's throughput.

    Notes
    -----
    Cores are uniform on a disc whose radius R(L) is where no telescope can trigger any more, and
    showers of light L are drawn in proportion to R(L)^2 times the spectrum. This is the same
    distribution of triggered showers as cores on one large disc give, without simulating the
    faint showers far away.
    """

    def __init__(self, settings: SimulationSettings, layout: Layout, ln_c: Floats) -> None:
        self.settings, self.layout, self.ln_c = settings, layout, ln_c
        self.ln_threshold = np.log(layout.response("threshold"))
        self.ln_yield = np.log(layout.response("light_yield")) + ln_c
        limits = np.log([settings.energy_min_tev, settings.energy_max_tev])
        self.ln_light = np.linspace(*limits, 4000)
        self.radius = self._core_radius_m()
        density = np.exp((1 - settings.spectral_index) * self.ln_light) * self.radius**2
        cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
        self.cumulative = cumulative / cumulative[-1]

    def _core_radius_m(self) -> Floats:
        """Distance from the origin beyond which showers do not trigger, on the grid of light."""
        brightest = self.ln_yield + LIGHT_EXPONENT * self.ln_light[:, None] + np.log(REACH_MARGIN)
        needed = np.exp(np.minimum(self.ln_threshold - brightest, 0.0))
        reach = LIGHT_POOL_M * (needed**-2 - 1) ** (1 / 6)
        slant = 1 / np.cos(np.radians(self.settings.zenith_deg))
        distance = np.hypot(*self.layout.positions_m[:, :2].T)
        outermost = np.where(needed < 1, distance + slant * reach, 0.0).max(axis=1)
        return np.minimum(outermost, self.layout.radius_m + self.settings.core_margin_m)

    def batch(self, rng: np.random.Generator) -> tuple[_Showers, _Images]:
        """Simulate `BATCH_SHOWERS` showers and keep those that trigger two telescopes."""
        showers = self._showers(rng)
        images = self._images(showers, rng)
        multiplicity = np.bincount(images.shower, minlength=BATCH_SHOWERS)
        kept = multiplicity >= 2
        images = _select(images, kept[images.shower])
        images.shower[:] = (np.cumsum(kept) - 1)[images.shower]
        return _select(showers, kept), images

    def _showers(self, rng: np.random.Generator) -> _Showers:
        """Draw energies, directions, cores and heights."""
        settings, n = self.settings, BATCH_SHOWERS
        ln_light = np.interp(rng.random(n), self.cumulative, self.ln_light)
        is_proton = rng.random(n) < settings.proton_fraction
        energy = np.exp(ln_light) / np.where(is_proton, PROTON_LIGHT, 1.0)
        spread = np.where(is_proton, settings.proton_spread_deg, settings.gamma_spread_deg)
        alt, az = displace(90 - settings.zenith_deg, settings.azimuth_deg, spread, rng)
        radius = np.interp(ln_light, self.ln_light, self.radius) * np.sqrt(rng.random(n))
        angle = 2 * np.pi * rng.random(n)
        height_spread = settings.h_max_spread_m * np.where(is_proton, 2, 1)
        height = HEIGHT_AT_1_TEV_M + HEIGHT_PER_E_FOLD_M * ln_light + height_spread * rng.normal(size=n)
        return _Showers(
            light_tev=np.exp(ln_light),
            energy_tev=energy,
            is_proton=is_proton,
            alt_deg=alt,
            az_deg=az,
            core_x_m=radius * np.cos(angle),
            core_y_m=radius * np.sin(angle),
            h_max_m=np.maximum(height, self.layout.altitude_m + 1000.0),
        )

    def _images(self, showers: _Showers, rng: np.random.Generator) -> _Images:
        """Light in every telescope, and which of them triggered."""
        settings, layout = self.settings, self.layout
        directions = direction_vector(showers.alt_deg, showers.az_deg)
        impact = impact_distance_m(
            layout.positions_m, showers.core()[:, None], directions[:, None]
        )
        proton = showers.is_proton
        common = np.where(proton, settings.proton_fluctuation, settings.gamma_fluctuation)
        ln_common = common * rng.normal(size=len(proton))
        ln_shower = LIGHT_EXPONENT * np.log(showers.light_tev) + ln_common
        ln_expected = self.ln_yield + ln_shower[:, None] + ln_lateral_profile(impact)
        # Only images within reach of their threshold can fluctuate above it.
        shower, telescope = np.nonzero(ln_expected > self.ln_threshold - np.log(REACH_MARGIN))
        expected = ln_expected[shower, telescope]
        threshold = self.ln_threshold[telescope]
        noise = layout.response("resolution_noise")[telescope]
        variance = noise * np.exp(-np.maximum(expected, threshold))
        variance += layout.response("resolution_floor")[telescope] ** 2
        sigma = np.sqrt(variance)
        sigma *= np.where(proton, settings.proton_resolution_factor, 1.0)[shower]
        ln_size = expected + sigma * rng.normal(size=len(sigma))
        candidates = _Images(
            shower=shower,
            telescope=telescope,
            impact_m=impact[shower, telescope],
            size=np.exp(ln_size),
            ln_expected=expected,
            ln_excess=self.ln_c[telescope] + ln_common[shower],
            sigma=sigma,
        )
        return _select(candidates, ln_size > threshold)


def _merge(batches: Sequence[tuple[_Showers, _Images]], n_showers: int) -> tuple[_Showers, _Images]:
    """Join batches and keep the first `n_showers` showers."""
    showers = _concatenate([showers for showers, _ in batches])
    images = _concatenate([images for _, images in batches])
    lengths = [len(showers.light_tev) for showers, _ in batches]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    images.shower[:] += np.repeat(offsets, [len(images.shower) for _, images in batches])
    return _select(showers, slice(n_showers)), _select(images, images.shower < n_showers)


def _reconstruct(
    settings: SimulationSettings,
    layout: Layout,
    obs_id: int,
    showers: _Showers,
    images: _Images,
    n_simulated: int,
    rng: np.random.Generator,
) -> Block:
    """What triggers and analysis make of showers and images."""
    is_clean = rng.random(len(images.size)) >= settings.invalid_fraction
    n_clean = np.bincount(images.shower[is_clean], minlength=len(showers.light_tev))
    geometry = _reconstruct_geometry(settings, showers, n_clean, rng)
    start_s = NIGHT_START_S + round((obs_id - settings.first_obs_id) * settings.block_duration_s)
    times = _trigger_times(settings, layout, start_s, showers, images, rng)
    measured = _measure(settings, layout, showers, images, geometry, is_clean, times, rng)
    return Block(
        obs_id=obs_id,
        layout=layout,
        pointing_alt_deg=90 - settings.zenith_deg,
        pointing_az_deg=settings.azimuth_deg,
        start_s=start_s,
        duration_s=settings.block_duration_s,
        run=_run_values(settings, layout, n_simulated),
        showers=Showers(
            time=np.minimum.reduceat(times, np.flatnonzero(np.diff(images.shower, prepend=-1))),
            energy_tev=showers.energy_tev,
            is_proton=showers.is_proton,
            alt_deg=showers.alt_deg,
            az_deg=showers.az_deg,
            core_x_m=showers.core_x_m,
            core_y_m=showers.core_y_m,
            h_max_m=showers.h_max_m,
            h_first_m=showers.h_max_m + rng.gamma(3.0, 4000.0, len(n_clean)),
            **geometry,
            **_combine(measured, len(n_clean)),
        ),
        images=measured,
    )


def _reconstruct_geometry(
    settings: SimulationSettings, showers: _Showers, n_clean: Integers, rng: np.random.Generator
) -> dict[str, Any]:
    """Axis of each shower; NaN without two clean images or, rarely, for no visible reason."""
    n = len(n_clean)
    is_valid = (n_clean >= 2) & (rng.random(n) >= settings.invalid_geometry_fraction)
    # Errors fall with the square root of the number of independent image intersections.
    scale = 1 / np.sqrt(np.maximum(n_clean - 1, 1))
    alt, az = displace(
        showers.alt_deg, showers.az_deg, settings.direction_error_deg * scale, rng
    )
    found = {
        "rec_alt_deg": alt,
        "rec_az_deg": az,
        "rec_core_x_m": showers.core_x_m + settings.core_error_m * scale * rng.normal(size=n),
        "rec_core_y_m": showers.core_y_m + settings.core_error_m * scale * rng.normal(size=n),
        "rec_h_max_m": showers.h_max_m + settings.h_max_error_m * scale * rng.normal(size=n),
        "rec_direction_error_deg": settings.direction_error_deg * scale,
    }
    masked = {name: np.where(is_valid, values, np.nan) for name, values in found.items()}
    return masked | {"rec_is_valid": is_valid}


def _measure(
    settings: SimulationSettings,
    layout: Layout,
    showers: _Showers,
    images: _Images,
    geometry: Mapping[str, Any],
    is_clean: npt.NDArray[np.bool_],
    times: Integers,
    rng: np.random.Generator,
) -> Images:
    """Energy, gammaness and impact distance of each image."""
    shower = images.shower
    is_valid = is_clean & geometry["rec_is_valid"][shower]
    cores = np.column_stack([geometry["rec_core_x_m"], geometry["rec_core_y_m"]])
    axes = direction_vector(geometry["rec_alt_deg"], geometry["rec_az_deg"])
    energy = _reconstruct_energy(settings, layout, showers, images, rng)
    return Images(
        shower=shower,
        telescope=images.telescope,
        time=times,
        size=images.size,
        impact_m=images.impact_m,
        is_clean=is_clean,
        is_valid=is_valid,
        energy_tev=np.where(is_valid, energy, np.nan),
        gammaness=np.where(is_valid, _classify(layout, showers, images, rng), np.nan),
        rec_impact_m=impact_distance_m(
            layout.positions_m[images.telescope], _on_ground(cores)[shower], axes[shower]
        ),
    )


def _reconstruct_energy(
    settings: SimulationSettings,
    layout: Layout,
    showers: _Showers,
    images: _Images,
    rng: np.random.Generator,
) -> Floats:
    """Energy of each image, TeV.

    The light of the image relative to that of a 1 TeV gamma ray at the same distance, so that
    throughput and the shower's own fluctuation enter fully, and the image's fluctuation with
    correlation ``energy_follows_size`` to that of its size.
    """
    fluctuation = np.log(images.size) - images.ln_expected
    follows = settings.energy_follows_size
    if follows < 1:
        own = images.sigma * rng.normal(size=len(fluctuation))
        fluctuation = follows * fluctuation + np.sqrt(1 - follows**2) * own
    noise = layout.response("energy_noise")[images.telescope] * rng.normal(size=len(fluctuation))
    return np.exp(images.ln_excess + fluctuation + noise) * showers.light_tev[images.shower]


def _classify(
    layout: Layout, showers: _Showers, images: _Images, rng: np.random.Generator
) -> Floats:
    """Gammaness of each image: 1 for clear gamma rays, a mode of 0.25 for protons."""
    threshold = layout.response("threshold")[images.telescope]
    bright = np.clip(np.log(images.size / threshold) / 3, 0, 1)
    proton = showers.is_proton[images.shower]
    return rng.beta(
        np.where(proton, 2 + bright, 1.5 + 6 * bright), np.where(proton, 4 + 3 * bright, 1.0)
    )


def _combine(images: Images, n_showers: int) -> dict[str, Floats]:
    """Energy and gammaness of each shower: means of the images, weighted by their size."""
    weights = np.where(images.is_valid, images.size, 0.0)
    total = np.bincount(images.shower, weights, n_showers)

    def mean(values: Floats) -> Floats:
        products = np.where(images.is_valid, weights * values, 0.0)
        sums = np.bincount(images.shower, products, n_showers)
        return np.divide(sums, total, out=np.full(n_showers, np.nan), where=total > 0)

    energy = np.exp(mean(np.log(images.energy_tev)))
    variance = mean((images.energy_tev - energy[images.shower]) ** 2)
    return {
        "rec_mean_size": mean(images.size),
        "rec_energy_tev": energy,
        "rec_energy_uncert_tev": np.sqrt(variance),
        "rec_gammaness": mean(images.gammaness),
    }


def _trigger_times(
    settings: SimulationSettings,
    layout: Layout,
    start_s: int,
    showers: _Showers,
    images: _Images,
    rng: np.random.Generator,
) -> Integers:
    """Time stamps of the images: quarter nanoseconds TAI since 1970.

    Stamps follow the convention of simulation files: the delay of a plane wave from the pointing
    is compensated, ``stored = t + n_p . r / c``.
    """
    directions = direction_vector(showers.alt_deg, showers.az_deg)
    height = showers.h_max_m - layout.altitude_m
    radius = settings.front_radius_scale * height / directions[:, 2]
    positions = layout.positions_m[images.telescope]
    shower = images.shower
    delay = arrival_delay_ns(positions, showers.core()[shower], directions[shower], radius[shower])
    jitter = layout.response("time_jitter_ns")[images.telescope] * rng.normal(size=len(delay))
    compensation = positions @ _pointing(settings) / SPEED_OF_LIGHT_M_PER_NS
    moment_ns = np.sort(rng.random(len(height))) * settings.block_duration_s * 1e9
    quanta = np.rint(moment_ns * QUANTA_PER_NS).astype(np.int64)[shower]
    quanta += np.rint((delay + jitter + compensation) * QUANTA_PER_NS).astype(np.int64)
    # One second of lead: no stamp falls before the start of the block.
    return quanta + (start_s + 1) * 1_000_000_000 * QUANTA_PER_NS


def _pointing(settings: SimulationSettings) -> Floats:
    """Unit vector of the array's pointing."""
    alt, az = np.array(90 - settings.zenith_deg), np.array(settings.azimuth_deg)
    return direction_vector(alt, az)


def _on_ground(xy: Floats) -> Floats:
    """Points of the ground, shape (n, 3)."""
    return np.column_stack([xy, np.zeros(len(xy))])


def _run_values(settings: SimulationSettings, layout: Layout, n_simulated: int) -> dict[str, Any]:
    """Values of the file's simulation table."""
    alt, az = np.radians([90 - settings.zenith_deg, settings.azimuth_deg])
    return {
        "energy_range_min": settings.energy_min_tev,
        "energy_range_max": settings.energy_max_tev / PROTON_LIGHT,
        "prod_site_alt": layout.altitude_m,
        "spectral_index": -settings.spectral_index,
        "n_showers": n_simulated,
        "shower_reuse": 1,
        "max_alt": alt,
        "min_alt": alt,
        "max_az": az,
        "min_az": az,
        "diffuse": True,
        "max_viewcone_radius": 5 * settings.proton_spread_deg,
        "min_viewcone_radius": 0.0,
        "max_scatter_range": layout.radius_m + settings.core_margin_m,
        "min_scatter_range": 0.0,
    }
