"""CPU of the page of a result: against matplotlib's import and its empty axes.

Beside the import and the page stand matplotlib's own import and as many figures with nothing in
their axes. Repeats of all alternate, so that all meet the same machine.
"""

from __future__ import annotations

import io
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from material import cheapest, night
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.report import html
from arraycal.calib.simulation import SimulationSettings
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from arraycal.calib.result.result import CalibrationResult

REPEATS = 5
#: Figures and axes of a page for three telescope types, colour bars among them.
FIGURES, AXES = 12, 21
IMPORT = """
import time
import arraycal.calib.report
begun = time.process_time()
{}
print(time.process_time() - begun)
"""


def result() -> CalibrationResult:
    """Return the result of a small night of 51 telescopes."""
    settings = SimulationSettings(array="south", n_blocks=2, n_showers=20_000, seed=7)
    paths, _ = night("report", settings)
    configuration = load_configuration(preset="energy-inter")
    with TemporaryDirectory() as cache:
        rows = [rows_of_block(path, ENERGY_INTER, configuration, Path(cache)) for path in paths]
        return calibrate(rows, ENERGY_INTER, configuration)


def empty_axes() -> None:
    """Draw the axes of a page without anything in them."""
    counts = [AXES // FIGURES + (number < AXES % FIGURES) for number in range(FIGURES)]
    for n_axes in counts:
        figure = Figure(figsize=(6.0, 3.5))
        figure.subplots(1, n_axes)
        figure.savefig(io.BytesIO(), format="svg")


def imported(statement: str) -> float:
    """CPU of an import in a process of its own, s."""
    script = IMPORT.format(statement)
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    drawn = partial(html, result())
    page, floor, own, ours = [], [], [], []
    for _ in range(REPEATS):
        page.append(cheapest(drawn, 1).cpu)
        floor.append(cheapest(empty_axes, 1).cpu)
        own.append(imported("import matplotlib.figure"))
        ours.append(imported("import arraycal.calib.figures.axes"))
    table = Table(title=f"page of a result, best of {REPEATS}")
    for name in ("", "CPU [s]", "matplotlib's own [s]", "ratio"):
        table.add_column(name, justify="right")
    for name, taken, least in (
        ("import", ours, own),
        (f"page, and {FIGURES} figures of {AXES} empty axes", page, floor),
    ):
        costs = min(taken), min(least), min(taken) / min(least)
        table.add_row(name, *(f"{cost:.2f}" for cost in costs))
    Console().print(table)


if __name__ == "__main__":
    main()
