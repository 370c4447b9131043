"""Cross-calibration of telescope clocks from trigger time stamps; see `arraycal.calib.timing`."""

from arraycal.calib.observables.definition import Observable

__all__ = ["TIMING_CROSS"]

TIMING_CROSS = Observable(
    name="timing-cross",
    section="CalculateTimingCalibration",
    value="time",
    uncertainty=None,
    impact=None,
    unit="ns",
    scope="any",
    statistic=(),
    filters=(),
    label="",
    monitoring_path="/dl2/monitoring/subarray/timing_calibration",
)
