"""Quality criteria: what they mean, what they refuse, and that they never run any code."""

import math
import operator
import pickle
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraycal.calib.criteria import CriterionError, columns_of, compile_criteria, compile_criterion
from arraycal.calib.errors import ArraycalError

NAN, INF = math.nan, math.inf

CATALOG = {
    "RandomForestRegressor_tel_energy": "TeV",
    "RandomForestClassifier_tel_prediction": "",
    "RandomForestRegressor_tel_is_valid": "bool",
    "energy": "TeV",
    "x": "m",
    "y": "m",
    "alt": "deg",
    "a": "",
    "b": "",
    "i": "int",
    "ok": "bool",
    "size": "p.e.",
    "grammage": "g.cm**-2",
    "X_telescopes": "bool[]",
}


def passes(text, **columns):
    """Which rows pass a criterion, given its columns."""
    criterion = compile_criterion("test", text, CATALOG)
    frame = pl.DataFrame(columns)
    assert criterion.columns <= set(columns)
    result = frame.lazy().with_columns(criterion.passes.alias("passes")).collect()["passes"]
    assert result.dtype == pl.Boolean
    assert result.null_count() == 0
    return result.to_list()


def refusal(text, name="test"):
    with pytest.raises(CriterionError) as caught:
        compile_criterion(name, text, CATALOG)
    return str(caught.value)


def marked(message):
    """The part of the text that the carets stand under."""
    _, text, marker = message.rsplit("\n", 2)
    return text[marker.index("^") : marker.rindex("^") + 1]


# --- meaning ---------------------------------------------------------------------------


def test_the_documented_criteria_select_as_written():
    criteria = compile_criteria(
        [
            ("energy threshold", "RandomForestRegressor_tel_energy > 50 * u.GeV"),
            ("gammaness", "RandomForestClassifier_tel_prediction > 0.5"),
            ("valid reco", "RandomForestRegressor_tel_is_valid"),
        ],
        CATALOG,
    )
    frame = pl.DataFrame(
        {
            "RandomForestRegressor_tel_energy": [0.06, 0.05, 0.06, 0.06, NAN, None],
            "RandomForestClassifier_tel_prediction": [0.6, 0.6, 0.5, 0.6, 0.6, 0.6],
            "RandomForestRegressor_tel_is_valid": [True, True, True, False, True, True],
        }
    )
    table = frame.select(criterion.passes.alias(criterion.name) for criterion in criteria)
    assert table["energy threshold"].to_list() == [True, False, True, True, False, False]
    assert table["gammaness"].to_list() == [True, True, False, True, True, True]
    assert table["valid reco"].to_list() == [True, True, True, False, True, True]
    kept = frame.filter(*(criterion.passes for criterion in criteria))
    assert len(kept) == 1


@pytest.mark.parametrize("bad", [NAN, INF, -INF, None])
@pytest.mark.parametrize(
    "text",
    [
        "a > 0.5",
        "a < 0.5",
        "a == a",
        "a != 0",
        "not (a > 0.5)",
        "~(a < 0.5)",
        "1 / a < 5",
        "0 * a == 0",
        "a - a == 0",
        "minimum(a, 1) < 2",
        "maximum(1, a) > 0",
        "(a > 0) ^ (b > 100)",
        "0 < b < a",
        "isfinite(a)",
    ],
)
def test_what_is_not_finite_never_passes_not_even_a_negated_cut(text, bad):
    # a frame with a second, good row shows that the first did not fail for another reason
    assert passes(f"({text}) or b > 5", a=[bad, 2.0], b=[1.0, 9.0]) == [False, True]


def test_or_does_not_need_a_value_that_does_not_matter():
    columns = {"a": [NAN, NAN, None, 2.0, 0.0], "b": [2.0, 0.0, 2.0, NAN, None]}
    assert passes("a > 1 or b > 1", **columns) == [True, False, True, True, False]
    assert passes("a > 1 and b > 1", **columns) == [False] * 5
    # b is certainly not above 1 in row 1, so "not both" is certain there, and in row 4
    assert passes("not (a > 1 and b > 1)", **columns) == [False, True, False, False, True]


