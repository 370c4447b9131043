"""Resolutions of telescopes: their own where the data show one, that of their type elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.model import Model
from arraycal.calib.fit.resolutions import variances
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise

N = 6
SUBARRAY = toy_subarray(N)


def found(sigma: list[float], n_showers: int, seed: int, passes: int = 6) -> np.ndarray:
    """Iterate the scoring at the true throughputs; variance of every telescope."""
    showers = prepare_pairs(toy_pairs(Toy([0.0] * N, sigma, n_showers, 4), seed), SUBARRAY)
    used = Model.initial(SUBARRAY, variance=0.04, margin=0.0)
    for _ in range(passes):
        summary = summarise(showers, used)
        estimate = replace(used.now, variance=variances(used.now, summary, SUBARRAY.type_codes))
        used = replace(used, now=estimate, selector=estimate)
    return used.now.variance


def test_equal_telescopes_share_the_resolution_of_their_type() -> None:
    # 2,000 showers a telescope: an own variance would be known to about sqrt(2 / 2000) x 1.2 = 4 %,
    # within which each of them would follow its own fluctuation.
    spread = [
        np.ptp(variance) / variance.mean()
        for variance in (found([0.2] * N, 3000, s) for s in range(5))
    ]
    assert np.median(spread) < 0.005
    assert np.mean([found([0.2] * N, 3000, s).mean() for s in range(5)]) == pytest.approx(
        0.04, rel=0.03
    )


def test_telescopes_that_differ_keep_their_own() -> None:
    sigma = np.array([0.1, 0.1, 0.2, 0.2, 0.4, 0.4])
    # Known to 4 % of the variance each; drawn to the type by a part of about 0.005 / 0.7.
    np.testing.assert_allclose(found(sigma.tolist(), 3000, 1), sigma**2, rtol=0.16)


def test_one_noisy_telescope_among_equal_ones_is_told_from_them() -> None:
    variance = found([0.2] * (N - 1) + [0.3], 3000, 2)
    # 0.09 / 0.04 = 2.25; the type lies between, and nobody is drawn far towards it.
    assert variance[-1] / variance[:-1].mean() == pytest.approx(2.25, rel=0.15)


def test_few_showers_take_the_resolution_of_the_type() -> None:
    variance = found([0.1, 0.1, 0.2, 0.2, 0.4, 0.4], 20, 3)
    assert np.all(np.isfinite(variance))
    # About 13 showers a telescope of TRUST_SHOWERS = 100.
    assert np.ptp(variance) / variance.mean() < 0.05


def test_a_far_noisier_telescope_stays_so_when_the_selection_takes_its_rows() -> None:
    showers = prepare_pairs(toy_pairs(Toy([0.0] * N, [0.2] * N, 3000, 4), 1), SUBARRAY)
    start = Model.initial(SUBARRAY, variance=0.04, margin=0.0).now
    summary = summarise(showers, Model.initial(SUBARRAY, variance=0.04, margin=0.0))
    # As behind a threshold: it was seen, but hardly any of its rows is selected.
    few = summary.n_events.copy()
    few[-1] = 5
    lost = replace(summary, n_events=few)
    now = replace(start, variance=np.append(start.variance[:-1], 0.5))
    assert variances(now, lost, SUBARRAY.type_codes)[-1] == 0.5
    # A telescope that hardly saw anything says nothing of its noise.
    unseen = replace(lost, n_candidates=few)
    assert variances(now, unseen, SUBARRAY.type_codes)[-1] < 0.1
