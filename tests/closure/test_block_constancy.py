"""Closure of blocks compared with each other: constant nights, faults, wobble, errors by block."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy import stats
from toy_pairs import Toy, toy_pairs, toy_subarray
from toy_sizes import SizeToy, size_pairs, square_array

from arraycal.calib.checks.judged_parts import CHANCE
from arraycal.calib.checks.night_parts import with_constancy
from arraycal.calib.fit.block_errors import with_block_errors
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.loop import Fit, FitOptions, fit, solve_summary
from arraycal.calib.fit.model import NO_CURVE
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import merge_summaries
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.result.assemble import assemble
from arraycal.calib.result.result import Verdict
from arraycal.calib.schema import BLOCKS, REJECTED
from arraycal.config.models import Configuration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arraycal.calib.result.result import CalibrationResult
    from arraycal.calib.subarray import Subarray

OPTIONS = FitOptions(
    estimator="event",
    min_events=20,
    min_common=5,
    robust="none",
    threshold=None,
    margin=2.5,
    binned_resolution=False,
    # Weights are right from the beginning, and throughputs that differ by a few percent are near.
    max_iterations=2,
)
SIGMA = 0.2
N, N_BLOCKS, M = 10, 5, 4
#: The mean of chi2 / ndf of 120 toys of 36 degrees of freedom is known to
#: sqrt(2 / 36 / 120) = 2.2 %: within 5 % of one at 2.3 sigma.
N_TOYS = 120


def fitted_blocks(
    truths: Sequence[np.ndarray], n_showers: int, seed: int, sigma: float = SIGMA
) -> tuple[Fit, Subarray]:
    """Fit of a night whose blocks have throughputs of their own."""
    rng, n = np.random.default_rng([7, seed]), len(truths[0])
    subarray = toy_subarray(n)
    windows = [
        prepare_pairs(
            toy_pairs(Toy(truth.tolist(), [sigma] * n, n_showers, M), rng), subarray, number
        )
        for number, truth in enumerate(truths)
    ]
    return fit(lambda: windows, subarray, OPTIONS), subarray


def result_of(fitted: Fit, subarray: Subarray, options: FitOptions = OPTIONS) -> CalibrationResult:
    """Its result, observations counted from 1001."""
    row = {"status": "ok", "reason": "", "data_model": "", "digest": "", "cached": False}
    blocks = [
        {"path": f"{number}", "obs_ids": f"{1001 + number}", "n_events": 0, "n_pairs": 0} | row
        for number in fitted.blocks
    ]
    # So few passes do not settle, which is not what is judged here.
    fitted = replace(with_block_errors(fitted), settled=True)
    result = assemble(
        fitted,
        subarray,
        ENERGY_INTER,
        Configuration(),
        blocks=pl.DataFrame(blocks, BLOCKS),
        rejected=REJECTED.to_frame(),
        obs_ids=(),
        provenance={},
    )
    return with_constancy(result, fitted, subarray, options)


@cache
def constant_nights() -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Judgement of the nights, their blocks, and how many were degraded for them."""
    truth, types, blocks, degraded = np.zeros(N), [], [], 0
    for seed in range(N_TOYS):
        result = result_of(*fitted_blocks([truth] * N_BLOCKS, 200, seed))
        types.append(result.extras["constancy"])
        blocks.append(result.extras["constancy_parts"])
        degraded += result.verdict.status != "usable"
    return pl.concat(types), pl.concat(blocks), degraded


def test_chi_square_of_constant_nights_is_one_a_degree_of_freedom() -> None:
    types, blocks, _ = constant_nights()
    assert set(types["ndf"]) == {(N_BLOCKS - 1) * (N - 1)}
    assert 0.95 < (types["chi2"] / types["ndf"]).mean() < 1.05  # type: ignore[operator]
    assert set(blocks["ndf"]) == {N - 1}
    assert 0.95 < (blocks["chi2"] / blocks["ndf"]).mean() < 1.05  # type: ignore[operator]


