"""What the benchmarks share: simulated blocks, and CPU and memory of a piece of work."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from arraycal.calib.simulation import SimulationSettings, Truth, simulate_night

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FOLDER", "Cost", "cheapest", "million", "night"]

#: Blocks are made once and kept here.
FOLDER = Path(__file__).resolve().parent / "blocks"


class Cost(NamedTuple):
    """CPU and wall time of one call, s."""

    cpu: float
    wall: float


def cheapest(work: Callable[[], object], repeats: int = 5) -> Cost:
    """Least CPU and wall time of several calls: the others were disturbed."""
    costs = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))
    return Cost(min(c.cpu for c in costs), min(c.wall for c in costs))


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, MB.

    From Linux's own count: getrusage also remembers the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def night(name: str, settings: SimulationSettings) -> tuple[list[Path], Truth]:
    """Blocks of a simulated night, made when they are not there yet."""
    folder = FOLDER / name
    if not (folder / "truth.json").exists():
        simulate_night(folder, settings, overwrite=True)
    return sorted(folder.glob("*.dl2.h5")), Truth.read(folder / "truth.json")


def million(array: str) -> tuple[list[Path], Truth]:
    """Return one block of about 1e6 telescope events (51 telescopes for `south`)."""
    settings = SimulationSettings(
        array=array,  # type: ignore[arg-type]
        n_blocks=1,
        n_showers=250_000,
        seed=7,
        write_dl1=False,
    )
    return night(f"million-{array}", settings)
