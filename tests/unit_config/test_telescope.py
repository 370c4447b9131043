"""Telescope parameters: the notation of ctapipe and its order of precedence."""

import pickle
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.config.errors import ConfigurationError
from arraycal.config.quantities import ENERGY_UNITS, LENGTH_UNITS, parse_quantity
from arraycal.config.telescope import PerType, TelescopeParameter, resolve

ARRAY = {
    1: "LST_LST_LSTCam",
    5: "MST_MST_NectarCam",
    6: "MST_MST_FlashCam",
    34: "SST_ASTRI_CHEC",
}


def parse(raw):
    return TelescopeParameter.parse(raw, parse_quantity)


def test_a_bare_value_is_for_every_telescope():
    assert resolve(parse(0.05), ARRAY, ARRAY) == dict.fromkeys(ARRAY, 0.05)
    assert parse(0.05).to_plain() == [["type", "*", 0.05]]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([["id", 1, 9], ["type", "LST*", 5]], 5.0),
        ([["type", "LST*", 5], ["id", 1, 9]], 9.0),
        ([["type", "LST_LST_LSTCam", 1], ["type", "*", 2]], 2.0),
        ([["type", "*", 2], ["type", "LST_LST_LSTCam", 1]], 1.0),
        ([["type", "*", 2], ["id", "1", 3]], 3.0),
    ],
)
def test_the_last_match_wins_whether_by_type_or_by_id(entries, expected):
    assert parse(entries).value_for(1, ARRAY[1]) == expected


def test_a_pattern_needs_the_whole_description_in_its_case():
    for pattern in ("LST", "lst*"):
        assert parse([["type", pattern, 1.0]]).value_for(1, ARRAY[1]) is None
    assert parse([["type", "MST*Cam", 1.0]]).value_for(6, ARRAY[6]) == 1.0


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("type"), st.sampled_from(["*", "LST*", "MST_MST_*", "X"]), st.floats(0, 1)
            ),
            st.tuples(st.just("id"), st.sampled_from([1, 5, 7]), st.floats(0, 1)),
        ),
        min_size=1,
    )
)
def test_the_lookup_is_the_obvious_loop(entries):
    for tel_id, description in ARRAY.items():
        expected = None
        for command, argument, value in entries:
            applies = (
                argument == tel_id if command == "id" else fnmatchcase(description, str(argument))
            )
            expected = value if applies else expected
        assert parse(entries).value_for(tel_id, description) == expected


def test_telescopes_without_a_value_are_named_with_the_patterns():
    with pytest.raises(ConfigurationError) as caught:
        resolve(parse([["type", "LST*", 1.0], ["id", 34, 2.0]]), ARRAY, ARRAY)
    message = str(caught.value)
    assert "5 (MST_MST_NectarCam), 6 (MST_MST_FlashCam)" in message
    assert "[type, LST*, 1.0], [id, 34, 2.0]" in message


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([], "empty"),
        (["type", "LST*", 1.0], "one more pair of brackets"),
        ([["*", 1.0]], "an entry has 2 elements"),
        ([["*"]], "an entry has 1 elements"),
        ([["typ", "LST*", 1.0]], "begins with 'typ'"),
        ([["type", 5, 1.0]], "type pattern 5 is not text"),
        ([["id", "LST*", 1.0]], "'LST\\*' is not a whole number"),
        ([["id", 1.5, 1.0]], "1.5 is not a whole number"),
        ([["id", True, 1.0]], "True is not a whole number"),
        ([["type", "*", "x"]], "'x' is not a number"),
        ([["type", "*", None]], "None is not a number"),
        ({"LST": 1.0}, "is not a number"),
    ],
)
def test_any_other_shape_is_refused_with_the_expected_one(raw, expected):
    with pytest.raises(ConfigurationError, match=expected):
        parse(raw)


def test_a_parameter_is_hashable_and_survives_pickling():
    parameter = parse([["type", "*", 1.0], ["id", 7, 2.0]])
    assert pickle.loads(pickle.dumps(parameter)) == parameter  # noqa: S301  our own bytes
    assert hash(parse(parameter.to_plain())) == hash(parameter)


@pytest.mark.parametrize(
    ("raw", "tev"),
    [
        (0.05, 0.05),
        ("50 GeV", 0.05),
        ("50 * u.GeV", 0.05),
        ("50*u.GeV", 0.05),
        ("50u.GeV", 0.05),
        ("5e1GeV", 0.05),
        ("5e-2", 0.05),
        ("0.05 TeV", 0.05),
        ("1 PeV", 1000.0),
        (".5 MeV", 5e-7),
    ],
)
def test_an_energy_is_read_with_or_without_unit(raw, tev):
    assert parse_quantity(raw, ENERGY_UNITS) == tev


def test_a_length_is_read_in_metres():
    assert parse_quantity("0.125 km", LENGTH_UNITS) == parse_quantity(125, LENGTH_UNITS) == 125.0


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("50 m", "has the unit 'm', expected one of TeV"),
        ("50 gev", "did you mean 'GeV'"),
        ("GeV", "'GeV' is not a number"),
        ("50 GeV; rm", "is not a number"),
        (True, "True is not a number"),
        (float("nan"), "not a finite number"),
        (float("inf"), "not a finite number"),
        (10**400, "not a finite number"),
        ("1e999 GeV", "not a finite number"),
    ],
)
def test_what_is_no_energy_is_refused(raw, expected):
    with pytest.raises(ConfigurationError, match=expected):
        parse_quantity(raw, ENERGY_UNITS)


def test_a_unit_where_none_belongs_is_refused():
    with pytest.raises(ConfigurationError, match="expected a plain number"):
        parse_quantity("0.05 m")


def test_values_by_type_cannot_change_and_compare_by_content():
    values = PerType({"LST": 1, "MST": 5})
    assert values == {"MST": 5, "LST": 1}
    assert hash(values) == hash(PerType({"MST": 5, "LST": 1}))
    assert pickle.loads(pickle.dumps(values)) == values  # noqa: S301  our own bytes
    with pytest.raises(TypeError):
        values["LST"] = 2  # type: ignore[index]