def test_false_alarms_are_as_rare_as_stated() -> None:
    types, _, degraded = constant_nights()
    # Binomial with 120 toys: more than that happens once in 1000 at the stated chance.
    for chance in (0.05, 0.01):
        most = stats.binom.ppf(0.999, N_TOYS, chance)
        assert (types["p_value"] < chance).sum() <= most
        assert (types["p_largest"] < chance).sum() <= most
    # The chance is not wasted either: p-values that were all large would find nothing.
    assert (types["p_value"] < 0.5).sum() >= stats.binom.ppf(0.001, N_TOYS, 0.5)
    assert degraded <= stats.binom.ppf(0.999, N_TOYS, CHANCE)


def test_a_block_with_one_telescope_off_is_found_and_named() -> None:
    constant = np.zeros(N)
    off = np.where(np.arange(N) == 3, 0.05, 0.0)
    result = result_of(*fitted_blocks([constant, constant, off], 3000, 1))
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert "MST: observation 1003, telescope 4 by +" in reason
    (row,) = result.extras["constancy"].iter_rows(named=True)
    assert (row["part"], row["tel_id"], row["changed"]) == ("1003", 4, True)
    # 5 % against the other nine, which did not move: within 4 of its errors.
    assert abs(row["difference"] - 0.05) < 4 * row["difference_error"]
    # Var(s_i - mean of the others) = v n / (n - 1), v = Var(s_i - s_j) / 2 = sigma^2 (n - 1) / n
    # M / (M - 1) / N_i; one block against two: 3/2 of it. N_i = 1200.
    expected = SIGMA * np.sqrt(4 / 3 / 1200 * 1.5)
    assert row["difference_error"] == pytest.approx(expected, rel=0.1)
    table = result.extras["constancy_parts"]
    assert table["part"].to_list() == ["1001", "1002", "1003"]
    assert table.row(2, named=True)["p_largest"] < 1e-6


def test_of_changes_that_are_all_impossible_by_chance_the_largest_is_named() -> None:
    # Of three telescopes the last one halves. Relative to the two others these seem to rise by half
    # as many errors, which is beyond what a probability can tell from zero, too.
    rng, subarray = np.random.default_rng(15), toy_subarray(3)
    windows = [
        prepare_pairs(
            toy_pairs(Toy([0.0, 0.0, change], [0.05] * 3, 8000, 3), rng), subarray, number
        )
        for number, change in enumerate((0.0, 0.0, -np.log(2)))
    ]
    result = result_of(fit(lambda: windows, subarray, OPTIONS), subarray)
    (row,) = result.extras["constancy"].iter_rows(named=True)
    assert (row["part"], row["tel_id"]) == ("1003", 3)
    assert row["p_largest"] == 0.0
    assert abs(row["difference"] + np.log(2)) < 4 * row["difference_error"]


def test_of_two_blocks_nobody_knows_which_one_is_off() -> None:
    off = np.where(np.arange(N) == 3, 0.08, 0.0)
    (reason,) = result_of(*fitted_blocks([np.zeros(N), off], 3000, 2)).verdict.reasons
    assert "telescope 4 by" in reason
    assert "of two blocks nobody knows which is off" in reason


def test_a_significant_change_that_is_too_small_to_matter_does_not_degrade() -> None:
    # 0.8 % at 0.13 % error: six sigma, below the 1 % of a telescope and, one of 30 pairs of block
    # and telescope, 0.15 % rms.
    off = np.where(np.arange(N) == 3, 0.008, 0.0)
    result = result_of(*fitted_blocks([np.zeros(N), np.zeros(N), off], 2600, 3, sigma=0.03))
    (row,) = result.extras["constancy"].iter_rows(named=True)
    assert row["p_largest"] < CHANCE / 2
    assert (row["tel_id"], row["changed"]) == (4, False)
    assert result.verdict.status == "usable"


