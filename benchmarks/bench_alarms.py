"""False alarms: how many nights of sound telescopes are called anything but usable, and why.

Simulated nights in which nothing is wrong. A telescope that the data do not constrain is left out
for its few showers, which is no alarm: only reasons of tests count.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import CannotCompute
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.config import load_configuration

#: What is said of telescopes without enough showers.
NO_ALARM = ("without coefficient", "the mean that is 0 is that of the others")


def night(seed: int, array: str, blocks: int, showers: int) -> dict[str, list[str]]:
    """Reasons of each calibration of one sound night."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SimulationSettings(
            array=array,  # type: ignore[arg-type]
            n_blocks=blocks,
            n_showers=showers,
            seed=seed,
        )
        simulate_night(folder / "night", settings)
        files = sorted((folder / "night").glob("*.dl2.h5"))
        for observable in OBSERVABLES.values():
            configuration = load_configuration(preset=observable.name)
            rows = [rows_of_block(f, observable, configuration, folder / "cache") for f in files]
            try:
                verdict = calibrate(rows, observable, configuration).verdict
                found[observable.name] = [
                    reason
                    for reason in verdict.reasons
                    if not any(words in reason for words in NO_ALARM)
                ]
            except CannotCompute as error:
                found[observable.name] = [str(error)]
    return found


def main() -> None:
    """Print the rate of alarms by calibration, and every reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--array", default="north")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--showers", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.nights)
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        jobs = {
            seed: pool.submit(night, seed, given.array, given.blocks, given.showers)
            for seed in seeds
        }
        nights = {seed: job.result() for seed, job in jobs.items()}
    console = Console()
    table = Table(title=f"{given.nights} sound nights, {given.array}, {given.showers} showers")
    for column in ("calibration", "nights with an alarm", "share"):
        table.add_column(column)
    alarms = Counter(name for found in nights.values() for name in found if found[name])
    for name in OBSERVABLES:
        table.add_row(name, str(alarms[name]), f"{alarms[name] / given.nights:.1%}")
    any_of = sum(any(found.values()) for found in nights.values())
    table.add_row("any of them", str(any_of), f"{any_of / given.nights:.1%}")
    console.print(table)
    for seed, found in nights.items():
        for name, reasons in found.items():
            for reason in reasons:
                console.print(f"seed {seed}, {name}: {reason}", markup=False)


if __name__ == "__main__":
    main()
