"""Rows of telescopes say all that pairs say: the same showers, and the same rows left out."""

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

from arraycal.calib.criteria import Criterion
from arraycal.calib.fit.showers import FOR_PEOPLE, Showers, prepare_pairs, prepare_rows
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER
from arraycal.calib.pairs.matching import merge_rejected, pair_events
from arraycal.calib.pairs.rules import forming_pairs, rows_suffice
from arraycal.calib.pairs.selection import NO_PARTNER, PairRules
from arraycal.calib.pairs.telescope_rows import select_rows
from arraycal.calib.subarray import Subarray, allowed_pairs
from arraycal.config import load_configuration

#: Types alphabetically, ids not: of a pair across types the first may be of the second type. The
#: last telescope of the MST has no position.
TEL_IDS, TYPES = (7, 9, 40, 2, 4, 5, 6), ("LST",) * 3 + ("MST",) * 4
POSITIONS = (*((100.0 * i, 0.0, 0.0) for i in range(6)), (np.nan, 0.0, 0.0))
ARRAY = Subarray("", TEL_IDS, TYPES, TYPES, POSITIONS)


def rules(scope, **changes):
    bright = Criterion("bright", "e > 0.2", frozenset({"e"}), pl.col("e") > 0.2)
    made = PairRules(
        value="e", uncertainty=None, impact="d", criteria=(bright,),
        statistic=ENERGY_INTER.statistic, shower=(("time_s", "t"),),
        min_per_type=1 if scope == "any" else None,
    )  # fmt: skip
    return replace(made, **changes)


def events(n_showers, seed=0):
    """EVENTS as a reader gives them: one telescope after the other; of two observations."""
    rng = np.random.default_rng(seed)
    shower, node = np.nonzero(rng.random((n_showers, len(TEL_IDS))) < 0.4)
    order = rng.permutation(len(TEL_IDS))
    place = np.lexsort((shower, order[node]))
    shower, node = shower[place], node[place]
    energy = rng.lognormal(0.0, 1.0, len(node))
    energy[rng.random(len(node)) < 0.02] = np.nan
    frame = pl.DataFrame(
        {
            "obs_id": 8 + shower % 2,
            "event_id": 100 + shower // 2,
            "tel_id": np.asarray(TEL_IDS)[node],
            "e": energy,
            "d": np.where(rng.random(len(node)) < 0.1, np.nan, rng.uniform(0, 900, len(node))),
            "t": 1e9 + shower,
        }
    )
    return frame.cast({"tel_id": pl.UInt16, "t": pl.Float64}).sort("tel_id", "obs_id", "event_id")


def assert_same_showers(found: Showers, expected: Showers):
    for field in fields(Showers):
        one, two = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "covariates":
            assert one.keys() == two.keys()
            one, two = list(one.values()), list(two.values())
        if field.name != "formed":
            np.testing.assert_array_equal(one, two, field.name)
    # Also the order is the same, so that sums are the same to the last digit.
    np.testing.assert_array_equal(found.first, expected.first)
    np.testing.assert_array_equal(found.second, expected.second)
    assert (found.complete, expected.complete) == (True, True)


def both_ways(frame, rule, scope):
    allowed = allowed_pairs(ARRAY, dict.fromkeys(TEL_IDS, 1e4), scope)
    paired = pair_events(frame, rule, ARRAY, allowed)
    return select_rows(frame, rule, ARRAY, across_types=scope == "any"), paired


@pytest.mark.parametrize("least", [2, 3])
@pytest.mark.parametrize("scope", ["same_type", "any"])
@pytest.mark.parametrize("n_showers", [1, 4, 1500])
def test_rows_give_the_showers_and_the_counts_of_pairs(scope, least, n_showers):
    frame, rule = events(n_showers), rules(scope, min_telescopes=least)
    found, paired = both_ways(frame, rule, scope)
    assert found.rejected.equals(paired.rejected)
    assert found.participation.equals(paired.participation)
    assert found.n_pairs == len(paired.pairs)
    assert len(frame) == found.rejected["rows"].sum() + len(found.rows)
    rows = prepare_rows(found.rows, ARRAY, 3, across_types=scope == "any")
    pairs = prepare_pairs(paired.pairs, ARRAY, 3)
    assert_same_showers(rows, pairs)
    for side, own in (("value_1", rows.first), ("value_2", rows.second)):
        np.testing.assert_allclose(np.exp(rows.y[own]), paired.pairs[side], rtol=1e-12)
    which = np.arange(len(rows.shower_start) - 1) % 3 == 1
    if which.any():
        assert_same_showers(rows.some(which), pairs.some(which))
    bare = prepare_rows(found.rows.drop(FOR_PEOPLE), ARRAY, 3, across_types=scope == "any")
    assert_same_showers(bare, pairs)


def test_a_pair_across_types_begins_with_the_lower_id():
    found, _ = both_ways(events(1500), rules("any"), "any")
    showers = prepare_rows(found.rows, ARRAY, across_types=True)
    tel_id = np.asarray(TEL_IDS)[showers.node]
    assert (tel_id[showers.first] < tel_id[showers.second]).all()
    assert (showers.first > showers.second).any()


def test_no_selected_event_gives_no_rows():
    found, paired = both_ways(events(50).with_columns(e=pl.lit(0.1)), rules("any"), "any")
    assert (len(found.rows), found.n_pairs) == (0, 0)
    assert found.rejected.equals(paired.rejected)
    assert len(prepare_rows(found.rows, ARRAY, across_types=True).y) == 0