def test_wobble_from_block_to_block_gives_the_expected_excess() -> None:
    # A wobble w of every telescope in every block adds w^2 / v to chi2 / ndf, with the variance
    # v = sigma^2 (n - 1) / n M / (M - 1) / N_i: 2.37 in all for w = 2 % and 12 telescopes with 167
    # showers each. The covariance is about the common solution, so of it the chi-square q of a
    # block adds q / N: q / (1 + q / N) is found, 2.25 a degree of freedom.
    n, n_blocks, n_showers, wobble, n_toys = 12, 10, 502, 0.02, 10
    v = SIGMA**2 * (n - 1) / n * M / (M - 1) / (n_showers * M / n)
    expected = 1 + wobble**2 / v
    assert expected == pytest.approx(2.37, abs=0.01)
    expected /= 1 + (n - 1) * expected / n_showers
    found, scatters = [], []
    for seed in range(n_toys):
        rng = np.random.default_rng([8, seed])
        truths = list(rng.normal(0, wobble, (n_blocks, n)))
        fitted, subarray = fitted_blocks(truths, n_showers, seed)
        result = result_of(fitted, subarray)
        (row,) = result.extras["constancy"].iter_rows(named=True)
        assert row["ndf"] == (n_blocks - 1) * (n - 1)
        assert row["changed"]
        assert row["birge"] == pytest.approx(np.sqrt(row["chi2"] / row["ndf"]))
        # Too few blocks for errors of their own, and none are inflated in silence.
        assert result.fit["error_method"] == "showers"
        found.append(row["chi2"] / row["ndf"])
        scatters.append(row["scatter"])
    # A chi-square with 99 degrees of freedom, scaled: sqrt(2 / 99 / 10) = 4.5 % of it.
    assert np.mean(found) == pytest.approx(expected, rel=0.1)
    assert np.mean(scatters) == pytest.approx(wobble, rel=0.1)


@cache
def many_blocks(wobble: float) -> tuple[list[Fit], list[Fit]]:
    """Fits of nights of 32 blocks, before and after errors by block."""
    before = []
    for seed in range(10):
        rng = np.random.default_rng([9, seed])
        truths = list(rng.normal(0, wobble, (32, N)))
        before.append(fitted_blocks(truths, 150, seed, sigma=0.1)[0])
    return before, [with_block_errors(fitted) for fitted in before]


def pulls(fits: Sequence[Fit]) -> float:
    solutions = [fitted.solution for fitted in fits]
    found = [s.log_throughput / np.sqrt(np.diag(s.covariance)) for s in solutions]
    return float(np.sqrt(np.mean(np.square(found))))


def test_errors_by_block_are_honest_where_blocks_wobble() -> None:
    # The coefficient is to be the mean over the runs, so the truth is zero. Errors of showers are
    # too small by sqrt(1 + w^2 / v) = 1.7, v = 0.01 * 0.9 * 4 / 3 / 60; 100 pulls: 7 %.
    before, after = many_blocks(0.02)
    v = 0.1**2 * 0.9 * 4 / 3 / 60
    assert pulls(before) == pytest.approx(np.sqrt(1 + 0.02**2 / v), rel=0.2)
    assert 0.85 < pulls(after) < 1.2
    for one, two in zip(before, after, strict=True):
        assert two.by_block == tuple(range(N))
        np.testing.assert_array_equal(one.solution.log_throughput, two.solution.log_throughput)
        assert np.linalg.eigvalsh(two.solution.covariance).min() > -1e-12


def test_errors_by_block_are_said_to_be_such() -> None:
    before, _ = many_blocks(0.02)
    assert result_of(before[0], toy_subarray(N)).fit["error_method"] == "blocks"


def test_few_blocks_keep_the_errors_of_showers() -> None:
    rng = np.random.default_rng(10)
    for n_blocks in (10, 29):
        fitted, _ = fitted_blocks(list(rng.normal(0, 0.05, (n_blocks, N))), 100, n_blocks)
        assert with_block_errors(fitted) is fitted
    # 32 blocks are enough for 12 telescopes, not for 13.
    for n, enough in ((12, True), (13, False)):
        fitted, _ = fitted_blocks(list(rng.normal(0, 0.05, (32, n))), 100, n)
        assert bool(with_block_errors(fitted).by_block) is enough


def test_blocks_add_up_to_the_night() -> None:
    fitted, _ = fitted_blocks([np.zeros(N)] * 3, 300, 11)
    whole = merge_summaries(fitted.blocks.values())
    for name in ("weight", "weighted", "meat", "n_events", "n_showers"):
        np.testing.assert_allclose(getattr(whole, name), getattr(fitted.summary, name), rtol=1e-12)


