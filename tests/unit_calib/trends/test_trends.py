"""Trends on small histories whose answer is known by hand."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from arraycal.calib.history.reading import COEFFICIENTS, RUNS
from arraycal.calib.history.trends import choose_runs
from arraycal.calib.observables import OBSERVABLES, TIMING_CROSS
from arraycal.calib.trends.trends import (
    INTERVALS,
    NIGHTS,
    STEPS,
    TELESCOPES,
    is_clock,
    telescope_trends,
)
from arraycal.config.models import TrendMonitorOptions

FIRST = date(2026, 3, 1)
ERROR = 0.002


def night(number):
    return FIRST + timedelta(days=number)


def history(values, error=ERROR, calibration="energy-inter", tel_type="MST"):
    """Frames of nights by telescopes; NaN is a telescope without coefficient."""
    rows, covariances = [], {}
    for number, row in enumerate(np.asarray(values, float)):
        rows += [
            (number + 1, night(number), calibration, tel_type, i, value, error, 0.0, 1000, "", "")
            for i, value in enumerate(row, start=1)
        ]
        covariances[number + 1] = error**2 * np.eye(int(np.isfinite(row).sum()))
    return pl.DataFrame(rows, schema=COEFFICIENTS, orient="row"), covariances


def judged(values, *, error=ERROR, calibration="energy-inter", **options):
    table, covariances = history(values, error, calibration)
    found = telescope_trends(table, covariances, TrendMonitorOptions(**options))
    for frame, schema in zip(
        (found.telescopes, found.nights, found.steps, found.intervals),
        (TELESCOPES, NIGHTS, STEPS, INTERVALS),
        strict=True,
    ):
        assert frame.schema == schema
    return found


def steady(n_nights, n_telescopes=6, seed=0):
    noise = ERROR * np.random.default_rng(seed).standard_normal((n_nights, n_telescopes))
    return np.exp(0.1 * np.arange(n_telescopes) + noise)


def row_of(found, tel_id):
    return found.telescopes.row(by_predicate=pl.col("tel_id") == tel_id, named=True)


def test_a_step_moves_neither_the_others_nor_the_scale():
    values = steady(8)
    values[5:, 2] *= 1.08
    values /= np.exp(np.log(values).mean(axis=1, keepdims=True))  # published so: all have moved
    found = judged(values)
    assert found.telescopes["flags"].to_list() == ["", "", "step", "", "", ""]
    row = row_of(found, 3)
    assert row["step_night"] == row["valid_from"] == night(5)
    assert abs(row["step"] - 0.08) < 4 * row["step_error"]
    # Means of 5 and 3 nights, each with the noise of the telescope and of the mean of 5 others.
    expected = 1.08 * ERROR * np.sqrt((1 / 5 + 1 / 3) * (1 + 1 / 5))
    assert row["step_error"] == pytest.approx(expected, rel=0.1)
    assert row["reason"].startswith("step of +8.")
    assert not row["is_stable"]
    stable = found.nights.filter(pl.col("tel_id") != 3)
    product = stable.group_by("night").agg(pl.col("relative").log().mean())
    np.testing.assert_allclose(product["relative"], 0.0, atol=1e-12)


def test_a_night_without_a_telescope_is_a_gap_and_moves_nobody():
    values = steady(10)
    whole = judged(values, night_scatter=0.0)
    values[[2, 7], 5] = np.nan  # the brightest: without it the mean of the night is 10 % lower
    found = judged(values, night_scatter=0.0)
    assert row_of(found, 6)["n_nights"] == 8
    assert set(found.telescopes["flags"]) == {""}
    here = found.nights.filter(pl.col("tel_id") == 1)
    there = whole.nights.filter(pl.col("tel_id") == 1)
    assert np.max(np.abs((here["relative"] - there["relative"]).to_numpy())) < ERROR
    assert len(found.nights) == 58


def test_the_gauge_of_the_published_night_does_not_matter():
    values = steady(6)
    expected = judged(values)
    table, covariances = history(values)
    shift = np.exp(np.random.default_rng(1).standard_normal(6))
    scaled = table.with_columns(pl.col("value", "error") * pl.Series(np.repeat(shift, 6)))
    covariances = {n: c * shift[n - 1] ** 2 for n, c in covariances.items()}
    found = telescope_trends(scaled, covariances, TrendMonitorOptions())
    for column in ("relative", "error"):
        np.testing.assert_allclose(found.nights[column], expected.nights[column], rtol=1e-9)


def test_errors_are_those_of_the_transformed_covariance():
    table, covariances = history(np.ones((1, 3)))
    rng = np.random.default_rng(2)
    half = rng.standard_normal((3, 3))
    covariances[1] = half @ half.T * 1e-6
    found = telescope_trends(table, covariances, TrendMonitorOptions())
    # All three are steady: T = 1 - 11^T / 3.
    T = np.eye(3) - 1 / 3
    np.testing.assert_allclose(found.nights["error"], np.sqrt(np.diag(T @ covariances[1] @ T.T)))


def test_an_outlying_night_is_no_step_and_does_not_count():
    values = steady(9)
    values[4, 1] *= 1.2
    found = judged(values)
    row = row_of(found, 2)
    assert (row["flags"], row["outlier_nights"]) == ("outlier", 1)
    assert str(night(4)) in row["reason"]
    assert abs(row["rate"]) < 4 * row["rate_error"]
    marked = found.nights.filter(pl.col("outlier"))
    assert marked.select("night", "tel_id").rows() == [(night(4), 2)]
    assert set(found.telescopes.filter(pl.col("tel_id") != 2)["flags"]) == {""}


def test_an_outlier_among_too_few_nights_is_named_before_what_cannot_be_judged():
    values = steady(3)
    values[1, 1] *= 1.5
    row = row_of(judged(values), 2)
    assert row["flags"] == "outlier"
    assert row["reason"].startswith(f"outlier on {night(1)}; ")
    assert "2 other nights are too few to judge their course" in row["reason"]


def test_an_outlier_at_the_end_looks_like_a_step_and_the_reason_says_so():
    values = steady(6)
    values[5, 1] *= 0.9
    row = row_of(judged(values), 2)
    assert row["flags"] == "step"
    assert "an outlying night would look the same" in row["reason"]


@pytest.mark.parametrize("seed", range(3))
def test_of_two_halves_nobody_knows_which_has_changed(seed):
    values = 1.0 + 0.003 * np.random.default_rng(seed).standard_normal((8, 8))
    values[4:, :4] *= 0.9
    flagged = judged(values, error=0.003).flagged
    assert len(flagged) >= 4
    caveat = "too few steady telescopes to say which of them changed"
    assert all(caveat in reason for reason in flagged["reason"])
    # A majority that stays says who has changed.
    values[4:, 3] /= 0.9
    flagged = judged(values, error=0.003).flagged
    assert flagged["tel_id"].to_list() == [1, 2, 3]
    assert not any(caveat in reason for reason in flagged["reason"])


def test_ageing_and_a_step_are_both_found():
    values = steady(30)
    values[:, 3] *= np.exp(-0.002 * np.arange(30))
    values[18:, 3] *= 1.1
    row = row_of(judged(values), 4)
    assert set(row["flags"].split(",")) == {"ageing", "step"}
    assert not row["is_open"]
    assert abs(row["rate"] + 0.002) < 4 * row["rate_error"]
    assert abs(row["step"] - 0.1) < 4 * row["step_error"]
    assert row["step_night"] == night(18)


def test_a_small_change_is_found_and_not_flagged():
    values = steady(30)
    values[15:, 3] *= 1.008
    assert row_of(judged(values), 4)["flags"] == ""
    assert row_of(judged(values, min_change=0.005), 4)["flags"] == "step"


def test_two_clear_nights_of_three_cannot_tell_a_small_step_from_ageing():
    # Exactly between: 0, 1, 2 errors off a line would be ageing; 0, 0, 2 a step.
    values = np.ones((3, 8))
    values[:, 0] = np.exp([0.0, 0.006, 0.02])
    row = row_of(judged(values, error=0.002), 1)
    assert row["is_open"]
    assert set(row["flags"].split(",")) == {"ageing", "step"}
    assert row["reason"].startswith("3 nights cannot tell")


def test_steps_end_validity_intervals_and_so_does_ageing_beyond_the_tolerance():
    values = steady(12)
    values[4:, 0] *= 1.05
    values[9:, 0] *= 1.05
    values[:, 1] *= np.exp(-0.01 * np.arange(12))
    found = judged(values, tolerance=0.03)
    own = found.intervals.filter(pl.col("tel_id") == 1)
    assert own["first_night"].to_list() == [night(0), night(4), night(9)]
    assert own["last_night"].to_list() == [night(3), night(8), night(11)]
    assert own["n_nights"].to_list() == [4, 5, 3]
    ratio = own["relative"][2] / own["relative"][1]
    assert ratio == pytest.approx(1.05, abs=4 * own["error"].max())
    assert len(found.steps.filter(pl.col("tel_id") == 1)) == 2
    # 1 % per night, at most 3 % within an interval; a rate just above 1 % makes it 3 nights.
    aged = found.intervals.filter(pl.col("tel_id") == 2)
    assert aged["n_nights"][-1] in {3, 4}
    assert row_of(found, 2)["valid_from"] == aged["first_night"][-1]


def test_of_two_telescopes_nobody_knows_which_one_moved():
    values = steady(6, 2)
    values[3:, 0] *= 1.08
    found = judged(values)
    assert found.telescopes["flags"].to_list() == ["step", "step"]
    assert all("too few steady telescopes" in reason for reason in found.telescopes["reason"])


def test_a_single_telescope_has_no_trend():
    found = judged(steady(6, 1))
    row = row_of(found, 1)
    assert row["flags"] == ""
    assert row["reason"] == "the only telescope of its type: nothing to compare it with"
    assert np.isnan(row["rate"])
    assert found.nights["relative"].is_nan().all()


def test_two_nights_are_not_judged():
    values = steady(2)
    values[1, 0] *= 1.5
    row = row_of(judged(values), 1)
    assert (row["flags"], row["reason"]) == ("", "2 nights are too few to judge (min_nights)")


def test_an_empty_history_gives_empty_tables():
    assert judged(np.full((3, 2), np.nan)).telescopes.is_empty()
    none = telescope_trends(pl.DataFrame(schema=COEFFICIENTS), {}, TrendMonitorOptions())
    assert none.nights.is_empty()


def test_nights_before_the_window_do_not_count():
    values = steady(20)
    values[:8, 0] *= 1.1
    assert row_of(judged(values), 1)["flags"] == "step"
    row = row_of(judged(values, look_back=10), 1)
    assert (row["flags"], row["n_nights"], row["first_night"]) == ("", 10, night(10))


def test_clocks_are_compared_in_ns_with_their_own_limits():
    values = 50.0 * steady(9)  # offsets of some 10 ns about noise of 0.1 to 0.2 ns
    values[5:, 2] += 8.0
    found = judged(values, error=0.15, calibration="timing-cross")
    row = row_of(found, 3)
    assert row["flags"] == "step"
    assert abs(row["step"] - 8.0) < 4 * row["step_error"]
    assert "ns on" in row["reason"]
    means = found.nights.filter(pl.col("tel_id") != 3).group_by("night").agg(pl.mean("relative"))
    np.testing.assert_allclose(means["relative"], 0.0, atol=1e-9)
    assert set(judged(values, error=0.15, calibration="timing-cross", min_clock_change=9.0)
               .telescopes["flags"]) == {""}  # fmt: skip


def test_types_and_calibrations_are_judged_apart():
    first, cov_1 = history(steady(6))
    second, _ = history(0.5 * steady(6, 4, seed=1), tel_type="LST")
    second = second.with_columns(pl.col("tel_id") + 100)
    both = pl.concat([first, second])
    full = {n: ERROR**2 * np.eye(10) for n in cov_1}
    other = both.with_columns(run_id=pl.col("run_id") + 50, calibration=pl.lit("image-inter"))
    full |= {n + 50: c for n, c in full.items()}
    found = telescope_trends(pl.concat([both, other]), full, TrendMonitorOptions())
    alone = telescope_trends(first, cov_1, TrendMonitorOptions())
    here = found.nights.filter(
        (pl.col("calibration") == "energy-inter") & (pl.col("tel_type") == "MST")
    )
    np.testing.assert_allclose(here["relative"], alone.nights["relative"])
    np.testing.assert_allclose(here["error"], alone.nights["error"])
    assert len(found.telescopes) == 20


def test_nights_that_no_steady_telescope_connects_are_not_compared():
    values = steady(8, 4)
    values[:3, 2:] = np.nan
    values[3:, :2] = np.nan
    found = judged(values)
    known = found.nights.filter(pl.col("relative").is_finite())
    assert set(known["night"]) == {night(n) for n in range(3, 8)}
    assert row_of(found, 1)["reason"].endswith("(min_nights)")


def run_row(run_id, number, digest, hour, status="usable", calibration="energy-inter"):
    published = datetime(2026, 3, 20, hour)  # noqa: DTZ001  as the database has it
    return (
        run_id,
        night(number),
        calibration,
        digest,
        status,
        "",
        "",
        3,
        None,
        None,
        published,
        "",
    )


def chosen(*rows):
    return choose_runs(pl.DataFrame(rows, schema=RUNS, orient="row"))


def test_one_run_per_night_is_that_of_the_newest_nights_configuration():
    choice = chosen(
        run_row(1, 0, "old", 1),
        run_row(2, 0, "new", 2),
        run_row(3, 0, "old", 9),  # published last, but with another configuration
        run_row(4, 1, "old", 1),
        run_row(5, 2, "new", 3),
    )
    # A night that has only runs with another configuration is left out, never mixed in.
    assert choice.run_ids == (2, 5)
    (remark,) = choice.remarks
    assert "configuration new, that of the newest night (" in remark
    assert "3 runs of old" in remark
    assert "--configuration" in remark


def test_without_a_choice_there_is_no_remark_and_unusable_runs_do_not_count():
    choice = chosen(
        run_row(1, 0, "a", 1), run_row(2, 1, "a", 2), run_row(3, 1, "b", 3, status="unusable")
    )
    assert choice.run_ids == (1, 2)
    assert choice.remarks == ()


def test_clocks_are_those_of_the_timing_calibration():
    assert [name for name in OBSERVABLES if is_clock(name)] == [TIMING_CROSS.name]


def test_a_large_change_per_day_is_relative_as_steps_are():
    values = steady(6)
    values[:, 1] *= 0.75 ** np.arange(6)
    row = row_of(judged(values), 2)
    # A quarter less from night to night; ln 0.75 is -28.8 %.
    assert abs(row["rate"] + 0.25) < 4 * row["rate_error"]
    assert row["reason"].startswith("ageing: -2")
    assert f"{100 * row['rate']:+.2f}" in row["reason"]
