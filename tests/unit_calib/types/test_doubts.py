"""Comparisons of types that know less than they seem to: alone, inseparable, not compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.resolutions import inseparable, variances
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.summarise import summarise
from arraycal.calib.observables import ENERGY_CROSS
from arraycal.calib.types.joint import FACTORS_PATH, INTER_PATH
from arraycal.config import load_configuration


def array(types):
    return replace(toy_subarray(len(types)), types=types)


def drawn(types, log_c, sigma, n_showers=4000, **changes):
    """PAIRS of showers that all telescopes look at."""
    n = len(types)
    pairs = toy_pairs(Toy(log_c, sigma, n_showers, n, **changes), 1)
    kinds = dict(enumerate(types, 1))
    mixed = [
        "-".join(sorted({kinds[i], kinds[j]}))
        for i, j in pairs.select("tel_id_1", "tel_id_2").iter_rows()
    ]
    return pairs.with_columns(pl.Series("tel_type", mixed))


def solved(pairs, types, cache, *overrides):
    summary = {
        "n_events": 0, "n_pairs": len(pairs), "rejected": [], "participation": [],
        "shower_columns": [],
    }  # fmt: skip
    entry = PairCache(cache).store("toy", [pairs], summary)
    block = BlockPairs(Path("toy.h5"), "ok", obs_ids=(1,), subarray=array(types), entry=entry)
    settings = ["ShowerSelection.resolution=telescope", *overrides]
    return calibrate(
        [block], ENERGY_CROSS, load_configuration(preset="energy-cross", overrides=settings)
    )


@pytest.mark.parametrize(
    ("types", "lost"),
    [
        (("LST", "MST"), (True, True)),
        (("LST", "MST", "SST"), (False, False, False)),
        (("LST", "MST", "MST"), (False, False)),
    ],
)
def test_types_without_an_odd_circle_of_pairs_cannot_be_told_apart(types, lost):
    subarray = array(types)
    showers = prepare_pairs(drawn(types, [0.0] * len(types), [0.2] * len(types), 500), subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    summary = summarise(showers, model)
    assert tuple(inseparable(summary, subarray.type_codes).tolist()) == lost
    assert np.isfinite(variances(model.now, summary, subarray.type_codes)).all()


def test_three_types_of_one_telescope_each_keep_their_own_resolutions():
    types, sigma = ("LST", "MST", "SST"), [0.1, 0.2, 0.3]
    subarray = array(types)
    showers = prepare_pairs(drawn(types, [0.0] * 3, sigma, 20_000), subarray)
    model = Model.initial(subarray, variance=0.04, margin=0.0)
    for _ in range(6):
        now = replace(
            model.now,
            variance=variances(model.now, summarise(showers, model), subarray.type_codes),
        )
        model = replace(model, now=now, selector=now)
    # 20,000 showers of three know a variance to about 2 %, that of the precise one to 5 %.
    np.testing.assert_allclose(model.now.variance, np.square(sigma), rtol=0.15)


def test_one_telescope_of_each_type_runs_and_says_what_equal_resolutions_may_cost(tmp_path):
    types, log_c, sigma = ("LST", "MST"), [0.1, 0.0], [0.1, 0.2]
    pairs = drawn(types, log_c, sigma, 100_000, trigger=0.0)
    result = solved(pairs, types, tmp_path)
    assert result.verdict.status == "degraded"
    (doubt,) = [text for text in result.verdict.reasons if "equal resolutions" in text]
    assert "equal resolutions are assumed across types: those of LST, MST" in doubt
    stated = float(doubt.rpartition("off by ")[2].rstrip("%")) / 100
    row = result.telescopes.row(by_predicate=pl.col("tel_id") == 1, named=True)
    # The true resolutions are what the statement supposes, so it covers the deviation.
    assert 0 < stated < 0.2
    assert abs(np.log(row["value"]) - 0.1) < stated + 3 * row["error"]


def test_a_reference_that_is_alone_is_said_and_flagged(tmp_path):
    types = ("LST", "LST", "LST", "MST")
    result = solved(drawn(types, [0.0] * 4, [0.2] * 4), types, tmp_path)
    row = result.telescopes.row(by_predicate=pl.col("tel_type") == "MST", named=True)
    assert (row["value"], row["error"], row["flag"]) == (1.0, 0.0, "alone")
    assert result.verdict.status == "degraded"
    assert "the reference is a single telescope, MST 4: its value is 1 by definition" in str(
        result.verdict
    )


def test_two_reference_telescopes_are_not_alone(tmp_path):
    types = ("LST", "LST", "MST", "MST")
    result = solved(drawn(types, [0.0] * 4, [0.2] * 4), types, tmp_path)
    assert set(result.telescopes["flag"]) == {"ok"}
    assert "single telescope" not in str(result.verdict)


def test_types_that_no_shower_compares_are_unusable(tmp_path):
    types = ("LST", "LST", "MST", "MST")
    pairs = drawn(types, [0.0] * 4, [0.2] * 4)
    apart = pairs.filter(~pl.col("tel_type").str.contains("-"))
    # Half of the showers are those of the LST, half those of the MST.
    even = pl.col("event_id") % 2 == 0
    apart = apart.filter(pl.when(pl.col("tel_type") == "LST").then(even).otherwise(~even))
    # One pair across types, so that a shower is one for both.
    one = pairs.filter(pl.col("tel_type") == "LST-MST").head(1)
    result = solved(pl.concat([apart, one]), types, tmp_path)
    assert result.verdict.status == "unusable"
    assert result.verdict.reasons[0].startswith("no type is compared with MST")
    assert not result.telescopes["value"].is_finite().any()
    assert set(result.telescopes["flag"]) >= {"no_factor"}
    assert result.tel_ids == ()
    assert result.covariance.shape == (0, 0)
    assert [len(result.published[path]) for path in (INTER_PATH, FACTORS_PATH)] == [0, 0]
