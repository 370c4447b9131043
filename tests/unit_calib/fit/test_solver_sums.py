"""Rows give the same sums as the pairs they form."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.checks.residual_bins import ResidualObserver
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.solver_sums import _column_sums, _gradients, solver_sums_with_gradients
from arraycal.calib.fit.sums.summary import FOR_SOLVER
from arraycal.calib.fit.weighing import pairs_in_use, rows_in_use, weigh
from arraycal.calib.types.bins import ContrastObserver

if TYPE_CHECKING:
    from arraycal.calib.fit.robust import Robust
    from arraycal.calib.fit.showers import Showers

SUBARRAY = toy_subarray(7)
SPREAD = [0.1, 0.2, 0.3, 0.15, 0.25, 0.2, 0.1]


def case(robust: Robust, knots: Knots) -> tuple[Showers, Model]:
    """Showers of unequal telescopes with a threshold and outliers, and a model of them."""
    toy = Toy([0.2, -0.1, 0.0, 0.1, -0.2, 0.0, 0.1], SPREAD, 800, 4, trigger=-3.0)
    showers = prepare_pairs(toy_pairs(toy, 5), SUBARRAY)
    rng = np.random.default_rng(1)
    wild = np.where(rng.random(len(showers.y)) < 0.05, 1.0, 0.0)
    distance = rng.uniform(20.0, 250.0, len(showers.y))
    showers = replace(
        showers,
        y=showers.y + wild,
        impact_m=distance,
        impact_bin=np.digitize(distance, [100.0, 200.0]),
    )
    model = Model.initial(SUBARRAY, variance=0.04, margin=1.0, knots=knots)
    now = replace(
        model.now,
        log_throughput=np.linspace(-0.1, 0.1, 7),
        variance=np.square(SPREAD),
        curve=np.linspace(-0.1, 0.1, knots.n_columns),
    )
    threshold = np.full(model.threshold.shape, -2.6)
    return showers, replace(model, now=now, selector=now, threshold=threshold, robust=robust)


@pytest.mark.parametrize("robust", ["none", "huber", "tukey"])
@pytest.mark.parametrize("knots", [Knots(), Knots(((50.0, 100.0, 150.0, 200.0),))])
def test_rows_and_pairs_give_the_same_normal_equations(robust: Robust, knots: Knots) -> None:
    showers, model = case(robust, knots)
    assert showers.complete
    of_pairs = replace(showers, formed=(showers.first, showers.second))
    rows, same = weigh(showers, model), weigh(of_pairs, model)
    np.testing.assert_array_equal(rows.used, same.used)
    assert 0 < rows.used.sum() < len(rows.used)
    found, gradients = solver_sums_with_gradients(showers, model, rows)
    expected, by_pairs = solver_sums_with_gradients(of_pairs, model, same)
    for name in (*FOR_SOLVER[:-1], "n_rows"):
        one, two = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(two).max()))
    for part in fields(found.columns):
        one, two = getattr(found.columns, part.name), getattr(expected.columns, part.name)
        np.testing.assert_allclose(one, two, atol=1e-12 * np.abs(two).max(initial=1.0))
    np.testing.assert_array_equal(found.log_ratio.n, expected.log_ratio.n)
    # Sums of every time chunk are kept: what no solver reads is one zero in memory.
    for name in {item.name for item in fields(found)} - {*FOR_SOLVER, "asymmetry", "log_ratio"}:
        rest = np.asarray(getattr(found, name))
        assert not rest.any()
        assert not any(rest.strides)
    np.testing.assert_allclose(gradients.times(gradients), by_pairs.times(by_pairs), atol=1e-8)
    if robust == "none":
        assert found.curvature is found.weight
    else:
        assert not np.allclose(found.curvature, found.weight)


def test_the_weight_of_two_telescopes_is_the_product_over_the_sum() -> None:
    showers, model = case("none", Knots())
    rows = weigh(showers, model)
    group = int(showers.group[np.flatnonzero(rows.used)[0]])
    alone = showers.some(np.arange(len(showers.shower_start) - 1) == group)
    weighed = weigh(alone, model)
    own = np.flatnonzero(weighed.used)
    w = weighed.weight[own]
    first, second = alone.node[own[:2]]
    found, _ = solver_sums_with_gradients(alone, model, weighed)
    assert found.weight[first, second] == pytest.approx(w[0] * w[1] / w.sum())
    assert found.weighted[first, second] == pytest.approx(
        w[0] * w[1] / w.sum() * (alone.y[own[0]] - alone.y[own[1]])
    )
    assert found.weight[second, first] == 0.0


def test_a_row_that_keeps_no_partner_is_out_of_use() -> None:
    showers, model = case("none", Knots())
    lonely = replace(model, margin=1e9)
    assert not weigh(showers, lonely).used.any()
    assert len(pairs_in_use(showers, weigh(showers, lonely)).first) == 0


def test_the_curvature_of_columns_is_that_of_the_derivatives() -> None:
    showers, model = case("none", Knots())
    rows = weigh(showers, model)
    used = rows_in_use(showers, rows)
    columns = np.ones((len(showers.y), 1))
    gradients = _gradients(showers, rows.used, np.zeros(len(showers.y)), columns)
    found = _column_sums(
        showers, columns, used, gradients, lambda _, h: 2.0 * h, lambda _, h: 3.0 * h
    )
    n = len(used.place)
    np.testing.assert_allclose(found.columns, [[2.0 * n]])
    np.testing.assert_allclose(found.columns_curvature, [[3.0 * n]])
    by_telescope = np.bincount(used.node, minlength=7)
    np.testing.assert_allclose(found.mixed[:, 0], 2.0 * by_telescope)
    np.testing.assert_allclose(found.mixed_curvature[:, 0], 3.0 * by_telescope)
    np.testing.assert_allclose(found.vector, [2.0 * showers.y[used.place].sum()])


@pytest.mark.parametrize("robust", ["none", "tukey"])
def test_residuals_in_bins_are_the_same_from_rows_and_from_pairs(robust: Robust) -> None:
    showers, model = case(robust, Knots())
    usable = np.arange(7) != 2
    look = ResidualObserver(usable, 1)
    found, expected = (look(s, model, weigh(s, model)) for s in both(showers))
    for one, two in zip(found.covariates, expected.covariates, strict=True):
        for name in ("weight", "curvature"):
            a, b = getattr(one, name), getattr(two, name)
            np.testing.assert_allclose(off_diagonal(a + a.T), off_diagonal(b + b.T), atol=1e-9)
        a, b = (sums.weighted.sum(axis=1) - sums.weighted.sum(axis=0) for sums in (one, two))
        np.testing.assert_allclose(a, b, atol=1e-9)
        np.testing.assert_allclose(one.meat, two.meat, atol=1e-8)
        np.testing.assert_array_equal(one.n_events, two.n_events)
        assert one.n_showers == two.n_showers


@pytest.mark.parametrize("robust", ["none", "tukey"])
def test_contrasts_are_the_same_from_rows_and_from_pairs(robust: Robust) -> None:
    showers, model = case(robust, Knots())
    showers = replace(showers, kind=(showers.node > 3).astype(np.intp))
    model = replace(model, threshold=np.repeat(model.threshold, 2, axis=0))
    shape = np.repeat(model.now.shape, 2, axis=0)
    now = replace(model.now, shape=shape)
    model = replace(model, now=now, selector=now)
    look = ContrastObserver(np.arange(7) != 2, 2)
    found, expected = (look(s, model, weigh(s, model)) for s in both(showers))
    for one, two in zip(found.covariates, expected.covariates, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)
        # Gradients of a shower add up to nothing over the types.
        np.testing.assert_allclose(one.meat.sum(axis=2), 0.0, atol=1e-9)
    assert found.covariates[0].weight[:, 0, 1].sum() > 0
    assert found.covariates[0].meat[:, 0, 0].sum() > 0


def both(showers: Showers) -> tuple[Showers, Showers]:
    """The same showers by rows and by pairs."""
    return showers, replace(showers, formed=(showers.first, showers.second))


def off_diagonal(square: np.ndarray) -> np.ndarray:
    return np.asarray(square - np.diag(np.diag(square)))
