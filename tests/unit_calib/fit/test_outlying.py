"""Values that do not fit their showers: found, named, kept from pulling; clean data untouched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import erf
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import Fit, FitOptions, fit
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.outlying import PULLED, USUAL_SHARE, Outlying, find_outlying, fit_robustly
from arraycal.calib.fit.showers import Showers, prepare_pairs
from arraycal.calib.fit.sums.summary import DEVIATION_STEP, N_DEVIATIONS, empty_summary

N = 6
SUBARRAY = toy_subarray(N)
OPTIONS = FitOptions(
    estimator="event",
    min_events=50,
    min_common=20,
    robust="auto",
    threshold=None,
    margin=2.5,
    binned_resolution=False,
    max_iterations=20,
)


def drawn(
    seed: int, n_showers: int = 3000, share: float = 0.0, factor: float = 4.0, multiplicity: int = 4
) -> Showers:
    """Showers of some of 6 telescopes; a share of the values of telescope 1 is multiplied."""
    pairs = toy_pairs(Toy([0.0] * N, [0.2] * N, n_showers, multiplicity), seed)
    hit = pairs["event_id"].hash(seed=1).to_numpy() % 1000 < 1000 * share
    off = np.where(hit & (pairs["tel_id_1"] == 1).to_numpy(), factor, 1.0)
    return prepare_pairs(pairs.with_columns(value_1=pairs["value_1"] * off), SUBARRAY)


def solved(showers: Showers, robust: str = "auto") -> Fit:
    options = FitOptions(**{**vars(OPTIONS), "robust": robust})
    return fit_robustly(lambda: [showers], SUBARRAY, options)


def judged(fitted: Fit) -> Outlying:
    return find_outlying(fitted.summary, fitted.model.now.variance, SUBARRAY.type_codes)


def fixed(fitted: Fit) -> network.Fixed:
    return network.fix_gauge(fitted.solution, np.arange(N), "geometric_mean")


@pytest.mark.parametrize("n_showers", [300, 3000])
def test_clean_data_name_nobody_and_keep_their_weights(n_showers: int) -> None:
    for seed in range(20):
        showers = drawn(seed, n_showers)
        fitted = solved(showers)
        assert not judged(fitted).any
        plain = fit(lambda showers=showers: [showers], SUBARRAY, OPTIONS)  # type: ignore[misc]
        np.testing.assert_array_equal(fitted.solution.log_throughput, plain.solution.log_throughput)
        assert fitted.model.robust == "none"


def test_deviations_are_those_of_a_unit_gaussian_at_any_leverage() -> None:
    # Resolutions of 0.08 and 0.4: a precise telescope has most of the weight of its showers.
    toy = Toy([0.0] * N, [0.08, 0.4] * 3, 4000, 4)
    showers = prepare_pairs(toy_pairs(toy, 3), SUBARRAY)
    found = solved(showers, "none").summary.deviations
    # 2,700 showers a telescope, of which 68.3 % lie within 1 sigma: known to 0.9 %; and the fitted
    # resolution to 2 %, which is worth 1 %.
    inside = found[:, : round(1 / DEVIATION_STEP)].sum(axis=1) / found.sum(axis=1)
    np.testing.assert_allclose(inside, erf(np.sqrt(0.5)), atol=4 * 0.013)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_outlying_values_of_one_telescope_are_named_and_do_not_pull_the_others(
    share: float,
) -> None:
    clean, pulled = solved(drawn(1)), solved(drawn(1, share=share))
    base, own = fixed(clean), fixed(pulled)
    found = judged(pulled)
    assert found.tailed.tolist() == [True] + [False] * (N - 1)
    # ln 4 is seven resolutions: of 2,000 values they are counted to 1 / sqrt(2000 share).
    assert found.share[0] == pytest.approx(share, abs=4 * np.sqrt(share / 2000) + 0.001)
    assert pulled.model.robust == "tukey"
    moved = (own.log_throughput - base.log_throughput) / base.error
    assert np.abs(moved).max() < 2.5
    # Without robust weights the telescope itself follows the mean of its values, share x ln 4.
    plain = fixed(solved(drawn(1, share=share), "none"))
    assert (plain.log_throughput - base.log_throughput)[0] / base.error[0] > 3


def test_values_off_the_other_way_are_named_as_well() -> None:
    found = judged(solved(drawn(2, share=0.05, factor=0.25)))
    assert found.tailed.tolist() == [True] + [False] * (N - 1)


@pytest.mark.parametrize("seed", range(6))
def test_outlying_values_that_hide_in_a_resolution_of_few_showers_pull_nobody(seed: int) -> None:
    # 250 showers of two telescopes: 3.5 resolutions off the mean of the two is in no tail.
    few = {"n_showers": 750, "factor": 0.25, "multiplicity": 2}
    clean = fixed(solved(drawn(seed, **few)))  # type: ignore[arg-type]
    showers = drawn(seed, share=0.15, **few)  # type: ignore[arg-type]
    plain, robust = solved(showers, "none"), solved(showers)
    assert not judged(plain).tailed.any()
    assert abs(fixed(plain).log_throughput[0] - clean.log_throughput[0]) / clean.error[0] > 3
    assert robust.model.robust == "tukey"
    assert robust.observed[PULLED].tolist() == [True] + [False] * (N - 1)
    assert judged(robust).tailed.tolist() == [True] + [False] * (N - 1)
    moved = (fixed(robust).log_throughput - clean.log_throughput) / clean.error
    assert np.abs(moved).max() < 2.5


def test_a_pulled_telescope_is_named_also_where_robust_weights_lose_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def losing(*given: Any, **how: Any) -> Fit:
        found = fit(*given, **how)
        if found.model.robust == "none":
            return found
        component = np.where(np.arange(N) == 5, -1, found.solution.component)
        return replace(found, solution=replace(found.solution, component=component))

    monkeypatch.setattr("arraycal.calib.fit.outlying.fit", losing)
    found = solved(drawn(0, n_showers=750, share=0.15, factor=0.25, multiplicity=2))
    assert found.model.robust == "none"
    assert found.observed[PULLED].tolist() == [True] + [False] * (N - 1)


def test_a_fit_without_robust_weights_is_left_as_it_was_asked_for() -> None:
    fitted = solved(drawn(1, share=0.05), "none")
    assert fitted.model.robust == "none"
    assert judged(fitted).tailed[0]


def test_tails_that_all_telescopes_have_are_those_of_the_type() -> None:
    # 10 % with five times the noise, of which 0.42 lie beyond 4 sigma: 4 % of all values.
    pairs = toy_pairs(Toy([0.0] * N, [0.2] * N, 3000, 4, tail=0.1), 5)
    fitted = solved(prepare_pairs(pairs, SUBARRAY))
    found = judged(fitted)
    assert found.type_tailed.all()
    assert not found.tailed.any()
    assert fitted.model.robust == "tukey"


def test_of_two_telescopes_that_contradict_each_other_both_count_by_half() -> None:
    subarray = toy_subarray(2)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 2, [0.2] * 2, 1000, 2, tail=0.05), 1), subarray)
    options = FitOptions(**{**vars(OPTIONS), "robust": "none"})
    farthest = fit(lambda: [showers], subarray, options).summary.farthest
    assert farthest.shape == (2, N_DEVIATIONS)
    np.testing.assert_array_equal(farthest[0], farthest[1])
    assert farthest.sum() == 1000


def test_few_values_of_a_telescope_are_not_tested() -> None:
    # 20 showers of 4 of 6 telescopes: 13 values each, of which nothing is said.
    found = judged(solved(drawn(1, 20, share=0.5)))
    assert not found.tested.any()
    assert not found.any


def test_the_chance_of_values_far_off_is_binomial() -> None:
    # Deviations as in a Gaussian, but for the last bin, where all that is beyond has its place.
    edges = DEVIATION_STEP * np.arange(N_DEVIATIONS + 1)
    usual = np.diff(erf(edges / np.sqrt(2.0)))
    rows, far = np.array([1000.0, 3000.0, 50.0]), np.array([7.0, 12.0, 0.0])
    deviations, farthest = (rows - far)[:, None] * usual / usual.sum(), np.zeros((3, N_DEVIATIONS))
    deviations[:, -1] += far
    farthest[:, -1] = far
    subarray = toy_subarray(3)
    start = Model.initial(subarray, variance=0.04, margin=0.0)
    summary = replace(empty_summary(start), deviations=deviations, farthest=farthest)
    found = find_outlying(summary, start.now.variance, subarray.type_codes)
    np.testing.assert_allclose(found.n_outlying, far, atol=1e-9)
    # Expected is what the other two have, and one more.
    expected = np.array([13 / 3050, 8 / 1050, 20 / 4000])
    np.testing.assert_allclose(found.expected, np.maximum(expected, USUAL_SHARE))
    tail = [stats.binom.sf(n - 1, m, p) for n, m, p in zip(far, rows, expected, strict=True)]
    np.testing.assert_allclose(found.chance, tail, rtol=1e-6)


@pytest.mark.parametrize("strange", [(1,), (1, 3)])
def test_telescopes_with_a_tail_inside_their_core_are_named_as_noisy(
    strange: tuple[int, ...],
) -> None:
    # 15 % of the values at 1.6 times, 2.3 resolutions off: sqrt(1 + 0.15 * 0.85 * 2.35^2) = 1.3.
    subarray = toy_subarray(4)
    pairs = toy_pairs(Toy([0.0] * 4, [0.2] * 4, 4000, 3), 5)
    for column, value in (("tel_id_1", "value_1"), ("tel_id_2", "value_2")):
        key = pairs["event_id"] * 100 + pairs[column].cast(pairs["event_id"].dtype)
        hit = key.hash(seed=1).to_numpy() % 1000 < 150
        off = np.where(hit & pairs[column].is_in(strange).to_numpy(), 1.6, 1.0)
        pairs = pairs.with_columns(pairs[value] * off)
    showers = prepare_pairs(pairs, subarray)
    fitted = fit_robustly(lambda: [showers], subarray, OPTIONS)
    found = find_outlying(
        fitted.summary, fitted.model.now.variance, subarray.type_codes, robust=True
    )
    assert np.flatnonzero(found.noisy | found.tailed).tolist() == [tel - 1 for tel in strange]
