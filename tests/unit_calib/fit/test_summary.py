"""The sums: exact merge, invariances, and a slow, obvious oracle."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.columns import ColumnSums
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import TURN_ON_EDGES, Moments, Summary, merge_summaries
from arraycal.calib.fit.thresholds import turn_on_threshold

N = 6
SUBARRAY = toy_subarray(N)
TOY = Toy([0.1, -0.1, 0.05, 0.0, -0.2, 0.15], [0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 400, 4, trigger=0.1)
PAIRS = toy_pairs(TOY, 5)
OPTIONS = FitOptions("event", 20, 5, "none", "auto", 1.0, True, 12)
#: Sums of some thousand terms of order one: rounding stays below this.
ROUNDING = 1e-10


def model(**changes: object) -> Model:
    start = Model.initial(SUBARRAY, variance=0.04, margin=1.0)
    now = replace(
        start.now,
        log_throughput=np.array([0.05, -0.05, 0.0, 0.0, -0.1, 0.1]),
        variance=np.array([0.01, 0.04, 0.09, 0.01, 0.04, 0.09]),
    )
    return replace(start, now=now, selector=now, **changes)  # type: ignore[arg-type]


def arrays(summary: Summary) -> list[np.ndarray]:
    flat: list[np.ndarray] = []
    for item in fields(Summary):
        value = getattr(summary, item.name)
        parts = list(vars(value).values()) if isinstance(value, Moments | ColumnSums) else [value]
        flat.extend(np.asarray(part, float) for part in parts)
    return flat


def assert_equal(one: Summary, two: Summary) -> None:
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


def naive(pairs: pl.DataFrame, used: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal equations and meat, shower by shower, with the matrices written out."""
    weight, weighted, meat = np.zeros((N, N)), np.zeros(N), np.zeros((N, N))
    s, variance = used.now.log_throughput, used.now.variance
    for _, rows in pairs.group_by("event_id"):
        y: dict[int, float] = {}
        for side in (1, 2):
            y |= dict(zip(rows[f"tel_id_{side}"], np.log(rows[f"value_{side}"]), strict=True))
        nodes = np.array(sorted(y)) - 1
        w, values = 1 / variance[nodes], np.array([y[i + 1] for i in nodes])
        a = np.diag(w) - np.outer(w, w) / w.sum()
        gradient = np.zeros(N)
        gradient[nodes] = a @ (values - s[nodes])
        weighted[nodes] += a @ values
        weight[np.ix_(nodes, nodes)] += a
        meat += np.outer(gradient, gradient)
    return weight, weighted, meat


@pytest.mark.parametrize("n_showers", [1, 2, 60])
def test_sums_equal_the_fixed_effects_matrices_of_every_shower(n_showers: int) -> None:
    events = PAIRS["event_id"].unique().sort().head(n_showers).implode()
    pairs = PAIRS.filter(pl.col("event_id").is_in(events))
    summary = summarise(prepare_pairs(pairs, SUBARRAY), model())
    weight, weighted, meat = naive(pairs, model())
    np.testing.assert_allclose(network.laplacian(summary.weight), weight, atol=1e-9)
    right = summary.weighted.sum(axis=1) - summary.weighted.sum(axis=0)
    np.testing.assert_allclose(right, weighted, atol=1e-9)
    np.testing.assert_allclose(summary.meat, meat, atol=1e-9)


@given(st.permutations(range(5)), st.sampled_from(["none", "huber", "tukey"]))
def test_blocks_in_any_order_merge_to_the_single_pass(order: list[int], robust: str) -> None:
    used = model(robust=robust, threshold=np.full((1, 100), 0.0)[:, : model().threshold.shape[1]])
    whole = summarise(prepare_pairs(PAIRS, SUBARRAY), used)
    parts = [PAIRS.filter(pl.col("event_id") % 5 == k) for k in order]
    assert_equal(merge_summaries(summarise(prepare_pairs(p, SUBARRAY), used) for p in parts), whole)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    shuffled = PAIRS.sample(fraction=1.0, shuffle=True, seed=seed)
    one = summarise(prepare_pairs(PAIRS, SUBARRAY), model())
    assert_equal(summarise(prepare_pairs(shuffled, SUBARRAY), model()), one)


def swap_sides(pairs: pl.DataFrame, tel_id_of: dict[int, int]) -> pl.DataFrame:
    """Rename telescopes; where that reverses a pair, exchange its sides."""
    renamed = pairs.with_columns(
        pl.col(f"tel_id_{side}").replace_strict(tel_id_of, return_dtype=pl.UInt16)
        for side in (1, 2)
    )
    turned = pl.col("tel_id_1") > pl.col("tel_id_2")
    columns = []
    for one, two in (("tel_id_1", "tel_id_2"), ("value_1", "value_2")):
        columns.append(pl.when(turned).then(pl.col(two)).otherwise(pl.col(one)).alias(one))
        columns.append(pl.when(turned).then(pl.col(one)).otherwise(pl.col(two)).alias(two))
    return renamed.with_columns(
        *columns,
        pl.when(turned)
        .then(-pl.col("asymmetry"))
        .otherwise(pl.col("asymmetry"))
        .alias("asymmetry"),
    )