def test_distance_curves_are_held_for_the_blocks() -> None:
    # Nine telescopes, sizes: with the curve held a block has eight degrees of freedom.
    array, off = square_array(9), np.where(np.arange(9) == 4, 0.06, 0.0)
    options = replace(
        OPTIONS, knots=Knots.spaced([(20.0, 200.0)], 5), binned_resolution=True, max_iterations=8
    )
    windows = [
        prepare_pairs(
            size_pairs(SizeToy(truth.tolist(), threshold=1.0), seed, reach_m=200.0), array, seed
        )
        for seed, truth in enumerate([0 * off, 0 * off, off])
    ]
    result = result_of(fit(lambda: windows, array, options), array, options)
    (row,) = result.extras["constancy"].iter_rows(named=True)
    assert (row["part"], row["tel_id"], row["ndf"]) == ("1003", 5, 16)
    assert abs(row["difference"] - 0.06) < 4 * row["difference_error"]
    assert row["changed"]


def test_a_held_curve_is_one_taken_off_the_values() -> None:
    array, knots = square_array(9), Knots.spaced([(20.0, 200.0)], 5)
    pairs = size_pairs(SizeToy([0.0] * 9, 1500, threshold=1.0), 16, reach_m=200.0)
    showers, options = prepare_pairs(pairs, array), replace(OPTIONS, knots=knots, max_iterations=3)
    fitted = fit(lambda: [showers], array, options)
    now = fitted.model.now
    held = solve_summary(summarise(showers, fitted.model), options, now.curve)
    flat = replace(now, curve=np.empty(0), knots=NO_CURVE)
    without = replace(fitted.model, now=flat, selector=replace(flat, variance=now.variance))
    level = replace(showers, y=showers.y - now.columns(showers) @ now.curve)
    expected = solve_summary(summarise(level, without), options)
    np.testing.assert_allclose(held.log_throughput, expected.log_throughput, atol=1e-10)
    np.testing.assert_allclose(held.covariance, expected.covariance, atol=1e-12)
    # Fitted along it is another one, if not by much: the curve of all showers is that of the last
    # pass but one.
    free = solve_summary(summarise(showers, fitted.model), options)
    assert np.abs(free.log_throughput - held.log_throughput).max() > 1e-7


def test_one_block_has_nothing_to_compare_with() -> None:
    result = result_of(*fitted_blocks([np.zeros(N)], 1000, 12))
    assert not result.extras
    assert result.verdict.status == "usable"
    assert result.verdict.untested == (
        "constancy within blocks: observation 1001 (no trigger times)",
        "constancy between blocks: there is one",
    )
    assert result.fit["error_method"] == "showers"


def test_blocks_with_too_few_showers_are_not_compared() -> None:
    # 8 showers a telescope and block, of which 20 are needed.
    result = result_of(*fitted_blocks([np.zeros(N)] * 4, 20, 13))
    (row,) = result.extras["constancy"].iter_rows(named=True)
    assert (row["n_parts"], row["ndf"], row["tel_id"], row["changed"]) == (0, 0, -1, False)
    assert np.isnan(row["birge"])
    (untested,) = (text for text in result.verdict.untested if "between blocks" in text)
    assert "MST (no two telescopes have enough showers in two parts)" in untested
    assert result.verdict.status == "usable"


def test_types_of_one_gauge_are_compared_together() -> None:
    subarray = replace(toy_subarray(6), types=("LST",) * 3 + ("MST",) * 3)
    rng, off = np.random.default_rng(14), np.array([0.06] * 3 + [0.0] * 3)
    windows = [
        prepare_pairs(
            toy_pairs(Toy(t.tolist(), [SIGMA] * 6, 4000, M), rng).with_columns(
                tel_type=pl.lit("LST-MST")
            ),
            subarray,
            number,
        )
        for number, t in enumerate([0 * off, off, 0 * off])
    ]
    fitted = fit(lambda: windows, subarray, OPTIONS)
    alone = result_of(fitted, subarray)
    result = with_constancy(alone, fitted, subarray, OPTIONS, joint=True)
    # Within its type nothing moved; the contrast of the types did.
    assert not alone.extras["constancy"]["changed"].any()
    first, *others = result.extras["constancy"].iter_rows(named=True)
    assert (first["tel_type"], first["part"], first["changed"]) == ("LST-MST", "1002", True)
    assert not any(row["changed"] for row in others)
    assert (first["deviating"], first["tel_id"]) == ("LST", -1)
    assert abs(first["difference"] - 0.06) < 4 * first["difference_error"]
    (reason,) = result.verdict.reasons
    assert "(all LST against the other types: observation 1002 by +6." in reason


