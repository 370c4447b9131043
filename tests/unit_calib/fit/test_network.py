"""The solver: gauge, islands, constraints, numerics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import network
from arraycal.calib.fit.loop import carried_on
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise

if TYPE_CHECKING:
    from arraycal.calib.fit.sums.summary import Summary

TRUTH = np.array([0.1, -0.05, 0.0, -0.2, 0.15])


def summary_of(truth: np.ndarray, n_showers: int = 3000, multiplicity: int = 3) -> Summary:
    subarray = toy_subarray(len(truth))
    toy = Toy(truth.tolist(), [0.2] * len(truth), n_showers, multiplicity)
    showers = prepare_pairs(toy_pairs(toy, 11), subarray)
    return summarise(showers, Model.initial(subarray, variance=0.04, margin=0.0))


@pytest.fixture(scope="module")
def solution() -> network.Solution:
    return network.solve_events(summary_of(TRUTH), np.zeros(5, int))


def test_two_telescopes_give_the_mean_log_ratio_and_its_error() -> None:
    subarray = toy_subarray(2)
    pairs = toy_pairs(Toy([0.1, -0.1], [0.2, 0.2], 500, 2), 1)
    summary = summarise(
        prepare_pairs(pairs, subarray), Model.initial(subarray, variance=0.04, margin=0)
    )
    fixed = network.fix_gauge(
        network.solve_events(summary, np.zeros(2, int)), np.arange(2), "reference", reference=1
    )
    # One pair: s_1 - s_2 is the mean of ln(v1/v2). The gradient was taken at s = 0, so the
    # clustered error is the rms (not the standard deviation) over sqrt(n), times n/(n-1).
    ratio = pairs["log_ratio"].to_numpy()
    assert fixed.log_throughput[0] == pytest.approx(ratio.mean(), rel=1e-12)
    expected = np.sqrt(np.mean(ratio**2) / len(ratio) * len(ratio) / (len(ratio) - 1))
    assert np.sqrt(fixed.covariance[0, 0]) == pytest.approx(expected, rel=1e-12)
    assert fixed.log_throughput[1] == 0.0
    assert fixed.covariance[1, 1] == pytest.approx(0.0, abs=1e-18)


def test_coefficients_above_one_belong_to_telescopes_that_report_more(
    solution: network.Solution,
) -> None:
    fixed = network.fix_gauge(solution, np.arange(5), "geometric_mean")
    assert fixed.value[4] > 1 > fixed.value[3]
    np.testing.assert_allclose(fixed.log_throughput, TRUTH - TRUTH.mean(), atol=0.03)


def test_gauges_are_linear_changes_of_one_solution(solution: network.Solution) -> None:
    nodes = np.arange(5)
    geometric = network.fix_gauge(solution, nodes, "geometric_mean", log_norm=np.log(2.0))
    arithmetic = network.fix_gauge(solution, nodes, "arithmetic_mean", log_norm=np.log(2.0))
    reference = network.fix_gauge(solution, nodes, "reference", log_norm=np.log(2.0), reference=3)
    assert geometric.log_throughput.mean() == pytest.approx(np.log(2.0), rel=1e-12)
    assert arithmetic.value.mean() == pytest.approx(2.0, rel=1e-12)
    assert reference.value[3] == pytest.approx(2.0, rel=1e-12)
    assert reference.error[3] == pytest.approx(0.0, abs=1e-9)
    for fixed in (arithmetic, reference):
        # The contrast of two telescopes and its error do not depend on the gauge.
        contrast = np.array([1.0, -1.0, 0.0, 0.0, 0.0])
        assert contrast @ fixed.log_throughput == pytest.approx(contrast @ geometric.log_throughput)
        variances = [contrast @ f.covariance @ contrast for f in (fixed, geometric)]
        assert variances[0] == pytest.approx(variances[1], rel=1e-9)


def test_the_geometric_mean_gauge_has_the_smallest_errors(solution: network.Solution) -> None:
    nodes = np.arange(5)
    geometric = network.fix_gauge(solution, nodes, "geometric_mean")
    reference = network.fix_gauge(solution, nodes, "reference", reference=0)
    assert np.diag(geometric.covariance).sum() < np.diag(reference.covariance).sum()


def test_a_reference_telescope_is_a_constraint_without_error(solution: network.Solution) -> None:
    nodes = np.arange(5)
    reference = network.fix_gauge(solution, nodes, "reference", reference=2, log_norm=0.3)
    constrained = network.fix_gauge(
        solution, nodes, "geometric_mean", constraints=[network.Constraint(2, 0.3, 0.0)]
    )
    np.testing.assert_allclose(constrained.log_throughput, reference.log_throughput, atol=1e-9)
    np.testing.assert_allclose(constrained.covariance, reference.covariance, atol=1e-9)


def test_constraints_combine_by_their_errors(solution: network.Solution) -> None:
    # Muon values 5 % +- each on all five telescopes: the scale is their mean, error 5%/sqrt(5).
    values = TRUTH + np.array([0.05, -0.02, 0.01, 0.04, -0.08])
    constraints = [network.Constraint(i, float(v), 0.05) for i, v in enumerate(values)]
    fixed = network.fix_gauge(solution, np.arange(5), "geometric_mean", constraints=constraints)
    assert fixed.log_throughput.mean() == pytest.approx(values.mean(), abs=1e-4)
    mean_error = np.sqrt(np.full(5, 0.2) @ fixed.covariance @ np.full(5, 0.2))
    assert mean_error == pytest.approx(0.05 / np.sqrt(5), rel=0.02)
    # The showers are ten times more precise than the muons: differences stay the showers'.
    showers = network.fix_gauge(solution, np.arange(5), "geometric_mean")
    both = fixed.log_throughput - fixed.log_throughput.mean()
    np.testing.assert_allclose(both, showers.log_throughput, atol=0.01)


def test_a_reference_outside_the_component_is_refused(solution: network.Solution) -> None:
    with pytest.raises(ValueError, match="not among the nodes"):
        network.fix_gauge(solution, np.arange(3), "reference", reference=4)


def test_islands_are_told_apart_and_solved_apart() -> None:
    summary = summary_of(TRUTH)
    apart = np.ones((5, 5))
    apart[:3, 3:] = apart[3:, :3] = 0.0
    summary = replace(
        summary,
        weight=summary.weight * apart,
        weighted=summary.weighted * apart,
        curvature=summary.curvature * apart,
        log_ratio=replace(summary.log_ratio, n=summary.log_ratio.n * apart),
    )
    component = network.components(
        summary.log_ratio.n, summary.n_events, min_common=20, min_events=50
    )
    assert component.tolist() == [0, 0, 0, 1, 1]
    solution = network.solve_events(summary, component)
    assert solution.log_throughput[:3].sum() == pytest.approx(0.0, abs=1e-12)
    assert solution.log_throughput[3:].sum() == pytest.approx(0.0, abs=1e-12)


def test_a_weak_bridge_does_not_connect() -> None:
    n_common = np.zeros((4, 4))
    n_common[0, 1] = n_common[2, 3] = 500
    n_common[1, 2] = 19
    component = network.components(n_common, np.full(4, 500.0), min_common=20, min_events=50)
    assert component.tolist() == [0, 0, 1, 1]


def test_a_telescope_with_few_showers_belongs_nowhere() -> None:
    n_common = np.zeros((3, 3))
    n_common[0, 1] = 500
    n_common[1, 2] = 30
    component = network.components(
        n_common, np.array([500.0, 500, 30]), min_common=20, min_events=50
    )
    assert component.tolist() == [0, 0, -1]


def test_degrees_of_freedom_are_what_is_measured_less_what_is_fitted() -> None:
    summary = summary_of(TRUTH)
    one, two = np.zeros(5, int), np.array([0, 0, 0, 1, 1])
    # A mean for every shower; of every component all telescopes but one.
    measured = summary.n_rows - summary.n_groups
    assert network.solve_events(summary, one).ndf == measured - 4
    assert network.solve_events(summary, two).ndf == measured - 3
    assert network.solve_events(summary, np.array([0, 0, 0, -1, -1])).ndf == measured - 2
    # Of 5 telescopes 10 pairs, of 3 and 2 those inside.
    assert network.solve_pairs(summary, one).ndf == 10 - 4
    assert network.solve_pairs(summary, two).ndf == 3 + 1 - 3


def test_nothing_connected_gives_no_number() -> None:
    summary = summary_of(TRUTH)
    solution = network.solve_events(summary, np.full(5, -1))
    assert np.all(np.isnan(solution.log_throughput))


@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_pseudo_inverse_is_exact_on_contrasts(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = np.triu(rng.uniform(0.1, 10.0, (n, n)), 1)
    matrix = network.laplacian(weight)
    inverse = network.pseudo_inverse(matrix)
    projector = np.eye(n) - 1.0 / n
    np.testing.assert_allclose(matrix @ inverse, projector, atol=1e-9)
    np.testing.assert_allclose(inverse.sum(axis=1), 0.0, atol=1e-9)


def test_resistance_of_two_equal_paths_is_half() -> None:
    # Triangle of unit weights: between two corners 1 ohm in parallel with 2 ohm = 2/3.
    inverse = network.pseudo_inverse(network.laplacian(np.triu(np.ones((3, 3)), 1)))
    assert network.resistances(inverse)[0, 1] == pytest.approx(2 / 3)


def test_pair_fit_finds_the_minimum_of_its_chi_square() -> None:
    summary = summary_of(TRUTH)
    solution = network.solve_pairs(summary, np.zeros(5, int))
    first, second = np.nonzero(network.pair_usable(summary))
    mean, sigma = summary.asymmetry.mean[first, second], summary.asymmetry.error[first, second]

    def chi2(s: np.ndarray) -> float:
        return float(np.sum(((mean - np.tanh((s[first] - s[second]) / 2)) / sigma) ** 2))

    best = chi2(solution.log_throughput)
    assert best == pytest.approx(solution.chi2, rel=1e-12)
    for node in range(5):
        for step in (-1e-4, 1e-4):
            moved = solution.log_throughput.copy()
            moved[node] += step
            assert chi2(moved) > best


def test_a_pair_with_one_shower_is_left_out_of_the_pair_fit() -> None:
    summary = summary_of(TRUTH)
    n, m2 = summary.asymmetry.n.copy(), summary.asymmetry.m2.copy()
    n[0, 1], m2[0, 1] = 1, 0.0
    single = replace(summary, asymmetry=replace(summary.asymmetry, n=n, m2=m2))
    solution = network.solve_pairs(single, np.zeros(5, int))
    assert np.all(np.isfinite(solution.log_throughput))
    assert not network.pair_usable(single)[0, 1]


def test_an_outlier_stands_out_of_its_siblings() -> None:
    truth = np.array([0.0, 0.01, -0.01, 0.005, -0.3])
    solution = network.solve_events(summary_of(truth), np.zeros(5, int))
    fixed = network.fix_gauge(solution, np.arange(5), "geometric_mean")
    deviation, z = network.leave_one_out(fixed, np.arange(5))
    assert deviation[4] == pytest.approx(-0.3, abs=0.05)
    assert z[4] < -5
    assert np.all(np.abs(z[:4]) < 5)


def test_three_telescopes_are_too_few_to_call_one_an_outlier() -> None:
    solution = network.solve_events(summary_of(np.array([0.0, 0.0, -0.5])), np.zeros(3, int))
    fixed = network.fix_gauge(solution, np.arange(3), "geometric_mean")
    assert np.all(np.isnan(network.leave_one_out(fixed, np.arange(3))[1]))


def test_a_telescope_that_drops_out_for_a_pass_keeps_its_throughput() -> None:
    before = np.array([0.1, -0.2, 0.7])
    # Telescope 3 is out; of the others only the difference is known, -0.3 + 0.04.
    after = network.Solution(
        np.array([0.13, -0.13, np.nan]), np.zeros((3, 3)), np.array([0, 0, -1]), 0.0, 1.0
    )
    np.testing.assert_allclose(carried_on(before, after), [0.08, -0.18, 0.7], atol=1e-15)
