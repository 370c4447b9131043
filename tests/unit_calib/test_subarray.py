"""The array: what may describe one, how two differ, and which telescopes pair."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib.subarray import Subarray, allowed_pairs


@pytest.fixture
def subarray():
    return Subarray(
        name="test",
        tel_ids=(4, 7, 11, 561),
        types=("LST", "LST", "MST", "MST"),
        descriptions=("LST_LST_LSTCam", "LST_LST_LSTCam", "MST_MST_FlashCam", "MST_MST_NectarCam"),
        positions_m=((0.0, 0.0, 0.0), (120.0, 0.0, 50.0), (0.0, 300.0, 0.0), (250.0, 300.0, 0.0)),
    )


def test_telescopes_have_an_index_and_a_code_of_their_type(subarray):
    assert len(subarray) == 4
    assert subarray.index == {4: 0, 7: 1, 11: 2, 561: 3}
    assert subarray.type_codes.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tel_ids": (4, 7, 7, 561)}, r"each telescope must be named once, found ids \[4, 7, 7"),
        ({"tel_ids": (-1, 7, 11, 561)}, "telescope ids must be 0 to 65535, found"),
        ({"tel_ids": (4, 7, 11, 65536)}, "telescope ids must be 0 to 65535, found"),
    ],
)
def test_what_is_no_array_is_refused(subarray, change, message):
    with pytest.raises(ValueError, match=message):
        replace(subarray, **change)


def test_a_telescope_without_position_forms_no_pair(subarray):
    lost = replace(subarray, positions_m=((0.0, np.nan, 0.0), *subarray.positions_m[1:]))
    assert lost.unplaced == (4,)
    assert subarray.unplaced == ()
    reach = dict.fromkeys(subarray.tel_ids, 1e6)
    pairs, expected = (allowed_pairs(array, reach, "any").tolist() for array in (lost, subarray))
    assert pairs == [pair for pair in expected if 0 not in pair]
    assert lost.difference(lost) is None


def test_an_array_without_telescopes_is_refused():
    with pytest.raises(ValueError, match=r"found ids \[\]"):
        Subarray("empty", (), (), (), ())


# --- difference --------------------------------------------------------------------------


def test_an_array_does_not_differ_from_itself_whatever_its_name(subarray):
    assert subarray.difference(replace(subarray, name="another")) is None


def test_telescopes_that_come_and_go_are_named(subarray):
    other = replace(subarray, tel_ids=(4, 8, 11, 562))
    assert subarray.difference(other) == "telescopes missing: [7, 561], additional: [8, 562]"


def test_another_camera_is_a_difference(subarray):
    changed = (*subarray.descriptions[:3], "MST_MST_FlashCam")
    other = replace(subarray, descriptions=changed)
    assert subarray.difference(other) == "telescopes of another type or description: [561]"


def test_a_telescope_of_another_type_is_named_though_the_order_of_all_changes(subarray):
    # Telescopes are ordered by type: 4 goes from the first place to the last but one.
    order = [1, 0, 2, 3]
    other = Subarray(
        "test",
        tel_ids=tuple(subarray.tel_ids[i] for i in order),
        types=("LST", "MST", "MST", "MST"),
        descriptions=tuple(subarray.descriptions[i] for i in order),
        positions_m=tuple(subarray.positions_m[i] for i in order),
    )
    assert subarray.difference(other) == "telescopes of another type or description: [4]"


@pytest.mark.parametrize(
    ("shift_m", "answer"), [(5e-4, None), (2e-3, "telescopes moved: [4, 561]")]
)
def test_only_a_move_beyond_what_surveys_reach_is_one(subarray, shift_m, answer):
    x, y, z = subarray.positions_m[0]
    u, v, w = subarray.positions_m[3]
    moved = ((x, y + shift_m, z), *subarray.positions_m[1:3], (u, v, w - shift_m))
    assert subarray.difference(replace(subarray, positions_m=moved)) == answer


# --- pairs -------------------------------------------------------------------------------


def test_height_counts_in_the_separation(subarray):
    # LST 4 and 7 are 120 m apart on the ground and 50 m in height: 130 m (5-12-13).
    limits = dict.fromkeys(subarray.tel_ids, 64.99)
    assert allowed_pairs(subarray, limits, "same_type").tolist() == []
    # A separation of exactly the sum is allowed.
    limits = dict.fromkeys(subarray.tel_ids, 65.0)
    assert allowed_pairs(subarray, limits, "same_type").tolist() == [[0, 1]]


def test_the_radii_of_the_two_telescopes_add_up(subarray):
    # MST 11 and 561 are 250 m apart.
    assert allowed_pairs(subarray, {4: 0, 7: 0, 11: 250, 561: 0}, "same_type").tolist() == [[2, 3]]
    assert allowed_pairs(subarray, {4: 0, 7: 0, 11: 125, 561: 124}, "same_type").tolist() == []


@pytest.mark.parametrize(
    ("scope", "pairs"),
    [
        ("same_type", [[0, 1], [2, 3]]),
        ("cross_type", [[0, 2], [0, 3], [1, 2], [1, 3]]),
        ("any", [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]),
    ],
)
def test_the_scope_decides_which_types_meet(subarray, scope, pairs):
    limits = dict.fromkeys(subarray.tel_ids, 1e4)
    assert allowed_pairs(subarray, limits, scope).tolist() == pairs


@given(st.permutations(range(8)), st.lists(st.floats(0, 300), min_size=8, max_size=8))
def test_pairs_are_those_of_a_double_loop_over_ids(order, reach):
    rng = np.random.default_rng(3)
    positions = rng.uniform(-200, 200, (8, 3))
    tel_ids = tuple(10 * (i + 1) for i in order)
    types = tuple("LM"[i % 2] for i in order)
    array = Subarray("", tel_ids, types, types, tuple(map(tuple, positions.tolist())))
    limits = dict(zip(tel_ids, reach, strict=True))
    expected = [
        (i, j)
        for i in sorted(tel_ids)
        for j in sorted(tel_ids)
        if i < j
        and types[tel_ids.index(i)] == types[tel_ids.index(j)]
        and np.linalg.norm(positions[tel_ids.index(i)] - positions[tel_ids.index(j)])
        <= limits[i] + limits[j]
    ]
    found = allowed_pairs(array, limits, "same_type")
    assert [(tel_ids[i], tel_ids[j]) for i, j in found.tolist()] == expected
