"""What a timing result says of its fit, from an answer by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arraycal.calib.timing.assemble import _core_remarks, _facts, _untested
from arraycal.calib.timing.convention.plane_wave_test import Checks
from arraycal.calib.timing.reasons import _drift
from arraycal.calib.timing.showers import Plan
from arraycal.calib.timing.solve import constant_nodes
from arraycal.calib.timing.steps import Drift
from arraycal.config.models import CalculateTimingCalibrationOptions

ARRAY: Any = SimpleNamespace(
    types=("LST", "LST", "MST"),
    tel_ids=(1, 2, 3),
    positions_m=((0.0, 0.0, 0.0), (300.0, 0.0, 0.0), (0.0, 300.0, 0.0)),
    index={1: 0, 2: 1, 3: 2},
)


def answer(**changes) -> Any:
    sums = SimpleNamespace(
        n_rows=np.array([[40.0, 40.0, 20.0]]),
        n_all=np.array([[45.0, 40.0, 22.0]]),
        n_showers=np.array([40.0]),
        expected=np.array([20.0, 20.0, 10.0]),
        square=np.array([22.0, 18.0, 15.0]),
    )
    known = {
        "plan": Plan(
            edges=np.array([0, 40]),
            start_s=np.zeros(1),
            stop_s=np.ones(1),
            obs_id=np.array([1]),
            pointing=np.array([[0.0, 0.0, 1.0]]),
        ),
        "detail": SimpleNamespace(sums=sums),
        "square_ns2": np.array([100.0, 60.0, 40.0]),
        "model": SimpleNamespace(log_scale=np.log(1.5), walk_ns=np.array([2.0, 3.0])),
        "column_error": {"curvature": 0.02, "walk_0": 0.1, "walk_1": np.nan},
        "checks": Checks(0.01, 0.02, np.nan, np.nan, 1, "", 3),
        "jumps": {2: ["one", "two"]},
        "n_events": np.array([40.0, 40.0, 20.0]),
        "drifting": frozenset({1}),
        "bowl_ns": np.array([0.5, -3.0, 1.0]),
        "walk_shift_ns": np.array([-2.0, 0.25, 1.0]),
        "offset_ns": np.zeros(3),
        "left_out": (),
        "nodes": constant_nodes(1, 3),
        "passes": 4,
        "settled": True,
    }
    return SimpleNamespace(**(known | changes))


def test_facts_are_sums_and_the_largest_shifts():
    found = answer()
    convention: Any = SimpleNamespace(name="raw", reason="stated")
    options = CalculateTimingCalibrationOptions(reference_telescope=1)
    facts = _facts(found, ARRAY, convention, options)
    assert (facts["gauge"], facts["time_convention"]) == ("telescope 1 is 0", "raw")
    assert facts["offset_of_0.03_curvature_bias_ns"] == 3.0
    assert facts["offset_of_walk_ns"] == 2.0
    # 0.01 deg over 300 m: 0.052 m, 0.175 ns.
    assert facts["offset_of_0.01_deg_pointing_bias_ns"] == pytest.approx(0.1747, abs=1e-4)
    # 100 stamps, less 40 showers, 2 offsets, curvature and one walk, and a drift.
    assert facts["ndf"] == 55.0
    assert facts["chi2"] == 55.0
    assert facts["residual_rms_ns"] == pytest.approx(2.0)  # 200 / 50 ns^2
    assert (facts["n_telescope_events"], facts["n_outliers"], facts["n_steps"]) == (100, 7, 2)
    assert facts["curvature_scale"] == pytest.approx(1.5)
    assert facts["curvature_scale_error"] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("scale", "error", "resolution", "told"),
    [
        (0.8, 0.04, 20.0, True),  # 0.8 + 5 x 0.032 = 0.96
        (0.8, 0.06, 20.0, False),  # 1.04
        (0.8, 0.04, None, False),
        (0.8, np.nan, 20.0, False),
    ],
)
def test_a_front_that_is_too_curved_says_that_the_errors_of_the_cores_are_too_large(
    scale, error, resolution, told
):
    found = answer(model=SimpleNamespace(log_scale=np.log(scale)))
    found.column_error = {"curvature": error}
    options = CalculateTimingCalibrationOptions(core_resolution=resolution)
    remarks = _core_remarks(found, options)
    assert [" is 0.80 +- 0.03 times " in text for text in remarks] == [True] * told


@pytest.mark.parametrize(
    ("resolution", "columns", "untested"),
    [
        (None, ("curvature", "walk"), True),
        (20.0, ("curvature", "walk"), False),
        (None, ("curvature",), False),
    ],
)
def test_a_walk_is_untested_unless_errors_of_the_cores_are_known(resolution, columns, untested):
    options = CalculateTimingCalibrationOptions(core_resolution=resolution)
    found = _untested(answer(model=SimpleNamespace(columns=columns)), options)
    assert [text.split(":")[0] for text in found] == ["trigger walk"] * untested


def test_only_of_a_clock_that_drifts_the_rate_is_told():
    drift = [Drift(0.1, 0.2), Drift(-2.5, 0.125), Drift(0.0, 0.2)]
    found = answer(drift=drift, reference_s=np.array([0.0, 1_700_000_000.0, 0.0]))
    assert _drift(found, 0, 0) == ""
    assert _drift(found, 1, 1) == (
        "drifts by -2.50 +- 0.12 ns/h; the offset is that at 2023-11-14T22:13:20 TAI"
    )
