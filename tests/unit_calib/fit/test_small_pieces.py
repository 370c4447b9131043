"""Small pieces of the fit, each against its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import block_errors, network
from arraycal.calib.fit.loop import Fit, _largest_step, _subtract, in_both
from arraycal.calib.fit.model import VALUE_CENTRES, Estimate, Model, _value_bin, resolution
from arraycal.calib.fit.resolutions import MIN_SIGMA, _excess, _of_types
from arraycal.calib.fit.showers import Showers, prepare_pairs
from arraycal.calib.fit.slope import EnergySlope
from arraycal.calib.fit.sums.block_sums import chunk_edges
from arraycal.calib.fit.sums.summarise import _deviations, summarise
from arraycal.calib.fit.sums.summary import CLIP, CLIPPED_VARIANCE, OWN_EDGES
from arraycal.calib.fit.thresholds import _half_height
from arraycal.calib.fit.weighing import restricted, weigh
from arraycal.calib.gauge.outliers import FALSE_ALARM, least_z, stands_out


def test_the_clipped_variance_is_that_of_a_gaussian_cut_there() -> None:
    inside = integrate.quad(stats.norm.pdf, -CLIP, CLIP)[0]
    square = integrate.quad(lambda t: t**2 * stats.norm.pdf(t), -CLIP, CLIP)[0]
    assert pytest.approx(square / inside, rel=1e-9) == CLIPPED_VARIANCE


def solution(s: list[float], variance: list[float], component: list[int]) -> network.Solution:
    return network.Solution(np.array(s), np.diag(variance), np.array(component), 0.0, 0.0)


def test_a_step_is_counted_in_errors_of_the_telescope_that_makes_it() -> None:
    before = solution([0.0, 0.0, np.nan], [1e-4, 1e-2, 0.0], [0, 0, -1])
    after = solution([0.03, 0.1, np.nan], [1e-4, 1e-2, 0.0], [0, 0, -1])
    # 0.03 / 0.01 = 3, 0.1 / 0.1 = 1
    assert _largest_step(before, after) == pytest.approx(3.0)
    assert _largest_step(after, after) == 0.0
    # Data without noise have no errors, and no steps in them.
    exact = solution([0.03, 0.1, np.nan], [0.0, 0.0, 0.0], [0, 0, -1])
    assert _largest_step(before, exact) == 0.0


def test_a_step_to_other_components_is_never_small() -> None:
    before = solution([0.0, 0.0, np.nan], [1e-4] * 3, [0, 0, -1])
    after = solution([0.0, 0.0, 0.0], [1e-4] * 3, [0, 0, 0])
    assert _largest_step(before, after) == np.inf
    assert _largest_step(None, after) == np.inf
    nobody = solution([np.nan] * 3, [0.0] * 3, [-1, -1, -1])
    assert _largest_step(nobody, nobody) == 0.0


def test_an_edge_is_where_half_of_the_peak_is_reached() -> None:
    histogram = np.zeros(len(OWN_EDGES) + 1)
    histogram[20:40] = 100.0
    # Bins count from the overflow below the first edge: number 20 begins at edge 19.
    assert _half_height(histogram, OWN_EDGES) == pytest.approx(OWN_EDGES[19])
    # A slow rise: 0, 10, ..., 100 from bin 20 on reaches 50 in the centre of bin 25.
    histogram[20:31] = np.arange(0, 101, 10.0)
    centre = (OWN_EDGES[24] + OWN_EDGES[25]) / 2
    assert _half_height(histogram, OWN_EDGES) == pytest.approx(centre, abs=0.02)
    assert _half_height(np.zeros(5), OWN_EDGES) == -np.inf


def test_a_resolution_is_never_below_the_least_there_is() -> None:
    subarray = toy_subarray(4)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 4, [1e-6] * 4, 400, 3), 1), subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    found = _of_types(summarise(showers, model), model.now.variance, subarray.type_codes, None)
    assert found.tolist() == [MIN_SIGMA**2] * 4


@pytest.mark.parametrize(("n_telescopes", "free"), [(5, 3.0), (7, 5.0), (8, 0.4 * 7)])
def test_few_siblings_make_a_deviation_less_rare(n_telescopes: int, free: float) -> None:
    # Their scatter has n - 1 degrees of freedom, from 8 telescopes on those of the median
    # absolute deviation; the median of n numbers has pi / 2n of their variance.
    chance = 1 - FALSE_ALARM / (2 * n_telescopes)
    expected = stats.t.ppf(chance, free) * np.sqrt(1 + np.pi / (2 * (n_telescopes - 1)))
    assert least_z(n_telescopes) == pytest.approx(max(5.0, expected), rel=1e-6)


def test_too_few_siblings_have_no_scatter() -> None:
    assert least_z(3) == np.inf
    assert np.isfinite(least_z(4))
    assert least_z(100) == 5.0


def test_beyond_a_factor_no_scatter_explains_a_telescope() -> None:
    # Of five telescopes 6 times the expected size is not rare enough by itself.
    assert least_z(5) > 6
    z = np.array([6.0, 6.0, 4.9, 0.0, 0.0])
    deviation = np.log([1.7, 1.5, 1.7, 1.0, 1.0])
    assert stands_out(deviation, z).tolist() == [True, False, False, False, False]


def test_errors_by_block_are_widened_by_the_blocks_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subarray = toy_subarray(3)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 3, [0.2] * 3, 50, 3), 1), subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    one = solution([0.0, 0.1, -0.1], [1e-4] * 3, [0, 0, 0])
    fitted = Fit(one, summarise(showers, model), model, (), 1, settled=True)
    monkeypatch.setattr(block_errors, "_blocks", lambda *_: 30)
    monkeypatch.setattr(block_errors, "_by_block", lambda _: 4e-4 * np.eye(3))
    found = block_errors.with_block_errors(fitted)
    # Student's t of 29 degrees of freedom where a Gaussian has one sigma.
    wider = stats.t.ppf(stats.norm.cdf(1.0), 29) ** 2
    np.testing.assert_allclose(found.solution.covariance, 4e-4 * wider * np.eye(3))
    assert found.by_block == (0, 1, 2)
    # Where they would be smaller, those of showers stay.
    monkeypatch.setattr(block_errors, "_by_block", lambda _: 1e-5 * np.eye(3))
    assert block_errors.with_block_errors(fitted).by_block == ()


def test_what_is_left_of_a_summary_is_that_of_the_other_showers() -> None:
    toy = Toy([0.0, 0.1, -0.1, 0.2], [0.2] * 4, 300, 3)
    subarray = toy_subarray(4)
    showers = prepare_pairs(toy_pairs(toy, 1), subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    first = np.arange(len(showers.shower_start) - 1) < 100
    whole, part, rest = (
        summarise(some, model) for some in (showers, showers.some(first), showers.some(~first))
    )
    left = _subtract(whole, part)
    np.testing.assert_array_equal(left.log_ratio.n, rest.log_ratio.n)
    np.testing.assert_array_equal(left.n_events, rest.n_events)
    for name in ("weight", "weighted", "curvature", "meat", "n_showers", "n_rows"):
        np.testing.assert_allclose(
            getattr(left, name), getattr(rest, name), rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_the_first_mean_of_a_shower_is_weighted_by_the_noise_of_its_telescopes() -> None:
    # Above ln value 11 telescope 0 is so noisy that rounds begun there would stay there.
    subarray = toy_subarray(2)
    pairs = toy_pairs(Toy([0.0, 0.0], [0.2] * 2, 1, 2), 1)
    showers = replace(
        prepare_pairs(pairs, subarray), y=np.array([10.0, 12.0]), impact_bin=np.array([0, 1])
    )
    start = Model.initial(subarray, variance=np.array([1.0, 4.0]), margin=0.0).now
    start.shape[:, 0, VALUE_CENTRES > 11.0] = 1e6
    sigma2, mean, *_ = resolution(showers, start)
    # (10 / 1 + 12 / 4) / (1 / 1 + 1 / 4) = 10.4
    np.testing.assert_allclose(mean, [10.4])
    np.testing.assert_allclose(sigma2, [1.0, 4.0])


def test_telescopes_compare_that_are_in_one_component_in_either_half() -> None:
    one, two = np.array([0, 0, 1, -1, 1, 0]), np.array([0, 1, 1, 0, 1, -1])
    # The first is alone with its two components, as is the second; the third goes with the fifth.
    assert in_both(one, two).tolist() == [0, 1, 2, -1, 2, -1]


def test_bins_of_the_value_are_quarter_e_folds() -> None:
    # The first edge is 0.001; values of 1 and 1.2 share a bin or not, 1 and 1.29 never do.
    assert _value_bin(np.log([0.9e-3, 1.01e-3, 1.28e-3, 1.29e-3])).tolist() == [0, 1, 1, 2]
    assert _value_bin(VALUE_CENTRES).tolist() == list(range(len(VALUE_CENTRES)))
    # 23 e-folds up to 1e7.
    assert len(VALUE_CENTRES) == 1 + 93


def two_values(distance: float) -> tuple[Showers, Model]:
    """One shower, two telescopes with a resolution of 0.2 each."""
    subarray = toy_subarray(2)
    pairs = toy_pairs(Toy([0.0, 0.0], [0.2] * 2, 1, 2), 1)
    showers = replace(prepare_pairs(pairs, subarray), y=np.array([1.0, 1.0 + distance]))
    return showers, Model.initial(subarray, variance=0.04, margin=0.0)


def test_values_are_corrected_for_the_solution_and_selected_by_what_is_held() -> None:
    showers, model = two_values(0.4)
    now = replace(model.now, log_throughput=np.array([0.0, 0.3]))
    followed = weigh(showers, replace(model, now=now, selector=now))
    held = weigh(showers, replace(model, now=now))
    for rows in (followed, held):
        np.testing.assert_allclose(rows.residual, [-0.05, 0.05])
    assert followed.values.mean == pytest.approx(1.05)
    assert held.values.mean == pytest.approx(1.2)


def test_the_sums_for_the_variances_of_a_single_pair() -> None:
    found = summarise(*two_values(0.4))
    # Two variances of 0.04 make 0.08, of which each has half; 0.4^2 / 0.08 = 2 was found.
    np.testing.assert_allclose(found.variance_matrix, np.full((2, 2), 0.25))
    np.testing.assert_allclose(found.variance_vector, [1.0, 1.0])
    # The gradient is half of what is too much: 0.5 (2 - 1), squared.
    np.testing.assert_allclose(found.variance_meat, [0.25, 0.25])


def test_the_last_bin_of_the_deviations_is_open() -> None:
    deviations = summarise(*two_values(0.2 * 1e4)).deviations
    assert deviations.sum() == 2.0
    assert deviations[:, -1].tolist() == [1.0, 1.0]


def test_an_energy_slope_of_zero_leaves_the_throughputs() -> None:
    subarray = toy_subarray(3)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 3, [0.2] * 3, 20, 2), 1), subarray)
    start = Estimate.initial(subarray, variance=0.04, slope=EnergySlope((0,), -1.0))
    s = np.array([0.1, -0.2, 0.3])
    np.testing.assert_array_equal(replace(start, log_throughput=s).offset(showers), s[showers.node])
    # Equal telescopes, without noise, of one energy E: the slope adds k (ln E - ln E0) / (1 + k).
    even = replace(showers, y=np.full(len(showers.y), 0.5))
    rising = replace(start, curve=np.array([0.25]))
    np.testing.assert_allclose(rising.offset(even), 0.25 * (0.5 + 1.0) / 1.25)


def test_the_scatter_of_unequal_deviations_is_that_of_dersimonian_and_laird() -> None:
    # Weights 1 and 4 of deviations 0 and 5: mean 4, sum of squares 16 + 4 = 20, one is expected;
    # 5 - 17 / 5 = 1.6 units of it make a variance: 19 / 1.6.
    found = _excess(np.array([0.0, 5.0]), np.array([1.0, 0.25]))
    assert found == pytest.approx(19 / 1.6)
    assert _excess(np.array([0.0, 0.1]), np.array([1.0, 0.25])) == 0.0
    assert _excess(np.array([7.0]), np.array([1.0])) == 0.0


@pytest.mark.parametrize("robust", ["none", "huber"])
def test_rows_that_are_kept_keep_their_weights_and_their_derivatives(robust: Any) -> None:
    subarray = toy_subarray(3)
    toy = Toy([0.0, 0.1, -0.1], [0.2] * 3, 100, 3, tail=0.2)
    showers = prepare_pairs(toy_pairs(toy, 1), subarray)
    model = replace(Model.initial(subarray, variance=0.04, margin=0.0), robust=robust)
    rows = weigh(showers, model)
    keep = showers.group < 50
    found = restricted(rows, keep)
    for name in ("weight", "steep", "residual"):
        np.testing.assert_array_equal(
            getattr(found, name), np.where(keep, getattr(rows, name), 0.0), err_msg=name
        )
    # Without robust weights the two are one array, which saves the sums over it.
    assert (found.steep is found.weight) is (robust == "none")
    assert np.array_equal(rows.steep, rows.weight) is (robust == "none")


@pytest.mark.parametrize(("part", "named"), [(1.5e-6, [1.0, 0.0, 0.0]), (0.5e-6, [0.5, 0.5, 0.0])])
def test_the_largest_deviation_of_a_shower_is_that_of_one_unless_they_are_the_same(
    part: float, named: list[float]
) -> None:
    subarray = toy_subarray(3)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 3, [0.2] * 3, 1, 3), 1), subarray)
    rows = weigh(showers, Model.initial(subarray, variance=0.04, margin=0.0))
    residual = 0.2 * np.array([1.0, part - 1.0, -part])
    _, largest = _deviations(showers, rows._replace(residual=residual))
    np.testing.assert_allclose(largest.sum(axis=1), named)


def test_the_noise_of_a_telescope_is_that_of_what_is_expected_of_itself() -> None:
    subarray = toy_subarray(2)
    showers = prepare_pairs(toy_pairs(Toy([0.0] * 2, [0.2] * 2, 1, 2), 1), subarray)
    showers = replace(showers, y=np.array([1.0, -1.0]))
    start = Model.initial(subarray, variance=0.04, margin=0.0).now
    start = replace(start, log_throughput=np.array([1.0, -1.0]))
    start.shape[:, :, VALUE_CENTRES > 0.0] = 4.0
    sigma2, mean, *_ = resolution(showers, start)
    np.testing.assert_allclose(mean, [0.0])
    np.testing.assert_allclose(sigma2, [0.16, 0.04])


@pytest.mark.parametrize(("n_showers", "duration_s", "n_chunks"), [
    # Of three telescopes a chunk has 60 showers or more, and lasts a minute.
    (360, 1000.0, 6), (359, 1000.0, 4), (239, 1000.0, 2), (119, 1000.0, 1),
    (1000, 361.0, 6), (1000, 359.0, 4), (1000, 239.0, 2), (1000, 119.0, 1),
])  # fmt: skip
def test_a_block_is_cut_into_as_many_chunks_as_its_showers_and_its_time_allow(
    n_showers: int, duration_s: float, n_chunks: int
) -> None:
    time_s = np.append(np.linspace(0.0, duration_s, n_showers), np.nan)
    edges = chunk_edges({7: [time_s]}, 3)[7]
    np.testing.assert_allclose(edges, np.linspace(0.0, duration_s, n_chunks + 1))
