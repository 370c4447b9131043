"""Closure: draw truth, calibrate, compare. Bias and pull width, at several multiplicities."""

from __future__ import annotations

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import Fit, FitOptions, fit, systematic_error
from arraycal.calib.fit.showers import prepare_pairs

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
N_TOYS = 40
#: 40 toys of 10 telescopes: a pull width is known to 1 / sqrt(2 * 360) = 4 %.
PULL_RANGE = (0.9, 1.1)


def calibrate(toy: Toy, seed: int, **changes: object) -> Fit:
    subarray = toy_subarray(len(toy.log_throughput))
    showers = [prepare_pairs(toy_pairs(toy, seed), subarray)]
    options = FitOptions(**{**vars(OPTIONS), **changes})
    return fit(lambda: showers, subarray, options)


def centred(values: object) -> np.ndarray:
    array: np.ndarray = np.asarray(values, float)
    return np.asarray(array - array.mean())


def errors_and_pulls(
    n: int, multiplicity: int, sigma: list[float], n_showers: int, **changes: object
) -> tuple[np.ndarray, np.ndarray]:
    """Deviations from truth and pulls of N_TOYS independent nights, geometric mean 1."""
    deviations, pulls = [], []
    for seed in range(N_TOYS):
        truth = centred(np.random.default_rng(1000 + seed).normal(0, 0.08, n))
        toy = Toy(truth.tolist(), sigma, n_showers, multiplicity)
        solution = calibrate(toy, seed, **changes).solution
        fixed = network.fix_gauge(solution, np.arange(n), "geometric_mean")
        deviation = fixed.log_throughput - truth
        deviations.append(deviation)
        pulls.append(deviation / np.sqrt(np.diag(fixed.covariance)))
    return np.asarray(deviations), np.asarray(pulls)


@pytest.mark.parametrize(("n", "multiplicity"), [(10, 2), (10, 4), (10, 10), (25, 25)])
@pytest.mark.parametrize("robust", ["none", "tukey"])
def test_event_errors_are_right_at_any_multiplicity(n: int, multiplicity: int, robust: str) -> None:
    deviations, pulls = errors_and_pulls(
        n, multiplicity, [0.2] * n, 8000 // multiplicity, robust=robust
    )
    assert PULL_RANGE[0] < pulls.std() < PULL_RANGE[1]
    # The mean over toys of each telescope: no bias beyond 4 standard errors.
    assert np.all(np.abs(deviations.mean(axis=0)) < 4 * deviations.std(axis=0) / np.sqrt(N_TOYS))


