"""Clock offsets: CPU time of model and solution for a million stamps of 51 telescopes.

Run: ``OPENBLAS_NUM_THREADS=1 python benchmarks/bench_timing.py``. The stamps are in memory; reading
is not measured. Every repeat is printed, the first one (cold caches, first imports) apart.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
from toy_stamps import TimingToy, toy_setup, toy_stamps, toy_timing_array

from arraycal.calib.timing.answer import answer
from arraycal.calib.timing.showers import prepare_stamps
from arraycal.config.models import CalculateTimingCalibrationOptions

if TYPE_CHECKING:
    from collections.abc import Callable

N_STAMPS, MULTIPLICITY, WINDOW = 1_000_000, 5, 100_000
REPEATS = 7


def cpu_s(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def told(name: str, work: Callable[[], object]) -> None:
    """Print the CPU time of every repeat."""
    first, *others = (cpu_s(work) for _ in range(1 + REPEATS))
    listed = " ".join(f"{cost:.2f}" for cost in others)
    print(
        f"{name:22s} first {first:.2f}; then {listed} s CPU: least {min(others):.2f}, "
        f"median {statistics.median(others):.2f}"
    )


def main() -> None:
    """Draw, solve, print."""
    array = toy_timing_array(14, 37, 500.0)
    truth = 5.0 * np.random.default_rng(1).standard_normal(len(array))
    n_windows = N_STAMPS // WINDOW
    toy = TimingToy(truth, n_showers=WINDOW // MULTIPLICITY, duration_s=120.0)
    frames = [
        toy_stamps(toy, array, seed, obs_id=seed, start_s=1_700_000_000 + 200 * seed)
        for seed in range(n_windows)
    ]
    setup, options = toy_setup(array), CalculateTimingCalibrationOptions()
    told("arrays of stamps", lambda: [prepare_stamps(frame, setup) for frame in frames])
    windows = [prepare_stamps(frame, setup) for frame in frames]
    told("model and solution", lambda: answer(lambda: windows, array, options, compensated=False))
    tracemalloc.start()
    found = answer(lambda: windows, array, options, compensated=False)
    peak = tracemalloc.get_traced_memory()[1]
    error = found.offset_ns[found.nodes.newest] - truth
    print(f"{N_STAMPS:,} stamps, {len(array)} telescopes, {len(found.plan)} chunks")
    print(f"{found.passes} passes and one more, settled: {found.settled}")
    print(f"memory beside stamps  {peak / 1e6:6.0f} MB")
    print(f"rms error             {np.std(error):6.3f} ns")


if __name__ == "__main__":
    main()
