"""Whole processes on identical blocks: ctao-calibpipe beside arraycal in the peer's mode.

Needs the environment of ``make interop``; says so and does nothing without it. Same selection,
same pairs, same chi-square; arraycal starts with an empty cache.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml
from material import Cost, night
from rich.console import Console
from rich.table import Table

from arraycal.calib.simulation import SimulationSettings
from arraycal.config import preset_path

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PEER = Path(os.environ.get("ARRAYCAL_PEER_BIN", ROOT / ".venv-interop" / "bin"))
CONSOLE = Console()


def run(*commands: Sequence[str | Path], cache: Path) -> Cost:
    """CPU and wall time of processes, one after the other."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "ARRAYCAL_CACHE_ROOT": str(cache), "PYTHONPATH": str(ROOT)}
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(cpu, time.perf_counter() - wall)


class Kind(NamedTuple):
    """Our calibration and section, and the section and tool of the peer."""

    ours: str
    section: str
    theirs: str
    tool: str


KINDS = {
    "energies": Kind(
        "energy-inter",
        "CalculateAsymmetry",
        "CalculateEnergyAsymmetry",
        "calibpipe-energy-asymmetry-estimation",
    ),
    "image sizes": Kind(
        "image-inter",
        "CalculateImageAsymmetry",
        "CalculateImageAsymmetry",
        "calibpipe-image-asymmetry-estimation",
    ),
}


def peer(kind: Kind, blocks: Sequence[Path], folder: Path) -> Cost:
    """Event-wise asymmetries block by block, then the inter-calibration."""
    sections = yaml.safe_load(preset_path(f"{kind.ours}-peer").read_text())
    ours = ("estimator", "min_events", "min_common_events", "gauge")
    fitter = sections["RelativeThroughputFitter"]
    for key in ours:
        fitter.pop(key, None)
    asymmetry = {
        kind.theirs: sections[kind.section],
        **{name: sections[name] for name in ("QualityQuery", "PairFinder") if name in sections},
    }
    label = f"{kind.ours.split('-')[0]}_asymmetry"
    fit = {
        "CalculateInterCalibration": {"overwrite": True, "asymmetry_label": label},
        "RelativeThroughputFitter": fitter,
    }
    for name, content in (("asymmetry.yaml", asymmetry), ("fit.yaml", fit)):
        (folder / name).write_text(yaml.safe_dump(content))
    (folder / "asymmetries").mkdir()
    estimate, solve = (
        PEER / kind.tool,
        PEER / "calibpipe-inter-calibration",
    )
    commands = [
        (
            estimate,
            "-c",
            folder / "asymmetry.yaml",
            "-i",
            b,
            "-o",
            folder / "asymmetries" / f"{b.stem}.h5",
        )
        for b in blocks
    ]
    last = (
        solve,
        "-c",
        folder / "fit.yaml",
        "-i",
        folder / "asymmetries",
        "-o",
        folder / "peer.h5",
    )
    os.chdir(folder)  # its provenance log goes to the working folder
    return run(*commands, last, cache=folder / "none")


def ours(kind: Kind, blocks: Sequence[Path], folder: Path) -> Cost:
    """The same with arraycal, report and all."""
    start = [sys.executable, "-m", "arraycal.flows.cli.main", "run", kind.ours, *map(str, blocks)]
    options = ["--preset", f"{kind.ours}-peer", "--output", str(folder / "ours"), "--direct"]
    return run([*start, *options], cache=folder / "cache")


def main() -> None:
    """Print the table."""
    if not (PEER / "calibpipe-inter-calibration").exists():
        CONSOLE.print("ctao-calibpipe is not installed; run `make interop` first.")
        return
    table = Table(title="asymmetries and inter-calibration, whole processes")
    for name in ("night", "compared", "tool", "CPU [s]", "wall [s]", "CPU ratio"):
        table.add_column(name, justify="right" if "[" in name or "ratio" in name else "left")
    for array, n_showers in (("north", 5_000), ("mixed", 20_000)):
        settings = SimulationSettings(
            array=array,  # type: ignore[arg-type]
            n_blocks=2,
            n_showers=n_showers,
            seed=5,
            pointing_tables=("observation", "configuration", "dl1"),
        )
        blocks, _ = night(f"peer-{array}-images", settings)
        label = f"{array}, 2 x {n_showers:,} showers"
        for name, kind in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                theirs, mine = peer(kind, blocks, Path(folder)), ours(kind, blocks, Path(folder))
            costs = f"{theirs.cpu:.1f}", f"{theirs.wall:.1f}"
            table.add_row(label, name, "ctao-calibpipe", *costs, "1")
            costs = f"{mine.cpu:.1f}", f"{mine.wall:.1f}"
            table.add_row(label, name, "arraycal", *costs, f"1/{theirs.cpu / mine.cpu:.0f}")
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
