"""Margins beside each other: the test of a type, by its distributions for a single telescope."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from toy_pairs import toy_subarray

from arraycal.calib.checks.scan_tables import SCAN_TYPES, SMALLEST, _Differences, _test

NAMES = SCAN_TYPES.names()
TESTED = NAMES[NAMES.index("n_telescopes") : NAMES.index("changed") + 1]


def judged(difference: float, spread: float, n_changed: float) -> dict[str, Any]:
    found = _Differences(
        np.array([np.nan, difference]), np.diag([np.nan, spread**2]), np.array([np.nan, 0.1])
    )
    row = _test(found, np.array([1]), n_changed, toy_subarray(2), 0.1)
    return dict(zip(TESTED, row, strict=True))


@pytest.mark.parametrize("n_showers", [3, 12, 300])
def test_of_one_telescope_all_together_is_that_one_by_student(n_showers: int) -> None:
    found = judged(-0.02, 0.01, n_showers)
    assert (found["n_telescopes"], found["tel_id"], found["ndf"]) == (1, 2, 1)
    assert found["chi2"] == pytest.approx(4.0)
    assert found["rms"] == pytest.approx(math.sqrt(0.02**2 - 0.01**2))
    # 2 errors, which are known from n - 1 degrees of freedom: Hotelling's T^2 is Student's t^2.
    chance = 2 * stats.t.sf(2.0, n_showers - 1)
    assert found["p_value"] == pytest.approx(chance, rel=1e-9)
    assert found["p_largest"] == pytest.approx(chance, rel=1e-9)
    assert found["changed"] is (n_showers > 3)  # 0.18, then 0.07 and 0.05


def test_of_two_showers_nothing_is_known() -> None:
    found = judged(-0.02, 0.001, 2)
    assert math.isnan(found["p_value"])
    assert math.isnan(found["p_largest"])
    assert found["changed"] is False


def test_a_change_that_is_certain_and_small_is_none() -> None:
    assert judged(0.9 * SMALLEST, 1e-6, 300)["changed"] is False
    assert judged(1.1 * SMALLEST, 1e-6, 300)["changed"] is True
