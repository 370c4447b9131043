"""What happens to files and runs where disks lie and machines die, drawn at random.

Bytes of blocks are changed, and runs are killed. Every calibration is a fork of a process that has
imported everything, so that it starts in no time, and so that neither a crash of libhdf5 nor a kill
ends who looks at it.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arraycal.calib import report
from arraycal.calib.errors import ArraycalError
from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.flows.cli.main import main
from arraycal.flows.jobs import direct  # noqa: F401  forks need not import it

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Damage", "damages", "kills", "small_night"]

#: Few showers give every telescope a coefficient only with low limits.
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)
#: Exit statuses of runs that say what they mean.
MEANT = {0, 2, 3, 4, 5}
COEFFICIENTS = "/dl2/service/arraycal/energy-inter/telescopes"
#: Share of the damages that are near the start of a file, and how near.
STRUCTURE_SHARE, STRUCTURE_BYTES = 0.3, 20_000
#: No run of these blocks takes longer, even on a busy machine, s.
ENOUGH_S = 120.0


def small_night(folder: Path) -> list[Path]:
    """Simulate two small blocks."""
    settings = SimulationSettings(array="north", n_blocks=2, n_showers=400, seed=3)
    simulate_night(folder, settings)
    return sorted(folder.glob("*.dl2.h5"))


def calibrate(blocks: Sequence[Path], output: Path, cache: Path, *settings: str) -> int:
    """Run the command line on blocks in a fork, and return the id of its process."""
    given = [item for text in (*LENIENT, *settings) for item in ("--set", text)]
    files = [str(path) for path in blocks]
    command = ["run", "energy-inter", *files, "--output", str(output), "--direct", "--overwrite"]
    process = os.fork()
    if process:
        return process
    status = 70  # of nobody else
    try:
        os.environ["ARRAYCAL_CACHE_ROOT"] = str(cache)
        # Figures take longest, and have nothing to do with it.
        report.html = lambda *_: "<!doctype html>"
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            status = main([*command, *given])
        output.mkdir(exist_ok=True)
        (output / "said").write_text(said.getvalue())
    finally:
        os._exit(status)


def ended(process: int) -> int:
    """Exit status of a fork; negative if a signal ended it. It is killed if it does not end."""
    until = time.monotonic() + ENOUGH_S
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGALRM


def numbers(folder: Path) -> dict[str, Any]:
    """Coefficients and blocks of a result."""
    content = json.loads((folder / "result.json").read_text())
    kept = ("tel_id", "value", "error", "flag")
    return {
        "telescopes": [[row[name] for name in kept] for row in content["telescopes"]],
        "rejected": content["rejected"],
        "left_out": {
            Path(row["path"]).name: row["reason"]
            for row in content["blocks"]
            if row["status"] != "ok"
        },
    }


class Damage(NamedTuple):
    """What became of a run over a block with changed bytes.

    Parameters
    ----------
    changes : list of (int, int)
        Offset and new byte.
    status : int
        Exit status; negative for a signal.
    outcome : str
        ``same``: the numbers of the sound block; ``named``: the block is left out with a reason;
        ``refused``: no result, and a message; anything else is a defect.
    """

    changes: list[tuple[int, int]]
    status: int
    outcome: str


def damages(blocks: Sequence[Path], folder: Path, n: int, seed: int) -> Iterator[Damage]:
    """Calibrate blocks of which the last one has some other bytes, again and again."""
    rng = random.Random(seed)  # noqa: S311  no secret
    *others, victim = blocks
    copy = folder / victim.name
    sound = victim.read_bytes()
    expected = _of(others, victim, folder / "sound")
    for number in range(n):
        changed = bytearray(sound)
        n_bytes = rng.choice((1, 4))
        changes = [(rng.randrange(len(sound)), rng.randrange(256)) for _ in range(n_bytes)]
        if rng.random() < STRUCTURE_SHARE:  # where most leads elsewhere
            changes = [(offset % STRUCTURE_BYTES, byte) for offset, byte in changes]
        for offset, byte in changes:
            changed[offset] = byte
        copy.write_bytes(changed)
        output = folder / f"out-{number}"
        status = ended(calibrate([*others, copy], output, folder / "cache"))
        yield Damage(changes, status, _outcome(output, status, copy.name, expected))


def _of(others: Sequence[Path], victim: Path, output: Path) -> dict[str, Any]:
    status = ended(calibrate([*others, victim], output, output.parent / "cache"))
    assert status in {0, 3}, (output / "said").read_text()
    found = numbers(output)
    assert not found["left_out"]
    return found


def _outcome(output: Path, status: int, name: str, expected: dict[str, Any]) -> str:
    said = (output / "said").read_text() if (output / "said").exists() else ""
    if status not in MEANT or "Traceback" in said or "internal error" in said:
        return f"crashed: {said[-500:]}"
    if not (output / "result.json").exists():
        return "refused" if said.strip() else "nothing was said"
    found = numbers(output)
    if found["left_out"].get(name):
        return "named"
    return "same" if found == expected else "other numbers, and nothing was said"


def kills(blocks: Sequence[Path], folder: Path, n: int, seed: int) -> Iterator[str]:
    """Kill runs at random times; say after each what is wrong, or nothing.

    Results of one scale are replaced by those of another, so that it shows which is which.
    """
    rng = random.Random(seed)  # noqa: S311  no secret
    output, cache = folder / "out", folder / "cache"
    scales = [f"RelativeThroughputFitter.throughput_normalisation={{MST: {x}}}" for x in (1, 2)]
    expected, duration = [], 0.0
    for number, scale in enumerate(scales):
        start = time.monotonic()
        assert ended(calibrate(blocks, folder / f"whole-{number}", cache / scale, scale)) in {0, 3}
        duration = time.monotonic() - start
        expected.append(numbers(folder / f"whole-{number}")["telescopes"])
    assert expected[0] != expected[1]
    assert ended(calibrate(blocks, output, cache, scales[0])) in {0, 3}
    for number in range(n):
        # Every third with an empty cache, so that rows are made, too.
        own = folder / f"cache-{number}" if number % 3 == 0 else cache
        scale = scales[(number + 1) % 2]
        process = calibrate(blocks, output, own, scale)
        time.sleep(rng.uniform(0.0, duration))
        os.kill(process, signal.SIGKILL)
        ended(process)
        yield _wrong(output, expected) or _wrong_after(blocks, output, own, scale, expected)


def _wrong(output: Path, expected: Sequence[Any]) -> str:
    """What is wrong with the results in a folder, which may be of one run or the other."""
    try:
        found = numbers(output)["telescopes"]
        with open_file(output / "monitoring.h5") as file:
            table = require_table(file, COEFFICIENTS, output / "monitoring.h5")
            rows = table.read()
            columns = (table.column(name, rows).tolist() for name in ("tel_id", "value"))
            values = dict(zip(*columns, strict=True))
    except (OSError, ValueError, KeyError, ArraycalError) as error:
        return f"half a file: {error!r}"
    if found not in expected:
        return "numbers of neither run"
    if any(value != values[tel_id] for tel_id, value, *_ in found if value is not None):
        return "monitoring.h5 and result.json are of two runs"
    return ""


def _wrong_after(
    blocks: Sequence[Path], output: Path, cache: Path, scale: str, expected: Sequence[Any]
) -> str:
    """What is wrong after the next run, which finds what the killed one left."""
    status = ended(calibrate(blocks, output, cache, scale))
    if status not in {0, 3}:
        return f"the next run ended with {status}"
    left = [path for path in output.iterdir() if path.name.startswith(".arraycal-")]
    if left:
        return f"{left[0].name} was left"
    return _wrong(output, expected)


if __name__ == "__main__":
    what, folder, n, seed = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    made = small_night(folder / "blocks")
    work = {"damages": damages, "kills": kills}[what]
    for item in work(made, folder, n, seed):
        print(json.dumps(item), flush=True)
