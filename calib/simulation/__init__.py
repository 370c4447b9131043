"""Nights of genuine DL2 block files with known truth.

`settings` what to draw, `arrays` the layouts, `showers` light and triggers, `camera` what becomes
of the images, `analysis` the reconstruction, `timing` the stamps, `block` one block in memory,
`files`, `parameters`, `tables` and `instrument` its DL2 file, `night` all of it together, `nights`
several of them with telescopes that change, `truth` what it was made from.
"""

from arraycal.calib.simulation.night import (
    block_path,
    draw_throughput,
    simulate_block,
    simulate_night,
)
from arraycal.calib.simulation.nights import NightSettings, settings_of_nights, simulate_nights
from arraycal.calib.simulation.settings import CameraSettings, ClockSettings, SimulationSettings
from arraycal.calib.simulation.truth import Truth

__all__ = [
    "CameraSettings",
    "ClockSettings",
    "NightSettings",
    "SimulationSettings",
    "Truth",
    "block_path",
    "draw_throughput",
    "settings_of_nights",
    "simulate_block",
    "simulate_night",
    "simulate_nights",
]
