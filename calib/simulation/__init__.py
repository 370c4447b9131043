"""Nights of genuine DL2 block files with known truth.

`settings` what to draw, `arrays` the layouts, `showers` light and triggers, `analysis` the
reconstruction, `block` one block in memory, `files`, `tables` and `instrument` its DL2 file,
`night` all of it together.
"""

from calib.simulation.night import (
    SimulationSettings,
    Truth,
    block_path,
    draw_throughput,
    simulate_block,
    simulate_night,
)

__all__ = [
    "SimulationSettings",
    "Truth",
    "block_path",
    "draw_throughput",
    "simulate_block",
    "simulate_night",
]
