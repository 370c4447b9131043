"""From a block to PAIRS: CPU against the pure read and decompression, and memory.

The floor reads the compressed chunks of the same tables with ``pread`` and decompresses them with
blosc2, nothing else: no checksum, no columns, no events.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import blosc2
import h5py
from material import cheapest, million, peak_memory_mb
from rich.console import Console
from rich.table import Table

from arraycal.calib import dl2
from arraycal.calib.blocks.pair_rows import pairs_of_block, window_rows
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER
from arraycal.calib.pairs.matching import pair_events
from arraycal.calib.pairs.rules import pair_rules, pairs_to_form
from arraycal.config import Configuration, load_configuration

if TYPE_CHECKING:
    from arraycal.calib.observables import Observable

TABLES = (
    "/dl2/event/telescope/energy/RandomForestRegressor",
    "/dl2/event/telescope/particle_type/RandomForestClassifier",
    "/dl2/event/telescope/impact/HillasReconstructor",
)
CHECKSUM_BYTES = 4
#: Presets and what they compare. The floor is that of the first; the cross-calibration also reads
#: the pointing and the directions of showers, and the peer's forms the pairs of both steps.
PRESETS = {
    "energy-inter-peer": ENERGY_INTER,
    "energy-inter": ENERGY_INTER,
    "energy-cross-peer": ENERGY_CROSS,
    "energy-cross": ENERGY_CROSS,
}


def chunks(path: Path, groups: tuple[str, ...] = TABLES) -> list[tuple[int, int]]:
    """Offset and size of every compressed chunk of the tables."""
    found: list[tuple[int, int]] = []
    with h5py.File(path) as file:
        for group in groups:
            for table in file[group].values():
                infos = (table.id.get_chunk_info(i) for i in range(table.id.get_num_chunks()))
                found.extend((info.byte_offset, info.size) for info in infos)
    return found


def read_and_decompress(path: Path, where: list[tuple[int, int]]) -> None:
    """Do the least that any reader must do."""
    descriptor = os.open(path, os.O_RDONLY)
    for offset, size in where:
        blosc2.decompress(os.pread(descriptor, size, offset)[:-CHECKSUM_BYTES])
    os.close(descriptor)


def pairs_without_cache(path: Path, observable: Observable, configuration: Configuration) -> int:
    """Read, select and pair; keep nothing. The configuration is loaded once for a night."""
    block = dl2.open_block(path)
    rules = pair_rules(observable, configuration, block)
    allowed = pairs_to_form(observable, configuration, block.subarray)
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    windows = dl2.windows(block, rules.columns, rows=rows)
    return sum(len(pair_events(w.events, rules, block.subarray, allowed).pairs) for w in windows)


def whole_stage(path: Path, preset: str, cache: Path) -> None:
    """Hash, read, select, pair and cache, as the first run of a night does."""
    shutil.rmtree(cache, ignore_errors=True)
    outcome = pairs_of_block(path, PRESETS[preset], load_configuration(preset=preset), cache)
    assert outcome.status == "ok", outcome.reason


def memory_above_import(path: Path, preset: str) -> float:
    """Peak memory of the stage in a process of its own, above that of the imports, MB."""
    command = [sys.executable, __file__, "--memory", str(path), preset]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_memory(path: Path, preset: str) -> None:
    """Run in the child process of `memory_above_import`."""
    before = peak_memory_mb()
    with tempfile.TemporaryDirectory() as cache:
        whole_stage(path, preset, Path(cache))
    sys.stdout.write(f"{peak_memory_mb() - before:.0f}\n")


def main() -> None:
    """Print the table."""
    (path,), _ = million("south")
    where = chunks(path)
    floor = cheapest(lambda: read_and_decompress(path, where), repeats=9).cpu
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        n_events = pairs_of_block(
            path, ENERGY_INTER, load_configuration(preset="energy-inter-peer"), cache
        ).n_events
        table = Table(title=f"{path.name}: 51 telescopes, {n_events:,} telescope events")
        for name in ("stage", "pair rows", "CPU [s]", "x floor", "memory above import [MB]"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        table.add_row("floor: read + decompress", "", f"{floor:.3f}", "1.0", "")
        for preset, observable in PRESETS.items():
            configuration = load_configuration(preset=preset)
            work = partial(pairs_without_cache, path, observable, configuration)
            n_pairs = work()
            pairs = cheapest(work, repeats=9).cpu
            stage = cheapest(partial(whole_stage, path, preset, cache)).cpu
            memory = memory_above_import(path, preset)
            cells = (f"{n_pairs:,}", f"{pairs:.3f}", f"{pairs / floor:.1f}", "")
            table.add_row(f"{preset}: pairs", *cells)
            name = f"{preset}: pairs + hash + Parquet cache"
            table.add_row(name, "", f"{stage:.3f}", f"{stage / floor:.1f}", f"{memory:.0f}")
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
