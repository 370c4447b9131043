"""Nights of genuine DL2 block files with known truth.

`settings` what to draw, `arrays` the layouts, `showers` light and triggers, `camera` what becomes
of the images, `analysis` the reconstruction, `timing` the stamps, `block` one block in memory,
`files`, `parameters`, `tables` and `instrument` its DL2 file, `night` all of it together, `truth`
what it was made from.
"""

from calib.simulation.night import (
    block_path,
    draw_throughput,
    simulate_block,
    simulate_night,
)
from calib.simulation.settings import CameraSettings, ClockSettings, SimulationSettings
from calib.simulation.truth import Truth

__all__ = [
    "CameraSettings",
    "ClockSettings",
    "SimulationSettings",
    "Truth",
    "block_path",
    "draw_throughput",
    "simulate_block",
    "simulate_night",
]
