"""Residuals by distance and size: what is put into the sizes shows in the bins, nothing else."""

import numpy as np
import polars as pl
import pytest
from toy_sizes import SizeToy, light_pool, size_pairs, square_array

from arraycal.calib.checks.curve_table import residual_observers, with_curves, with_residuals
from arraycal.calib.checks.residual_bins import EDGES, RESIDUAL_BINS, _rows, _Sums, residual_bins
from arraycal.calib.figures.sizes import curve_figure, residual_figures
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.report import html
from arraycal.calib.schema import DISTANCE, EXPECTED
from tests.unit_calib.report.test_report import make_result

ARRAY = square_array(9)
KNOTS = Knots.spaced([(20.0, 200.0)], 7)
OPTIONS = FitOptions("event", 50, 20, "none", None, 0.0, False, 20, knots=KNOTS)


@pytest.fixture(scope="module")
def sizes():
    """Sizes without a threshold, of a light pool without core errors."""
    toy = SizeToy([0.0] * 9, n_showers=20_000, core_error_m=0.0, threshold=1e-3)
    return size_pairs(toy, 3, reach_m=200.0)


def fitted_bins(pairs, options=OPTIONS):
    showers = prepare_pairs(pairs, ARRAY)
    found = fit(lambda: [showers], ARRAY, options, observers=watched)
    return found, residual_bins(found.observed["residual_bins"], ARRAY.types, least=50, unit="p.e.")


def watched(learnt, _):
    return residual_observers(learnt)


def changed(pairs, factor):
    """Multiply the size of either telescope by a factor of its row."""
    return pairs.with_columns(
        **{f"value_{side}": pl.col(f"value_{side}") * factor(side) for side in (1, 2)}
    )


def within(bins, covariate, low, high):
    return bins.filter(
        pl.col("covariate") == covariate, pl.col("low") >= low, pl.col("high") <= high
    )


def weighted(part):
    return float(np.average(part["residual"], weights=1 / part["error"] ** 2))


def test_residuals_have_zero_mean_by_type(sizes):
    _, bins = fitted_bins(sizes)
    assert bins.schema == RESIDUAL_BINS
    assert set(bins["covariate"]) == {DISTANCE, EXPECTED}
    by_distance = bins.filter(covariate=DISTANCE)
    assert len(by_distance) == 18  # 20 to 200 m in steps of 10 m
    assert by_distance["n_events"].sum() > 10_000
    np.testing.assert_allclose(
        np.average(by_distance["residual"], weights=by_distance["n_events"]), 0.0, atol=1e-9
    )


def test_a_ring_of_lost_light_shows_in_full_and_nowhere_else(sizes):
    # 10 m of 180 are too narrow for knots every 30 m.
    def ring(side):
        here = pl.col(f"impact_{side}_m").is_between(60.0, 70.0)
        return pl.when(here).then(np.exp(-0.3)).otherwise(1.0)

    before, after = (fitted_bins(pairs)[1] for pairs in (sizes, changed(sizes, ring)))
    both = before.join(after, on=["tel_type", "covariate", "low"]).filter(covariate=DISTANCE)
    moved = both.select("low", change=pl.col("residual_right") - pl.col("residual"))
    ring_moved = moved.filter(low=60.0)["change"].item()
    others = moved.filter((pl.col("low") < 40.0) | (pl.col("low") > 100.0))["change"]
    # The spline takes part of it: about the width over the distance of knots.
    assert -0.3 < ring_moved < -0.17
    assert others.abs().max() < 0.07


def test_saturation_lowers_the_bright_end(sizes):
    def saturated(side):
        size = pl.col(f"value_{side}")
        return pl.when(size > 100.0).then((size / 100.0) ** -0.5).otherwise(1.0)

    plain, bright = (
        within(fitted_bins(pairs)[1], EXPECTED, 200.0, 1e6)
        for pairs in (sizes, changed(sizes, saturated))
    )
    assert len(bright) > 1
    assert weighted(bright) < weighted(plain) - 0.05


