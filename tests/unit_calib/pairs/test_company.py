"""Telescopes of each type in a shower: which showers compare types, and who took part."""

from dataclasses import replace

import numpy as np
from toy_pairs import toy_subarray

from arraycal.calib.pairs.company import Company

ARRAY = replace(toy_subarray(5), types=("LST", "LST", "LST", "MST", "MST"))
#: Telescopes of four showers: the second has one MST only, the last none.
SHOWERS = ([0, 1, 3, 4], [0, 1, 2, 3], [0, 2, 3, 4], [0, 1])
ROWS = [(number, node) for number, nodes in enumerate(SHOWERS) for node in nodes]


def company():
    shower, node = np.array(ROWS).T
    return Company.of(shower, node, ARRAY, 2)


def test_a_telescope_takes_part_where_there_are_enough_of_its_type_and_of_the_other():
    found = company().participation(ARRAY)
    rows = {(kind, tel_id): n for kind, tel_id, n in found.iter_rows()}
    # The first and the third shower have two of both types.
    assert rows == {
        ("MST", 1): 2, ("MST", 2): 1, ("MST", 3): 1, ("LST", 4): 2, ("LST", 5): 2,
    }  # fmt: skip


def test_pairs_across_types_need_enough_of_both_and_others_are_counted():
    rows, found = dict(zip(ROWS, range(len(ROWS)), strict=True)), company()
    first = np.array([rows[0, 0], rows[1, 0], rows[2, 0]])
    second = np.array([rows[0, 3], rows[1, 3], rows[2, 3]])
    kept = found.passing((0, 3), first, second)
    assert [side.tolist() for side in kept] == [first[[0, 2]].tolist(), second[[0, 2]].tolist()]
    assert found.refused == 1
    # Within a type there is nothing to count.
    same = found.passing((0, 1), first[:1], np.array([rows[0, 1]]))
    assert len(same[0]) == 1
    assert found.refused == 1
