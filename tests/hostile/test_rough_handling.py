"""Bytes that change on the disk, and runs that are killed: a few of each, drawn at random.

More of them are in ``benchmarks/bench_hostile.py``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rough_handling

import arraycal

# Each calibration is one of many; a busy machine may take its time for all of them.
pytestmark = pytest.mark.timeout(1800)


def drawn(what, folder, n, seed):
    """What happened, one item per draw; in a process that may fork, without threads of pytest."""
    root, toys = Path(arraycal.__file__).resolve().parents[1], Path(rough_handling.__file__)
    environment = {key: text for key, text in os.environ.items() if "ARRAYCAL" not in key} | {
        "PYTHONPATH": f"{root}{os.pathsep}{toys.parent}",
        "ARRAYCAL_HOME": str(folder / "no site"),
        # Only a process whose libraries have started no threads can fork.
        "POLARS_MAX_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(toys), what, str(folder), str(n), str(seed)],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == n
    return found


def test_a_damaged_block_is_left_out_with_a_reason_or_its_numbers_are_the_sound_ones(tmp_path):
    found = drawn("damages", tmp_path, 30, seed=1)
    outcomes = {outcome for _, _, outcome in found}
    assert outcomes <= {"same", "named", "refused"}, found
    # The draws are worth something: some damage is noticed, and some does not matter.
    assert {"same", "named"} <= outcomes


def test_a_kill_at_any_time_loses_nothing_and_leaves_nothing_half_written(tmp_path):
    assert drawn("kills", tmp_path, 6, seed=1) == [""] * 6
