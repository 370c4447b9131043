"""Toy STAMPS with known truth, straight from the physics: no files, no detector.

Showers with a direction, a core and a maximum, a spherical front, telescopes with offsets, jitter
and trigger walk; then what a reconstruction would say of them. The closure tests and benchmarks
rest on it; for whole nights of genuine files see `arraycal.calib.simulation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from arraycal.calib.stamps.front import C_M_PER_NS, arrival_ns, direction, front, refractive_index
from arraycal.calib.stamps.stamps import STAMPS
from arraycal.calib.stamps.trigger import QUARTERS_PER_S
from arraycal.calib.subarray import Subarray
from arraycal.calib.timing.showers import Setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["TimingToy", "toy_setup", "toy_stamps", "toy_timing_array"]

ALTITUDE_M = 2200.0
#: Trigger thresholds, p.e., and slope of the integral distribution of sizes.
THRESHOLD, SIZE_SLOPE = 50.0, 1.5
#: True radius of the front over the distance to the maximum.
TRUE_SCALE = 1.3


@dataclass(frozen=True)
class TimingToy:
    """What to draw.

    Parameters
    ----------
    offset_ns : sequence of float
        Clock offset of every telescope.
    n_showers : int
        Number of showers.
    multiplicity : int
        Telescopes of each shower.
    jitter_ns : (float, float)
        Trigger noise of the first type (LST) and of the others.
    walk_ns : float
        Delay of an image at the threshold; it falls as 1/size.
    direction_error_deg, core_error_m, h_max_error : float
        Errors of the reconstruction, per coordinate; the last one relative.
    outliers : float
        Part of the stamps that are wrong by up to 60 ns.
    pointing_deg : (float, float)
        Altitude and azimuth.
    spread_deg : float
        Scatter of the shower directions around the pointing, per coordinate.
    compensated : bool
        Whether the plane wave of the pointing is subtracted from the stamps.
    duration_s : float
        Length of the observation.
    light_pool_m : float
        Distance from the axis over which sizes fall by e, down to the threshold; they do not fall
        by default.
    """

    offset_ns: Sequence[float] | Floats
    n_showers: int = 800
    multiplicity: int = 5
    jitter_ns: tuple[float, float] = (0.7, 1.2)
    walk_ns: float = 3.0
    direction_error_deg: float = 0.1
    core_error_m: float = 10.0
    h_max_error: float = 0.12
    outliers: float = 0.02
    pointing_deg: tuple[float, float] = (70.0, 40.0)
    spread_deg: float = 0.8
    compensated: bool = False
    duration_s: float = 240.0
    light_pool_m: float = np.inf


def toy_timing_array(n_lst: int = 4, n_mst: int = 9, reach_m: float = 270.0) -> Subarray:
    """Return an array of two types within a circle, on uneven ground."""
    n = n_lst + n_mst
    angle = 2.399963 * np.arange(n)  # the golden angle fills a circle evenly
    radius = reach_m * np.sqrt((np.arange(n) + 0.5) / n)
    height = 8.0 * np.cos(3.7 * np.arange(n))
    return Subarray(
        name="toy",
        tel_ids=tuple(range(1, n + 1)),
        types=("LST",) * n_lst + ("MST",) * n_mst,
        descriptions=("LST_LST_LSTCam",) * n_lst + ("MST_MST_NectarCam",) * n_mst,
        positions_m=tuple(
            (float(r * np.cos(a)), float(r * np.sin(a)), float(z))
            for r, a, z in zip(radius, angle, height, strict=True)
        ),
    )


def toy_setup(
    subarray: Subarray, *, compensated: bool = False, core_error_m: float | None = None
) -> Setup:
    """How the toy's stamps are to be read."""
    return Setup(subarray, compensated, ALTITUDE_M, (5000.0, 15000.0), 8000.0, core_error_m)


