"""Many damaged blocks and many killed runs: counts of what became of them.

Run: ``python benchmarks/bench_hostile.py [--damages 400] [--kills 30] [--seed 1]``. It fails if one
ends in a traceback, in numbers that nobody can tell are wrong, or in half a result.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

# Only a process whose libraries have started no threads can fork; read when they are imported.
os.environ |= {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> int:
    """Damage, kill, count."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "toys"))
    from rough_handling import damages, kills, small_night

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--damages", type=int, default=400, help="blocks to damage")
    parser.add_argument("--kills", type=int, default=30, help="runs to kill")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        blocks = small_night(folder / "blocks")
        outcomes: Counter[str] = Counter()
        for item in damages(blocks, folder, given.damages, given.seed):
            outcomes[item.outcome.partition(":")[0]] += 1
            if item.outcome not in {"same", "named", "refused"}:
                print(f"  {item}")
        print("damaged blocks:", ", ".join(f"{n} {what}" for what, n in outcomes.most_common()))
        problems = [text for text in kills(blocks, folder, given.kills, given.seed) if text]
        print(f"killed runs: {given.kills}, of which {len(problems)} wrong", *problems, sep="\n  ")
    return int(bool(problems) or not set(outcomes) <= {"same", "named", "refused"})


if __name__ == "__main__":
    sys.exit(main())
