"""Truth of a simulated night: what its telescopes are, and what was done to their data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from arraycal.calib.disk.texts import read_json
from arraycal.calib.simulation.settings import CameraSettings, ClockSettings, SimulationSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Truth", "make_truth"]


@dataclass(frozen=True)
class Truth:
    """What a simulated night was made from."""

    settings: SimulationSettings
    """The settings of the simulation."""
    obs_ids: tuple[int, ...]
    """Observation blocks written."""
    throughput: dict[int, float]
    """True throughput by telescope id."""
    size_factor: dict[int, float]
    """Throughput times the bias of the size, by telescope id: what image sizes tell of it."""
    energy_factor: dict[int, float]
    """Throughput times the bias of the energy at the pivot, by telescope id: what energies tell."""
    types: dict[int, str]
    """``LST``, ``MST`` or ``SST`` by telescope id."""
    positions_m: dict[int, tuple[float, float, float]]
    """Position in the GroundFrame by telescope id, m."""
    pointings_deg: dict[int, tuple[float, float]]
    """Zenith angle and azimuth of the pointing by observation block."""
    clock_offset_ns: dict[int, float]
    """True clock offset at the start of the night by telescope id, ns; positive stamps late."""
    latency_ns: dict[int, float]
    """Delay of the trigger by telescope id; showers cannot tell it from the clock offset."""
    walk_ns: dict[str, float]
    """Delay of an image at the threshold by type; it falls as 1 / size."""
    clock_steps: tuple[tuple[int, float, float], ...]
    """Telescope, time since the start of the night in s, and size in ns of the clocks' leaps."""
    clock_drift_ns_per_h: dict[int, float]
    """Steady change of the clock offset by telescope id, of those that drift."""
    start_s: int
    """Start of the night, s since 1970 (TAI): the date of `clock_offset_ns`."""
    time_convention: str
    """``pointing_compensated`` or ``raw``."""
    rho: float
    """Radius of the light front over the distance to the shower maximum."""

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        temporary = path.with_name(f".{path.name}.tmp")
        text = json.dumps(asdict(self), indent=1, default=date.isoformat)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read what `write` wrote.

        Raises
        ------
        ValueError
            If the file is no truth, or of another version.
        """
        try:
            raw = read_json(path)
            settings = _read_settings(raw["settings"])
            throughput = _by_id(raw["throughput"])
            clock_offset_ns = _by_id(raw["clock_offset_ns"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            msg = f"{path} is not the truth of a simulated night, or of another version: {error}"
            raise ValueError(msg) from None
        return make_truth(settings, throughput, clock_offset_ns)


def make_truth(
    settings: SimulationSettings,
    throughput: Mapping[int, float],
    clock_offset_ns: Mapping[int, float] | None = None,
) -> Truth:
    """Collect what a night was made from.

    Parameters
    ----------
    settings : SimulationSettings
        The settings of the simulation.
    throughput : mapping of int to float
        Throughput by telescope id.
    clock_offset_ns : mapping of int to float, optional
        Clock offset by telescope id; 0 without it.

    Returns
    -------
    Truth
        Everything beyond the drawn numbers follows from the settings.
    """
    layout = settings.layout()
    tel_ids = layout.tel_ids.tolist()
    c = np.array([throughput[tel_id] for tel_id in tel_ids])
    own = np.array([settings.energy_factor.get(tel_id, 1.0) for tel_id in tel_ids])
    sizes = c * np.exp(layout.by_type(settings.camera.size_bias, 0.0))
    energies = c * own * np.exp(layout.by_type(settings.energy_bias, 0.0))
    clocks, latency = settings.clocks, layout.by_type(settings.clocks.latency_ns, 0.0)
    x_y_z = [(x, y, z) for x, y, z in layout.positions_m.tolist()]
    return Truth(
        settings=settings,
        obs_ids=settings.obs_ids,
        throughput=dict(throughput),
        size_factor=dict(zip(tel_ids, sizes.tolist(), strict=True)),
        energy_factor=dict(zip(tel_ids, energies.tolist(), strict=True)),
        types=dict(zip(tel_ids, layout.types, strict=True)),
        positions_m=dict(zip(tel_ids, x_y_z, strict=True)),
        pointings_deg={obs_id: settings.pointing(obs_id) for obs_id in settings.obs_ids},
        clock_offset_ns=dict(clock_offset_ns or dict.fromkeys(tel_ids, 0.0)),
        latency_ns=dict(zip(tel_ids, latency.tolist(), strict=True)),
        walk_ns={kind: clocks.walk_ns.get(kind, 0.0) for kind in dict.fromkeys(layout.types)},
        clock_steps=clocks.steps,
        clock_drift_ns_per_h=dict(clocks.drift_ns_per_h),
        start_s=settings.start_s,
        time_convention=clocks.convention,
        rho=settings.front_radius_scale,
    )


def _by_id(values: Mapping[str, Any]) -> dict[int, Any]:
    """JSON keeps whole numbers that are keys as text."""
    return {int(tel_id): value for tel_id, value in values.items()}


def _read_settings(raw: Mapping[str, Any]) -> SimulationSettings:
    """Settings from JSON."""
    unknown = set(raw) - {field.name for field in fields(SimulationSettings)}
    if unknown:
        msg = f"unknown settings {', '.join(sorted(unknown))}"
        raise ValueError(msg)
    settings = {name: _tuples(value) for name, value in raw.items()}
    for name in ("throughput", "energy_factor"):
        settings[name] = _by_id(settings[name])
    clocks = {name: _tuples(value) for name, value in settings["clocks"].items()}
    for name in ("offset_ns", "drift_ns_per_h"):
        clocks[name] = _by_id(clocks[name])
    settings |= {
        "night": date.fromisoformat(settings["night"]),
        "camera": CameraSettings(**settings["camera"]),
        "clocks": ClockSettings(**clocks),
    }
    return SimulationSettings(**settings)


def _tuples(value: object) -> Any:  # noqa: ANN401
    """JSON has lists for tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