def test_missing_booleans_do_not_pass_either_way():
    assert passes("ok", ok=[True, False, None]) == [True, False, False]
    assert passes("not ok", ok=[True, False, None]) == [False, True, False]
    assert passes("ok == True", ok=[True, False, None]) == [True, False, False]
    assert passes("ok == 0", ok=[True, False, None]) == [False, True, False]


def test_isnan_and_isfinite_are_the_way_to_ask_for_what_is_not_known():
    values = [1.0, NAN, INF, None]
    assert passes("isnan(a)", a=values) == [False, True, False, False]
    assert passes("not np.isfinite(a)", a=values) == [False, True, True, False]
    assert passes("isfinite(1 / a)", a=[0.0, 1.0, NAN, None]) == [False, True, False, False]
    assert passes("isnan(np.minimum(a, b))", a=[NAN, 1.0], b=[1.0, 2.0]) == [True, False]
    assert passes("isfinite(i)", i=[1, None]) == [True, False]


def test_a_division_by_zero_is_unknown_rather_than_infinite():
    assert passes("1 / i > 0.1", i=[0, 1, 100]) == [False, True, False]
    assert passes("not (1 / i > 0.1)", i=[0, 1, 100]) == [False, False, True]
    assert passes("a % b == 0", a=[4.0, 4.0, 5.0], b=[2.0, 0.0, 2.0]) == [True, False, False]
    assert passes("5 % i == 0", i=[5, 0, 2]) == [True, False, False]


def test_operators_bind_as_in_python():
    assert passes("1 + 2 * i ** 2 == 19", i=[3, 4]) == [True, False]
    assert passes("-i ** 2 == -9", i=[3, 4]) == [True, False]
    assert passes("not ok or i == 3", ok=[True, True, False], i=[3, 4, 4]) == [True, False, True]
    assert passes("ok | ok & ~ok", ok=[True, False]) == [True, False]
    assert passes("i & 6 == 4", i=[5, 8]) == passes("(i & 6) == 4", i=[5, 8]) == [True, False]
    assert passes("~i == -4", i=[3, 4]) == [True, False]
    assert passes("(i ^ 1 | 8) == 10", i=[3, 4]) == [True, False]


def test_comparisons_chain():
    assert passes("0 < a <= b < 3", a=[1.0, 0.0, 2.0, 2.0], b=[2.0, 2.0, 1.0, 3.0]) == [
        *(True, False, False, False)
    ]
    assert passes("20 * u.GeV < energy < 1 * u.TeV", energy=[0.01, 0.5, 2.0]) == [
        *(False, True, False)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("np.count_nonzero(X_telescopes, axis=1) >= 2", [True, False, False, True]),
        ("sum(X_telescopes, axis=-1) == 1", [False, True, False, False]),
        ("np.any(X_telescopes, axis=1)", [True, True, False, True]),
        ("not np.all(X_telescopes, axis=1) and np.sum(X_telescopes, axis=1) / 2 >= 0.5",
         [True, True, False, False]),
    ],
)  # fmt: skip
def test_telescopes_of_a_shower_are_counted_as_in_ctapipe(text, expected):
    masks = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    assert passes(text, X_telescopes=masks) == expected


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        ("X_telescopes", "np.count_nonzero(X_telescopes, axis=1)", "X_telescopes"),
        ("X_telescopes > 1", "a value for each telescope of the array", "X_telescopes"),
        ("np.sum(i, axis=1) > 1", "sum needs a value for each telescope", "np.sum(i, axis=1)"),
        ("np.sum(X_telescopes) > 1", "np.sum(column, axis=1)", "np.sum(X_telescopes)"),
        ("any(X_telescopes, axis=0)", "the axis of the telescopes", "any(X_telescopes, axis=0)"),
        ("any(ok | ok, axis=1)", "takes a column", "any(ok | ok, axis=1)"),
        ("any(X_telescopes, axis=1, out=x)", "takes", "any(X_telescopes, axis=1, out=x)"),
        ("np.sum > 1", "np.sum is a function", "np.sum"),
        ("hypot(x, y, axis=1) > 1", "2 argument(s) by position", "hypot(x, y, axis=1)"),
    ],
)
def test_a_column_of_all_telescopes_can_only_be_counted_over_them(text, reason, where):
    message = refusal(text)
    assert reason in message
    assert marked(message) == where


