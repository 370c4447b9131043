"""Inter-calibration of optical throughput from the energies telescopes assign to a shower.

Method: Mitchell, Parsons, Hofmann, Bernlohr 2016, Astropart. Phys. 75, 1 (arXiv:1510.06526).
"""

from calib.observables.observable import LOG_RATIO_STATISTIC, Observable

__all__ = ["ENERGY_INTER"]

ENERGY_INTER = Observable(
    name="energy-inter",
    section="CalculateAsymmetry",
    value="{energy}_tel_energy",
    uncertainty="{energy}_tel_energy_uncert",
    impact="{geometry}_tel_impact_distance",
    unit="TeV",
    scope="same_type",
    statistic=LOG_RATIO_STATISTIC,
    label="energy_asymmetry",
    monitoring_path="/dl2/monitoring/subarray/inter_calibration",
)
