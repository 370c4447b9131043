"""What triggers and analysis make of toy showers: times, geometry, energies, gammaness.

Takes a `Sample`, gives a `SimulatedBlock`. The energy of an image is the light-equivalent energy L
of its shower times the light the image has in excess of what L and the distance let expect, and
noise::

    E_rec,i = L c_i b_i(L) exp(u + eps_i + eta_i),   var(eta_i) constant per kind of telescope
    ln(b_i) = ln(factor_i) + bias_T + slope_T ln(L / pivot)

so that ln(E_rec,i) of one shower differ by ln(c_i b_i) and noise, whatever the shower; protons
come out at 0.4 times their energy. By default b_i is 1. Nothing is clipped, and energies do not
suffer from what the camera loses: the analysis is supposed to know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arraycal.calib.simulation import camera
from arraycal.calib.simulation.block import Images, SimulatedBlock, SimulatedShowers
from arraycal.calib.simulation.geometry import (
    direction_vector,
    displace,
    impact_distance_m,
    shift_direction,
)
from arraycal.calib.simulation.showers import PROTON_LIGHT, STEREO
from arraycal.calib.simulation.timing import LEAD_S, time_stamps

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.simulation.settings import SimulationSettings
    from arraycal.calib.simulation.showers import Sample

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["reconstruct"]


def reconstruct(
    sample: Sample, obs_id: int, clock_offset_ns: Mapping[int, float], rng: np.random.Generator
) -> SimulatedBlock:
    """Make an observation block of a sample.

    Parameters
    ----------
    sample : Sample
        True showers and images.
    obs_id : int
        Id of the block; blocks follow each other in time.
    clock_offset_ns : mapping of int to float
        Clock offset at the start of the night by telescope id.
    rng : Generator
        Random numbers.

    Returns
    -------
    SimulatedBlock
        What an observatory would have of it, beside the truth.
    """
    settings, true = sample.settings, sample.showers
    is_clean = rng.random(len(sample.images.size)) >= settings.invalid_fraction
    geometry = _reconstruct_geometry(sample, is_clean, rng)
    start_s = settings.start_s + round((obs_id - settings.first_obs_id) * settings.block_duration_s)
    times = time_stamps(sample, start_s, clock_offset_ns, rng)
    measured = _measure(sample, geometry, is_clean, times.images, rng)
    n_showers = len(true.light_tev)
    return SimulatedBlock(
        obs_id=obs_id,
        settings=settings,
        layout=sample.layout,
        pointing_alt_deg=90 - settings.zenith_deg,
        pointing_az_deg=settings.azimuth_deg,
        start_s=start_s,
        duration_s=settings.block_duration_s + LEAD_S,
        run=_run_values(sample),
        showers=SimulatedShowers(
            time=times.showers,
            energy_tev=true.energy_tev,
            is_proton=true.is_proton,
            alt_deg=true.alt_deg,
            az_deg=true.az_deg,
            core_x_m=true.core_x_m,
            core_y_m=true.core_y_m,
            h_max_m=true.h_max_m,
            h_first_m=true.h_max_m + rng.gamma(3.0, 4000.0, n_showers),
            **geometry,
            **_combine(measured, n_showers),
        ),
        images=measured,
    )


def _reconstruct_geometry(
    sample: Sample, is_clean: Bools, rng: np.random.Generator
) -> dict[str, Any]:
    """Axis of each shower; NaN without two clean images or, rarely, for no visible reason."""
    settings, true = sample.settings, sample.showers
    n = len(true.light_tev)
    n_clean = np.bincount(sample.images.shower[is_clean], minlength=n)
    is_valid = (n_clean >= STEREO) & (rng.random(n) >= settings.invalid_geometry_fraction)
    # Errors fall with the square root of the number of independent image intersections.
    scale = 1 / np.sqrt(np.maximum(n_clean - 1, 1))
    alt, az = displace(true.alt_deg, true.az_deg, settings.direction_error_deg * scale, rng)
    if any(settings.pointing_bias_deg):
        alt, az = shift_direction(alt, az, settings.pointing_bias_deg)
    found = {
        "rec_alt_deg": alt,
        "rec_az_deg": az,
        "rec_direction_error_deg": settings.direction_error_deg * scale,
        "rec_core_x_m": true.core_x_m + settings.core_error_m * scale * rng.normal(size=n),
        "rec_core_y_m": true.core_y_m + settings.core_error_m * scale * rng.normal(size=n),
        "rec_h_max_m": true.h_max_m + settings.h_max_error_m * scale * rng.normal(size=n),
    }
    masked = {name: np.where(is_valid, values, np.nan) for name, values in found.items()}
    return masked | {"rec_is_valid": is_valid}


def _measure(
    sample: Sample,
    geometry: Mapping[str, Any],
    is_clean: Bools,
    times: Integers,
    rng: np.random.Generator,
) -> Images:
    """Reconstruct single images; energies need a geometry, as in real files."""
    images, shower = sample.images, sample.images.shower
    is_valid = is_clean & geometry["rec_is_valid"][shower]
    core_x, core_y = geometry["rec_core_x_m"], geometry["rec_core_y_m"]
    cores = np.column_stack([core_x, core_y, np.zeros_like(core_x)])
    axes = direction_vector(geometry["rec_alt_deg"], geometry["rec_az_deg"])
    positions = sample.layout.positions_m[images.telescope]
    size, brightest = camera.measured_size(
        images.size, images.telescope, sample.layout, sample.settings.camera
    )
    return Images(
        shower=shower,
        telescope=images.telescope,
        time=times,
        size=images.size,
        measured_size=size,
        brightest_pe=brightest,
        fov_lon_deg=images.fov_lon_deg,
        fov_lat_deg=images.fov_lat_deg,
        psi_deg=images.psi_deg,
        leakage=images.leakage,
        impact_m=images.impact_m,
        rec_impact_m=impact_distance_m(positions, cores[shower], axes[shower]),
        is_clean=is_clean,
        is_valid=is_valid,
        energy_tev=np.where(is_valid, _reconstruct_energy(sample, rng), np.nan),
        gammaness=np.where(is_valid, _classify(sample, rng), np.nan),
    )


def _reconstruct_energy(sample: Sample, rng: np.random.Generator) -> Floats:
    """Energy of each image, TeV."""
    images, follows = sample.images, sample.settings.energy_follows_size
    fluctuation = follows * (np.log(images.size) - images.ln_expected)
    own = np.hypot(np.sqrt(1 - follows**2) * images.sigma, sample.response("energy_noise"))
    noise = own * rng.normal(size=len(own))
    light = sample.showers.light_tev[images.shower]
    energy: Floats = np.exp(images.ln_excess + fluctuation + noise + _energy_bias(sample, light))
    return energy * light


def _energy_bias(sample: Sample, light_tev: Floats) -> Floats:
    """Bias of ln(energy) of each image."""
    settings, layout, telescope = sample.settings, sample.layout, sample.images.telescope
    slope = layout.by_type(settings.energy_slope, 0.0)[telescope]
    level = layout.by_type(settings.energy_bias, 0.0)
    level += np.log([settings.energy_factor.get(i, 1.0) for i in layout.tel_ids.tolist()])
    bias: Floats = level[telescope] + slope * np.log(light_tev / settings.energy_pivot_tev)
    return bias


def _classify(sample: Sample, rng: np.random.Generator) -> Floats:
    """Gammaness of each image: towards 1 for bright gamma rays, a mode of 0.25 for protons."""
    bright = np.clip(np.log(sample.images.size / sample.response("threshold")) / 3, 0, 1)
    proton = sample.showers.is_proton[sample.images.shower]
    return rng.beta(
        np.where(proton, 2 + bright, 1.5 + 6 * bright), np.where(proton, 4 + 3 * bright, 1.0)
    )


def _combine(images: Images, n_showers: int) -> dict[str, Any]:
    """Energy and gammaness of each shower: means of the valid images, weighted by their size."""
    weights = np.where(images.is_valid, images.size, 0.0)
    total = np.bincount(images.shower, weights, n_showers)

    def mean(values: Floats) -> Floats:
        products = np.where(images.is_valid, weights * values, 0.0)
        sums = np.bincount(images.shower, products, n_showers)
        means: Floats = np.divide(sums, total, out=np.full(n_showers, np.nan), where=total > 0)
        return means

    energy = np.exp(mean(np.log(images.energy_tev)))
    variance = mean((images.energy_tev - energy[images.shower]) ** 2)
    return {
        "rec_mean_size": mean(images.size),
        "rec_energy_tev": energy,
        "rec_energy_uncert_tev": np.sqrt(variance),
        "rec_gammaness": mean(images.gammaness),
    }


def _run_values(sample: Sample) -> dict[str, Any]:
    """Values of the simulation table."""
    settings: SimulationSettings = sample.settings
    alt, az = np.radians([90 - settings.zenith_deg, settings.azimuth_deg])
    return {
        "energy_range_min": settings.energy_min_tev,
        "energy_range_max": settings.energy_max_tev / PROTON_LIGHT,
        "prod_site_alt": sample.layout.altitude_m,
        "spectral_index": -settings.spectral_index,
        "n_showers": sample.n_simulated,
        "shower_reuse": 1,
        "max_alt": alt,
        "min_alt": alt,
        "max_az": az,
        "min_az": az,
        "diffuse": True,
        "max_viewcone_radius": 5 * settings.proton_spread_deg,
        "min_viewcone_radius": 0.0,
        "max_scatter_range": sample.layout.radius_m + settings.core_margin_m,
        "min_scatter_range": 0.0,
    }
