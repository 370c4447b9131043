"""Pairs: compared with a plain self-join, and every row that vanishes is accounted for."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from arraycal.calib.criteria import Criterion
from arraycal.calib.index import node_index, shower_index
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.observables.filters import DISTANCE_ASYMMETRY, distance_asymmetry
from arraycal.calib.pairs.matching import (
    TELESCOPE_LEVEL,
    match_showers,
    merge_rejected,
    pair_events,
)
from arraycal.calib.pairs.selection import (
    NO_PARTNER,
    PAIR_LEVEL,
    UNUSABLE_VALUE,
    PairRules,
    PairTest,
)
from arraycal.calib.schema import LEFT_OUT, PAIRS, REJECTED
from arraycal.calib.subarray import Subarray, allowed_pairs

NAN, INF = math.nan, math.inf
TEL_IDS = (4, 7, 9, 11, 561)
KEYS = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]


@pytest.fixture(scope="module")
def subarray():
    types = ("LST", "LST", "LST", "MST", "MST")
    return Subarray("", TEL_IDS, types, types, tuple((100.0 * i, 0.0, 0.0) for i in range(5)))


@pytest.fixture(scope="module")
def allowed(subarray):
    """All pairs of one type but 4-9, which are 200 m apart."""
    return allowed_pairs(subarray, dict.fromkeys(TEL_IDS, 75.0), "same_type")


def make_rules(criteria=(), limit=None, **names):
    columns = {"value": "e", "uncertainty": "u", "impact": "d"} | names
    return PairRules(
        **columns,
        criteria=tuple(criteria),
        statistic=ENERGY_INTER.statistic,
        tests=() if limit is None else (distance_test(limit),),
    )


def distance_test(limits):
    """The cut on the distance asymmetry, as `arraycal.calib.pairs.rules` makes it."""
    by_telescope = {tel_id: (limit,) for tel_id, limit in limits.items()}
    return PairTest(DISTANCE_ASYMMETRY.key, ("d",), by_telescope, DISTANCE_ASYMMETRY.passes)


def make_events(rows):
    """EVENTS of `(obs_id, event_id, tel_id, energy, impact)`."""
    frame = pl.DataFrame(
        rows,
        {
            "obs_id": pl.Int64,
            "event_id": pl.Int64,
            "tel_id": pl.UInt16,
            "e": pl.Float64,
            "d": pl.Float64,
        },
        orient="row",
    )
    return frame.with_columns(u=pl.col("e") / 10)


def oracle(events, subarray, allowed, limit=None):
    """Self-join on the shower; no cleverness."""
    types = dict(zip(subarray.tel_ids, subarray.types, strict=True))
    ids = {(subarray.tel_ids[i], subarray.tel_ids[j]) for i, j in allowed.tolist()}
    usable = events.filter(pl.col("e").is_finite() & (pl.col("e") > 0))
    both = usable.join(usable, on=["obs_id", "event_id"], suffix="_2", maintain_order="left")
    found = []
    for row in both.iter_rows(named=True):
        i, j = row["tel_id"], row["tel_id_2"]
        d_1, d_2 = row["d"], row["d_2"]
        if (i, j) not in ids:
            continue
        if limit is not None and not abs(d_1 - d_2) / (d_1 + d_2) < min(limit[i], limit[j]):
            continue
        e_1, e_2 = row["e"], row["e_2"]
        found.append(
            (row["obs_id"], row["event_id"], types[i], i, j, e_1, e_2, (e_1 - e_2) / (e_1 + e_2))
        )
    columns = [
        "obs_id",
        "event_id",
        "tel_type",
        "tel_id_1",
        "tel_id_2",
        "value_1",
        "value_2",
        "asymmetry",
    ]
    schema = {name: PAIRS[name] for name in columns}
    return pl.DataFrame(found, schema, orient="row").sort(KEYS)


def counts(paired):
    return {(level, rule): rows for level, rule, rows in paired.rejected.iter_rows()}


energies = st.one_of(
    st.floats(1e-3, 1e3), st.sampled_from([NAN, INF, -INF, 0.0, -0.0, -1.0, 5e-324, 1e300])
)
distances = st.one_of(st.floats(1.0, 300.0), st.just(NAN))


@st.composite
def events_of_showers(draw):
    """Each telescope at most once in a shower, in any order."""
    keys = draw(
        st.lists(
            st.tuples(st.integers(1, 2), st.integers(0, 12), st.sampled_from(TEL_IDS)),
            unique=True,
            max_size=60,
        )
    )
    # Far apart, so that the showers are ranked and not just shifted.
    stretch = draw(st.sampled_from([1, 10_000]))
    return make_events([(o, stretch * s, t, draw(energies), draw(distances)) for o, s, t in keys])


# --- the pairs ---------------------------------------------------------------------------


@given(events_of_showers())
def test_pairs_are_those_of_a_self_join(subarray, allowed, events):
    pairs = pair_events(events, make_rules(), subarray, allowed).pairs
    expected = oracle(events, subarray, allowed)
    assert pairs.schema == PAIRS
    found = pairs.sort(KEYS).select(expected.columns)
    assert_frame_equal(found, expected, rel_tol=1e-15, abs_tol=0)


@given(events_of_showers(), st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_a_pair_obeys_the_stricter_of_its_two_limits(subarray, allowed, events, limits):
    limit = dict(zip(TEL_IDS, limits, strict=True))
    pairs = pair_events(events, make_rules(limit=limit), subarray, allowed).pairs
    expected = oracle(events, subarray, allowed, limit)
    assert_frame_equal(
        pairs.sort(KEYS).select(expected.columns), expected, rel_tol=1e-15, abs_tol=0
    )


@given(events_of_showers(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(subarray, allowed, events, random):
    order = list(range(len(events)))
    random.shuffle(order)
    one = pair_events(events, make_rules(), subarray, allowed)
    other = pair_events(events[order], make_rules(), subarray, allowed)
    assert_frame_equal(one.pairs.sort(KEYS), other.pairs.sort(KEYS))
    assert_frame_equal(one.rejected, other.rejected)


@given(events_of_showers(), st.permutations(TEL_IDS[:3]))
def test_exchanging_telescope_ids_changes_only_signs(subarray, events, images):
    everyone = allowed_pairs(subarray, dict.fromkeys(TEL_IDS, 1e4), "same_type")
    renamed = dict(zip(TEL_IDS, (*images, *TEL_IDS[3:]), strict=True))
    swapped = events.with_columns(pl.col("tel_id").replace_strict(renamed, return_dtype=pl.UInt16))
    rules = make_rules()
    one = pair_events(events, rules, subarray, everyone).pairs
    other = pair_events(swapped, rules, subarray, everyone).pairs
    signed = {}
    for row in one.iter_rows(named=True):
        i, j = renamed[row["tel_id_1"]], renamed[row["tel_id_2"]]
        sign = 1 if i < j else -1
        signed[row["obs_id"], row["event_id"], min(i, j), max(i, j)] = (
            sign * row["asymmetry"],
            sign * row["log_ratio"],
        )
    assert len(other) == len(signed)
    for row in other.iter_rows(named=True):
        assert (row["asymmetry"], row["log_ratio"]) == signed[tuple(row[key] for key in KEYS)]


@given(events_of_showers())
def test_asymmetry_and_log_ratio_are_the_same_information(subarray, allowed, events):
    pairs = pair_events(events, make_rules(), subarray, allowed).pairs
    tanh = np.tanh(pairs["log_ratio"].to_numpy() / 2)
    # A subtraction of nearly equal numbers loses all but the absolute precision.
    np.testing.assert_allclose(pairs["asymmetry"].to_numpy(), tanh, rtol=1e-13, atol=1e-15)
    # Even between the smallest and the largest energies there are.
    assert pairs["log_ratio"].is_finite().all()


def test_a_pair_has_the_values_of_both_sides(subarray, allowed):
    events = make_events([(1, 50, 7, 2.0, 80.0), (1, 50, 4, 3.0, 120.0)])
    (pair,) = pair_events(events, make_rules(), subarray, allowed).pairs.iter_rows(named=True)
    # u = E / 10; sigma_a = 2 / (3 + 2)^2 * sqrt((3 * 0.2)^2 + (2 * 0.3)^2) = 0.08 * sqrt(0.72)
    assert pair == {
        "obs_id": 1,
        "event_id": 50,
        "tel_type": "LST",
        "tel_id_1": 4,
        "tel_id_2": 7,
        "value_1": 3.0,
        "value_2": 2.0,
        "uncertainty_1": pytest.approx(0.3),
        "uncertainty_2": pytest.approx(0.2),
        "impact_1_m": 120.0,
        "impact_2_m": 80.0,
        "asymmetry": 0.2,
        "asymmetry_uncertainty": pytest.approx(0.08 * math.sqrt(0.72)),
        "log_ratio": pytest.approx(math.log(1.5)),
    }


def test_what_the_file_does_not_have_is_nan(subarray, allowed):
    events = make_events([(1, 5, 4, 2.0, 80.0), (1, 5, 7, 2.0, 80.0)])
    rules = make_rules(uncertainty=None, impact=None)
    assert rules.columns == ("e",)
    (pair,) = pair_events(events, rules, subarray, allowed).pairs.iter_rows(named=True)
    for name in ("uncertainty_1", "uncertainty_2", "impact_1_m", "impact_2_m"):
        assert math.isnan(pair[name])
    assert math.isnan(pair["asymmetry_uncertainty"])
    assert pair["asymmetry"] == 0


def test_the_same_event_id_in_two_observations_is_two_showers(subarray, allowed):
    events = make_events([(1, 5, 4, 1.0, 80.0), (2, 5, 7, 1.0, 80.0)])
    assert pair_events(events, make_rules(), subarray, allowed).pairs.is_empty()


def test_pairs_of_two_types_are_named_in_alphabetic_order():
    # 4 is an MST and 7 an LST; 9 an MST again: the name must not depend on which id is lower.
    types = ("LST", "MST", "MST")
    array = Subarray("", (7, 4, 9), types, types, ((0.0, 0.0, 0.0),) * 3)
    allowed = allowed_pairs(array, dict.fromkeys((4, 7, 9), 1.0), "cross_type")
    events = make_events([(1, 5, tel_id, 1.0, 80.0) for tel_id in (4, 7, 9)])
    pairs = pair_events(events, make_rules(), array, allowed).pairs
    assert pairs.select("tel_id_1", "tel_id_2", "tel_type").rows() == [
        (4, 7, "LST-MST"),
        (7, 9, "LST-MST"),
    ]


@pytest.mark.parametrize("no_pairs_allowed", [True, False])
def test_no_events_and_no_allowed_pairs_give_no_pairs(subarray, allowed, no_pairs_allowed):
    events = make_events([(1, 5, 4, 1.0, 80.0), (1, 5, 7, 1.0, 80.0)])
    limit = dict.fromkeys(TEL_IDS, 0.5)
    if no_pairs_allowed:
        paired = pair_events(events, make_rules(limit=limit), subarray, allowed[:0])
        assert counts(paired)[TELESCOPE_LEVEL, NO_PARTNER] == 2
    else:
        paired = pair_events(events[:0], make_rules(limit=limit), subarray, allowed)
        assert set(counts(paired).values()) == {0}
    assert paired.pairs.schema == PAIRS
    assert paired.pairs.is_empty()


# --- what is left out --------------------------------------------------------------------


def bright(name, threshold):
    passes = (pl.col("e") > threshold).fill_null(value=False)
    return Criterion(name, "", frozenset({"e"}), passes)


@given(events_of_showers(), st.floats(0, 10))
def test_every_row_that_vanishes_is_counted(subarray, allowed, events, threshold):
    limit = dict.fromkeys(TEL_IDS, 0.3)
    rules = make_rules([bright("bright", threshold), bright("brighter", 2 * threshold)], limit)
    paired = pair_events(events, rules, subarray, allowed)
    unlimited = pair_events(events, make_rules(rules.criteria), subarray, allowed)
    count = counts(paired)
    refused = sum(rows for (level, _), rows in count.items() if level == TELESCOPE_LEVEL)
    # Who has a partner before the limit on pairs is in some pair of the unlimited.
    sides = [
        unlimited.pairs.select("obs_id", "event_id", tel_id=f"tel_id_{side}") for side in (1, 2)
    ]
    assert len(events) == refused + len(pl.concat(sides).unique())
    assert len(unlimited.pairs) == len(paired.pairs) + count[PAIR_LEVEL, "max_distance_asymmetry"]


def test_a_row_is_counted_under_the_first_rule_that_refuses_it(subarray, allowed):
    values = [NAN, INF, -INF, 0.0, -1.0, 0.5, 1.5, 2.5, 3.5]
    events = make_events([(1, i, 4, value, 80.0) for i, value in enumerate(values)])
    rules = make_rules([bright("above 1", 1), bright("above 2", 2), bright("above 1 again", 1)])
    assert counts(pair_events(events, rules, subarray, allowed)) == {
        (TELESCOPE_LEVEL, UNUSABLE_VALUE): 5,
        (TELESCOPE_LEVEL, "above 1"): 1,
        (TELESCOPE_LEVEL, "above 2"): 1,
        (TELESCOPE_LEVEL, "above 1 again"): 0,
        (TELESCOPE_LEVEL, NO_PARTNER): 2,
    }


def test_rules_of_one_name_are_counted_together(subarray, allowed):
    events = make_events([(1, i, 4, value, 80.0) for i, value in enumerate([0.5, 0.6, 1.5])])
    rules = make_rules([bright("bright", 1), bright("bright", 2)])
    assert counts(pair_events(events, rules, subarray, allowed))[TELESCOPE_LEVEL, "bright"] == 3


def test_a_criterion_without_columns_judges_every_row(subarray, allowed):
    never = Criterion("never", "1 > 2", frozenset(), pl.lit(False))
    events = make_events([(1, 5, 4, 1.0, 80.0), (1, 5, 7, 1.0, 80.0)])
    paired = pair_events(events, make_rules([never]), subarray, allowed)
    assert counts(paired)[TELESCOPE_LEVEL, "never"] == 2


@pytest.mark.parametrize(
    ("d_1", "d_2", "kept"),
    [
        (120.0, 80.0, False),  # 40 / 200 = 0.2, the limit itself
        (119.0, 81.0, True),  # 0.19
        (81.0, 119.0, True),
        (NAN, 80.0, False),
        (80.0, NAN, False),
        (NAN, NAN, False),
        (INF, INF, False),
        (0.0, 0.0, False),
    ],
)
def test_distances_that_are_too_different_or_unknown_are_refused(subarray, allowed, d_1, d_2, kept):
    events = make_events([(1, 5, 4, 1.0, d_1), (1, 5, 7, 1.0, d_2)])
    # The limit of 7 is the stricter.
    rules = make_rules(limit={**dict.fromkeys(TEL_IDS, 0.9), 7: 0.2})
    paired = pair_events(events, rules, subarray, allowed)
    assert len(paired.pairs) == kept
    assert counts(paired)[PAIR_LEVEL, "max_distance_asymmetry"] == (not kept)


def test_showers_of_too_few_telescopes_of_a_type_are_left_out(subarray, allowed):
    # Shower 5 has three LSTs; shower 6 two LSTs and two MSTs, none of them enough.
    seen = [(5, 4), (5, 7), (5, 9), (6, 4), (6, 7), (6, 11), (6, 561)]
    events = make_events([(1, event, tel_id, 1.0, 80.0) for event, tel_id in seen])
    rules = replace(make_rules(), min_telescopes=3)
    paired = pair_events(events, rules, subarray, allowed)
    assert paired.pairs.select(KEYS).rows() == [(1, 5, 4, 7), (1, 5, 7, 9)]
    name = "fewer than 3 selected telescopes of the type"
    assert counts(paired)[TELESCOPE_LEVEL, name] == 4
    assert counts(paired)[TELESCOPE_LEVEL, NO_PARTNER] == 0


def test_distance_asymmetries_are_those_of_the_formula():
    # |30 - 10| / 40 = 0.5, whichever is the nearer.
    found = distance_asymmetry(np.array([30.0, 10.0, 0.0, NAN]), np.array([10.0, 30.0, 0.0, 1.0]))
    np.testing.assert_array_equal(found, [0.5, 0.5, NAN, NAN])


def test_counts_add_up_in_the_order_of_the_first():
    one = pl.DataFrame([("pair", "b", 1), ("pair", "a", 2)], REJECTED, orient="row")
    two = pl.DataFrame([("pair", "a", 5), ("telescope event", "a", 7)], REJECTED, orient="row")
    three = pl.DataFrame(
        [("pair", "a", 1, "row 3"), ("pair", "a", 1, "row 4")], LEFT_OUT, orient="row"
    )
    merged = merge_rejected([one, two, three])
    assert merged.rows() == [
        ("pair", "b", 1, ""),
        ("pair", "a", 9, "row 3"),
        ("telescope event", "a", 7, ""),
    ]
    assert merge_rejected([]).schema == LEFT_OUT


# --- parts -------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2**43)), max_size=40))
def test_showers_are_numbered_by_rank(keys):
    events = pl.DataFrame(keys, {"obs_id": pl.Int64, "event_id": pl.Int64}, orient="row")
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    assert shower_index(events).tolist() == [ranks[key] for key in keys]


@given(st.lists(st.integers(1000, 1100), max_size=40))
def test_dense_showers_are_numbered_by_rank_too(event_ids):
    events = pl.DataFrame({"obs_id": [1] * len(event_ids), "event_id": event_ids})
    ranks = {key: rank for rank, key in enumerate(sorted(set(event_ids)))}
    assert shower_index(events).tolist() == [ranks[key] for key in event_ids]


def test_telescope_ids_become_indices(subarray):
    assert node_index(pl.Series([561, 4, 9], dtype=pl.UInt16), subarray).tolist() == [4, 0, 2]


def test_matching_needs_no_telescope_to_be_present():
    nothing = np.empty(0, np.intp)
    ((pair, first, second),) = match_showers(nothing, nothing, np.array([[0, 1]]))
    assert pair == (0, 1)
    assert first.tolist() == second.tolist() == []
