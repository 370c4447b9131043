"""Time stamps of simulated images: the light front, the trigger and the telescopes' clocks.

Takes a `Sample`, gives time stamps. An image of telescope i in a shower is stamped at::

    t = t0 + (|r_i - P| - R) n / c + jitter + latency_T + walk_T threshold_T / size_i + clock_i(t)
    clock_i(t) = offset_i + drift_i t + the steps of telescope i before t

in the convention of observations. Simulation files compensate the plane wave of the pointing:
``stored = t + n_p . r_i / c``. What is not in the default night has random numbers of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraycal.calib.simulation.geometry import (
    SPEED_OF_LIGHT_M_PER_NS,
    arrival_delay_ns,
    direction_vector,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from arraycal.calib.simulation.showers import Sample

    Floats = npt.NDArray[np.float64]
    Integers = npt.NDArray[np.int64]

__all__ = ["LEAD_S", "Stamps", "time_stamps"]

#: Time stamps count quarters of a nanosecond.
QUANTA_PER_NS, QUANTA_PER_S = 4, 4_000_000_000
#: Between the start of a block and its first shower: no stamp falls before the start.
LEAD_S = 1
S_PER_HOUR = 3600.0


class Stamps(NamedTuple):
    """Time stamps: quarter nanoseconds TAI since 1970."""

    images: Integers
    """Of the images; 0 where missing."""
    showers: Integers
    """Earliest of each shower."""


def time_stamps(
    sample: Sample, start_s: int, clock_offset_ns: Mapping[int, float], rng: np.random.Generator
) -> Stamps:
    """Stamp the images of a block.

    Parameters
    ----------
    sample : Sample
        True showers and images.
    start_s : int
        Start of the block, whole seconds TAI since 1970.
    clock_offset_ns : mapping of int to float
        Clock offset at the start of the night by telescope id.
    rng : Generator
        Random numbers.

    Returns
    -------
    Stamps
        Showers follow each other in time, evenly over the block.
    """
    settings, shower = sample.settings, sample.images.shower
    own = rng.spawn(1)[0]
    delay = _front_delay_ns(sample)
    delay += sample.response("time_jitter_ns") * rng.normal(size=len(delay))
    positions = sample.layout.positions_m[sample.images.telescope]
    if settings.clocks.convention == "pointing_compensated":
        pointing = direction_vector(90 - settings.zenith_deg, settings.azimuth_deg)
        delay += positions @ pointing / SPEED_OF_LIGHT_M_PER_NS
    n_showers = len(sample.showers.light_tev)
    moment = LEAD_S + np.sort(rng.random(n_showers)) * settings.block_duration_s
    delay += _trigger_delay_ns(sample)
    delay += _clock_ns(sample, start_s - settings.start_s + moment[shower], clock_offset_ns)
    delay += _outliers_ns(sample, own)
    quanta = np.rint(moment * QUANTA_PER_S).astype(np.int64)[shower]
    stamps = start_s * QUANTA_PER_S + quanta + np.rint(delay * QUANTA_PER_NS).astype(np.int64)
    first = np.minimum.reduceat(stamps, np.flatnonzero(np.diff(shower, prepend=-1)))
    missing = own.random(len(stamps)) < settings.clocks.missing_fraction
    return Stamps(np.where(missing, 0, stamps), first)


def _front_delay_ns(sample: Sample) -> Floats:
    """Arrival of the light front after its arrival at the core."""
    settings, showers, shower = sample.settings, sample.showers, sample.images.shower
    directions = showers.directions()
    height = showers.h_max_m - sample.layout.altitude_m
    radius = settings.front_radius_scale * height / directions[:, 2]
    positions = sample.layout.positions_m[sample.images.telescope]
    delay = arrival_delay_ns(
        positions, showers.cores_m()[shower], directions[shower], radius[shower]
    )
    return delay * (1 + settings.clocks.refractivity)


def _trigger_delay_ns(sample: Sample) -> Floats:
    """Latency of the type, and the walk: faint images cross the trigger's threshold later."""
    clocks, layout, telescope = sample.settings.clocks, sample.layout, sample.images.telescope
    walk = layout.by_type(clocks.walk_ns, 0.0) * layout.response("threshold")
    latency = layout.by_type(clocks.latency_ns, 0.0)
    delay: Floats = latency[telescope] + walk[telescope] / sample.images.size
    return delay


def _clock_ns(sample: Sample, night_s: Floats, clock_offset_ns: Mapping[int, float]) -> Floats:
    """Error of the clocks at times since the start of the night."""
    clocks, tel_ids = sample.settings.clocks, sample.layout.tel_ids
    offset = np.array([clock_offset_ns[tel_id] for tel_id in tel_ids.tolist()])
    drift = np.array([clocks.drift_ns_per_h.get(tel_id, 0.0) for tel_id in tel_ids.tolist()])
    telescope = sample.images.telescope
    error: Floats = offset[telescope] + drift[telescope] * night_s / S_PER_HOUR
    for tel_id, step_s, step_ns in clocks.steps:
        error += np.where((tel_ids[telescope] == tel_id) & (night_s >= step_s), step_ns, 0.0)
    return error


def _outliers_ns(sample: Sample, rng: np.random.Generator) -> Floats:
    """Errors of stamps that are not of the shower: even within a window about it."""
    clocks, n = sample.settings.clocks, len(sample.images.size)
    is_outlier = rng.random(n) < clocks.outlier_fraction
    return np.where(is_outlier, clocks.outlier_window_ns * rng.uniform(-1, 1, n), 0.0)