@pytest.mark.parametrize("robust", ["none", "huber", "tukey"])
@pytest.mark.parametrize("multiplicity", [2, 4, 10])
def test_event_errors_are_right_with_unequal_resolutions(multiplicity: int, robust: str) -> None:
    sigma = [0.08, 0.2, 0.4, 0.08, 0.2, 0.4, 0.08, 0.2, 0.4, 0.2]
    _, pulls = errors_and_pulls(10, multiplicity, sigma, 8000 // multiplicity, robust=robust)
    assert PULL_RANGE[0] < pulls.std() < PULL_RANGE[1]


def test_unequal_resolutions_are_recovered_from_the_residuals() -> None:
    sigma = [0.08, 0.2, 0.4, 0.08, 0.2, 0.4, 0.08, 0.2, 0.4, 0.2]
    fitted = calibrate(Toy([0.0] * 10, sigma, 20_000, 4), seed=1)
    # 8,000 showers a telescope: a variance is known to about 2 %, sigma to 1 %.
    np.testing.assert_allclose(np.sqrt(fitted.model.now.variance), sigma, rtol=0.05)


@pytest.mark.parametrize(("multiplicity", "width"), [(4, np.sqrt(2)), (10, np.sqrt(5))])
def test_pair_errors_are_too_small_by_the_known_factor(multiplicity: int, width: float) -> None:
    # The pair chi-square counts a shower's information M/2 times, so its errors are low by
    # sqrt(M/2). This is why it is not the default.
    _, pulls = errors_and_pulls(
        10, multiplicity, [0.2] * 10, 8000 // multiplicity, estimator="pair"
    )
    assert 0.88 * width < pulls.std() < 1.12 * width


def test_pair_means_shrink_large_differences_and_the_event_fit_does_not() -> None:
    # E[tanh] shrinks a difference d by S^2/4 = 4.5 % at sigma 0.3: 0.4 -> 0.4 (1 - 0.016) with
    # the full expression; the log ratio has no such bias.
    truth = [0.2, -0.2, 0.2, -0.2]
    toy = Toy(truth, [0.3] * 4, 100_000, 4)
    event = calibrate(toy, seed=3).solution.log_throughput
    pair = calibrate(toy, seed=3, estimator="pair").solution.log_throughput
    # 100,000 showers of 4: sigma/sqrt(N) = 0.001 a telescope.
    np.testing.assert_allclose(event, truth, atol=0.004)
    assert (pair[0] - pair[1]) / 0.4 < 0.99


def threshold_bias(seed: int, threshold: object, margin: float) -> np.ndarray:
    """Deviation from truth behind a hard trigger on each telescope's own value."""
    truth = centred([0.0, 0.2, 0.1, 0.0, 0.2])
    toy = Toy(truth.tolist(), [0.1, 0.3, 0.2, 0.3, 0.1], 1_500_000, 5, trigger=0.0)
    solution = calibrate(toy, seed, threshold=threshold, margin=margin).solution
    return np.asarray(solution.log_throughput - truth)


@pytest.mark.parametrize("threshold", [dict.fromkeys(range(1, 6), 0.0), "auto"])
def test_the_margin_removes_the_bias_of_a_hard_trigger(threshold: object) -> None:
    # T = 0.8 in ln(E) is 2.67 sigma of the widest telescope.
    deviation = threshold_bias(1, threshold, 0.8 / 0.3)
    assert np.max(np.abs(deviation)) < 0.003


@pytest.mark.parametrize("multiplicity", [4, 6])
def test_a_telescope_of_half_the_throughput_is_recovered_behind_a_trigger(
    multiplicity: int,
) -> None:
    # Around the first guess, equal throughputs, such a telescope looks noisy; a margin that took
    # that for noise would drop it, and bring it back as an average one.
    truth = centred(np.log([2.0, 1, 1, 1, 1, 0.5]))
    toy = Toy(truth.tolist(), [0.2] * 6, 40_000, multiplicity, trigger=-3.0)
    pulls = []
    for seed in range(12):
        fitted = calibrate(toy, seed, threshold="auto")
        assert fitted.settled
        fixed = network.fix_gauge(fitted.solution, np.arange(6), "geometric_mean")
        pulls.append((fixed.log_throughput - truth) / np.sqrt(np.diag(fixed.covariance)))
    # 72 pulls: their rms is known to 9 %; the mean of 12 pulls of one telescope to 0.29.
    assert np.sqrt(np.mean(np.square(pulls))) < 1.3
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 * 0.29)


def test_without_the_margin_a_hard_trigger_biases_by_percents() -> None:
    assert np.max(np.abs(threshold_bias(1, None, 0.0))) > 0.02


def test_robust_weights_stop_a_one_sided_tail() -> None:
    n = 10
    toy = Toy([0.0] * n, [0.2] * n, 6_000, 4, tail=0.02)
    subarray = toy_subarray(n)
    pairs = toy_pairs(toy, 5)
    # Telescope 1 reports 2.7 times too much in 5 % of its showers.
    hit = (pairs["event_id"].hash(seed=1) % 20 == 0) & (pairs["tel_id_1"] == 1)
    pairs = pairs.with_columns(value_1=pairs["value_1"] * np.where(hit, np.e, 1.0))
    showers = [prepare_pairs(pairs, subarray)]

    def bias(robust: str) -> float:
        options = FitOptions(**{**vars(OPTIONS), "robust": robust})
        return float(fit(lambda: showers, subarray, options).solution.log_throughput[0])

    # Plain least squares follows the mean, 5 % of +1 (less the gauge); Tukey does not.
    assert bias("none") > 0.03
    assert abs(bias("tukey")) < 0.015


def test_systematic_error_shows_a_bias_that_depends_on_energy() -> None:
    n, n_showers = 6, 40_000
    subarray = toy_subarray(n)
    clean = toy_pairs(Toy([0.0] * n, [0.2] * n, n_showers, 4), 7)
    # Telescope 1 reports 4 % more in the upper half of the showers, 4 % less in the lower half.
    bright = (clean["value_2"] > np.exp(np.log(2) / 1.7)) & (clean["tel_id_1"] == 1)
    faint = ~bright & (clean["tel_id_1"] == 1)
    factor = np.where(bright, np.exp(0.04), np.where(faint, np.exp(-0.04), 1.0))
    tilted = clean.with_columns(value_1=clean["value_1"] * factor)
    results = {}
    for name, pairs in (("clean", clean), ("tilted", tilted)):
        showers = [prepare_pairs(pairs, subarray)]
        fitted = fit(lambda showers=showers: showers, subarray, OPTIONS)  # type: ignore[misc]
        results[name] = systematic_error(fitted, np.arange(n), "geometric_mean")
        relative = systematic_error(fitted, np.arange(n), "reference", reference=1)
        assert relative[1] == 0
    assert np.all(results["clean"] < 0.006)
    assert results["tilted"][0] > 0.01
