"""Limits of a selection, by telescope and in logarithms."""

from __future__ import annotations

import math

from toy_pairs import toy_subarray

from arraycal.calib.fit.options import fit_options
from arraycal.config import load_configuration


def test_a_threshold_counts_in_logarithms_and_none_is_minus_infinity() -> None:
    subarray = toy_subarray(2)
    for value, expected in ((50.0, math.log(50.0)), (0.0, -math.inf)):
        configuration = load_configuration(overrides=[f"ShowerSelection.threshold={value}"])
        assert fit_options(configuration, subarray).threshold == dict.fromkeys(
            subarray.tel_ids, expected
        )
