"""The step of robust weights for telescopes of few showers, by values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit.model import Model
from arraycal.calib.fit.pull import Pull, pull_of_window
from arraycal.calib.fit.robust import TUKEY, TUKEY_OF_TWO
from arraycal.calib.fit.showers import Showers, prepare_pairs
from arraycal.calib.fit.weighing import weigh

RESOLUTION = 0.2


def showers_of(n_telescopes: int, n_showers: int, multiplicity: int) -> tuple[Showers, Model]:
    subarray = toy_subarray(n_telescopes)
    toy = Toy([0.0] * n_telescopes, [RESOLUTION] * n_telescopes, n_showers, multiplicity)
    model = Model.initial(subarray, variance=RESOLUTION**2, margin=0.0)
    return prepare_pairs(toy_pairs(toy, 4), subarray), model


def pull(showers: Showers, model: Model, few: list[bool], variance: float) -> Pull:
    everywhere = np.full(len(few), variance)
    return pull_of_window(showers, model, weigh(showers, model), np.array(few), everywhere)


def test_the_step_of_two_telescopes_is_weighed_with_the_given_variance() -> None:
    showers, model = showers_of(2, 1, 2)
    distance, variance = 0.1, 0.01
    apart = replace(showers, y=np.array([1.0, 1.0 + distance]))
    found = pull(apart, model, [True, True], variance)
    # Half the distance from the mean, in units of its own size sqrt(variance / 2).
    t = 0.5 * distance / np.sqrt(0.5 * variance) * TUKEY / TUKEY_OF_TWO
    weight = (1 - (t / TUKEY) ** 2) ** 2 / variance
    np.testing.assert_allclose(found.gradient, weight * distance * np.array([-0.5, 0.5]))
    np.testing.assert_allclose(found.weight, 0.5 * weight)
    np.testing.assert_allclose(found.step, [-distance, distance])


def test_values_beyond_the_limit_have_no_say() -> None:
    showers, model = showers_of(2, 1, 2)
    apart = replace(showers, y=np.array([1.0, 1.0 + 20 * RESOLUTION]))
    assert pull(apart, model, [True, True], RESOLUTION**2).step.tolist() == [0.0, 0.0]


def test_showers_with_one_of_the_few_count_and_the_others_have_no_step() -> None:
    showers, model = showers_of(5, 200, 3)
    whole = pull(showers, model, [True] * 5, RESOLUTION**2)
    found = pull(showers, model, [True, False, False, False, False], RESOLUTION**2)
    assert found.gradient[0] == pytest.approx(whole.gradient[0], rel=1e-12)
    assert found.weight[0] == pytest.approx(whole.weight[0], rel=1e-12)
    assert not found.gradient[1:].any()
    assert not found.weight[1:].any()


def test_sums_of_parts_are_those_of_the_whole() -> None:
    showers, model = showers_of(5, 200, 3)
    first = np.arange(200) < 80
    everyone = [True] * 5
    parts = [pull(showers.some(which), model, everyone, 0.04) for which in (first, ~first)]
    found, whole = parts[0] + parts[1], pull(showers, model, everyone, 0.04)
    np.testing.assert_allclose(found.gradient, whole.gradient, rtol=1e-9)
    np.testing.assert_allclose(found.weight, whole.weight, rtol=1e-12)


def test_without_a_shower_of_theirs_there_is_no_step() -> None:
    showers, model = showers_of(3, 20, 2)
    assert pull(showers, model, [False] * 3, 0.04).step.tolist() == [0.0] * 3