def joint_night(truths: Sequence[np.ndarray], kinds: Sequence[str], n_showers: int) -> list[str]:
    """Reasons of the verdict on blocks of several types in one gauge."""
    rng, n = np.random.default_rng(17), len(kinds)
    subarray = replace(toy_subarray(n), types=tuple(kinds))
    windows = [
        prepare_pairs(
            toy_pairs(Toy(t.tolist(), [SIGMA] * n, n_showers, M), rng).with_columns(
                tel_type=pl.lit("LST-MST")
            ),
            subarray,
            number,
        )
        for number, t in enumerate(truths)
    ]
    fitted = fit(lambda: windows, subarray, OPTIONS)
    alone = replace(result_of(fitted, subarray), verdict=Verdict("usable"))
    return list(with_constancy(alone, fitted, subarray, OPTIONS, joint=True).verdict.reasons)


def test_a_telescope_that_changed_alone_is_no_change_of_its_type() -> None:
    # One of three LST loses a fifth: the mean of the type moves by 7 %, and the type did not.
    off = np.array([0.0, np.log(0.8), 0.0, 0.0, 0.0, 0.0])
    (reason,) = joint_night([0 * off, off, 0 * off], ["LST"] * 3 + ["MST"] * 3, 4000)
    assert "LST: observation 1002, telescope 2 by -" in reason


def test_a_change_of_a_type_is_named_before_that_of_a_telescope_relative_to_its_type() -> None:
    # All LST lose 5 %, and one MST a fifth.
    off = np.log([0.95] * 3 + [1.0] * 3 + [0.8])
    reasons = joint_night([0 * off, off, 0 * off], ["LST"] * 3 + ["MST"] * 4, 6000)
    assert ["all LST against the other types" in reason for reason in reasons] == [True, False]
    assert "MST: observation 1002, telescope 7 by -" in reasons[1]


BLOCK_S, START_S = 1200.0, 1_592_172_000.0


def changing_block(
    before: np.ndarray, after: np.ndarray, n_showers: int, when: float, number: int, seed: int
) -> pl.DataFrame:
    """PAIRS of a block of 20 minutes in which throughputs change at a part of its time."""
    rng, n = np.random.default_rng([18, seed, number]), len(before)
    n_before = int(n_showers * when)
    shares = ((before, n_before, 0), (after, n_showers - n_before, n_before))
    pairs = pl.concat(
        toy_pairs(Toy(t.tolist(), [SIGMA] * n, n_own, M), rng, first)
        for t, n_own, first in shares
        if n_own
    )
    begin = START_S + number * BLOCK_S
    return pairs.with_columns(time_s=begin + pl.col("event_id") * BLOCK_S / n_showers)


def changing_night(
    before: np.ndarray,
    after: np.ndarray,
    *,
    when: float = 0.5,
    n_showers: int = 3000,
    n_blocks: int = 2,
    seed: int = 0,
) -> CalibrationResult:
    """Result of a night whose blocks change inside."""
    subarray = toy_subarray(len(before))
    windows = [
        prepare_pairs(
            changing_block(before, after, n_showers, when, number, seed), subarray, number
        )
        for number in range(n_blocks)
    ]
    return result_of(fit(lambda: windows, subarray, OPTIONS), subarray)


DIMMED = np.where(np.arange(N) == 6, np.log(0.8), 0.0)


def test_a_telescope_that_loses_light_in_the_second_half_of_each_block_is_found() -> None:
    result = changing_night(np.zeros(N), DIMMED)
    assert result.verdict.status == "degraded"
    (reason,) = (text for text in result.verdict.reasons if "within blocks" in text)
    # 22:00 TAI is 37 s earlier in UTC; the second half of 20 minutes begins at 22:10.
    assert "2020-06-14 2" in reason
    assert "(parts 4 to 6 of 6), telescope 7 by -" in reason
    row = result.extras["constancy"].filter(kind="time").row(0, named=True)
    assert (row["tel_id"], row["changed"]) == (7, True)
    # The rest is relative to the other telescopes; errors of 600 showers on either side.
    assert abs(row["difference"] - np.log(0.8)) < 4 * row["difference_error"]
    # Every block is the same, so that blocks do not contradict each other.
    assert not result.extras["constancy"].filter(kind="blocks")["changed"].any()
    # Half the difference of the halves, 0.11, in one of the three splits that have two halves (of
    # showers of one multiplicity and without distance there are none): 0.11 / sqrt(2) or more.
    systematic = dict(result.telescopes.select("tel_id", "systematic").rows())
    assert systematic[7] > 0.04
    assert systematic[7] > 4 * np.median(list(systematic.values()))


