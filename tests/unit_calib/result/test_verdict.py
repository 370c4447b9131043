"""Telescopes that look wrong: which ones stand out, that they are named, and what they spoil."""

import numpy as np
import polars as pl
import pytest

from arraycal.calib.fit import network
from arraycal.calib.gauge.outliers import least_z, stands_out
from arraycal.calib.gauge.within_types import far_off
from arraycal.calib.result.result import Verdict
from arraycal.calib.result.verdict import with_remarks, with_untested
from arraycal.calib.wording import percent, relative
from tests.unit_calib.result.test_coefficients import result_of

ERROR = 0.005
#: Scatter of about 8 %, nine telescopes.
ORDINARY = np.array([0.08, -0.05, 0.1, -0.11, 0.02, 0.05, -0.08, 0.03, -0.04])


def found(s):
    """Which of some ln c with errors of 0.5 % stand out."""
    fixed = network.Fixed(np.asarray(s), np.eye(len(s)) * ERROR**2)
    return stands_out(*network.leave_one_out(fixed, np.arange(len(s))))


def nine_telescopes(truth, **fitter):
    """Calibrate a toy in which four of the telescopes see each shower."""
    return result_of(truth, 0.2, fitter, multiplicity=4)


def test_a_telescope_that_stands_out_degrades_the_verdict_and_is_named():
    truth = ORDINARY.copy()
    truth[4] = np.log(0.5)
    result = nine_telescopes(truth)
    assert result.telescopes["flag"].to_list() == ["ok"] * 4 + ["outlier"] + ["ok"] * 4
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert reason.startswith("1 telescope looks wrong (MST-5: -")
    size = float(reason.partition("MST-5: ")[2].partition("%")[0])
    # Half of the median of the others, 1.00, within 4 errors of 1 %; not -69 %.
    assert size == pytest.approx(-50, abs=4)
    assert "% from its siblings, -" in reason


def test_ordinary_telescopes_are_usable():
    assert nine_telescopes(ORDINARY).verdict.status == "usable"


@pytest.mark.parametrize(("scatter", "most"), [(0.02, 0.02), (0.08, 0.02), (0.15, 0.04)])
@pytest.mark.parametrize("n", [4, 9, 25])
def test_types_of_ordinary_scatter_seldom_have_an_outlier(n, scatter, most):
    rng = np.random.default_rng(n)
    toys = 400
    alarms = sum(found(rng.normal(0, scatter, n)).any() for _ in range(toys))
    # The stated chance is 1 % (a factor 1.6 at a scatter of 15 % adds to it); 4 sigma of the toys.
    assert alarms <= toys * most + 4 * np.sqrt(toys * most)


def test_few_siblings_need_a_larger_deviation():
    assert least_z(3) == np.inf
    assert least_z(4) > least_z(5) > least_z(7) > least_z(40) == 5.0
    # Four alike within 1 %: 10 % is 8 times the scatter of three, which is nothing rare.
    assert not found([0.01, 0.0, -0.01, -0.1]).any()
    assert found([0.01, 0.0, -0.01, np.log(0.5)]).tolist() == [False] * 3 + [True]


@pytest.mark.parametrize("gauge", ["geometric_mean", "arithmetic_mean"])
def test_a_telescope_far_off_is_no_part_of_the_mean(gauge):
    truth = ORDINARY.copy()
    truth[4] = np.log(1e9)
    result = nine_telescopes(truth, gauge=gauge)
    others = result.telescopes.filter(pl.col("tel_id") != 5)
    c = others["value"].to_numpy()
    mean = c.mean() if gauge == "arithmetic_mean" else np.exp(np.log(c).mean())
    assert mean == pytest.approx(1.0, rel=1e-12)
    assert set(others["flag"]) == {"ok"}
    row = result.telescopes.row(4, named=True)
    # 9 telescopes, 4 a shower: errors of ln c are below 1 %.
    assert np.log(row["value"]) == pytest.approx(np.log(1e9), abs=0.2)
    assert row["flag"] == "outlier"
    assert "x 1e+09 from its siblings" in row["reason"]
    assert "not part of the mean" in str(result.verdict)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.5, 4.0])
def test_a_telescope_that_is_merely_off_stays_in_the_mean(ratio):
    truth = ORDINARY.copy()
    truth[4] = np.log(ratio)
    value = nine_telescopes(truth).telescopes["value"].to_numpy()
    assert np.log(value).mean() == pytest.approx(0.0, abs=1e-12)


def test_a_reference_gauge_does_not_look_who_is_far_off():
    truth = ORDINARY.copy()
    truth[4] = np.log(1e9)
    row = nine_telescopes(truth, reference_telescopes={"MST": 5}).telescopes.row(4, named=True)
    assert row["value"] == 1.0


def test_who_is_far_off_is_told_by_a_majority():
    s = np.log([1.0, 1.1, 100.0, 0.9, np.nan])
    assert far_off(s, np.arange(5)) == (2,)
    assert far_off(s, np.array([0, 2])) == ()
    assert far_off(np.log([1.0, 10.0, 100.0]), np.arange(3)) == ()
    assert far_off(s, np.array([], int)) == ()


def test_differences_of_logarithms_are_shown_as_what_they_are():
    assert percent(np.log(0.5)) == "-50.0%"
    assert percent(0.01) == "+1.0%"
    assert percent(np.log(1e30)) == "x 1e+30"
    assert percent(np.log(1e-4)) == "x 0.0001"
    assert percent(1000.0).startswith("x 8.2e+307")
    assert relative(np.log(0.5), 0.1) == pytest.approx((-0.5, 0.05))
    assert np.isnan(relative(np.nan)[0])


def test_what_could_not_be_tested_is_listed_and_degrades_nothing():
    verdict = with_untested(Verdict("usable"), ["constancy within blocks: one chunk"])
    assert verdict.status == "usable"
    worse = with_remarks(verdict, ["a block is missing"])
    assert worse == Verdict("degraded", ("a block is missing",), verdict.untested)
