"""What a simulated night is made of: every number that may be chosen, with its default."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

from arraycal.calib.simulation.arrays import KINDS, ArrayName, Layout, make_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "FIRST_NIGHT",
    "CameraSettings",
    "ClockSettings",
    "Frame",
    "PointingTable",
    "SimulationSettings",
]

Convention = Literal["pointing_compensated", "raw"]
Frame = Literal["telescope", "camera"]
PointingTable = Literal["observation", "configuration", "dl0", "dl1"]

#: Settings that are a spread, an error or a distance.
NOT_NEGATIVE = (
    *("throughput_scatter", "core_margin_m", "core_error_m", "direction_error_deg"),
    *("gamma_spread_deg", "proton_spread_deg", "gamma_fluctuation", "proton_fluctuation"),
    *("h_max_spread_m", "h_max_error_m"),
)
FRACTIONS = ("proton_fraction", "invalid_fraction", "invalid_geometry_fraction")
#: Beyond it the flat ground and the straight shower axis of the toy are no approximation.
ZENITH_LIMIT_DEG = 60
#: In the past, so that every leap second is known.
FIRST_NIGHT = date(2020, 6, 14)
#: That evening, 22:00:00 TAI, whole seconds TAI since 1970.
FIRST_START_S = 1_592_172_000
S_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """How images are taken; by default nothing is lost but what does not trigger."""

    threshold_pe: Mapping[str, float] = field(default_factory=dict)
    """Size an image must exceed to trigger, by type; otherwise 80 (LST, MST) or 50 (SST) p.e."""
    truncation: bool = False
    """Light beyond the edge of the camera is lost, before the trigger; leakage tells of it."""
    saturation_pe: Mapping[str, float] = field(default_factory=dict)
    """Most photo-electrons a pixel counts, by type; otherwise there is no limit."""
    cleaning_loss_pe: float = 0.0
    """Photo-electrons that image cleaning takes from every image."""
    size_bias: Mapping[str, float] = field(default_factory=dict)
    """ln(measured size / true size) by type, after the trigger; otherwise 0."""
    frame: Frame = "telescope"
    """Frame of the image parameters: deg on the sky, or m in the camera with other names."""

    def check(self, array: ArrayName) -> None:
        """Refuse settings that no camera of an array can have."""
        by_type = {name: vars(self)[name] for name in ("threshold_pe", "saturation_pe")}
        for name, values in (by_type | {"size_bias": self.size_bias}).items():
            _require_types(f"camera.{name}", values, array)
        for name, values in by_type.items():
            for kind, value in values.items():
                _require(f"camera.{name} of {kind}", value, value > 0, "positive")
        lowest = min(
            self.threshold_pe.get(kind, KINDS[kind].threshold) for kind in make_layout(array).types
        )
        possible = 0 <= self.cleaning_loss_pe < lowest
        expected = f"at least 0, below the lowest threshold {lowest:g}"
        _require("camera.cleaning_loss_pe", self.cleaning_loss_pe, possible, expected)


@dataclass(frozen=True, kw_only=True)
class ClockSettings:
    """How images are stamped; by default all clocks are right."""

    convention: Convention = "pointing_compensated"
    """Stamps less the plane wave of the pointing, as in simulations, or as observed: then the
    file says that it is an observation and has no simulation tables."""
    offset_scatter_ns: float = 0.0
    """Standard deviation of the clock offsets at the start of the night, ns."""
    offset_ns: Mapping[int, float] = field(default_factory=dict)
    """Clock offset of given telescopes, by id, instead of the drawn one, ns; positive is late."""
    drift_ns_per_h: Mapping[int, float] = field(default_factory=dict)
    """Steady change of the offset of given telescopes, by id, ns / h."""
    steps: tuple[tuple[int, float, float], ...] = ()
    """Telescope, time since the start of the night in s, and size in ns of leaps of a clock."""
    jitter_ns: Mapping[str, float] = field(default_factory=dict)
    """Fluctuation of the trigger time by type, ns; otherwise 0.7 (LST), 1.0 (MST), 1.2 (SST)."""
    latency_ns: Mapping[str, float] = field(default_factory=dict)
    """Delay of the trigger by type, ns; otherwise 0."""
    walk_ns: Mapping[str, float] = field(default_factory=dict)
    """Delay of an image at the threshold by type, falling as 1 / size, ns; otherwise 0."""
    outlier_fraction: float = 0.0
    """Share of stamps that are not of the shower."""
    outlier_window_ns: float = 60.0
    """They are off by up to this, evenly, ns."""
    missing_fraction: float = 0.0
    """Share of stamps that are missing: (0, 0)."""
    refractivity: float = 2.25e-4
    """Refractive index of the air less 1; the default is that at 2150 m above sea level."""

    def check(self, array: ArrayName) -> None:
        """Refuse settings that no clocks of an array can have."""
        for name in ("jitter_ns", "latency_ns", "walk_ns"):
            _require_types(f"clocks.{name}", vars(self)[name], array)
        stepping = [tel_id for tel_id, _, _ in self.steps]
        for name, tel_ids in (
            ("offset_ns", self.offset_ns),
            ("drift_ns_per_h", self.drift_ns_per_h),
            ("steps", stepping),
        ):
            _require_known(f"clocks.{name}", tel_ids, array)
        for name in ("outlier_fraction", "missing_fraction"):
            value = vars(self)[name]
            _require(f"clocks.{name}", value, 0 <= value <= 1, "between 0 and 1")
        for name in ("offset_scatter_ns", "outlier_window_ns", "refractivity"):
            value = vars(self)[name]
            _require(f"clocks.{name}", value, 0 <= value < math.inf, "0 or more")


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
    night: date = FIRST_NIGHT
    """Date of the evening; the first block starts at 22:00 TAI."""
    first_obs_id: int = 1001
    """Observation block id of the first block; the others follow."""
    throughput_scatter: float = 0.08
    """Standard deviation of ln(throughput) of the telescopes."""
    throughput: Mapping[int, float] = field(default_factory=dict)
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
    pointings: tuple[tuple[float, float], ...] = ()
    """Zenith angle and azimuth of the blocks in turn, deg, instead of the one pointing."""
    pointing_tables: tuple[PointingTable, ...] = ("observation", "configuration")
    """Where the pointing is written: observation block, fixed by telescope, or monitored."""
    pointing_bias_deg: tuple[float, float] = (0.0, 0.0)
    """Reconstructed less true direction along altitude and azimuth, from mispointing, deg."""
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
    energy_bias: Mapping[str, float] = field(default_factory=dict)
    """ln(reconstructed / true energy) by type at the pivot; otherwise 0."""
    energy_slope: Mapping[str, float] = field(default_factory=dict)
    """Change of that bias with ln(energy) by type; otherwise 0."""
    energy_pivot_tev: float = 1.0
    """Energy at which the slope changes nothing, TeV."""
    energy_factor: Mapping[int, float] = field(default_factory=dict)
    """Factor on the energies alone, not on the sizes, of given telescopes by id; otherwise 1."""
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
    camera: CameraSettings = field(default_factory=CameraSettings)
    """How images are taken."""
    clocks: ClockSettings = field(default_factory=ClockSettings)
    """How images are stamped."""
    write_dl1: bool = True
    """Write the image parameters; False halves the time and the size of the files."""

    def __post_init__(self) -> None:
        """Refuse settings that no night can have."""
        for name in ("throughput", "energy_factor"):
            _require_telescopes(name, vars(self)[name], self.array)
        for name in ("energy_bias", "energy_slope"):
            _require_types(name, vars(self)[name], self.array)
        for name in ("n_blocks", "n_showers"):
            _require(name, vars(self)[name], vars(self)[name] >= 1, "at least 1")
        for name in FRACTIONS:
            _require(name, vars(self)[name], 0 <= vars(self)[name] <= 1, "between 0 and 1")
        for name in NOT_NEGATIVE:
            _require(name, vars(self)[name], 0 <= vars(self)[name] < math.inf, "0 or more")
        for name, zenith in [("zenith_deg", self.zenith_deg)] + [
            ("zenith of pointings", zenith) for zenith, _ in self.pointings
        ]:
            low = 0 <= zenith <= ZENITH_LIMIT_DEG
            _require(name, zenith, low, f"between 0 and {ZENITH_LIMIT_DEG}")
        ordered = 0 < self.energy_min_tev < self.energy_max_tev
        _require("energy_min_tev", self.energy_min_tev, ordered, "positive, below energy_max_tev")
        _require("energy_pivot_tev", self.energy_pivot_tev, self.energy_pivot_tev > 0, "positive")
        self.camera.check(self.array)
        self.clocks.check(self.array)

    @property
    def obs_ids(self) -> tuple[int, ...]:
        """Ids of the observation blocks."""
        return tuple(range(self.first_obs_id, self.first_obs_id + self.n_blocks))

    @property
    def start_s(self) -> int:
        """Start of the night, whole seconds TAI since 1970."""
        return FIRST_START_S + S_PER_DAY * (self.night - FIRST_NIGHT).days

    def layout(self) -> Layout:
        """Make the array, with the trigger of its types."""
        thresholds, jitter = self.camera.threshold_pe, self.clocks.jitter_ns
        kinds = {
            name: replace(
                kind,
                threshold=thresholds.get(name, kind.threshold),
                time_jitter_ns=jitter.get(name, kind.time_jitter_ns),
            )
            for name, kind in KINDS.items()
        }
        return make_layout(self.array, kinds)

    def pointing(self, obs_id: int) -> tuple[float, float]:
        """Zenith angle and azimuth of a block, deg."""
        if not self.pointings:
            return self.zenith_deg, self.azimuth_deg
        return self.pointings[(obs_id - self.first_obs_id) % len(self.pointings)]

    def of_block(self, obs_id: int) -> SimulationSettings:
        """Settings of a single block: those of the night with the block's pointing."""
        zenith_deg, azimuth_deg = self.pointing(obs_id)
        return replace(self, zenith_deg=zenith_deg, azimuth_deg=azimuth_deg, pointings=())


