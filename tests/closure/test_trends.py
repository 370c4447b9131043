"""Closure of trends: toy histories with known courses, nights of correlated telescopes."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from arraycal.calib.history.reading import COEFFICIENTS
from arraycal.calib.trends.trends import telescope_trends
from arraycal.config.models import TrendMonitorOptions

FIRST = date(2026, 3, 1)
#: Sizes do not matter where the rate of false alarms is measured.
ANY_SIZE = {"min_change": 0.0, "min_outlier": 0.0}


def history(rng, log_course, *, error=0.003, gaps=0.0, scatter=0.0, calibration="energy-inter"):
    """Coefficients and covariances of nights; `log_course` has shape (nights, telescopes).

    Every night has its own covariance, strongly correlated by the few directions it has, and is
    published relative to the first telescope that is there.
    """
    n_nights, n = log_course.shape
    level = 0.1 * rng.standard_normal(n)
    rows, covariances = [], {}
    for night in range(n_nights):
        directions = rng.standard_normal((n, n + 3)) / np.sqrt(n + 3)
        noise = error * rng.uniform(0.6, 1.5) * directions
        y = level + log_course[night] + noise @ rng.standard_normal(n + 3)
        y += scatter * rng.standard_normal(n)
        present = np.flatnonzero(rng.random(n) >= gaps)
        if len(present) < 2:
            continue
        to_reference = np.eye(len(present))
        to_reference[:, 0] -= 1.0
        value = to_reference @ y[present]
        covariance = to_reference @ (noise @ noise.T)[np.ix_(present, present)] @ to_reference.T
        if calibration != "timing-cross":
            value = np.exp(value)
            covariance *= np.outer(value, value)
        errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        date_ = FIRST + timedelta(days=night)
        rows += [
            (night + 1, date_, calibration, "MST", int(i) + 1, v, e, 0.0, 1000, "", "")
            for i, v, e in zip(present, value, errors, strict=True)
        ]
        covariances[night + 1] = covariance
    return pl.DataFrame(rows, schema=COEFFICIENTS, orient="row"), covariances


def judged(rng, log_course, options=None, **how):
    table, covariances = history(rng, log_course, **how)
    return telescope_trends(table, covariances, TrendMonitorOptions(**(options or {})))


def is_unbiased_with_honest_errors(pulls):
    """Mean within 3.5 sigma, width between 0.9 and 1.1, which three sigma of it must allow."""
    pulls = np.asarray(pulls)
    assert 3.0 / np.sqrt(2 * len(pulls)) < 0.1
    return abs(np.mean(pulls)) < 3.5 / np.sqrt(len(pulls)) and 0.9 < np.std(pulls) < 1.1


def test_rates_come_back_without_bias_and_others_do_not_drift():
    rng = np.random.default_rng(1)
    course = np.zeros((10, 8))
    course[:, [2, 5]] = np.outer(np.arange(10), [-0.005, 0.004])
    rate = course[1]
    options = {"false_alarm_probability": 1e-3}
    ageing, others, flags = [], [], []
    for _ in range(230):
        table = judged(rng, course, options, gaps=0.1).telescopes
        pull = ((table["rate"] - rate) / table["rate_error"]).to_numpy()
        ageing += list(pull[rate != 0])
        others += list(pull[rate == 0])
        flags.append(table["flags"].to_numpy())
    assert is_unbiased_with_honest_errors(ageing)
    assert is_unbiased_with_honest_errors(others)
    assert np.mean([row[rate != 0] == "ageing" for row in flags]) > 0.97
    # 230 histories of 6 steady telescopes: 1.4 expected at most; Poisson, 4 sigma.
    assert np.sum([row[rate == 0] != "" for row in flags]) < 1.4 + 4 * np.sqrt(1.4)


def test_steps_come_back_without_bias_where_they_are():
    rng = np.random.default_rng(2)
    size = {4: 0.05, 6: -0.04}
    course = np.zeros((9, 6))
    course[5:, 3], course[5:, 5] = np.log1p(size[4]), np.log1p(size[6])
    pulls, nights = [], []
    for _ in range(230):
        found = judged(rng, course, gaps=0.1)
        for tel_id, true in size.items():
            # The one meant: now and then a night at the end looks like another one.
            near = (pl.col("night") - FIRST - timedelta(days=5)).abs()
            own = pl.col("tel_id") == tel_id
            if found.telescopes.filter(own)["last_night"][0] < FIRST + timedelta(days=5):
                continue  # all its nights with the step are gaps
            row = found.steps.filter(own).sort(near).row(0, named=True)
            pulls.append((row["step"] - true) / row["step_error"])
            nights.append(row["night"])
    assert is_unbiased_with_honest_errors(pulls)
    # A gap in the night of the step moves it to the next one: one history in ten.
    assert np.mean([night == FIRST + timedelta(days=5) for night in nights]) > 0.83


def test_steady_telescopes_are_flagged_no_more_often_than_promised():
    rng = np.random.default_rng(3)
    alpha, n, flagged = 0.05, 0, 0
    options = {**ANY_SIZE, "false_alarm_probability": alpha, "night_scatter": 0.0}
    for _ in range(200):
        table = judged(rng, np.zeros((10, 8)), options, gaps=0.05).telescopes
        n += len(table)
        flagged += int((table["flags"] != "").sum())
    assert flagged < alpha * n + 3 * np.sqrt(alpha * n)
    # The promise is an upper bound, and would be of no use if it were far off.
    assert flagged > 0.2 * alpha * n


def test_scatter_from_night_to_night_beyond_the_errors_is_no_change():
    rng = np.random.default_rng(5)
    pulls, found, flags = [], [], []
    for _ in range(70):
        table = judged(rng, np.zeros((15, 8)), scatter=0.006).telescopes
        pulls += (table["rate"] / table["rate_error"]).to_list()
        found.append(table["scatter"][0])
        flags += table["flags"].to_list()
    assert is_unbiased_with_honest_errors(pulls)
    # Relative to the mean of 8, a scatter of 0.006 is 0.0056; its error here is 0.0001.
    assert np.mean(found) == pytest.approx(0.006 * np.sqrt(7 / 8), rel=0.06)
    assert np.mean([flag != "" for flag in flags]) < 0.01 + 3 * np.sqrt(0.01 / len(flags))


@pytest.mark.parametrize("at", [1, 2], ids=["second night", "third night"])
def test_three_nights_tell_a_large_step_and_an_ageing_telescope(at):
    rng = np.random.default_rng(4)
    course = np.zeros((3, 9))
    course[at:, 1] = np.log(1.08)
    course[:, 3] = -0.01 * np.arange(3)
    tables = [judged(rng, course, error=0.002).telescopes for _ in range(80)]
    stepped = [table.row(1, named=True) for table in tables]
    aged = [table["flags"][3] for table in tables]
    others = [flag for table in tables for flag in table["flags"].gather([0, 2, 4, 5, 6, 7, 8])]
    assert {row["flags"] for row in stepped} == {"step"}
    assert {row["step_night"] for row in stepped} == {FIRST + timedelta(days=at)}
    # Change by 2 % with an error of 0.33 %: 6 sigma, of which 3 are needed on top of the scatter
    # of errors from night to night; often enough three nights cannot rule out a step.
    assert np.mean(["ageing" in flag for flag in aged]) > 0.93
    assert np.mean([flag == "step" for flag in aged]) < 0.05
    assert np.mean([flag != "" for flag in others]) < 0.01 + 3 * np.sqrt(0.01 / len(others))


def test_large_errors_do_not_turn_a_step_into_something_else():
    rng = np.random.default_rng(6)
    course = np.zeros((3, 9))
    course[2:, 1] = np.log(1.08)
    flags = [judged(rng, course, error=0.005).telescopes["flags"][1] for _ in range(80)]
    assert np.mean(["step" in flag for flag in flags]) > 0.97