def toy_stamps(
    toy: TimingToy,
    subarray: Subarray,
    rng: np.random.Generator | int,
    *,
    obs_id: int = 1,
    start_s: int = 1_700_000_000,
) -> pl.DataFrame:
    """Draw STAMPS.

    Parameters
    ----------
    toy : TimingToy
        What to draw.
    subarray : Subarray
        The telescopes.
    rng : Generator or int
        Random numbers or their seed.
    obs_id : int
        Observation id.
    start_s : int
        Date of the first shower, s since 1970.

    Returns
    -------
    DataFrame
        Schema `STAMPS`.
    """
    rng = np.random.default_rng(rng)
    n, m = toy.n_showers, toy.multiplicity
    positions = np.asarray(subarray.positions_m)
    alt = toy.pointing_deg[0] + toy.spread_deg * rng.standard_normal(n)
    az = toy.pointing_deg[1] + toy.spread_deg * rng.standard_normal(n) / np.cos(np.radians(alt))
    # The core lies near one of the telescopes, and the nearest of them see the shower.
    core = np.zeros((n, 3))
    near = positions[rng.integers(len(positions), size=n), :2]
    core[:, :2] = near + 60.0 * rng.standard_normal((n, 2))
    apart = np.linalg.norm(positions[None, :, :2] - core[:, None, :2], axis=2)
    apart += 40.0 * rng.standard_normal(apart.shape)
    tel = np.sort(np.argsort(apart, axis=1)[:, :m], axis=1)
    shower = np.repeat(np.arange(n), m)
    tel = tel.ravel()
    h_max = ALTITUDE_M + 8000.0 + 1000.0 * rng.standard_normal(n)
    time = _arrivals(
        positions[tel], core[shower], direction(alt, az)[shower], h_max[shower], alt[shower]
    )
    size = THRESHOLD * rng.uniform(size=n * m) ** (-1 / SIZE_SLOPE)
    if np.isfinite(toy.light_pool_m):
        place = front(positions[tel], core[shower], direction(alt, az)[shower])
        falling = np.exp(1.0 - place.distance_m / toy.light_pool_m)
        size = np.maximum(size * falling, THRESHOLD)
    jitter = np.where(np.asarray(subarray.types)[tel] == "LST", *toy.jitter_ns)
    time += np.asarray(toy.offset_ns, float)[tel] + toy.walk_ns * THRESHOLD / size
    time += jitter * rng.standard_normal(n * m)
    time += np.where(rng.uniform(size=n * m) < toy.outliers, rng.uniform(-60, 60, n * m), 0.0)
    if toy.compensated:
        time += positions[tel] @ direction(*map(np.array, toy.pointing_deg)) / C_M_PER_NS
    # Whole quarters relative to the date of the shower, which is any.
    date = np.sort(rng.uniform(0, toy.duration_s, n))
    quarters = np.round(4.0 * time).astype(np.int64) + rng.integers(4, size=n)[shower]
    error = toy.direction_error_deg
    return pl.DataFrame(
        {
            "obs_id": np.full(n * m, obs_id),
            "event_id": shower + 1,
            "tel_id": np.asarray(subarray.tel_ids)[tel],
            "shower_s": start_s + date.astype(np.int64)[shower],
            "shower_quarters": ((date % 1) * QUARTERS_PER_S).astype(np.int64)[shower],
            "delay_quarters": quarters,
            "size": size,
            "alt_deg": (alt + error * rng.standard_normal(n))[shower],
            "az_deg": (az + error * rng.standard_normal(n) / np.cos(np.radians(alt)))[shower],
            "core_x_m": (core[:, 0] + toy.core_error_m * rng.standard_normal(n))[shower],
            "core_y_m": (core[:, 1] + toy.core_error_m * rng.standard_normal(n))[shower],
            "core_error_x_m": np.full(n * m, np.nan),
            "core_error_y_m": np.full(n * m, np.nan),
            "h_max_m": (
                ALTITUDE_M + (h_max - ALTITUDE_M) * (1 + toy.h_max_error * rng.standard_normal(n))
            )[shower],
            "pointing_alt_deg": np.full(n * m, toy.pointing_deg[0]),
            "pointing_az_deg": np.full(n * m, toy.pointing_deg[1]),
        },
        schema=STAMPS,
    )


def _arrivals(
    position: Floats, core: Floats, towards: Floats, h_max: Floats, alt: Floats
) -> Floats:
    """Arrival times of spherical fronts."""
    radius = TRUE_SCALE * (h_max - ALTITUDE_M) / np.sin(np.radians(alt))
    speed = C_M_PER_NS / refractive_index(ALTITUDE_M)
    return arrival_ns(front(position, core, towards), radius, speed)[0]
