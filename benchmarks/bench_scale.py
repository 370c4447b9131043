"""How cost grows with the number of blocks, for every calibration.

Run: ``python benchmarks/bench_scale.py [--blocks 1,10,100] [--events 10000]``. Every run is a
process of its own, ``arraycal run CALIBRATION BLOCKS --direct``: once with an empty cache, once
more with all blocks in it. What the second one costs is not the blocks' stage but the driver's:
start, solution, tables, report. Both are repeated, and of the repeats the least CPU and wall time
and the highest memory count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from material import night, peak_memory_mb
from rich.console import Console
from rich.table import Table

from arraycal.calib.simulation import SimulationSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

CALIBRATIONS = ("energy-inter", "energy-cross", "image-inter", "timing-cross")
#: Telescopes of the array north in a shower, in the mean.
MULTIPLICITY = 3.6
#: Usable or degraded: of few showers some telescope may get no number.
EXPECTED = (0, 3)
HEADINGS = (
    "calibration",
    "blocks",
    "CPU [s]",
    "ratio",
    "wall [s]",
    "ratio",
    "CPU per block [s]",
    "per further block [s]",
    "peak memory [MB]",
    "ratio",
    "driver CPU [s]",
    "ratio",
    "share",
)


class Run(NamedTuple):
    """One process: CPU and wall time, s, and peak memory, MB."""

    cpu: float
    wall: float
    memory: float


class Row(NamedTuple):
    """The two runs of a number of blocks: with an empty cache, and with all of them in it."""

    n_blocks: int
    cold: Run
    cached: Run


def main() -> None:
    """Simulate as many blocks as the largest number needs; measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=_counts, default=(1, 10, 100), help="such as 1,10,100")
    parser.add_argument("--events", type=int, default=10_000, help="telescope events of a block")
    parser.add_argument("--repeats", type=int, default=2, help="how often everything is run")
    parser.add_argument("--calibrations", nargs="+", choices=CALIBRATIONS, default=CALIBRATIONS)
    given = parser.parse_args()
    blocks = _blocks(max(given.blocks), given.events)
    size_mb = sum(path.stat().st_size for path in blocks) / len(blocks) / 1e6
    print(f"blocks of {given.events:,} telescope events, {size_mb:.1f} MB", flush=True)
    table = Table(*HEADINGS)
    for calibration in given.calibrations:
        rows = [_measure(calibration, blocks[:n], given.repeats) for n in given.blocks]
        for cells in _cells(rows):
            table.add_row(calibration, *cells)
    Console(width=180).print(table)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in text.split(",")))


def _blocks(n_blocks: int, n_events: int) -> list[Path]:
    """Blocks of one night, each with showers of its own: copies would be found out."""
    settings = SimulationSettings(
        array="north",
        n_blocks=n_blocks,
        n_showers=round(n_events / MULTIPLICITY),
        seed=5,
        night=date(2026, 3, 1),
        block_duration_s=240.0,
    )
    return night(f"scale-{n_blocks}-{n_events}", settings)[0]


def _measure(calibration: str, blocks: Sequence[Path], repeats: int) -> Row:
    """Run some blocks, cold and cached."""
    pairs = [_cold_and_cached(calibration, blocks) for _ in range(repeats)]
    row = Row(len(blocks), *(_undisturbed(runs) for runs in zip(*pairs, strict=True)))
    print(f"  {calibration}: {row}", flush=True)
    return row


def _cold_and_cached(calibration: str, blocks: Sequence[Path]) -> tuple[Run, Run]:
    with tempfile.TemporaryDirectory(prefix="arraycal-bench-") as name:
        folder = Path(name)
        chosen = folder / "blocks"
        chosen.mkdir()
        for path in blocks:
            (chosen / path.name).symlink_to(path)
        return _run(calibration, chosen, folder), _run(calibration, chosen, folder)


def _undisturbed(runs: Iterable[Run]) -> Run:
    cpu, wall, memory = zip(*runs, strict=True)
    return Run(min(cpu), min(wall), max(memory))


def _run(calibration: str, chosen: Path, folder: Path) -> Run:
    """Run a calibration in a process of its own; results of the run before go first."""
    output, log = folder / "output", folder / "log"
    shutil.rmtree(output, ignore_errors=True)
    words = ["-m", "arraycal.flows.cli.main", "run", calibration, str(chosen), "--direct"]
    start = time.perf_counter()
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, *words, "--output", str(output)],
            env=_environment(folder),
            stdout=sink,
            stderr=sink,
        )
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in EXPECTED, log.read_text()
    memory = used.ru_maxrss / 1024
    # The kernel's count also remembers the process that started this one.
    assert memory > peak_memory_mb(), "the benchmark itself needs more memory than the run"
    return Run(used.ru_utime + used.ru_stime, wall, memory)


def _environment(folder: Path) -> Mapping[str, str]:
    """Environment without settings of ours but the cache."""
    found = {key: text for key, text in os.environ.items() if not key.startswith("ARRAYCAL_")}
    root = str(Path(__file__).resolve().parents[1])
    return found | {"PYTHONPATH": root, "ARRAYCAL_CACHE_ROOT": str(folder / "cache")}


def _cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Texts of the rows of a calibration; ratios are against the first one."""
    first, before = rows[0], None
    for row in rows:
        cold, cached = row.cold, row.cached
        more = "" if before is None else f"{_further(before, row):.2f}"
        yield [
            f"{row.n_blocks}",
            f"{cold.cpu:.1f}",
            f"{cold.cpu / first.cold.cpu:.1f}",
            f"{cold.wall:.1f}",
            f"{cold.wall / first.cold.wall:.1f}",
            f"{cold.cpu / row.n_blocks:.2f}",
            more,
            f"{cold.memory:.0f}",
            f"{cold.memory / first.cold.memory:.2f}",
            f"{cached.cpu:.1f}",
            f"{cached.cpu / first.cached.cpu:.1f}",
            f"{cached.cpu / cold.cpu:.0%}",
        ]
        before = row


def _further(before: Row, row: Row) -> float:
    """CPU of every block that is there and was not before, s: constant if cost is linear."""
    return (row.cold.cpu - before.cold.cpu) / (row.n_blocks - before.n_blocks)


if __name__ == "__main__":
    main()