def _require_telescopes(name: str, values: Mapping[int, float], array: ArrayName) -> None:
    """Refuse factors of telescopes the array does not have, and impossible ones."""
    _require_known(name, values, array)
    for tel_id, value in values.items():
        _require(f"{name} of telescope {tel_id}", value, 0 < value < math.inf, "positive")


def _require_known(name: str, tel_ids: Iterable[int], array: ArrayName) -> None:
    """Refuse telescopes the array does not have."""
    layout = make_layout(array)
    unknown = set(tel_ids) - set(layout.tel_ids.tolist())
    if unknown:
        msg = (
            f"{name} is given for telescopes {sorted(unknown)}, but array {array!r} has "
            f"{layout.tel_ids.tolist()}."
        )
        raise ValueError(msg)


def _require_types(name: str, values: Iterable[str], array: ArrayName) -> None:
    """Refuse values of types the array does not have."""
    layout = make_layout(array)
    unknown = set(values) - set(layout.types)
    if unknown:
        msg = (
            f"{name} is given for {', '.join(sorted(unknown))}, but array {array!r} has "
            f"{', '.join(dict.fromkeys(layout.types))}."
        )
        raise ValueError(msg)


def _require(name: str, value: float, is_met: bool, expected: str) -> None:  # noqa: FBT001
    """Refuse a value that is not as expected."""
    if not is_met:
        msg = f"{name} is {value}; it must be {expected}."
        raise ValueError(msg)
