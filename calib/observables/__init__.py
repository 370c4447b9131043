"""The calibrations arraycal offers, one module each.

A new observable is one module here, one line in `OBSERVABLES`, one preset, one closure test.
"""

from calib.observables.cross import ENERGY_CROSS
from calib.observables.energy import ENERGY_INTER
from calib.observables.image import IMAGE_INTER
from calib.observables.observable import Observable
from calib.observables.timing import TIMING_CROSS

__all__ = [
    "ENERGY_CROSS",
    "ENERGY_INTER",
    "IMAGE_INTER",
    "OBSERVABLES",
    "TIMING_CROSS",
    "Observable",
]

OBSERVABLES: dict[str, Observable] = {
    observable.name: observable
    for observable in (ENERGY_INTER, ENERGY_CROSS, IMAGE_INTER, TIMING_CROSS)
}