def test_a_criterion_may_span_several_lines():
    assert passes("a > 1\n  and\n b > 1\n", a=[2.0], b=[2.0]) == [True]


def test_a_criterion_without_columns_applies_to_every_row():
    assert (
        pl.DataFrame({"a": [1.0, 2.0]}).filter(compile_criterion("all", "True", {}).passes).height
        == 2
    )


def test_narrow_and_unsigned_integers_do_not_wrap():
    small = pl.Series([200], dtype=pl.UInt8)
    assert passes("i - 201 < 0", i=small) == [True]
    assert passes("i * 1000 == 200000", i=small) == [True]
    assert passes("-i == -200", i=small) == [True]
    assert passes("i + 100 == 300", i=small) == [True]


def test_large_event_numbers_compare_exactly():
    number = 2**53 + 1  # not a double
    assert passes(f"i == {number}", i=[number, number - 1]) == [True, False]


def test_a_column_in_single_precision_is_compared_at_its_own_value():
    tenth = np.float32(0.1)  # 0.100000001...
    assert passes("a > 0.1", a=pl.Series([tenth], dtype=pl.Float32)) == [True]


# --- units -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("energy > 50 * u.GeV", {"energy": [0.05, 0.051]}, [False, True]),
        ("50 * u.GeV < energy", {"energy": [0.05, 0.051]}, [False, True]),
        ("energy / u.GeV > 50", {"energy": [0.049, 0.051]}, [False, True]),
        ("energy > u.TeV", {"energy": [1.0, 1.1]}, [False, True]),
        ("energy > 0", {"energy": [0.0, 1.1]}, [False, True]),
        ("energy + 0 > 5e10 * u.eV", {"energy": [0.04, 0.06]}, [False, True]),
        ("x + 10 * u.cm < 1 * u.m", {"x": [0.8, 0.95]}, [True, False]),
        (
            "sqrt(x**2 + y**2) < 0.2 * u.km",
            {"x": [100.0, 150.0], "y": [100.0, 150.0]},
            [True, False],
        ),
        ("np.hypot(x, y) < 0.2 * u.km", {"x": [100.0, 150.0], "y": [100.0, 150.0]}, [True, False]),
        ("x * y > 1 * u.km * u.m", {"x": [10.0, 40.0], "y": [30.0, 30.0]}, [False, True]),
        ("alt > 1 * u.rad", {"alt": [57.0, 58.0]}, [False, True]),
        ("sin(alt) > 0.5", {"alt": [29.9, 30.1]}, [False, True]),
        ("cos(a) > 0.5", {"a": [1.0, 1.1]}, [True, False]),  # cos(pi/3 = 1.047) = 0.5
        ("arctan2(y, x) > 44 * u.deg", {"x": [1.0, 1.0], "y": [1.0, 0.9]}, [True, False]),
        ("arctan2(a, b) > np.pi / 4 - 0.01", {"a": [1.0, 0.9], "b": [1.0, 1.0]}, [True, False]),
        ("log10(energy / u.TeV) > -1", {"energy": [0.09, 0.11]}, [False, True]),
        ("log(energy / u.GeV) > 0", {"energy": [0.0009, 0.0011]}, [False, True]),
        ("abs(x) < 100 * u.cm", {"x": [-0.9, -1.1]}, [True, False]),
        ("maximum(x, 50 * u.cm) > 60 * u.cm", {"x": [0.55, 0.65]}, [False, True]),
        ("minimum(20 * u.GeV, energy) < 20 * u.GeV", {"energy": [0.01, 0.03]}, [True, False]),
        ("x % (3 * u.m) == 100 * u.cm", {"x": [4.0, 5.0]}, [True, False]),
        ("grammage > 1 * u.kg / u.m**2", {"grammage": [0.09, 0.11]}, [False, True]),
        ("exp(a) > 2", {"a": [0.69, 0.70]}, [False, True]),
        ("tan(alt) > 1", {"alt": [44.9, 45.1]}, [False, True]),
    ],
)
def test_units_are_converted(text, columns, expected):
    assert passes(text, **columns) == expected


