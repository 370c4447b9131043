"""One sweep: it merges exactly, and says what separate passes would say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.fit import loop
from arraycal.calib.fit.loop import FitOptions, fit
from arraycal.calib.fit.showers import Showers, prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.fit.sums.summary import FOR_SOLVER
from arraycal.calib.fit.sweep import sweep, sweep_blocks
from arraycal.calib.fit.weighing import weigh
from arraycal.calib.schema import TIME

SUBARRAY = toy_subarray(5)
OPTIONS = FitOptions(
    "event", 20, 10, "none", "auto", 2.0, binned_resolution=True, max_iterations=20
)
TOY = Toy([0.1, -0.1, 0.05, 0.0, -0.05], [0.2, 0.25, 0.2, 0.3, 0.2], 30_000, 3, trigger=-2.0)


def blocks(n: int = 3) -> list[Showers]:
    found = []
    for number in range(n):
        pairs = toy_pairs(TOY, number, first_event=100_000 * number)
        pairs = pairs.with_columns((pl.col("event_id") * 0.01).alias(TIME))
        found.append(prepare_pairs(pairs, SUBARRAY, number))
    return found


@pytest.fixture(scope="module")
def material():
    showers = blocks()
    fitted = fit(lambda: showers, SUBARRAY, OPTIONS)
    return showers, fitted


def close(one, two):
    for name in (*FOR_SOLVER[:-1],):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(one.log_ratio.n, two.log_ratio.n)


def test_the_sums_are_those_of_a_pass(material):
    showers, fitted = material
    close(fitted.summary, merged([summarise(s, fitted.model) for s in showers]))
    assert fitted.summary.log_ratio.n.sum() > 0
    np.testing.assert_allclose(
        fitted.summary.deviations.sum(axis=1), fitted.summary.n_events, rtol=1e-12
    )


def merged(parts):
    total = parts[0]
    from arraycal.calib.fit.sums.summary import merge_summaries

    for part in parts[1:]:
        total = merge_summaries([total, part])
    return total


def test_sweeps_of_blocks_in_any_order_give_the_sweep_of_all(material):
    showers, fitted = material
    edges, model = fitted.chunk_edges_s, fitted.model
    whole = sweep_blocks(lambda: showers, model, edges, {})
    parts = [part for s in showers if (part := sweep([s], model, edges, {}))]
    for order in ((0, 1, 2), (2, 0, 1)):
        total = parts[order[0]] + parts[order[1]] + parts[order[2]]
        close(total.whole, whole.whole)
        np.testing.assert_allclose(total.whole.asymmetry.mean, whole.whole.asymmetry.mean)
        for block, chunks in whole.chunks.items():
            assert list(chunks) == list(total.chunks[block])
            for number, chunk in chunks.items():
                close(total.chunks[block][number], chunk)
        for one, two in zip(total.halves, whole.halves, strict=True):
            close(one, two)


def test_chunks_add_up_to_all(material):
    _, fitted = material
    chunks = [part for own in fitted.chunks.values() for part in own.values()]
    assert len(chunks) > 3
    for name in ("weight", "weighted", "meat", "n_events", "n_showers", "chi2"):
        total = sum(getattr(part, name) for part in chunks)
        np.testing.assert_allclose(total, getattr(fitted.summary, name), rtol=1e-10, atol=1e-9)


def test_a_model_from_a_sample_gives_the_solution_of_all_showers(material, monkeypatch):
    showers, fitted = material
    monkeypatch.setattr(loop, "quotas", lambda _: np.full(5, 3_000))
    taught = fit(lambda: showers, SUBARRAY, OPTIONS)
    assert taught.summary.n_showers == pytest.approx(fitted.summary.n_showers, rel=0.02)
    step = taught.solution.log_throughput - fitted.solution.log_throughput
    error = np.sqrt(np.diag(fitted.solution.covariance))
    # The selection differs a little, and with it the showers.
    assert np.abs(step / error).max() < 0.5
    ratio = np.sqrt(np.diag(taught.solution.covariance)) / error
    np.testing.assert_allclose(ratio, 1.0, atol=0.02)


def test_robust_weights_follow_the_solution_of_all_showers(monkeypatch):
    toy = replace(TOY, tail=0.05)
    showers = [prepare_pairs(toy_pairs(toy, 7), SUBARRAY)]
    options = replace(OPTIONS, robust="tukey")
    whole = fit(lambda: showers, SUBARRAY, options)
    monkeypatch.setattr(loop, "quotas", lambda _: np.full(5, 1_000))
    taught = fit(lambda: showers, SUBARRAY, options)
    error = np.sqrt(np.diag(whole.solution.covariance))
    left = taught.solution.log_throughput - taught.model.now.log_throughput
    assert np.abs(left / error).max() < 0.05
    step = taught.solution.log_throughput - whole.solution.log_throughput
    assert np.abs(step / error).max() < 0.5


def test_a_solution_far_from_the_model_is_swept_again(monkeypatch):
    """Few showers teach a model; the solution of all may lie many errors away from it."""
    showers = [prepare_pairs(toy_pairs(TOY, 3), SUBARRAY)]
    monkeypatch.setattr(loop, "quotas", lambda _: np.full(5, 60))
    n_sweeps = []
    original = sweep_blocks

    def counted(*given):
        n_sweeps.append(1)
        return original(*given)

    monkeypatch.setattr(loop, "sweep_blocks", counted)
    monkeypatch.setattr(loop, "NEAR", 1e-3)
    taught = fit(lambda: showers, SUBARRAY, OPTIONS)
    assert 1 < len(n_sweeps) <= loop.MAX_SWEEPS
    step = np.abs(taught.solution.log_throughput - taught.model.now.log_throughput)
    assert (step < 1e-3 * np.sqrt(taught.model.now.variance)).all()


def test_halves_are_of_the_showers_above_the_cut(material):
    showers, fitted = material
    model = replace(fitted.model, split_at={"multiplicity": np.array([2.5])})
    (upper,) = sweep_blocks(lambda: showers, model, fitted.chunk_edges_s, {}).halves
    size = [np.bincount(s.group)[s.group] for s in showers]
    used = [weigh(s, model).used for s in showers]
    n_rows = sum(int((u & (m > 2.5)).sum()) for u, m in zip(used, size, strict=True))
    assert 0 < upper.n_rows == n_rows != fitted.summary.n_rows - n_rows
