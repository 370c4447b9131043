"""What the table of residuals says of telescopes that robust weights have moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.checks.deviation_table import _remarks, _table
from arraycal.calib.fit.loop import Fit, FitOptions, fit
from arraycal.calib.fit.outlying import LEAST_ROWS, PULLED, find_outlying
from arraycal.calib.fit.showers import prepare_pairs

N = 4
SUBARRAY = toy_subarray(N)
OPTIONS = FitOptions(
    estimator="event",
    min_events=5,
    min_common=2,
    robust="none",
    threshold=None,
    margin=0.0,
    binned_resolution=False,
    max_iterations=20,
)


def pulled(n_showers: int, telescopes: list[bool]) -> Fit:
    """Return a fit of sound values in which some telescopes are said to be pulled."""
    showers = prepare_pairs(toy_pairs(Toy([0.0] * N, [0.2] * N, n_showers, 2), 1), SUBARRAY)
    fitted = fit(lambda: [showers], SUBARRAY, OPTIONS)
    return replace(fitted, observed={PULLED: np.array(telescopes)})


@pytest.mark.parametrize("n_showers", [2000, LEAST_ROWS])
def test_telescopes_that_were_pulled_are_named_also_with_few_values(n_showers: int) -> None:
    fitted = pulled(n_showers, [False, False, True, False])
    found = find_outlying(fitted.summary, fitted.model.now.variance, SUBARRAY.type_codes)
    table = _table(found, fitted, SUBARRAY)
    other = "ok" if n_showers > LEAST_ROWS else "few"
    assert table["flag"].to_list() == [other, other, "pulled", other]
    (remark,) = _remarks(table, fitted)
    name = f"{SUBARRAY.types[2]} {SUBARRAY.tel_ids[2]}"
    assert remark.startswith(f"some values of {name} lie off, too few to be told one by one")
