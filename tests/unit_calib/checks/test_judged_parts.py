"""When parts of the data contradict each other: by how much, and how surely."""

import pytest

from arraycal.calib.checks.judged_parts import CHANCE, MIN_DEVIATION, MIN_SCATTER, judged

ROW = {
    "kind": "blocks",
    "tel_type": "LST",
    "n_parts": 3,
    "chi2": 2.0,
    "ndf": 2,
    "p_value": 0.5,
    "birge": 1.0,
    "scatter": 2 * MIN_SCATTER,
    "part": "1",
    "deviating": "LST",
    "tel_id": 1,
    "difference": -2 * MIN_DEVIATION,
    "difference_error": 0.001,
    "p_largest": 0.5,
    "is_contrast": False,
}


def changed(*changes):
    return judged([ROW | change for change in changes])["changed"].to_list()


@pytest.mark.parametrize("name", ["p_value", "p_largest"])
def test_the_chance_is_shared_by_two_tests_a_row_and_one_of_a_contrast(name):
    # Two rows, one of them a contrast: 2 x 2 - 1 = 3 tests. One that compares nothing: none.
    contrast, nothing = {"is_contrast": True}, {"ndf": 0}
    assert changed({name: 0.9 * CHANCE / 3}, contrast, nothing) == [True, False, False]
    assert changed({name: 1.1 * CHANCE / 3}, contrast, nothing) == [False, False, False]


def test_a_small_change_is_none_however_sure():
    sure = {"p_value": 0.0, "p_largest": 0.0}
    small = {"scatter": 0.9 * MIN_SCATTER, "difference": 0.9 * MIN_DEVIATION}
    assert changed(sure | small) == [False]
    assert changed(sure | small | {"difference": 1.1 * MIN_DEVIATION}) == [True]


def test_of_contrasts_the_scatter_does_not_count():
    assert changed({"p_value": 0.0, "is_contrast": True}) == [False]
