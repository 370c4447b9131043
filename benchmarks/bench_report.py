"""CPU of the page of a result, beside as many figures of matplotlib with nothing in their axes.

Repeats of both alternate, so that both meet the same machine.
"""

from __future__ import annotations

import io
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


def main() -> None:
    """Print the table."""
    drawn = partial(html, result())
    page, floor = [], []
    for _ in range(REPEATS):
        page.append(cheapest(drawn, 1).cpu)
        floor.append(cheapest(empty_axes, 1).cpu)
    table = Table(title=f"page of a result, best of {REPEATS}")
    for name in ("", "CPU [s]", "matplotlib's own [s]", "ratio"):
        table.add_column(name, justify="right")
    costs = min(page), min(floor), min(page) / min(floor)
    name = f"page, and {FIGURES} figures of {AXES} empty axes"
    table.add_row(name, *(f"{cost:.2f}" for cost in costs))
    Console().print(table)


if __name__ == "__main__":
    main()
