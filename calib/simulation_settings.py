"""What a simulated night is made of: every number that may be chosen, with its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.simulation_arrays import ArrayName, make_layout

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SimulationSettings"]


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
