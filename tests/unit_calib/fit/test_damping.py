"""The steps of the loop: whole ones first, then half ones, so that it cannot go to and fro."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import loop
from arraycal.calib.fit.loop import (
    UNDAMPED,
    WARM_UP,
    FitOptions,
    _next_estimate,
    _next_model,
    solve_summary,
)
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise

SUBARRAY = toy_subarray(4)
OPTIONS = FitOptions("event", 5, 5, "none", None, 0.0, binned_resolution=True, max_iterations=9)


def after(passes: int, *, held: bool = False, options: FitOptions = OPTIONS) -> tuple[Model, Model]:
    """The model before and after a pass of that number, from a point that is not the solution."""
    toy = Toy([0.3, -0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], 600, 3)
    showers = prepare_pairs(toy_pairs(toy, 1), SUBARRAY)
    model = Model.initial(SUBARRAY, variance=0.04, margin=0.0)
    now = replace(model.now, log_throughput=np.array([0.0, 0.1, -0.1, 0.2]))
    model = replace(model, now=replace(now, shape=2.0 * now.shape))
    summary = summarise(showers, model)
    solution = solve_summary(summary, OPTIONS)
    then = _next_estimate(model, summary, solution, SUBARRAY, options, passes, held=held)
    return model, _next_model(model, then, summary, SUBARRAY, options, passes, held=held)


def test_later_passes_go_half_of_each_step() -> None:
    before, whole = after(UNDAMPED)
    _, half = after(UNDAMPED + 1)
    assert not np.allclose(whole.now.variance, before.now.variance, rtol=0.1)
    assert not np.allclose(whole.now.shape, before.now.shape, rtol=0.1)
    # Half way in ln c, and in the logarithm of the variances.
    np.testing.assert_allclose(
        half.now.log_throughput, (whole.now.log_throughput + before.now.log_throughput) / 2
    )
    for name in ("variance", "shape"):
        new, old, found = (getattr(model.now, name) for model in (whole, before, half))
        np.testing.assert_allclose(np.log(found), (np.log(new) + np.log(old)) / 2)
    np.testing.assert_array_equal(half.selector.log_throughput, half.now.log_throughput)


def test_what_is_held_follows_in_its_throughputs_only() -> None:
    before, held = after(UNDAMPED + 1, held=True)
    _, whole = after(UNDAMPED)
    np.testing.assert_allclose(held.now.log_throughput, whole.now.log_throughput)
    np.testing.assert_array_equal(held.now.variance, before.now.variance)
    np.testing.assert_array_equal(held.selector.log_throughput, before.selector.log_throughput)


@pytest.mark.parametrize(
    ("threshold", "passes", "expected"),
    [("auto", WARM_UP + 1, 0.1), ("auto", WARM_UP + 2, 0.0), (None, WARM_UP + 1, 0.0)],
)
def test_telescopes_get_thresholds_of_their_own_once_and_from_the_data_only(
    monkeypatch: pytest.MonkeyPatch, threshold: str | None, passes: int, expected: float
) -> None:
    monkeypatch.setattr(loop, "own_offsets", lambda *_: np.full(4, 0.1))
    _, found = after(passes, options=replace(OPTIONS, threshold=threshold))
    assert found.threshold_offset.tolist() == [expected] * 4