@pytest.mark.parametrize(
    ("text", "found", "wanted"),
    [
        ("energy > 1", "a plain number", "TeV"),
        ("1 < energy", "a plain number", "TeV"),
        ("energy > 5 * u.m", "in m", "TeV"),
        ("a > 5 * u.m", "in m", "a plain number"),
        ("energy + x > 0", "in m", "in TeV"),
        ("log(energy) > 1", "in TeV", "log"),
        ("cos(x) > 1", "in m", "cos"),
        ("hypot(x, a) > 1 * u.m", "a plain number", "in m"),
        ("x ** 2 > 5 * u.m", "in m", "m2"),
    ],
)
def test_quantities_that_do_not_convert_are_refused_with_both_units(text, found, wanted):
    message = refusal(text)
    assert found in message
    assert wanted in message


def test_a_bare_number_beside_a_quantity_is_told_how_to_get_its_unit():
    assert "for example 50 * u.TeV" in refusal("energy > 50")


def test_an_unknown_unit_suggests_the_nearest():
    message = refusal("energy > 50 * u.Gev")
    assert "did you mean u.GeV?" in message
    assert marked(message) == "u.Gev"
    assert "no unit 'Quantity'" in refusal("energy > u.Quantity")


def test_a_column_whose_unit_astropy_does_not_know_is_refused_only_when_used():
    assert "column 'size' has the unit 'p.e.'" in refusal("size > 50")
    assert passes("a > 1", a=[2.0]) == [True]


# --- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        ("__import__('os').system('x')", "this call is not allowed", None),
        ("open('/etc/passwd')", "this call is not allowed", None),
        ("eval(a) > 1", "this call is not allowed", "eval(a)"),
        ("().__class__.__bases__[0]", "indexing with []", None),
        ("a > ().__class__", "attribute access", "().__class__"),
        ("a.value > 1", "attribute access", "a.value"),
        ("u.__dict__", "attribute access", None),
        ("u.TeV.__class__", "attribute access", None),
        ("u.TeV.to(u.GeV) > 1", "this call is not allowed", "u.TeV.to(u.GeV)"),
        ("np.linalg.norm(a) > 1", "this call is not allowed", "np.linalg.norm(a)"),
        ("np.load(a) > 1", "this call is not allowed", "np.load(a)"),
        ("np.ndarray > 1", "attribute access", "np.ndarray"),
        ("np.sqrt > 1", "is a function, give it its arguments", "np.sqrt"),
        ("u > 1", "'u' alone means nothing", "u"),
        ("np > 1", "'np' alone means nothing", "np"),
        ("[a for a in b]", "a comprehension", None),
        ("all(a for a in b)", "all takes a column", None),
        ("(lambda: a)()", "this call", None),
        ("lambda: a", "a lambda", None),
        ("(c := a) > 1", "an assignment", "c := a"),
        ("f'{a}' == a", "a formatted string", "f'{a}'"),
        ("'a' == a", "only numbers, True and False", "'a'"),
        ("a > 1j", "only numbers, True and False", "1j"),
        ("a == None", "only numbers, True and False", "None"),
        ("a > ...", "only numbers, True and False", "..."),
        ("a[0] > 1", "indexing with []", "a[0]"),
        ("i in (1, 2)", "the operator 'in'", None),
        ("a is b", "the operator 'is'", None),
        ("a // b > 1", "the operator //", "a // b"),
        ("a @ b > 1", "the operator @", "a @ b"),
        ("i << 60 > 1", "the operator <<", "i << 60"),
        ("a if ok else b", "if ... else", None),
        ("abs(*a) > 1", "a starred argument", "*a"),
        ("abs(a, b) > 1", "abs takes 1 argument(s)", "abs(a, b)"),
        ("abs(x=a) > 1", "abs takes 1 argument(s)", "abs(x=a)"),
        ("minimum(a) > 1", "minimum takes 2 argument(s)", "minimum(a)"),
        ("9**9**9 > a", "an exponent must be a number", "9**9**9"),
        ("(((9.0**16)**16)**16)**16 > a", "not a finite", "((9.0**16)**16)**16"),
        ("a ** b > 1", "an exponent must be a number", "a ** b"),
        ("(-2) ** 0.5 > a", "not a finite real number", "(-2) ** 0.5"),
        ("a > 1e999", "not a finite", "1e999"),
        ("a > 1 / 0", "division by zero", "1 / 0"),
        ("a > " + "9" * 1000, "not a finite", None),
        ("a >", "not an expression", None),
        ("(a > 1", "not an expression", "("),
        ("a > 50 GeV", "not an expression", None),
        ("a = 1", "not an expression", None),
        ("import os", "not an expression", None),
        ("a > 1; b > 1", "not an expression", None),
        ("a > 1 # and b", "comments are not allowed", "#"),
        ("a > \x00", "not an expression", None),
        ("", "is empty", None),
        ("  \n ", "is empty", None),
        ("-" * 500 + "a", "nested more than", None),
        ("(" * 500 + "a" + ")" * 500, "", None),
        ("a" * 3000, "longer than", None),
        ("a > 0 & b > 0", "put each comparison in parentheses", "0 & b"),
        ("ok and a", "'and' and 'or' need Booleans, found a plain number", "a"),
        ("not a", "'not' needs a Boolean", "not a"),
        ("ok + 1 > 1", "a Boolean cannot be computed with", "ok + 1"),
        ("-ok", "a Boolean cannot be computed with", "-ok"),
        ("sqrt(ok) > 1", "a Boolean cannot be given to a function", "sqrt(ok)"),
        ("ok > 0", "only be compared by ==", "ok > 0"),
        ("ok == 2", "cannot compare a Boolean with", "ok == 2"),
        ("~a > 1", "cannot combine", "~a"),
        ("energy", "is a quantity in TeV; compare it", "energy"),
        ("a + 1", "is a plain number; compare it", "a + 1"),
    ],
)
def test_anything_else_is_refused_at_its_position(text, reason, where):
    message = refusal(text, name="my cut")
    assert message.startswith("criterion 'my cut': ")
    assert reason in message
    if where is not None:
        assert marked(message) == where


