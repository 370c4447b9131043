"""An array stated in a line."""

import numpy as np
import pytest

import arraycal as ac


def test_an_array_is_ordered_by_type_and_id_whatever_the_order_it_is_given_in():
    array = ac.Array([7, 2, 5], ["SST", "SST", "MST"], [(7, 0), (2, 0, 1), (5, 0)], name="mine")
    assert array.tel_ids == (5, 2, 7)
    assert array.types == ("MST", "SST", "SST")
    assert array.subarray.positions_m == ((5, 0, 0), (2, 0, 1), (7, 0, 0))
    assert "mine: 1 MST, 2 SST" in repr(array)
    assert array._repr_html_().count("<tr>") == 4


def test_mappings_by_telescope_will_do():
    array = ac.Array([1, 2], {1: "LST", 2: "MST"}, {2: (3.0, 4.0, 5.0)})
    assert array.types == ("LST", "MST")
    assert array.subarray.unplaced == (1,)
    assert array == ac.Array([2, 1], ["MST", "LST"], np.array([[3.0, 4, 5], [np.nan] * 3]))


def test_without_positions_no_pair_is_refused_for_its_distance():
    assert ac.Array([1, 2], "MST").subarray.unplaced == ()


def test_the_array_of_a_block_is_that_of_its_file(array, blocks):
    assert array.subarray == blocks.outcomes[0].subarray
    assert len(array) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], ["MST"]), "1 types for 2 telescopes"),
        (([1, 2], "MST", [(0, 0)]), "1 positions_m for 2 telescopes"),
        (([1], "MST", [(0,)]), "1 coordinates, expected x, y and z in m"),
        (([1, 1], "MST"), "must be named once"),
        (([1, 2], {1: "MST"}), r"telescopes \[2\] have no type"),
    ],
)
def test_what_is_no_array_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ac.Array(*arguments)
