"""Inter-calibration of optical throughput from the energies telescopes assign to a shower.

Method: Mitchell, Parsons, Hofmann, Bernlohr 2016, Astropart. Phys. 75, 1 (arXiv:1510.06526).
"""

from arraycal.calib.observables.definition import LOG_RATIO_STATISTIC, Observable
from arraycal.calib.observables.filters import DISTANCE_ASYMMETRY, ColumnTemplate, EventFilter

__all__ = ["ENERGY_FILTERS", "ENERGY_INTER", "MEASURABLE_TEV"]

ENERGY_FILTERS = (
    EventFilter("min_gammaness", (ColumnTemplate("{gammaness}_tel_prediction", ""),), ">="),
    EventFilter("min_energy", (ColumnTemplate("{energy}_tel_energy", "TeV"),), ">="),
    DISTANCE_ASYMMETRY,
)

#: Two decades and more on either side of what Cherenkov telescopes reconstruct, 20 GeV to 300 TeV.
MEASURABLE_TEV = (1e-4, 1e4)

ENERGY_INTER = Observable(
    name="energy-inter",
    section="CalculateAsymmetry",
    value="{energy}_tel_energy",
    uncertainty="{energy}_tel_energy_uncert",
    impact="{geometry}_tel_impact_distance",
    unit="TeV",
    scope="same_type",
    statistic=LOG_RATIO_STATISTIC,
    filters=ENERGY_FILTERS,
    label="energy_asymmetry",
    monitoring_path="/dl2/monitoring/subarray/inter_calibration",
    measurable=MEASURABLE_TEV,
)
