"""Closure of merged nights: the single pass, bias and pulls, and nights that do not agree."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy import stats
from toy_pairs import Toy, toy_pairs, toy_subarray
from toy_sizes import SizeToy, size_pairs, square_array

from arraycal.calib.checks.constancy import against_others, constancy_of, difference
from arraycal.calib.fit import network
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import Fit, FitOptions, fit, half_differences, solve_summary
from arraycal.calib.fit.showers import Showers, prepare_pairs
from arraycal.calib.fit.sums.columns import ColumnSums
from arraycal.calib.fit.sums.kept import KEPT, Sums, pack, unpack
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import Moments, merge_summaries
from arraycal.calib.windows.fit import merged_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.checks.constancy import Constancy, Difference
    from arraycal.calib.fit.robust import Robust
    from arraycal.calib.subarray import Subarray

OPTIONS = FitOptions(
    estimator="event",
    min_events=50,
    min_common=20,
    robust="none",
    threshold=None,
    margin=2.5,
    binned_resolution=False,
    max_iterations=20,
)
N, N_NIGHTS = 10, 5
#: 40 toys of 10 telescopes: a pull width is known to 1 / sqrt(2 * 360) = 4 %.
N_TOYS = 40
PULL_RANGE = (0.9, 1.1)
#: Sums of some thousand terms of order one: rounding stays below this.
ROUNDING = 1e-10


def centred(values: object) -> np.ndarray:
    array: np.ndarray = np.asarray(values, float)
    return np.asarray(array - array.mean())


def sums_of(fitted: Fit, subarray: Subarray) -> Sums:
    """What a night leaves, having been in the database."""
    sums = Sums(subarray, fitted.summary, fitted.halves, fitted.model, fitted.settled)
    return unpack(pack(sums))


def night_of(
    truth: np.ndarray, n_showers: int, seed: int, options: FitOptions = OPTIONS
) -> tuple[Sums, Showers]:
    """Sums and showers of a night with resolutions of its own."""
    subarray, rng = toy_subarray(N), np.random.default_rng([2, seed])
    sigma = rng.uniform(0.1, 0.3, N)
    trigger = -np.inf if options.threshold is None else 0.0
    toy = Toy(truth.tolist(), sigma.tolist(), n_showers, 4, trigger=trigger)
    showers = prepare_pairs(toy_pairs(toy, rng), subarray)
    return sums_of(fit(lambda: [showers], subarray, options), subarray), showers


def differences(nights: Sequence[Sums]) -> list[Difference]:
    """Each night against all others together."""
    pairs = against_others([night.summary for night in nights], OPTIONS)
    return [difference(pair) for pair in pairs]


def constancy(nights: Sequence[Sums]) -> Constancy:
    """All nights together."""
    return constancy_of([solve_summary(night.summary, OPTIONS) for night in nights])


def leaves(value: object) -> list[np.ndarray]:
    if isinstance(value, Moments | ColumnSums):
        return [np.asarray(getattr(value, item.name)) for item in fields(value)]
    return [np.asarray(value)]


@pytest.mark.parametrize("robust", ["none", "tukey"])
@pytest.mark.parametrize("curved", [False, True], ids=["energies", "sizes"])
def test_merged_nights_equal_the_single_pass_over_all_their_showers(
    curved: bool, robust: Robust
) -> None:
    options = replace(OPTIONS, robust=robust, threshold="auto", margin=1.0)
    if curved:
        subarray = square_array(9)
        toy = SizeToy(centred(range(9)).tolist(), n_showers=800)
        options = replace(options, knots=Knots.spaced([(20.0, 200.0)], 5))
        pairs = [size_pairs(toy, seed, reach_m=200.0) for seed in range(N_NIGHTS)]
    else:
        subarray = toy_subarray(N)
        toy = Toy(centred(np.arange(N) / 50).tolist(), [0.2] * N, 800, 4, trigger=0.0)  # type: ignore[assignment]
        pairs = [toy_pairs(toy, seed) for seed in range(N_NIGHTS)]  # type: ignore[arg-type]
    showers = [prepare_pairs(night, subarray) for night in pairs]
    # One model for all, held: that of the single pass.
    everything = pl.concat(
        frame.with_columns(event_id=pl.col("event_id") + 100_000 * number)
        for number, frame in enumerate(pairs)
    )
    whole = [prepare_pairs(everything, subarray)]
    single = fit(lambda: whole, subarray, options)
    nights = [
        Sums(subarray, summarise(night, single.model), (), single.model, single.settled)
        for night in showers
    ]
    merged = merged_fit([unpack(pack(night)) for night in nights], options)
    again = summarise(whole[0], single.model)
    for name in KEPT:
        if name == "chi2":
            continue
        pairs_of_leaves = zip(
            leaves(getattr(merged.summary, name)), leaves(getattr(again, name)), strict=True
        )
        for one, two in pairs_of_leaves:
            scale = max(1.0, float(np.abs(two).max(initial=0.0)))
            np.testing.assert_allclose(one / scale, two / scale, rtol=0, atol=ROUNDING)
    expected = solve_summary(again, options)
    np.testing.assert_allclose(
        merged.solution.log_throughput, expected.log_throughput, rtol=0, atol=ROUNDING
    )
    np.testing.assert_allclose(
        merged.solution.covariance, expected.covariance, rtol=0, atol=ROUNDING
    )
    assert merged.solution.ndf == expected.ndf


def test_halves_of_nights_merge_to_the_halves_of_the_window() -> None:
    truth = centred(np.linspace(-0.1, 0.1, N))
    nights = [night_of(truth, 1500, seed)[0] for seed in range(3)]
    merged = merged_fit(nights, OPTIONS)
    uppers = [
        merge_summaries(split) for split in zip(*(night.halves for night in nights), strict=True)
    ]
    for one, two in zip(
        merged.half_differences, half_differences(merged.summary, uppers, OPTIONS), strict=True
    ):
        np.testing.assert_array_equal(one.log_throughput, two.log_throughput)
    # Showers of one multiplicity have no halves by it; by energy the halves of a window differ by
    # sqrt(3) less than those of a night (0.4 to 1 at 10 telescopes and 3 nights).
    ((whole, *_), *nightly) = (
        half_differences(sums.summary, sums.halves, OPTIONS)
        for sums in (replace(nights[0], summary=merged.summary, halves=merged.halves), *nights)
    )
    single = np.mean([np.std(half.log_throughput) for half, *_ in nightly])
    assert 0.4 < np.std(whole.log_throughput) / single < 1.0


def test_chi_square_of_a_window_is_that_about_the_common_solution() -> None:
    # Weights and selection of each night stay, the residuals are taken at the common solution.
    # (Resolutions in bins of the energy would follow the point, and the weights with them.)
    options = replace(OPTIONS, threshold="auto", margin=1.0)
    truth = centred(np.linspace(-0.1, 0.1, N))
    # Of 20,000 showers, 8 % trigger.
    made = [night_of(truth + centred(np.eye(N)[k]) * 0.1, 20_000, k, options) for k in range(3)]
    # One night's iteration stopped early, so that its residuals are not about its solution.
    sums, showers = made[0]
    moved = replace(sums.model.now, log_throughput=sums.model.now.log_throughput + truth)
    early = replace(sums.model, now=moved)
    made[0] = (replace(sums, summary=summarise(showers, early), model=early), showers)
    nights = [sums for sums, _ in made]
    merged = merged_fit(nights, options)
    expected = 0.0
    for sums, showers in made:
        now = replace(sums.model.now, log_throughput=merged.model.now.log_throughput)
        expected += summarise(showers, replace(sums.model, now=now)).chi2
    # Of the sums as they are, each about its own point, it is another number.
    assert abs(sum(sums.summary.chi2 for sums in nights) - expected) > 10
    assert merged.solution.chi2 == pytest.approx(expected, rel=1e-9)


@cache
def toys() -> tuple[np.ndarray, ...]:
    """Deviations, pulls and errors of windows; errors of nights; probabilities; pulls of nights."""
    deviations, pulls, errors, night_errors, chances, night_pulls = [], [], [], [], [], []
    for toy in range(N_TOYS):
        truth = centred(np.random.default_rng(1000 + toy).normal(0, 0.08, N))
        nights = [night_of(truth, 1200, 100 * toy + night)[0] for night in range(N_NIGHTS)]
        merged = merged_fit(nights, OPTIONS)
        fixed = network.fix_gauge(merged.solution, np.arange(N), "geometric_mean")
        deviation, error = fixed.log_throughput - truth, np.sqrt(np.diag(fixed.covariance))
        deviations.append(deviation)
        pulls.append(deviation / error)
        errors.append(error)
        night_errors += [
            np.sqrt(np.diag(solve_summary(night.summary, OPTIONS).covariance)) for night in nights
        ]
        chances.append(constancy(nights).probability)
        night_pulls += [night.log_ratio / night.error for night in differences(nights)]
    return tuple(
        np.asarray(a) for a in (deviations, pulls, errors, night_errors, chances, night_pulls)
    )


def test_a_window_has_no_bias_and_honest_errors() -> None:
    deviations, pulls, *_ = toys()
    assert PULL_RANGE[0] < pulls.std() < PULL_RANGE[1]
    # The mean over toys of each telescope: no bias beyond 4 standard errors.
    assert np.all(np.abs(deviations.mean(axis=0)) < 4 * deviations.std(axis=0) / np.sqrt(N_TOYS))


def test_nights_that_choose_their_own_selection_leave_no_bias_of_a_hard_trigger() -> None:
    truth = centred([0.0, 0.2, 0.1, 0.0, 0.2])
    subarray = toy_subarray(5)
    options = replace(OPTIONS, threshold="auto", margin=0.8 / 0.3)
    nights = []
    for night in range(3):
        toy = Toy(truth.tolist(), [0.1, 0.3, 0.2, 0.3, 0.1], 500_000, 5, trigger=0.0)
        showers = prepare_pairs(toy_pairs(toy, night), subarray)
        nights.append(sums_of(fit(lambda w=[showers]: w, subarray, options), subarray))  # type: ignore[misc]
    merged = merged_fit(nights, options)
    # As of one night of as many showers, see test_estimators.
    assert np.max(np.abs(merged.solution.log_throughput - truth)) < 0.003


def test_errors_of_a_window_fall_with_the_square_root_of_the_nights() -> None:
    _, _, errors, night_errors, *_ = toys()
    # Resolutions differ from night to night, so a telescope's own ratio does; the mean variance
    # of the estimate is that of inverse-variance weights, at most that of equal nights.
    ratio = np.sqrt(np.mean(night_errors**2) / np.mean(errors**2))
    assert np.sqrt(N_NIGHTS) * 0.95 < ratio < np.sqrt(N_NIGHTS) * 1.3


def test_nights_that_agree_say_so_with_the_right_probability() -> None:
    *_, chances, night_pulls = toys()
    # Uniform: the Kolmogorov-Smirnov test of 40 numbers.
    assert stats.kstest(chances, "uniform").pvalue > 0.001
    assert PULL_RANGE[0] < night_pulls.std() < PULL_RANGE[1]


def test_a_night_is_compared_with_all_others_and_not_with_itself() -> None:
    nights = [night_of(centred(np.zeros(N)), 600, night)[0] for night in range(4)]
    for number, found in enumerate(differences(nights)):
        own = solve_summary(nights[number].summary, OPTIONS)
        rest = merge_summaries(night.summary for k, night in enumerate(nights) if k != number)
        others = solve_summary(rest, OPTIONS)
        expected = own.log_throughput - others.log_throughput
        np.testing.assert_allclose(found.log_ratio, expected, rtol=0, atol=ROUNDING)
        error = np.sqrt(np.diag(own.covariance + others.covariance))
        np.testing.assert_allclose(found.error, error, rtol=ROUNDING)
        assert found.ndf == N - 1


def test_a_telescope_that_changes_is_seen_in_the_nights() -> None:
    truth = centred(np.zeros(N))
    step = centred(0.08 * np.eye(N)[3])
    nights = [night_of(truth + step * (night >= 2), 1200, night)[0] for night in range(N_NIGHTS)]
    found = constancy(nights)
    assert found.ndf == (N_NIGHTS - 1) * (N - 1)
    assert found.probability < 1e-6
    pulls = np.array([night.log_ratio / night.error for night in differences(nights)])
    # Below the other nights before the step, above them after it; the others are as before.
    assert (np.sign(pulls[:, 3]) == [-1, -1, 1, 1, 1]).all()
    assert np.mean(pulls[:, 3] ** 2) > 4 * np.mean(np.delete(pulls, 3, axis=1) ** 2)


def test_nights_too_short_for_a_result_of_their_own_make_one_together() -> None:
    truth = centred(np.linspace(-0.1, 0.1, N))
    # 100 showers of 4 telescopes: 40 a telescope, 50 are needed.
    nights = [night_of(truth, 100, night)[0] for night in range(N_NIGHTS)]
    assert all((solve_summary(night.summary, OPTIONS).component < 0).all() for night in nights)
    merged = merged_fit(nights, replace(OPTIONS, min_common=10))
    assert (merged.solution.component == 0).all()
    error = np.sqrt(np.diag(merged.solution.covariance))
    assert np.all(np.abs(merged.solution.log_throughput - truth) < 4 * error)


def test_one_night_is_its_own_window() -> None:
    night = night_of(centred(np.linspace(-0.1, 0.1, N)), 1500, 1)[0]
    merged = merged_fit([night], OPTIONS)
    own = solve_summary(night.summary, OPTIONS)
    np.testing.assert_array_equal(merged.solution.log_throughput, own.log_throughput)
    np.testing.assert_array_equal(merged.solution.covariance, own.covariance)
    assert np.isnan(constancy([night]).probability)
    (found,) = differences([night])
    assert np.isnan(found.log_ratio).all()
    assert found.ndf == 0
