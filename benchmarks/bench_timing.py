"""Clock offsets: CPU time of model and solution for a million stamps of 51 telescopes.

Run: ``python benchmarks/bench_timing.py``. The stamps are in memory; reading is not measured.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

from calib.timing.answer import answer
from calib.timing.showers import prepare
from calib.timing.toys import TimingToy, toy_setup, toy_stamps, toy_timing_array
from config.models import CalculateTimingCalibrationOptions

N_STAMPS, MULTIPLICITY, WINDOW = 1_000_000, 5, 100_000


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
    setup = toy_setup(array)
    start = time.process_time()
    windows = [prepare(frame, setup) for frame in frames]
    prepared = time.process_time()
    found = answer(lambda: windows, array, CalculateTimingCalibrationOptions(), compensated=False)
    solved = time.process_time()
    tracemalloc.start()
    answer(lambda: windows, array, CalculateTimingCalibrationOptions(), compensated=False)
    peak = tracemalloc.get_traced_memory()[1]
    error = found.offset_ns[found.nodes.newest] - truth
    print(f"{N_STAMPS:,} stamps, {len(array)} telescopes, {len(found.plan)} chunks")
    print(f"arrays of stamps      {prepared - start:6.2f} s CPU")
    print(
        f"model and solution    {solved - prepared:6.2f} s CPU, {found.passes} passes and one more"
    )
    print(f"memory beside stamps  {peak / 1e6:6.0f} MB")
    print(f"rms error             {np.std(error):6.3f} ns, settled: {found.settled}")


if __name__ == "__main__":
    main()