@given(st.permutations(range(1, N + 1)), st.sampled_from(["event", "pair"]))
def test_renaming_telescopes_renames_their_coefficients_only(
    order: list[int], estimator: str
) -> None:
    new_id = dict(zip(range(1, N + 1), order, strict=True))
    options = replace(OPTIONS, estimator=estimator)
    results = []
    for pairs in (PAIRS, swap_sides(PAIRS, new_id)):
        showers = [prepare_pairs(pairs, SUBARRAY)]
        results.append(fit(lambda showers=showers: showers, SUBARRAY, options).solution)  # type: ignore[misc]
    back = [new_id[i] - 1 for i in range(1, N + 1)]
    np.testing.assert_allclose(
        results[0].log_throughput, results[1].log_throughput[back], atol=1e-9
    )
    np.testing.assert_allclose(
        results[0].covariance, results[1].covariance[np.ix_(back, back)], atol=1e-9
    )


@given(st.floats(0.01, 100.0))
def test_a_common_scale_cancels(scale: float) -> None:
    options = replace(OPTIONS, threshold=None, binned_resolution=False)
    scaled = PAIRS.with_columns(pl.col("value_1", "value_2") * scale)
    one, two = (
        fit(lambda p=p: [prepare_pairs(p, SUBARRAY)], SUBARRAY, options).solution  # type: ignore[misc]
        for p in (PAIRS, scaled)
    )
    np.testing.assert_allclose(one.log_throughput, two.log_throughput, atol=1e-9)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-9)


def test_fitting_blocks_equals_fitting_them_in_one() -> None:
    parts = [prepare_pairs(PAIRS.filter(pl.col("event_id") % 7 == k), SUBARRAY) for k in range(7)]
    whole = [prepare_pairs(PAIRS, SUBARRAY)]
    one, two = (fit(lambda w=w: w, SUBARRAY, OPTIONS) for w in (parts, whole))  # type: ignore[misc]
    np.testing.assert_allclose(
        one.solution.log_throughput, two.solution.log_throughput, atol=ROUNDING
    )
    np.testing.assert_allclose(one.solution.covariance, two.solution.covariance, atol=ROUNDING)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 30))
def test_moments_merge_exactly(values: list[float], cut: int) -> None:
    x = np.asarray(values)
    link = np.full(len(x), 1)  # telescope 0 with telescope 1 of 2
    merged = Moments.of(link[:cut], x[:cut], 2) + Moments.of(link[cut:], x[cut:], 2)
    assert merged.n[0, 1] == len(x)
    assert merged.mean[0, 1] == pytest.approx(x.mean(), abs=1e-12)
    assert merged.m2[0, 1] == pytest.approx(np.sum((x - x.mean()) ** 2), abs=1e-12)


def test_the_margin_never_looks_at_one_telescopes_own_value() -> None:
    # Two showers with the same inverse-variance mean (equal resolutions: the plain mean),
    # one of them with a telescope far below the threshold: both are kept whole or dropped whole.
    rows = PAIRS.head(2).with_columns(
        event_id=pl.Series([1, 2]),
        tel_id_1=pl.Series([1, 1], dtype=pl.UInt16),
        tel_id_2=pl.Series([2, 2], dtype=pl.UInt16),
        value_1=pl.Series([np.exp(1.0), np.exp(2.5)]),
        value_2=pl.Series([np.exp(1.0), np.exp(-0.5)]),
    )
    start = Model.initial(SUBARRAY, variance=0.04, margin=2.5)
    for threshold, kept in ((0.4, 4), (0.6, 0)):  # 1.0 > 0.4 + 2.5 * 0.2, but not > 0.6 + 0.5
        used = replace(start, threshold=np.full_like(start.threshold, threshold))
        assert summarise(prepare_pairs(rows, SUBARRAY), used).n_rows == kept


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to merge"):
        merge_summaries([])


def test_turn_on_is_found_at_half_height_of_the_rising_edge() -> None:
    y = np.random.default_rng(1).exponential(1 / 1.7, 200_000) + np.log(0.05)
    histogram = np.bincount(np.digitize(y, TURN_ON_EDGES), minlength=len(TURN_ON_EDGES) + 1)
    # Bins of 0.1, smoothed over three: the edge is known to about a bin and a half.
    assert turn_on_threshold(histogram.astype(float)) == pytest.approx(np.log(0.05), abs=0.16)


def test_turn_on_of_nothing_selects_nothing_away() -> None:
    assert turn_on_threshold(np.zeros(len(TURN_ON_EDGES) + 1)) == float("-inf")