@pytest.mark.parametrize(("when", "parts"), [(1 / 3, "parts 3 to 6 of 6"), (5 / 6, "part 6 of 6")])
def test_a_change_is_placed_where_it_came(when: float, parts: str) -> None:
    result = changing_night(np.zeros(N), DIMMED, when=when, n_blocks=1)
    (reason,) = (text for text in result.verdict.reasons if "within blocks" in text)
    assert f"({parts}), telescope 7 by -" in reason


def test_a_slow_change_in_every_block_is_found_in_its_halves() -> None:
    # Too little in one block: 5 % between halves of 240 showers of a telescope, known to
    # 0.2 sqrt(2 * 4 / 3 / 240) = 2 %; in eight blocks to 0.7 %.
    slow = np.where(np.arange(N) == 6, -0.05, 0.0)
    result = changing_night(np.zeros(N), slow, n_showers=1200, n_blocks=8)
    (reason,) = (text for text in result.verdict.reasons if "halves" in text)
    assert reason.startswith("telescopes change in the course of the blocks beyond their errors (")
    assert "second halves of the blocks, telescope 7 by -" in reason


def test_constant_blocks_do_not_change_inside() -> None:
    found = [
        changing_night(np.zeros(N), np.zeros(N), n_showers=1300, seed=seed) for seed in range(10)
    ]
    assert all(result.verdict.status == "usable" for result in found)
    assert not any(result.verdict.untested for result in found)
    table = pl.concat(result.extras["constancy"] for result in found).filter(kind="time")
    # 10 nights of 90 degrees of freedom: known to sqrt(2 / 90 / 10) = 5 %, twice that is allowed.
    assert set(table["ndf"]) == {2 * 5 * (N - 1)}
    assert 0.9 < table["chi2"].to_numpy().sum() / table["ndf"].to_numpy().sum() < 1.1


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (pl.lit(START_S), "one trigger time for all showers"),
        (START_S + pl.col("event_id") * 0.01, "too few showers, or less than 120 s of them"),
        (pl.lit(float("nan")), "no trigger times"),
    ],
)
def test_blocks_that_cannot_be_cut_in_time_are_said_to_be_untested(
    time: pl.Expr, reason: str
) -> None:
    subarray = toy_subarray(N)
    windows = [
        prepare_pairs(
            changing_block(np.zeros(N), DIMMED, 1300, 0.5, number, 0).with_columns(time_s=time),
            subarray,
            number,
        )
        for number in range(2)
    ]
    result = result_of(fit(lambda: windows, subarray, OPTIONS), subarray)
    assert result.verdict.untested == (
        f"constancy within blocks: observation 1001, 1002 ({reason})",
    )
    assert set(result.extras["constancy"]["kind"]) == {"blocks"}


def test_windows_that_cut_a_chunk_make_the_same_sums() -> None:
    pairs, subarray = changing_block(np.zeros(N), DIMMED, 1300, 0.5, 0, 1), toy_subarray(N)
    cuts = [0, 100, 650, 777, 1300]
    parts = [
        prepare_pairs(pairs.filter(pl.col("event_id").is_between(low, high - 1)), subarray)
        for low, high in pairwise(cuts)
    ]
    whole, cut = (
        fit(lambda w=windows: w, subarray, OPTIONS)  # type: ignore[misc]
        for windows in ([prepare_pairs(pairs, subarray)], parts)
    )
    assert list(whole.chunks[0]) == list(cut.chunks[0]) == list(range(6))
    for one, two in zip(whole.chunks[0].values(), cut.chunks[0].values(), strict=True):
        assert one.n_showers == two.n_showers
        np.testing.assert_allclose(one.meat, two.meat, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(one.weighted, two.weighted, rtol=1e-9, atol=1e-9)
