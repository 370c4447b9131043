"""A night calibrated twice: CPU time of the second run, which finds everything done.

Run: ``python benchmarks/bench_nightly.py [--blocks 6 24]``. Every run is a process of its own, as
on a site; CPU time is the kernel's count of it and its children. A run of an empty night shows what
starting costs; through Prefect, against a server that is not counted, an empty flow shows what
Prefect alone does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from material import night

from arraycal.calib.simulation import SimulationSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NIGHT, EMPTY = date(2026, 3, 1), date(2026, 3, 20)
CALIBRATIONS = ("energy-inter", "image-inter")
#: About 0.13 million telescope events a block; 24 blocks are a night of eight hours.
SETTINGS = SimulationSettings(
    array="mixed", n_blocks=6, n_showers=30_000, seed=11, night=NIGHT, block_duration_s=1200.0
)
EMPTY_FLOW = """
from prefect import flow
flow(lambda: None, name="empty", persist_result=False)()
"""
#: Runs without work, of which the cheapest counts: the others were disturbed.
REPEATS = 3
NIGHTLY = ("-m", "arraycal.flows.cli.main", "nightly")


def main() -> None:
    """Run nights first, again, and an empty one; print CPU times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=[6, 24], help="blocks of a night")
    for n_blocks in parser.parse_args().blocks:
        _measure(n_blocks)


def _measure(n_blocks: int) -> None:
    blocks, _ = night(f"night-{n_blocks}", replace(SETTINGS, n_blocks=n_blocks))
    size_mb = sum(path.stat().st_size for path in blocks) / 1e6
    print(f"{len(blocks)} blocks, {size_mb:.0f} MB, {' and '.join(CALIBRATIONS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="arraycal-bench-") as name:
        _compare("direct", Path(name), blocks, {}, ["--direct"])
    with tempfile.TemporaryDirectory(prefix="arraycal-bench-") as name, _server(Path(name)) as ours:
        _compare("Prefect", Path(name), blocks, ours, [])
        bare = min(_cpu_s(["-c", EMPTY_FLOW], _clean() | ours, (0,)) for _ in range(REPEATS))
        print(f"{'':8} an empty flow of Prefect {bare:5.2f} s", flush=True)


def _compare(
    name: str, folder: Path, blocks: Sequence[Path], server: Mapping[str, str], words: Sequence[str]
) -> None:
    options = folder / "options.yaml"
    calibrations = [{"calibration": name} for name in CALIBRATIONS]
    options.write_text(json.dumps({"calibrations": calibrations, "settle_s": 0}))
    environment = _clean() | {
        "ARRAYCAL_DATA_ROOT": str(blocks[0].parent),
        "ARRAYCAL_OUTPUT_ROOT": str(folder / "output"),
        "ARRAYCAL_CACHE_ROOT": str(folder / "cache"),
        "ARRAYCAL_NIGHTLY_OPTIONS": str(options),
        **server,
    }
    command = [*NIGHTLY, *words, "--night"]
    first = _cpu_s([*command, str(NIGHT)], environment, (0, 3))
    again = min(_cpu_s([*command, str(NIGHT)], environment, (0, 3)) for _ in range(REPEATS))
    record = json.loads((folder / "output" / str(NIGHT) / "night.json").read_text())
    for item in record["calibrations"]:
        assert item["is_reused"]
        assert item["n_cached"] == item["n_blocks"] == len(blocks)
    empty = min(_cpu_s([*command, str(EMPTY)], environment, (5,)) for _ in range(REPEATS))
    print(
        f"{name:8} first {first:6.2f} s CPU, again {again:5.2f} s ({again / first:.1%}), of which "
        f"{empty:.2f} s are those of an empty night ({max(again - empty, 0) / first:.1%} without)",
        flush=True,
    )


def _cpu_s(words: Sequence[str], environment: Mapping[str, str], expected: Sequence[int]) -> float:
    """CPU time of a run and what it started, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode in expected, done.stdout + done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _clean() -> dict[str, str]:
    """Environment without settings of ours."""
    ours = ("ARRAYCAL_", "PREFECT_")
    found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return found | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server; what clients must know of it. Its CPU time is counted when it has ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    prefect = shutil.which("prefect", path=str(Path(sys.executable).parent))
    assert prefect is not None
    command = [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        command, env=_clean() | home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/api/health")
            yield home | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        finally:
            server.terminate()


def _wait(address: str) -> None:
    for _ in range(180):
        try:
            with urlopen(address, timeout=5):  # noqa: S310  our own server
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(address)


if __name__ == "__main__":
    main()
