"""Robust weights: their definition, what they cost, and whom they take for an outlier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import integrate, stats
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.robust import _SCORES, HUBER, TUKEY, Robust, curvature_scale, robust_weights
from arraycal.calib.fit.showers import Showers, prepare_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = list(_SCORES)
SIGMA = 0.2


def score(kind: str, t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore"):  # of the branch that is not taken at 0
        return _SCORES[kind](np.asarray(t))


def showers(n_telescopes: int, n_showers: int = 1) -> Showers:
    toy = Toy([0.0] * n_telescopes, [SIGMA] * n_telescopes, n_showers, n_telescopes)
    return prepare_pairs(toy_pairs(toy, 1), toy_subarray(n_telescopes))


def weights(kind: Robust, z: list[float], base: list[float] | None = None) -> np.ndarray:
    """Weights of the telescopes of one shower."""
    size = np.full(len(z), SIGMA**-2) if base is None else np.array(base)
    return robust_weights(showers(len(z)), kind, np.array(z), size)[0]


def test_weights_are_those_of_the_books() -> None:
    # Huber: 1 up to the constant, then falling as 1/t. Tukey: (1 - u^2)^2, 0 from the constant on.
    t = np.array([0.0, HUBER, -2 * HUBER, 4 * HUBER])
    np.testing.assert_allclose(score("huber", t)[0], [1, 1, 0.5, 0.25])
    t = np.array([0.0, TUKEY / 2, -TUKEY / 2, TUKEY, -2 * TUKEY])
    np.testing.assert_allclose(score("tukey", t)[0], [1, 0.75**2, 0.75**2, 0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_the_derivative_of_the_score(kind: str) -> None:
    step = 1e-6
    # The kinks are at the constants, between these points.
    t = np.linspace(-8, 8, 101)
    up, down = ((t + d) * score(kind, t + d)[0] for d in (step, -step))
    np.testing.assert_allclose(score(kind, t)[1], (up - down) / (2 * step), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_noise_costs_five_per_cent(kind: str) -> None:
    # Variance of an M-estimator: E[psi^2] / E[psi']^2, of the mean 1.
    kinks = [-TUKEY, -HUBER, HUBER, TUKEY]

    def mean(of: Callable[[float], float]) -> float:
        return float(integrate.quad(lambda t: stats.norm.pdf(t) * of(t), -9, 9, points=kinks)[0])

    squares = mean(lambda t: (t * float(score(kind, t)[0])) ** 2)
    slope = mean(lambda t: float(score(kind, t)[1]))
    assert squares / slope**2 == pytest.approx(1 / 0.95, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_who_contradicts_the_others_counts_less(kind: Robust) -> None:
    found = weights(kind, [0.0, 0.02, -0.02, 0.01, 2.0])
    assert found[:4] == pytest.approx(np.ones(4), abs=0.02)
    # 2.0 over 0.2 sqrt(1 - 1/5) are 11 sigma of a residual.
    limit = 0.0 if kind == "tukey" else HUBER / (2.0 / (SIGMA * np.sqrt(0.8)))
    assert found[4] == pytest.approx(limit, rel=0.05)


def test_residuals_are_counted_in_the_size_they_have_around_a_mean_they_share() -> None:
    # Four telescopes of sigma 0.2: residuals have 0.2 sqrt(1 - 1/4). One lies 0.8 from the others,
    # that is first 0.8 from their median; with weight h it is 0.8 - 0.8 h / (3 + h) from the mean.
    found = weights("huber", [0.0, 0.0, 0.0, 0.8])
    h = found[3]
    scale = SIGMA * np.sqrt(0.75)
    # Re-weighted four times from the median: h settles within a per cent.
    assert h == pytest.approx(HUBER * scale / (0.8 - 0.8 * h / (3 + h)), rel=0.01)
    assert found[:3].tolist() == [1.0] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_telescopes_neither_is_the_outlier(kind: Robust) -> None:
    one, other = weights(kind, [0.0, 1.0])
    assert one == pytest.approx(other)


@pytest.mark.parametrize("kind", KINDS)
def test_two_that_know_outvote_three_that_do_not(kind: Robust) -> None:
    # The precise ones agree at 0; the others lie at 0.8 with an error of 1.
    found = weights(kind, [0.0, 0.01, 0.8, 0.8, 0.8], [1e4, 1e4, 1.0, 1.0, 1.0])
    assert found == pytest.approx(np.ones(5), abs=0.1)


def test_rows_out_of_use_neither_count_nor_move_the_others() -> None:
    used = weights("tukey", [0.0, 0.1, -0.1, 0.05])
    found = weights("tukey", [0.0, 0.1, -0.1, 0.05, 40.0], [25.0, 25.0, 25.0, 25.0, 0.0])
    assert found[:4] == pytest.approx(used)


def test_without_a_kind_all_weights_are_one() -> None:
    assert weights("none", [0.0, 9.0, -9.0]).tolist() == [1.0] * 3


def test_showers_are_judged_one_by_one() -> None:
    two = showers(4, 2)
    z = np.array([0.0, 0.0, 0.0, 3.0, 5.0, 5.0, 5.0, 5.1])
    found = robust_weights(two, "tukey", z, np.full(8, SIGMA**-2))[0]
    assert found[3] == 0.0
    assert found[[0, 1, 2, 4, 5, 6, 7]] == pytest.approx(np.ones(7), abs=0.05)


def test_the_curvature_of_a_pair_is_the_product_over_the_sum_unless_it_cancels() -> None:
    shower = showers(3)
    # 1 / sum d with d = 1, 2, 5
    assert curvature_scale(shower, np.array([1.0, 2.0, 5.0])) == pytest.approx([1 / 8])
    # 1 - 2 + 1.5 = 0.5 of 4.5 is less than a fifth: such a shower says nothing.
    assert curvature_scale(shower, np.array([1.0, -2.0, 1.5])).tolist() == [0.0]
