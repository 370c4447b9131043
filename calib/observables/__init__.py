"""The calibrations arraycal offers, one module each.

A new observable is one module here, one line in `OBSERVABLES`, one preset, one closure test.
"""

from arraycal.calib.observables.cross import ENERGY_CROSS
from arraycal.calib.observables.definition import Observable
from arraycal.calib.observables.energy import ENERGY_INTER
from arraycal.calib.observables.image import IMAGE_INTER
from arraycal.calib.observables.timing import TIMING_CROSS

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