def test_rows_of_windows_are_counted_together():
    frame, rule = events(900), rules("same_type")
    parts = [frame.filter(pl.col("event_id") % 2 == i) for i in (0, 1)]
    counts = [both_ways(part, rule, "same_type")[0].rejected for part in parts]
    whole = both_ways(frame, rule, "same_type")[0].rejected
    assert merge_rejected(counts).drop("example").equals(whole)
    assert dict(whole.select("rule", "rows").rows())[NO_PARTNER] > 100


def test_rows_are_ordered_by_shower_and_telescope():
    rows = both_ways(events(700), rules("same_type"), "same_type")[0].rows
    assert rows.equals(rows.sort("obs_id", "event_id", "tel_type", "tel_id"))


def test_rows_that_others_were_taken_away_from_are_left_out():
    found, paired = both_ways(events(1500), rules("same_type"), "same_type")
    without = pl.col("tel_id") == 9
    of_pairs = (pl.col("tel_id_1") == 9) | (pl.col("tel_id_2") == 9)
    rows = prepare_rows(found.rows.filter(~without), ARRAY, across_types=False)
    assert_same_showers(rows, prepare_pairs(paired.pairs.filter(~of_pairs), ARRAY))


def test_the_asymmetry_is_positive_where_a_telescope_reports_more_than_the_others():
    frame = pl.DataFrame(
        {
            "obs_id": [1] * 6,
            "event_id": [1, 1, 1, 1, 1, 2],
            "tel_id": [7, 9, 2, 4, 5, 7],
            "e": [3.0, 1.0, 2.0, 4.0, 8.0, 1.0],
            "d": [10.0] * 6,
            "t": [0.0] * 6,
        },
        schema_overrides={"tel_id": pl.UInt16},
    )  # fmt: skip
    found, paired = both_ways(frame, rules("any"), "any")
    by_id = dict(found.rows.select("tel_id", "asymmetry").rows())
    # The pair of the LST: (3 - 1) / (3 + 1) and the negative of it.
    pair = paired.pairs.filter((pl.col("tel_id_1") == 7) & (pl.col("tel_id_2") == 9))
    assert by_id[7] == pytest.approx(pair["asymmetry"].item(), rel=1e-14)
    assert by_id[7] == pytest.approx(0.5, rel=1e-14)
    assert by_id[9] == pytest.approx(-0.5, rel=1e-14)
    # The MST against the geometric mean of the other two, sqrt(32), 4 and sqrt(8).
    for tel_id, value, others in ((2, 2.0, 32**0.5), (4, 4.0, 4.0), (5, 8.0, 8**0.5)):
        assert by_id[tel_id] == pytest.approx((value - others) / (value + others), abs=1e-15)


def test_a_telescope_alone_of_its_type_has_no_asymmetry():
    frame = events(1500).filter(pl.col("tel_id").is_in([7, 2, 4]))
    rows = both_ways(frame, rules("any"), "any")[0].rows
    alone = rows.filter(pl.len().over("obs_id", "event_id", "tel_type") == 1)
    assert len(alone) > 100
    assert rows.filter(pl.col("asymmetry").is_nan()).equals(alone)


@pytest.mark.parametrize(
    ("observable", "preset", "overrides", "expected"),
    [
        (ENERGY_INTER, "energy-inter", (), True),
        (ENERGY_CROSS, "energy-cross", (), True),
        (IMAGE_INTER, "image-inter", (), True),
        (ENERGY_INTER, "energy-inter-peer", (), False),
        (ENERGY_CROSS, "energy-cross-peer", (), False),
        (IMAGE_INTER, "image-inter-peer", (), False),
        (ENERGY_INTER, "energy-inter", ["RelativeThroughputFitter.estimator=pair"], False),
        (
            ENERGY_INTER,
            "energy-inter",
            ["CalculateAsymmetry.event_filters={max_distance_asymmetry: 0.1}"],
            False,
        ),
        (
            IMAGE_INTER,
            "image-inter",
            ["CalculateImageAsymmetry.event_filters={equidistant_event_selection: [0.05, 0.1]}"],
            False,
        ),
        # Cuts on telescope events do not matter, nor does the number of telescopes of a type.
        (ENERGY_INTER, "energy-inter", ["CalculateAsymmetry.event_filters={min_energy: 1}"], True),
        # Telescopes 7 and 40 are 200 m apart.
        (ENERGY_INTER, "energy-inter", ["PairFinder.max_impact_distance=99"], False),
        (ENERGY_INTER, "energy-inter", ["PairFinder.max_impact_distance=101"], True),
        (ENERGY_CROSS, "energy-cross", ["PairFinder.max_impact_distance=101"], False),
        (
            ENERGY_CROSS,
            "energy-cross",
            ["CalculateCrossCalibration.min_triggered_telescopes_per_subsystem=2"],
            False,
        ),
        (ENERGY_CROSS, "energy-cross", ["CalculateCrossCalibration.method=three_step"], False),
    ],
)
def test_rows_suffice_where_all_telescopes_of_a_shower_are_compared(
    observable, preset, overrides, expected
):
    configuration = load_configuration(preset=preset, overrides=overrides)
    assert rows_suffice(observable, configuration, ARRAY) is expected
    assert not rows_suffice(observable, forming_pairs(configuration), ARRAY)
