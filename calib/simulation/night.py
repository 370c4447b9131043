"""Simulated nights: toy showers over realistic arrays, written as genuine DL2 files.

Takes `SimulationSettings`, gives block files and the `Truth` they were made from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.simulation.analysis import reconstruct
from arraycal.calib.simulation.files import write_block
from arraycal.calib.simulation.showers import draw_sample
from arraycal.calib.simulation.truth import Truth, make_truth

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arraycal.calib.simulation.block import SimulatedBlock
    from arraycal.calib.simulation.settings import SimulationSettings

__all__ = [
    "block_path",
    "draw_clock_offsets",
    "draw_throughput",
    "refuse_night",
    "simulate_block",
    "simulate_night",
]

TRUTH_FILE = "truth.json"


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
    throughput, clock_offset_ns = draw_throughput(settings), draw_clock_offsets(settings)
    for index, obs_id in enumerate(settings.obs_ids):
        rng = _stream(settings.seed, index + 1)
        block = simulate_block(settings, obs_id, throughput, rng, clock_offset_ns)
        path = block_path(directory, obs_id)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            write_block(temporary, block)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    truth = make_truth(settings, throughput, clock_offset_ns)
    truth.write(directory / TRUTH_FILE)
    return truth


def refuse_night(directory: Path) -> None:
    """Refuse a folder that holds a night.

    Raises
    ------
    FileExistsError
        If it holds blocks or a truth.
    """
    found = _night_in(directory)
    if found:
        msg = (
            f"{directory} already holds a night ({found[0].name} and {len(found) - 1} more). "
            "Choose another folder or ask for overwriting."
        )
        raise FileExistsError(msg)


def _night_in(directory: Path) -> list[Path]:
    """Files of a night; the truth first: a folder that has one is complete."""
    return [*directory.glob(TRUTH_FILE), *sorted(directory.glob("block_*.dl2.h5"))]


def _clear(directory: Path, *, overwrite: bool) -> None:
    """Remove the night of a folder, or refuse to."""
    if not overwrite:
        refuse_night(directory)
    for path in _night_in(directory):
        path.unlink()


def _stream(seed: int, *index: int) -> np.random.Generator:
    """Random numbers of one purpose; all are independent.

    0 is the throughput, k the k-th block, (0, 1) the clocks.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=index))


def draw_throughput(settings: SimulationSettings) -> dict[int, float]:
    """Throughput of every telescope: log-normal about 1, unless the settings give it."""
    layout = settings.layout()
    ln_c = settings.throughput_scatter * _stream(settings.seed, 0).normal(size=len(layout.types))
    throughput = dict(zip(layout.tel_ids.tolist(), np.exp(ln_c).tolist(), strict=True))
    return throughput | dict(settings.throughput)


def draw_clock_offsets(settings: SimulationSettings) -> dict[int, float]:
    """Clock offset of every telescope, ns: normal about 0, unless the settings give it."""
    tel_ids = settings.layout().tel_ids.tolist()
    drawn = settings.clocks.offset_scatter_ns * _stream(settings.seed, 0, 1).normal(
        size=len(tel_ids)
    )
    return dict(zip(tel_ids, drawn.tolist(), strict=True)) | dict(settings.clocks.offset_ns)


def simulate_block(
    settings: SimulationSettings,
    obs_id: int,
    throughput: Mapping[int, float],
    rng: np.random.Generator | int,
    clock_offset_ns: Mapping[int, float] | None = None,
) -> SimulatedBlock:
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
    clock_offset_ns : mapping of int to float, optional
        Clock offset at the start of the night by telescope id; by default those of the settings.

    Returns
    -------
    SimulatedBlock
        Exactly ``settings.n_showers`` showers, each with two images or more.
    """
    rng = np.random.default_rng(rng)
    sample = draw_sample(settings.of_block(obs_id), throughput, rng)
    if clock_offset_ns is None:
        clock_offset_ns = draw_clock_offsets(settings)
    return reconstruct(sample, obs_id, clock_offset_ns, rng)
