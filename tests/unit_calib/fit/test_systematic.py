"""The systematic error: calibrated where there are few showers, and zero where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import Fit, FitOptions, half_differences, systematic_error
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sweep import sweep_blocks

N_TELESCOPES = 4
SUBARRAY = toy_subarray(N_TELESCOPES)
OPTIONS = FitOptions("event", 5, 5, "none", None, 0.0, binned_resolution=False, max_iterations=1)
NODES = np.arange(N_TELESCOPES)


def half_difference(seed: int, n_showers: int) -> network.Solution:
    """Halves of showers of equal telescopes, so that all that differs is noise."""
    toy = Toy([0.0] * N_TELESCOPES, [0.2] * N_TELESCOPES, n_showers, 3)
    showers = prepare_pairs(toy_pairs(toy, seed), SUBARRAY)
    model = Model.initial(SUBARRAY, variance=0.04, margin=0.0)
    # ln(value) of a shower is exponential of slope 1.7: its median.
    model = replace(model, split_at={"value": np.array([np.log(2) / 1.7])})
    swept = sweep_blocks(lambda: [showers], model, {0: np.array([0.0, 0.0])}, {})
    whole, upper = swept.whole, swept.halves[0]
    (found,) = half_differences(whole, [upper], OPTIONS)
    return found


def test_the_errors_of_half_differences_are_their_scatter_also_with_few_showers() -> None:
    pulls = []
    for seed in range(150):
        half = half_difference(seed, 120)
        fixed = network.fix_gauge(half, NODES, "reference", reference=0)
        pulls.append(fixed.log_throughput[1:] / np.sqrt(np.diag(fixed.covariance)[1:]))
    squares = np.mean(np.square(pulls), axis=1)
    # 150 toys of 3 telescopes, correlated by half through the reference: the variance of the mean
    # of three squares is (2/9)(3 + 6/4) = 1, and that of the mean over toys 1/150. Clustered errors
    # of 60 showers come out small by some per cent, hence the room above.
    assert np.mean(squares) == pytest.approx(1.0, abs=4 / np.sqrt(150))
    # Half the showers each: 1/4 of the sum of two variances is that of the whole, not twice it.
    one = half_difference(0, 20_000)
    fixed = network.fix_gauge(one, NODES, "reference", reference=0)
    # Pairs of a shower of 3: sigma^2 (1 - 1/3) of information per telescope and shower, three of
    # four telescopes at a time; the difference of two telescopes has 2 sigma^2 / (n 3/4 * 8/9).
    expected = 2 * 0.04 / (20_000 * 3 / 4 * 8 / 9)
    assert np.diag(fixed.covariance)[1:] == pytest.approx(np.full(3, expected), rel=0.05)


def of_differences(*halves: tuple[list[float], list[float]]) -> Fit:
    """Fit of which nothing is known but half differences and their variances."""
    made = tuple(
        network.Solution(np.array(d), np.diag(v), np.zeros(len(d), int), 0.0, 0.0)
        for d, v in halves
    )
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 2, [0.2] * 2, 50, 2), 0), toy_subarray(2))
    model = Model.initial(toy_subarray(2), variance=0.04, margin=0.0)
    return Fit(made[0], summarise(showers, model), model, made, 1, settled=True)


def test_the_systematic_error_is_what_exceeds_the_statistical_one() -> None:
    # Relative to telescope 1: differences 0.05 and 0.03, each with variance 1e-4 + 2e-4.
    fitted = of_differences(([0.0, 0.05], [1e-4, 2e-4]), ([0.01, 0.04], [1e-4, 2e-4]))
    found = systematic_error(fitted, np.arange(2), "reference", reference=0)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(np.sqrt((0.05**2 + 0.03**2) / 2 - 3e-4), rel=1e-12)


def test_differences_within_their_errors_are_no_systematic_error() -> None:
    fitted = of_differences(([0.0, 0.017], [1e-4, 2e-4]))
    # 0.017^2 = 2.89e-4 < 3e-4
    assert systematic_error(fitted, np.arange(2), "reference", reference=0).tolist() == [0.0, 0.0]


def test_a_half_that_lacks_a_telescope_is_no_split() -> None:
    fitted = of_differences(([0.0, 0.05], [1e-4, 2e-4]), ([0.0, 9.0], [1e-4, 2e-4]))
    apart = replace(fitted.half_differences[1], component=np.array([0, -1]))
    fitted = replace(fitted, half_differences=(fitted.half_differences[0], apart))
    found = systematic_error(fitted, np.arange(2), "reference", reference=0)
    assert found[1] == pytest.approx(np.sqrt(0.05**2 - 3e-4), rel=1e-12)
    fitted = replace(fitted, half_differences=(apart,))
    assert np.isnan(systematic_error(fitted, np.arange(2), "reference", reference=0)).all()


def test_the_halves_in_time_alone_tell_no_systematic_error() -> None:
    halves = ([0.0, 0.05], [1e-4, 2e-4])
    fitted = of_differences(halves, halves, halves, halves)
    apart = replace(fitted.half_differences[0], component=np.array([0, -1]))
    alone = replace(fitted, half_differences=(apart, apart, apart, fitted.half_differences[3]))
    assert np.isnan(systematic_error(alone, np.arange(2), "reference", reference=0)).all()
    one = replace(fitted, half_differences=(apart, apart, *fitted.half_differences[2:]))
    found = systematic_error(one, np.arange(2), "reference", reference=0)
    assert found[1] == pytest.approx(np.sqrt(0.05**2 - 3e-4), rel=1e-12)
