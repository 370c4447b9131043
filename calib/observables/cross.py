"""Cross-calibration of optical throughput between telescope types, from energies.

Method: Mitchell, Parsons, Hofmann, Bernlohr 2016, Astropart. Phys. 75, 1 (arXiv:1510.06526), with
all telescopes of all types in one solution.
"""

from arraycal.calib.dl2.pointing import ALTITUDE, AZIMUTH
from arraycal.calib.observables.definition import LOG_RATIO_STATISTIC, Observable
from arraycal.calib.observables.energy import ENERGY_FILTERS, MEASURABLE_TEV
from arraycal.calib.observables.filters import ColumnTemplate

__all__ = ["ENERGY_CROSS"]

ENERGY_CROSS = Observable(
    name="energy-cross",
    section="CalculateCrossCalibration",
    value="{energy}_tel_energy",
    uncertainty="{energy}_tel_energy_uncert",
    impact="{geometry}_tel_impact_distance",
    unit="TeV",
    scope="any",
    statistic=LOG_RATIO_STATISTIC,
    filters=ENERGY_FILTERS,
    label="energy_asymmetry",
    monitoring_path="/dl2/monitoring/subarray/cross_calibration/coefficients",
    measurable=MEASURABLE_TEV,
    shower=(
        ("altitude_deg", ColumnTemplate("{geometry}_alt", "deg")),
        ("azimuth_deg", ColumnTemplate("{geometry}_az", "deg")),
        # Telescopes point in parallel: that of any of them serves for the shower.
        ("pointing_altitude_rad", ColumnTemplate(ALTITUDE, "rad")),
        ("pointing_azimuth_rad", ColumnTemplate(AZIMUTH, "rad")),
    ),
)
