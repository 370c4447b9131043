"""What a simulated night is made of: every number that may be chosen, with its default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.simulation.arrays import ArrayName, make_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SimulationSettings"]

FRACTIONS = ("proton_fraction", "invalid_fraction", "invalid_geometry_fraction")
#: Beyond it the flat ground and the straight shower axis of the toy are no approximation.
ZENITH_LIMIT_DEG = 60


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
        for tel_id, value in (self.throughput or {}).items():
            _require(f"throughput of telescope {tel_id}", value, 0 < value < math.inf, "positive")
        for name in ("n_blocks", "n_showers"):
            _require(name, vars(self)[name], vars(self)[name] >= 1, "at least 1")
        for name in FRACTIONS:
            _require(name, vars(self)[name], 0 <= vars(self)[name] <= 1, "between 0 and 1")
        low = 0 <= self.zenith_deg <= ZENITH_LIMIT_DEG
        _require("zenith_deg", self.zenith_deg, low, f"between 0 and {ZENITH_LIMIT_DEG}")
        ordered = 0 < self.energy_min_tev < self.energy_max_tev
        _require("energy_min_tev", self.energy_min_tev, ordered, "positive, below energy_max_tev")

    @property
    def obs_ids(self) -> tuple[int, ...]:
        """Ids of the observation blocks."""
        return tuple(range(self.first_obs_id, self.first_obs_id + self.n_blocks))


def _require(name: str, value: float, is_met: bool, expected: str) -> None:  # noqa: FBT001
    """Refuse a value that is not as expected."""
    if not is_met:
        msg = f"{name} is {value}; it must be {expected}."
        raise ValueError(msg)
