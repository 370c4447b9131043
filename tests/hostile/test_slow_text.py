"""Text that takes for ever to read, or stands for more than a machine can hold."""

import json
import time

import pytest
import yaml

from arraycal.config import plain_yaml
from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.loading import load_configuration
from arraycal.config.quantities import LENGTH_UNITS, parse_quantity
from arraycal.flows.cli.main import main
from arraycal.flows.jobs.path_patterns import matches
from arraycal.flows.night.options import read_options

#: Generous: each takes milliseconds, and took seconds to hours.
FEW_S = 3.0


@pytest.fixture(autouse=True)
def _soon():
    begin = time.process_time()
    yield
    assert time.process_time() - begin < FEW_S


def laughs(merge, depth=10, width=10):
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, depth):
        many = ", ".join([f"*a{level - 1}"] * width)
        value = f"{{<<: [{many}]}}" if merge else f"[{many}]"
        lines.append(f"a{level}: &a{level} {value}")
    return "\n".join(lines)


@pytest.mark.parametrize("text", ["1" + " " * 4000 + "?", " " * 4000 + "x", "1" * 4000 + "x "])
def test_a_quantity_of_many_blanks_is_no_number(text):
    with pytest.raises(ConfigurationError, match=r"is not a number|has the unit"):
        parse_quantity(text, LENGTH_UNITS)


def test_blanks_in_a_quantity_mean_nothing():
    assert parse_quantity(f"  5{' ' * 4000}*\t u.m \n", LENGTH_UNITS) == 5.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (laughs(merge=True), "its aliases stand for more than 100,000 values"),
        (laughs(merge=False), "its aliases stand for more than 100,000 values"),
        ("[" * 100_000, "nested too deep"),
        ("{a: " * 50_000, "nested too deep"),
        ("PairFinder: {x: " + "9" * 5000 + "}", "a number of 5,000 characters"),
        ("0x" + "f" * 5000, "a number of 5,002 characters"),
        ("PairFinder: " + "1:" * 1000 + "1", "a number of 2,001 characters"),
        ("x: " + "y" * 300_000, "300,003 characters, expected at most 200,000"),
        ("2026-02-30", "day is out of range"),
    ],
)
def test_a_text_that_stands_for_too_much_is_refused(tmp_path, text, problem):
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="not valid YAML") as caught:
        load_configuration([path])
    assert problem in str(caught.value)
    with pytest.raises(ConfigurationError, match="no YAML file"):
        read_options(path, "--options")
    with pytest.raises(yaml.YAMLError):
        plain_yaml.parse_yaml(text)


def test_a_merge_and_an_alias_or_two_are_read():
    text = "a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]"
    assert plain_yaml.parse_yaml(text)["b"] == {"x": 1, "y": 2}


def test_a_text_within_itself_is_read():
    assert plain_yaml.parse_yaml("&a [*a]")


@pytest.mark.parametrize(
    "setting",
    [
        "CalculateInterCalibration.reference_telescopes={LST: 0xfffffffffffff}",
        f"CalculateInterCalibration.reference_telescopes={{LST: '{'9' * 5000}'}}",
        f"CalculateInterCalibration.reference_telescopes={{LST: 0x{'f' * 5000}}}",
        "PairFinder.max_impact_distance=[[id, 0xffffffffff, 5]]",
        "PairFinder.max_impact_distance=[[id, -1, 5]]",
        f"PairFinder=0x{'f' * 90}",
    ],
)
def test_an_id_that_no_telescope_can_have_is_wrong_usage(tmp_path, capsys, setting):
    command = ["run", "energy-inter", str(tmp_path), "--output", str(tmp_path / "out"), "--direct"]
    assert main([*command, "--set", setting]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_number_of_any_size_can_be_shown():
    assert shown(1 << 20_000) == "a whole number of 20,001 bits"
    assert shown({"x": [7, -(1 << 20_000)]}).startswith("{'x': [7, a whole number")


@pytest.mark.parametrize("criterion", ["hillas_width > 0x" + "f" * 1900, "2 ** 9 ** 9 ** 9 > 1"])
def test_a_criterion_of_a_number_without_end_is_refused(block, tmp_path, criterion, capsys):
    (tmp_path / "c.yaml").write_text(
        json.dumps({"QualityQuery": {"quality_criteria": [["long", criterion]]}})
    )
    command = ["run", "energy-inter", str(block), "--output", str(tmp_path / "out"), "--direct"]
    assert main([*command, "--config", str(tmp_path / "c.yaml")]) in {2, 4}
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"throughput": {"1": ' + "9" * 5000 + "}}",
        '{"throughput": {"1": 1' + "0" * 400 + "}}",
    ],
)
def test_a_truth_that_is_none_is_wrong_usage(block, tmp_path, text, capsys):
    truth = tmp_path / "truth.json"
    truth.write_text(text)
    command = ["run", "energy-inter", str(block), "--output", str(tmp_path / "out"), "--direct"]
    assert main([*command, "--truth", str(truth)]) == 2
    assert "--truth" in capsys.readouterr().err


@pytest.fixture
def tree(tmp_path):
    """Folders eight deep, and links that lead back in a circle."""
    folder = tmp_path / "tree"
    for name in "abcdefgh":
        folder /= name
        folder.mkdir(parents=True)
        (folder / "x.h5").touch()
    (tmp_path / "tree" / "back").symlink_to(".")
    (tmp_path / "tree" / "again").symlink_to("..")
    (folder / "top").symlink_to(tmp_path / "tree")
    (tmp_path / "tree" / ".hidden").mkdir()
    (tmp_path / "tree" / ".hidden" / "x.h5").touch()
    return tmp_path / "tree"


def test_a_pattern_of_many_any_folders_is_the_same_as_one(tree):
    expected = set(tree.rglob("[!.]*.h5")) - {tree / ".hidden/x.h5"}
    assert len(expected) == 8
    for pattern in ("**/*.h5", "**/" * 12 + "*.h5"):
        assert set(matches(tree / pattern)) == expected


def test_a_pattern_that_is_looked_for_in_every_way_is_refused(tree):
    with pytest.raises(ConfigurationError, match=r"more than 2 parts \*\*"):
        list(matches(tree / ("**/*/" * 12)))


def test_two_any_folders_and_brackets_in_names_are_found(tmp_path):
    (tmp_path / "a[1]" / "n" / "b" / "m").mkdir(parents=True)
    (tmp_path / "a[1]" / "n" / "b" / "m" / "x.h5").touch()
    assert set(matches(tmp_path / "**/b/**/x.h5")) == {tmp_path / "a[1]/n/b/m/x.h5"}
    assert tmp_path / "a[1]/n/b/m/x.h5" in set(matches(tmp_path / "**"))
    assert list(matches(tmp_path / "*/n/b/*/*.h5")) == [tmp_path / "a[1]/n/b/m/x.h5"]
    assert list(matches(tmp_path / "none/**/*.h5")) == []


def test_folders_of_the_same_name_are_two_parts_of_a_pattern_and_any_folders_one(tmp_path):
    file = tmp_path / "x" / "x" / "f"
    file.parent.mkdir(parents=True)
    file.touch()
    assert list(matches(tmp_path / "x" / "x" / "f*")) == [file]
    assert set(matches(tmp_path / "**" / "**" / "**" / "**" / "**" / "f*")) == {file}