def test_nothing_of_a_refused_text_is_ever_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in (
        "__import__('pathlib').Path('ran').touch()",
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "u.core.__builtins__['open']('ran', 'w')",
        "np.save('ran', a) or ok",
        "(lambda: open('ran', 'w'))()",
    ):
        refusal(text)
        with pytest.raises(CriterionError):
            columns_of(text)
    assert not list(tmp_path.iterdir())


def test_an_unknown_column_suggests_the_nearest_and_lists_them():
    message = refusal("RandomForestRegressor_tel_enrgy > 50 * u.GeV")
    assert "did you mean 'RandomForestRegressor_tel_energy'?" in message
    assert "alt, b, energy" in message.replace("a, alt", "alt")
    assert marked(message) == "RandomForestRegressor_tel_enrgy"
    assert "did you mean 'energy'?" in refusal("Energy > 50 * u.GeV")


def test_the_mark_stands_right_after_other_alphabets_and_in_long_texts():
    assert marked(refusal("a > 1 and é.value > 1")) == "é.value"
    assert marked(refusal("ééé > 1 and a.value > 1")) == "a.value"
    long = " and ".join(["a > 1"] * 100)
    assert marked(refusal(f"{long} and b.value > 1")) == "b.value"


def test_the_error_is_one_of_ours_and_a_value_error():
    assert issubclass(CriterionError, ArraycalError)
    assert issubclass(CriterionError, ValueError)


# --- columns and objects ---------------------------------------------------------------


def test_columns_are_known_before_the_catalog_is():
    text = "np.sqrt(core_x**2 + y**2) < 5 * u.m and not is_valid or log > np.pi"
    assert columns_of(text) == {"core_x", "y", "is_valid", "log"}
    assert columns_of("True") == frozenset()


def test_a_criterion_keeps_its_text_and_survives_pickling():
    criterion = compile_criterion("cut", "energy >  50 * u.GeV", CATALOG)
    copy = pickle.loads(pickle.dumps(criterion))  # noqa: S301  our own bytes
    assert copy == criterion
    assert hash(copy) == hash(criterion)
    assert (copy.name, copy.text, copy.columns) == ("cut", "energy >  50 * u.GeV", {"energy"})
    assert pl.DataFrame({"energy": [0.1]}).select(copy.passes).item() is True


