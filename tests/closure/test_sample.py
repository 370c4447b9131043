"""Closure: a model learnt on a sample costs neither bias nor honesty of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import loop, network
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sketch import PER_TELESCOPE

if TYPE_CHECKING:
    import pytest

OPTIONS = FitOptions(
    "event", 50, 20, "none", "auto", 2.5, binned_resolution=True, max_iterations=20
)
N, N_NIGHTS = 9, 16
#: Well below what is used, of 6,000 to 10,000 showers of each telescope.
QUOTA = 2_500
#: Unlike each other by more than telescopes of a type are: what a sample does not know of a
#: telescope is taken from its type.
SIGMA = [0.1, 0.15, 0.2] * 3


def test_a_model_from_a_sample_costs_less_than_the_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert QUOTA < PER_TELESCOPE / 2
    subarray = toy_subarray(N)
    deviations: dict[int, list[np.ndarray]] = {QUOTA: [], 10**9: []}
    errors = []
    for seed in range(N_NIGHTS):
        truth = np.random.default_rng(500 + seed).normal(0.0, 0.08, N)
        truth -= truth.mean()
        toy = Toy(truth.tolist(), SIGMA, 250_000, 4, trigger=-2.5)
        showers = [prepare_pairs(toy_pairs(toy, seed), subarray)]
        for quota, found in deviations.items():
            monkeypatch.setattr(loop, "quotas", lambda _, quota=quota: np.full(N, quota))
            fitted = fit(lambda showers=showers: showers, subarray, OPTIONS)  # type: ignore[misc]
            fixed = network.fix_gauge(fitted.solution, np.arange(N), "geometric_mean")
            found.append(fixed.log_throughput - truth)
        errors.append(np.sqrt(np.diag(fixed.covariance)))
    taught, whole = (np.asarray(found) for found in deviations.values())
    moved = (taught - whole) / errors
    widths = [np.sqrt(np.mean((d / errors) ** 2) * N / (N - 1)) for d in (taught, whole)]
    print(f"moved by {np.sqrt(np.mean(moved**2)):.2f} errors, pull widths {widths}")
    assert np.sqrt(np.mean(moved**2)) < 0.5
    # 16 nights of 8 free telescopes: a width is known to 6 %.
    assert 0.88 < widths[0] < 1.15
    assert widths[0] < 1.1 * widths[1]
    # The bias of a hard trigger at the margin of 2.5 is below 0.3 % (docs/method.md).
    error = np.std(taught, axis=0, ddof=1) / np.sqrt(N_NIGHTS)
    assert (np.abs(taught.mean(axis=0)) < 0.003 + 3 * error).all()
