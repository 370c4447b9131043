"""Errors that a gauge hands on, derived by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_pairs import toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.gauge.across_types import _Gauge, _refuse, _State, _systematic_of_nodes, mean_of
from arraycal.calib.gauge.within_types import (
    FAR_FACTOR,
    _without_scatter,
    anchor,
    far_off,
    unconnected,
)
from arraycal.calib.wording import few_common
from arraycal.config import load_configuration
from arraycal.config.models import RelativeThroughputFitterOptions


def solution(s: list[float], covariance: np.ndarray | None = None) -> network.Solution:
    n = len(s)
    if covariance is None:
        root = np.random.default_rng(4).normal(size=(n, n))
        covariance = 1e-4 * root @ root.T
    return network.Solution(np.array(s), covariance, np.zeros(n, int), 0.0, 0.0)


@pytest.mark.parametrize("gauge", ["geometric_mean", "arithmetic_mean"])
@pytest.mark.parametrize("left_out", [(), (4,), (1, 4)])
def test_a_mean_gauge_has_the_error_of_the_telescopes_it_averages(
    gauge: network.Gauge, left_out: tuple[int, ...]
) -> None:
    s = [0.1, 0.3, -0.2, 0.0, 2.0]
    made = solution(s)
    fixed = network.fix_gauge(made, np.arange(5), gauge, left_out=left_out)
    inside = [i for i in range(5) if i not in left_out]
    # ln c_i = s_i - ln(mean of c) or - mean(s): derivatives by s_j are the shares of the mean.
    shares = np.array(
        [
            0.0 if j in left_out else 1 / len(inside) if gauge == "geometric_mean" else
            math.exp(s[j]) / sum(math.exp(s[k]) for k in inside)
            for j in range(5)
        ]
    )  # fmt: skip
    mean = sum(s[j] for j in inside) / len(inside)
    if gauge == "arithmetic_mean":
        mean = math.log(sum(math.exp(s[j]) for j in inside) / len(inside))
    for i in range(5):
        contrast = np.eye(5)[i] - shares
        assert fixed.log_throughput[i] == pytest.approx(s[i] - mean, abs=1e-14)
        assert fixed.error[i] == pytest.approx(
            math.exp(s[i] - mean) * math.sqrt(contrast @ made.covariance @ contrast), rel=1e-12
        )


def test_z_is_the_distance_from_the_others_over_error_and_scatter() -> None:
    made = network.Fixed(np.array([0.0, 0.1, 0.2, 0.3, 1.0]), 0.01 * np.eye(5))
    deviation, z = network.leave_one_out(made, np.arange(5))
    # Others of the last: median 0.15; standard deviation of 0, 0.1, 0.2, 0.3 with n - 1:
    # sqrt((0.15^2 + 0.05^2) * 2 / 3); error of it minus the mean of four: 0.01 (1 + 1/4).
    scatter2 = (0.15**2 + 0.05**2) * 2 / 3
    assert deviation[4] == pytest.approx(0.85)
    assert z[4] == pytest.approx(0.85 / math.sqrt(0.01 * 1.25 + scatter2), rel=1e-12)


def test_z_of_many_siblings_takes_the_median_absolute_deviation() -> None:
    s = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0])
    deviation, z = network.leave_one_out(network.Fixed(s, 0.01 * np.eye(8)), np.arange(8))
    # Others of the last: median 0.3, absolute deviations 0.3 0.2 0.1 0 0.1 0.2 0.3, median 0.2.
    scatter = 1.4826 * 0.2
    assert deviation[7] == pytest.approx(0.7)
    assert z[7] == pytest.approx(0.7 / math.hypot(scatter, math.sqrt(0.01 * (1 + 1 / 7))))


@pytest.mark.parametrize(("n_common", "n_events", "together"), [
    (20, 50, True), (19, 50, False), (20, 49, False),
])  # fmt: skip
def test_as_many_showers_as_are_asked_for_are_enough(
    n_common: int, n_events: int, together: bool
) -> None:
    common = np.zeros((2, 2))
    common[1, 0] = n_common  # either triangle
    component = network.components(common, np.array([n_events, 50.0]), min_common=20, min_events=50)
    assert (component.tolist() == [0, 0]) is together


def options(**fields: Any) -> RelativeThroughputFitterOptions:
    fitter = load_configuration().RelativeThroughputFitter
    return RelativeThroughputFitterOptions.model_validate(fitter.model_dump() | fields)


def test_the_error_of_a_constraint_is_relative_to_its_value() -> None:
    constraint = {"tel_id": 2, "value": 0.8, "error": 0.04}
    made = anchor(toy_subarray(3), "MST", np.arange(3), options(constraints=[constraint]))
    # d ln c = dc / c = 0.04 / 0.8
    (found,) = made["constraints"]
    assert (found.node, found.log_value) == (1, math.log(0.8))
    assert found.log_error == pytest.approx(0.05)
    fixed = network.fix_gauge(solution([0.1, 0.3, -0.2], np.zeros((3, 3))), np.arange(3), **made)
    assert fixed.value[1] == pytest.approx(0.8, rel=1e-6)
    # The showers are exact here: all that is not known is the constraint.
    assert fixed.error / fixed.value == pytest.approx(np.full(3, 0.05), rel=1e-3)


def test_a_constraint_and_a_norm_are_of_the_coefficient_not_of_its_power() -> None:
    constraint = {"tel_id": 2, "value": 0.8, "error": 0.04}
    fields = {"constraints": [constraint], "response_slope": 1.5}
    made = anchor(toy_subarray(3), "MST", np.arange(3), options(**fields))
    # Values go with c^1.5.
    assert made["constraints"][0].log_value == pytest.approx(1.5 * math.log(0.8))
    assert made["constraints"][0].log_error == pytest.approx(1.5 * 0.05)
    normed = options(throughput_normalisation={"MST": 0.7}, response_slope=1.5)
    made = anchor(toy_subarray(3), "MST", np.arange(3), normed)
    assert made["log_norm"] == pytest.approx(1.5 * math.log(0.7))


def test_telescopes_are_far_off_beyond_a_factor_of_the_median() -> None:
    limit = math.log(FAR_FACTOR)
    s = np.array([0.0, 0.0, 0.0, limit + 0.01, -limit + 0.01])
    assert far_off(s, np.arange(5)) == (3,)
    # One of two, and two of four: nobody knows which.
    assert far_off(np.array([0.0, 9.0]), np.arange(2)) == ()
    assert far_off(np.array([0.0, 0.0, 9.0, 9.0]), np.arange(4)) == ()


def test_the_systematic_error_of_a_mean_is_what_halves_differ_by_beyond_their_errors() -> None:
    weights, one = np.array([1.0, -1.0, 0.0]), np.zeros(3, np.intp)
    covariance = np.diag([0.01, 0.03, np.nan])
    half = (np.array([0.2, -0.3, np.nan]), covariance, one)
    s = np.array([0.5, 0.1, np.nan])
    found = mean_of(_State(s, covariance, (half,)), weights)
    # Difference of the halves 0.2 + 0.3, its variance 0.01 + 0.03: 0.25 - 0.04 are unexplained.
    assert found == pytest.approx((0.4, 0.04, math.sqrt(0.21)))
    # Halves in which the two do not compare say nothing.
    apart = (half[0], covariance, np.array([0, 1, 0]))
    assert math.isnan(mean_of(_State(s, covariance, (apart,)), weights).systematic)


def test_showers_in_common_are_counted_whichever_telescope_comes_first() -> None:
    common = np.zeros((3, 3))
    common[0, 1], common[0, 2], common[1, 2] = 7.0, 12.0, 9.0  # of pairs in one order only
    fitted: Any = SimpleNamespace(
        solution=SimpleNamespace(component=np.full(3, -1)),
        summary=SimpleNamespace(
            n_candidates=np.full(3, 90.0),
            n_events=np.full(3, 80.0),
            log_ratio=SimpleNamespace(n=common),
        ),
    )
    options = RelativeThroughputFitterOptions(min_events=50, min_common_events=20)
    found = [unconnected(fitted, node, options) for node in range(3)]
    assert found == [("few_common", few_common(best, 20)) for best in (12, 9, 12)]


def test_telescopes_have_the_systematic_errors_of_halves_in_which_they_compare_with_the_scale() -> (
    None
):
    weights, nodes = np.array([1.0, 0.0, 0.0]), np.arange(3)
    covariance = np.diag([0.01, 0.03, 0.02])
    halves = (
        (np.array([0.2, -0.3, 0.1]), covariance, np.array([0, 0, 1])),
        # Without the scale nothing compares.
        (np.array([9.0, 7.0, 5.0]), covariance, np.array([-1, 0, 0])),
    )
    found = _systematic_of_nodes(_State(np.zeros(3), covariance, halves), nodes, weights)
    # As above: 0.25 - 0.04; the scale has none against itself, and the third does not compare.
    np.testing.assert_allclose(found, [0.0, math.sqrt(0.21), np.nan])


def fixed_at_zero() -> network.Fixed:
    return network.Fixed(np.zeros(3), np.diag([0.0, 0.01, 0.02]))


def test_a_telescope_without_scatter_is_refused_alone() -> None:
    fixed, flags, reasons = fixed_at_zero(), [""] * 3, [""] * 3
    base = _Gauge(0.0, np.array([0.0, 0.5, 0.5]))
    _refuse(fixed, {0}, np.arange(3), base, flags, reasons)
    assert flags == ["degenerate", "", ""]
    np.testing.assert_array_equal(fixed.log_throughput, [np.nan, 0.0, 0.0])
    nothing = [np.nan] * 3
    np.testing.assert_array_equal(
        fixed.covariance, [nothing, [np.nan, 0.01, 0.0], [np.nan, 0.0, 0.02]]
    )


def test_without_scatter_in_the_scale_nothing_is_left() -> None:
    fixed, flags, reasons = fixed_at_zero(), [""] * 3, [""] * 3
    base = _Gauge(0.0, np.array([1.0, 0.0, 0.0]))
    _refuse(fixed, {0}, np.arange(3), base, flags, reasons)
    assert flags == ["degenerate", "no_reference", "no_reference"]
    assert np.isnan(fixed.log_throughput).all()
    assert np.isnan(fixed.covariance).all()


@pytest.mark.parametrize(("gauge", "constrained", "refused"), [
    ("reference", (), []),
    ("geometric_mean", (), [0]),
    # The scale is that of the constraints then, and the reference is one of many.
    ("reference", ((1, 0.1),), [0]),
    ("reference", ((0, 0.0),), []),
    ("geometric_mean", ((0, 0.0),), []),
    ("geometric_mean", ((0, 0.1),), [0]),
])  # fmt: skip
def test_an_error_of_zero_is_right_where_something_fixes_the_telescope(
    gauge: str, constrained: tuple[tuple[int, float], ...], refused: list[int]
) -> None:
    constraints = [network.Constraint(node, 0.0, error) for node, error in constrained]
    fixing = {"constraints": constraints, "gauge": gauge, "reference": 0}
    assert _without_scatter(fixed_at_zero(), np.arange(3), fixing) == refused
