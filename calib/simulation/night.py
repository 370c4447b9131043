"""Simulated nights: toy showers over realistic arrays, written as genuine DL2 files.

Takes `SimulationSettings`, gives block files and the `Truth` they were made from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.simulation.analysis import reconstruct
from calib.simulation.arrays import make_layout
from calib.simulation.files import write_block
from calib.simulation.settings import SimulationSettings
from calib.simulation.showers import draw_sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from calib.simulation.block import Block

__all__ = [
    "SimulationSettings",
    "Truth",
    "block_path",
    "simulate_block",
    "simulate_night",
]

TRUTH_FILE = "truth.json"


@dataclass(frozen=True)
class Truth:
    """What a simulated night was made from."""

    settings: SimulationSettings
    """The settings of the simulation."""
    obs_ids: tuple[int, ...]
    """Observation blocks written."""
    throughput: dict[int, float]
    """True throughput by telescope id."""
    types: dict[int, str]
    """``LST``, ``MST`` or ``SST`` by telescope id."""
    positions_m: dict[int, tuple[float, float, float]]
    """Position in the GroundFrame by telescope id, m."""
    clock_offset_ns: dict[int, float]
    """True clock offset by telescope id, ns; positive stamps late."""

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read what `write` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))

        def by_telescope(values: dict[str, Any]) -> dict[int, Any]:
            return {int(tel_id): value for tel_id, value in values.items()}

        settings = raw["settings"]
        if settings["throughput"] is not None:
            settings["throughput"] = by_telescope(settings["throughput"])
        positions = by_telescope(raw["positions_m"])
        return cls(
            settings=SimulationSettings(**settings),
            obs_ids=tuple(raw["obs_ids"]),
            throughput=by_telescope(raw["throughput"]),
            types=by_telescope(raw["types"]),
            positions_m={tel_id: tuple(position) for tel_id, position in positions.items()},
            clock_offset_ns=by_telescope(raw["clock_offset_ns"]),
        )


def block_path(directory: Path, obs_id: int) -> Path:
    """File of an observation block in a simulated night."""
    return directory / f"block_{obs_id}.dl2.h5"


def simulate_night(
    directory: Path, settings: SimulationSettings, *, overwrite: bool = False
) -> Truth:
    """Simulate a night and write its blocks and its truth.

    Parameters
    ----------
    directory : Path
        Folder of the block files and of ``truth.json``; created if absent.
    settings : SimulationSettings
        What to simulate.
    overwrite : bool
        Replace a night that the folder already holds.

    Returns
    -------
    Truth
        What the night was made from. It is written last: a folder with a ``truth.json`` is
        complete.

    Raises
    ------
    FileExistsError
        If the folder holds blocks or a truth already and `overwrite` is not given.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _clear(directory, overwrite=overwrite)
    throughput = draw_throughput(settings)
    for index, obs_id in enumerate(settings.obs_ids):
        rng = _stream(settings.seed, index + 1)
        block = simulate_block(settings, obs_id, throughput, rng)
        path = block_path(directory, obs_id)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            write_block(temporary, block, write_dl1=settings.write_dl1)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    truth = make_truth(settings, throughput)
    truth.write(directory / TRUTH_FILE)
    return truth


def _clear(directory: Path, *, overwrite: bool) -> None:
    """Remove the night of a folder, or refuse to."""
    found = [*directory.glob(TRUTH_FILE), *sorted(directory.glob("block_*.dl2.h5"))]
    if found and not overwrite:
        msg = (
            f"{directory} already holds a night ({found[0].name} and {len(found) - 1} more). "
            "Choose another folder or ask for overwriting."
        )
        raise FileExistsError(msg)
    for path in found:  # the truth first: a folder that has one is complete
        path.unlink()


def _stream(seed: int, index: int) -> np.random.Generator:
    """Random numbers of one purpose: 0 the throughput, k the k-th block; all independent."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))


def draw_throughput(settings: SimulationSettings) -> dict[int, float]:
    """Throughput of every telescope: log-normal about 1, unless the settings give it."""
    layout = make_layout(settings.array)
    ln_c = settings.throughput_scatter * _stream(settings.seed, 0).normal(size=len(layout.types))
    throughput = dict(zip(layout.tel_ids.tolist(), np.exp(ln_c).tolist(), strict=True))
    return throughput | dict(settings.throughput or {})


def make_truth(settings: SimulationSettings, throughput: Mapping[int, float]) -> Truth:
    """Collect what a night was made from."""
    layout = make_layout(settings.array)
    tel_ids = layout.tel_ids.tolist()
    x_y_z = [(x, y, z) for x, y, z in layout.positions_m.tolist()]
    return Truth(
        settings=settings,
        obs_ids=settings.obs_ids,
        throughput=dict(throughput),
        types=dict(zip(tel_ids, layout.types, strict=True)),
        positions_m=dict(zip(tel_ids, x_y_z, strict=True)),
        clock_offset_ns=dict.fromkeys(tel_ids, 0.0),
    )


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
        Exactly ``settings.n_showers`` showers, each with two images or more.
    """
    rng = np.random.default_rng(rng)
    return reconstruct(draw_sample(settings, throughput, rng), obs_id, rng)
