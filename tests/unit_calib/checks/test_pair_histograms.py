"""Histograms of pairs: the rows of the fit, of the pairs that say most."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray
from toy_sizes import SizeToy, size_pairs, square_array

from arraycal.calib.checks.last_pass import observers_of_pairs, with_last_pass
from arraycal.calib.checks.pair_histograms import (
    EDGES,
    PAIR_HISTOGRAMS,
    histogram_table,
    histogram_window,
    informative_pairs,
)
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.weighing import weigh
from arraycal.config.models import Configuration
from tests.unit_calib.report.test_report import make_result

OPTIONS = FitOptions("event", 50, 20, "none", None, 2.5, binned_resolution=False, max_iterations=20)
TOY = Toy([0.1, -0.1, 0.0, 0.0, 0.05], [0.2] * 5, 4_000, 3)


def histograms_of(pairs, subarray, most=12, options=OPTIONS):
    showers = prepare_pairs(pairs, subarray)
    fitted = fit(lambda: [showers], subarray, options)
    chosen = informative_pairs(fitted.summary.log_ratio.n, subarray.type_codes, most)
    rows = weigh(showers, fitted.model)
    return fitted, histogram_table(
        histogram_window(showers, fitted.model, rows, chosen), fitted, subarray
    )


def test_counts_means_and_errors_are_those_of_the_rows():
    pairs = toy_pairs(TOY, 1)
    fitted, table = histograms_of(pairs, toy_subarray(5))
    assert table.schema == PAIR_HISTOGRAMS
    assert len(table) == 10
    for row in table.iter_rows(named=True):
        own = pairs.filter(
            pl.col("tel_id_1") == row["tel_id_1"], pl.col("tel_id_2") == row["tel_id_2"]
        )
        ratio = np.log((own["value_1"] / own["value_2"]).to_numpy())
        counts, _ = np.histogram(ratio, EDGES)
        assert row["counts"] == counts.tolist()
        assert row["n_events"] == len(own) == counts.sum() + row["n_below"] + row["n_above"]
        assert row["mean"] == pytest.approx(ratio.mean())
        assert row["mean_error"] == pytest.approx(ratio.std(ddof=1) / np.sqrt(len(own)))
        s = fitted.solution.log_throughput
        assert row["fitted"] == s[row["tel_id_1"] - 1] - s[row["tel_id_2"] - 1]


def test_what_lies_beyond_the_range_is_counted():
    pairs = toy_pairs(TOY, 1)
    # Telescope 1 is the first of all its pairs.
    beyond = (pl.col("event_id") < 100) & (pl.col("tel_id_1") == 1)
    pairs = pairs.with_columns(
        value_1=pl.when(beyond).then(pl.col("value_1") * 100).otherwise("value_1")
    )
    _, table = histograms_of(pairs, toy_subarray(5))
    assert table["n_above"].sum() == len(pairs.filter(beyond)) > 0
    assert table["n_below"].sum() == 0


def test_the_light_pool_is_taken_off_sizes():
    # Telescopes at the edge and in the middle of the array see different distances.
    array = square_array(9)
    pairs = size_pairs(SizeToy([0.0] * 9, n_showers=20_000, threshold=1e-3), 3, reach_m=200.0)
    options = replace(OPTIONS, knots=Knots.spaced([(20.0, 200.0)], 7))
    fitted, table = histograms_of(pairs, array, most=100, options=options)
    fits = table.select((pl.col("mean") - pl.col("fitted")) / pl.col("mean_error")).to_numpy()
    # The spline does not follow the kink of the pool everywhere; without it means are off by 50.
    assert np.sqrt(np.mean(fits**2)) < 2.5
    raw = pairs.group_by("tel_id_1", "tel_id_2").agg(
        pl.col("log_ratio").mean() / (pl.col("log_ratio").std() / pl.len().sqrt())
    )
    assert np.abs(raw["log_ratio"].to_numpy()).max() > 10
    # The means of the pair table are the same ones.
    found = fitted.summary.log_ratio.mean[table["tel_id_1"] - 1, table["tel_id_2"] - 1]
    np.testing.assert_allclose(found, table["mean"], atol=1e-12)


def test_every_telescope_has_its_best_pair_before_any_has_its_second_best():
    # 1-2 and 1-3 have most showers, but 4 is in no other pair than 3-4 and 1-4.
    n_common = np.zeros((5, 5))
    n_common[0, 1], n_common[0, 2], n_common[0, 3], n_common[2, 3] = 100, 90, 5, 10
    kinds = np.array([0, 0, 0, 0, 1])
    first, second = informative_pairs(n_common, kinds, 3)
    assert list(zip(first, second, strict=True)) == [(0, 1), (0, 2), (2, 3)]
    # Of another combination of types as many are kept.
    n_common[3, 4] = 1
    first, second = informative_pairs(n_common, kinds, 1)
    assert list(zip(first, second, strict=True)) == [(0, 1), (3, 4)]


@pytest.mark.parametrize(("n_common", "most"), [(np.zeros((3, 3)), 12), (np.ones((3, 3)), 0)])
def test_no_pair_or_none_wanted_is_an_empty_choice(n_common, most):
    first, second = informative_pairs(n_common, np.zeros(3, int), most)
    assert len(first) == len(second) == 0


def with_pass(sections, pairs, threshold="auto"):
    subarray = toy_subarray(5)
    showers = prepare_pairs(pairs, subarray)
    configuration = Configuration.model_validate(sections)

    def watched(learnt, _):
        return observers_of_pairs(learnt, subarray, configuration)

    options = replace(OPTIONS, threshold=threshold)
    fitted = fit(lambda: [showers], subarray, options, observers=watched)
    value = pl.Series(np.exp(fitted.solution.log_throughput))
    result = make_result({"MST": 5})
    result = replace(result, telescopes=result.telescopes.with_columns(value=value))
    return with_last_pass(result, fitted, subarray, configuration)


NOTHING = {"ShowerSelection": {"scan": []}, "RelativeThroughputFitter": {"histogram_pairs": 0}}


@pytest.mark.parametrize(
    ("sections", "threshold", "tables"),
    [
        ({}, "auto", {"threshold_scan", "threshold_scan_types", "pair_histograms"}),
        ({}, None, {"pair_histograms"}),
        ({"ShowerSelection": {"scan": []}}, "auto", {"pair_histograms"}),
        ({"RelativeThroughputFitter": {"estimator": "pair"}}, "auto", {"pair_histograms"}),
        (NOTHING, "auto", set()),
    ],
)
def test_tables_are_made_where_they_are_wanted_and_mean_something(sections, threshold, tables):
    pairs = toy_pairs(replace(TOY, trigger=-3.0, n_showers=40_000), 1)
    result = with_pass(sections, pairs, threshold)
    assert set(result.extras) == tables
    assert json.loads(json.dumps(result.to_json()))["calibration"] == "energy-inter"
    if "threshold_scan" in tables:
        assert result.extras["threshold_scan"]["margin"].unique().sort().to_list() == [
            0.0, 1.0, 2.0, 2.5, 3.0, 4.0,
        ]  # fmt: skip


def test_windows_without_rows_change_nothing():
    subarray = toy_subarray(5)
    showers = prepare_pairs(toy_pairs(TOY, 1), subarray)
    empty = prepare_pairs(toy_pairs(TOY, 1).clear(), subarray)
    fitted = fit(lambda: [showers], subarray, OPTIONS)
    chosen = informative_pairs(fitted.summary.log_ratio.n, subarray.type_codes, 12)
    rows = weigh(empty, fitted.model)
    found = histogram_window(empty, fitted.model, rows, chosen)
    assert found.counts.shape == (len(chosen[0]), len(EDGES) + 1)
    assert not found.counts.any()