def test_errors_of_bins_are_those_of_their_scatter():
    pulls: dict[str, list[float]] = {DISTANCE: [], EXPECTED: []}
    for seed in range(20):
        toy = SizeToy([0.0] * 9, n_showers=4000, core_error_m=0.0, threshold=1e-3)
        pairs = size_pairs(toy, seed, reach_m=200.0)
        # Out of the pool, whose kink no spline follows: residuals are noise alone.
        flat = {
            f"value_{side}": pairs[f"value_{side}"]
            * np.exp(-light_pool(pairs[f"impact_{side}_m"].to_numpy()))
            for side in (1, 2)
        }
        _, bins = fitted_bins(pairs.with_columns(**flat))
        for covariate in pulls:
            part = bins.filter(covariate=covariate)
            pulls[covariate] += (part["residual"] / part["error"]).to_list()
    # About 360 and 180 values. Curve and throughputs take up 14 degrees of freedom a night, most of
    # them in the distance.
    assert 0.65 < np.std(pulls[DISTANCE]) < 1.1
    assert 0.85 < np.std(pulls[EXPECTED]) < 1.15


def test_sparse_bins_have_no_row(sizes):
    _, bins = fitted_bins(sizes.head(300))
    assert (bins["n_events"] >= 50).all()


def test_the_report_shows_curves_and_residuals(sizes):
    showers = prepare_pairs(sizes, ARRAY)
    found = fit(lambda: [showers], ARRAY, OPTIONS, observers=watched)
    result = with_curves(make_result({"MST": 9}), found, ARRAY)
    result = with_residuals(result, found, ARRAY, least=50, unit="")
    text = html(result)
    for name in ("distance curve", f"residual by {DISTANCE}", f"residual by {EXPECTED}"):
        assert f'alt="{name}"' in text
    assert "expected value [p.e.]" in text
    assert set(residual_figures(result.extras["residual_bins"])) == {DISTANCE, EXPECTED}
    # The knots and the line through them.
    figure = curve_figure(result.extras["distance_curve"])
    assert figure is not None
    lines = [np.asarray(line.get_xydata()) for line in figure.axes[0].lines]
    (drawn,) = [line for line in lines if len(line) == 200]
    knots = result.extras["distance_curve"]
    values = np.interp(knots["impact_m"].to_numpy(), drawn[:, 0], drawn[:, 1])
    np.testing.assert_allclose(values, knots["log_value"], atol=0.02)


def test_without_a_curve_the_report_has_no_such_section():
    assert "Dependence on the impact distance" not in html(make_result({"MST": 3}))


def test_curves_without_numbers_are_not_drawn():
    nothing = pl.DataFrame(
        {"tel_type": ["A"] * 3, "impact_m": [1.0, 2.0, 3.0], "log_value": [np.nan, 0.0, np.nan],
         "error": [np.nan, 0.0, np.nan]}
    )  # fmt: skip
    assert curve_figure(nothing) is None


def test_what_lies_beyond_the_edges_ties_bins_and_has_no_row():
    k = len(EDGES[DISTANCE]) + 1
    at = [0, 3, 4, k - 1]
    part = np.ix_(at, at)
    weight, weighted, meat, common = (np.zeros((k, k)) for _ in range(4))
    weight[part] = common[part] = 100.0
    # Light is lost in the fourth bin, against all others alike.
    weighted[4, at], weighted[at, 4] = -20.0, 20.0
    weighted[4, 4] = 0.0
    n_events, position = np.zeros(k), np.zeros(k)
    n_events[at], position[[3, 4]] = 500.0, (500 * 25.0, 500 * 35.0)
    sums = _Sums(weight, 0.5 * weighted, weight, meat, common, n_events, position, 1000.0)
    rows = _rows(sums, DISTANCE, "MST", {DISTANCE: "m"}, 50)
    edges = EDGES[DISTANCE]
    # Each pair counts once here: against three others of weight 200 in all, -20 / 200 to each.
    assert [row[3:7] for row in rows] == [
        (edges[2], edges[3], 25.0, 500),
        (edges[3], edges[4], 35.0, 500),
    ]
    assert [row[7] for row in rows] == pytest.approx([0.025, -0.075])