# --- against numpy ---------------------------------------------------------------------

FLOATS = st.one_of(st.floats(-4, 4), st.sampled_from([0.0, 1.0, -1.0, NAN, INF, -INF]))


class Kleene:
    """Three-valued logic in numpy: the value, and where it is known."""

    def __init__(self, value, known):
        self.value, self.known = value & known, known

    def __and__(self, other):
        false = (self.known & ~self.value) | (other.known & ~other.value)
        return Kleene(self.value & other.value, (self.known & other.known) | false)

    def __invert__(self):
        return Kleene(~self.value, self.known)

    def __or__(self, other):
        return ~(~self & ~other)


NUMBERS = st.recursive(
    st.sampled_from(["a", "b", "i", "2", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: "({} {} {})".format(*t)),
        inner.map("abs({})".format),
        inner.map("(-{})".format),
        inner.map("sqrt({})".format),
        inner.map("({} ** 2)".format),
        st.tuples(inner, inner).map(lambda t: "maximum({}, {})".format(*t)),
    ),
    max_leaves=4,
)
ORDERINGS = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
COMPARISONS = st.tuples(NUMBERS, st.sampled_from(list(ORDERINGS)), NUMBERS)
STATEMENTS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.just("and"), inner),
        st.tuples(inner, st.just("or"), inner),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=4,
)


def written(statement):
    """The text of a generated statement."""
    if isinstance(statement, str):
        return statement
    return "(" + " ".join(written(part) for part in statement) + ")"


def evaluated(statement, columns):
    """The same by numpy, slowly and obviously."""
    if statement[0] == "not":
        return ~evaluated(statement[1], columns)
    left, symbol, right = statement
    if symbol == "and":
        return evaluated(left, columns) & evaluated(right, columns)
    if symbol == "or":
        return evaluated(left, columns) | evaluated(right, columns)
    names = {**columns, "abs": np.abs, "sqrt": np.sqrt, "maximum": np.maximum}
    with np.errstate(all="ignore"):
        # the texts are generated above
        sides = [np.asarray(eval(text, {}, names), float) for text in (left, right)]  # noqa: S307
    value = ORDERINGS[symbol](*sides)
    known = np.isfinite(sides[0]) & np.isfinite(sides[1])
    for name, values in columns.items():
        if re.search(rf"\b{name}\b", f"{left} {right}"):
            known = known & np.isfinite(values)
    rows = len(columns["a"])
    return Kleene(np.broadcast_to(value, rows), np.broadcast_to(known, rows))


@given(STATEMENTS, st.lists(st.tuples(FLOATS, FLOATS, st.integers(-3, 3)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_criteria_agree_with_numpy_and_three_valued_logic(statement, rows):
    columns = {
        "a": np.array([row[0] for row in rows]),
        "b": np.array([row[1] for row in rows]),
        "i": np.array([row[2] for row in rows], dtype=float),
    }
    try:
        expected = evaluated(statement, columns).value.tolist()
    except ZeroDivisionError:  # of two constants: refused, see above
        return
    found = passes(
        written(statement), a=columns["a"], b=columns["b"], i=columns["i"].astype(np.int16)
    )
    assert found == expected


TEXT_OF_TOKENS = (
    "a b x energy i ok True 1 0 2.5 1e308 9999999999999999999 é "
    "u.m u.TeV u.mag u.deg_C u.dB np.pi np.sqrt( abs( ( ) , "
    "+ - * / % ** // & | ^ ~ and or not > < == != . [ ] : := lambda if else"
)
TOKENS = st.sampled_from(TEXT_OF_TOKENS.split())


@given(st.lists(TOKENS, max_size=12).map(" ".join) | st.text(max_size=30))
@settings(max_examples=500, deadline=None)
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_any_text_either_compiles_or_is_refused_with_a_message(text):
    try:
        criterion = compile_criterion("fuzz", text, CATALOG)
    except CriterionError:
        return
    frame = pl.DataFrame(
        {"a": [1.0], "b": [1.0], "x": [1.0], "energy": [1.0], "i": [1], "ok": [True]}
    )
    assert frame.select(criterion.passes).to_series().null_count() == 0
