"""Straight lines through contrasts, beside the sums done by hand."""

import math

import polars as pl
import pytest

from arraycal.calib.types import bins as bins_module
from arraycal.calib.types.bins import CONTRAST_BINS, contrast_trends


def bins(error, expected_error):
    """Contrasts 0.1, 0.2 and 0.3 above what is expected, at 10, 20 and 60 degrees."""
    mean, expected = (10.0, 20.0, 60.0), (0.5, -0.1, 0.2)
    rows = [
        ("zenith angle", "deg", "MST", "LST", x - 1, x + 1, x, 100, e + y, error, e, expected_error)
        for x, y, e in zip(mean, (0.1, 0.2, 0.3), expected, strict=True)
    ]
    return pl.DataFrame(rows, schema=CONTRAST_BINS, orient="row")


@pytest.mark.parametrize(("scale", "flag"), [(1.0, "ok"), (0.5, "trend")])
def test_the_line_is_that_of_least_squares(scale, flag):
    found = contrast_trends(bins(0.03 * scale, 0.04 * scale)).row(0, named=True)
    # Errors of 0.05 in all. From the means: (-20, -10, 30) degrees, 1400 in squares, and
    # (-0.1, 0, 0.1), 0.02 in squares; their product is 2 + 3 = 5.
    weight = 1 / (0.05 * scale) ** 2
    assert found["slope"] == pytest.approx(5 / 1400)
    assert found["slope_error"] == pytest.approx(1 / math.sqrt(1400 * weight))
    assert found["significance"] == pytest.approx(5 * math.sqrt(weight / 1400))
    assert found["span"] == pytest.approx(50 * 5 / 1400)
    assert found["chi2_constant"] == pytest.approx(0.02 * weight)
    chi2_line = (0.02 - 25 / 1400) * weight
    assert found["chi2_line"] == pytest.approx(chi2_line)
    assert (found["n_bins"], found["ndf_constant"], found["ndf_line"]) == (3, 2, 1)
    # Of one degree of freedom: the tails of a Gaussian.
    assert found["p_line"] == pytest.approx(math.erfc(math.sqrt(chi2_line / 2)))
    assert found["flag"] == flag


def test_a_line_that_rises_by_the_limit_is_no_trend(monkeypatch):
    sure = bins(0.015, 0.02)
    (span,) = contrast_trends(sure)["span"]
    for limit, flag in ((span, "ok"), (0.999 * span, "trend")):
        monkeypatch.setattr(bins_module, "MIN_SPAN", limit)
        assert contrast_trends(sure)["flag"].to_list() == [flag]
