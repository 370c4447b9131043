"""Pairs of image sizes: CPU against the floor of their tables plus the pairing of energies.

The floor reads the compressed chunks of the tables that sizes need, rows of image parameters and
all, as `bench_blocks` does for energies. The pairing of energies, beside it, is what their events
cost once they are read. Repeats of all steps alternate, so that all of them meet the same machine.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from bench_blocks import chunks, read_and_decompress
from material import night
from rich.console import Console
from rich.table import Table

from arraycal.calib import dl2
from arraycal.calib.blocks.pair_rows import window_rows
from arraycal.calib.observables import ENERGY_INTER, IMAGE_INTER
from arraycal.calib.pairs.matching import pair_events
from arraycal.calib.pairs.rules import pair_rules, pairs_to_form
from arraycal.calib.pairs.saturation import BrightestPixels
from arraycal.calib.simulation import SimulationSettings
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from pathlib import Path

    from arraycal.calib.observables import Observable

TABLES = (
    "/dl1/event/telescope/parameters",
    "/dl2/event/telescope/impact/HillasReconstructor",
    "/dl2/event/subarray/geometry",
)
REPEATS = 9


def costs(path: Path, observable: Observable, preset: str) -> tuple[float, float, int]:
    """CPU of reading, CPU of selecting and pairing, s, and the number of pair rows."""
    configuration = load_configuration(preset=preset)
    begun = time.process_time()
    block = dl2.open_block(path)
    rules = pair_rules(observable, configuration, block)
    allowed = pairs_to_form(observable, configuration, block.subarray)
    rows = window_rows(rules, getattr(configuration, observable.section).chunk_size)
    pairing, n_pairs, pixels = 0.0, 0, BrightestPixels(block.subarray)
    for window in dl2.windows(block, rules.columns, rows=rows):
        before = time.process_time()
        if rules.brightest is not None:  # images that saturate are looked for
            pixels.add(window.events, rules.value, rules.brightest)
        n_pairs += len(pair_events(window.events, rules, block.subarray, allowed).pairs)
        pairing += time.process_time() - before
    return time.process_time() - begun - pairing, pairing, n_pairs


def cpu(work: partial[None]) -> float:
    """CPU of a call, s."""
    before = time.process_time()
    work()
    return time.process_time() - before


def measure(folder: str, n_showers: int) -> None:
    """Print the table of one block."""
    settings = SimulationSettings(array="south", n_blocks=1, n_showers=n_showers, seed=7)
    (path,), _ = night(folder, settings)
    block = dl2.open_block(path)
    n_events = sum(len(w.events) for w in dl2.windows(block, ["hillas_intensity"], rows=1_000_000))
    floor_work = partial(read_and_decompress, path, chunks(path, TABLES))
    table = Table(title=f"{path.name}: 51 telescopes, {n_events:,} telescope events")
    for name in ("preset", "pair rows", "read", "pair", "floor", "energies paired", "x both"):
        table.add_column(name, justify="left" if name == "preset" else "right")
    for suffix in ("-peer", ""):
        floor: list[float] = []
        found: dict[str, list[tuple[float, float, int]]] = {"image-inter": [], "energy-inter": []}
        for _ in range(REPEATS):
            floor.append(cpu(floor_work))
            for observable in (IMAGE_INTER, ENERGY_INTER):
                found[observable.name].append(costs(path, observable, observable.name + suffix))
        read, pair = (min(c[i] for c in found["image-inter"]) for i in (0, 1))
        whole = min(c[0] + c[1] for c in found["image-inter"])
        limit = min(floor) + min(c[1] for c in found["energy-inter"])
        per_million = 1e6 / n_events
        cells = [read, pair, min(floor), limit - min(floor)]
        table.add_row(
            f"image-inter{suffix}",
            f"{found['image-inter'][0][2]:,}",
            *(f"{value * per_million:.3f}" for value in cells),
            f"{whole / limit:.2f}",
        )
    table.caption = "CPU [s] per 1e6 telescope events"
    Console().print(table)


def main() -> None:
    """Measure a block, and a small one, where opening the tables counts."""
    measure("sizes-south", 150_000)
    measure("sizes-south-small", 60_000)


if __name__ == "__main__":
    main()
