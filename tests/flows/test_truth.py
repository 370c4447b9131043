"""Truth beside coefficients, on the scale of the coefficients."""

import json
import math

import polars as pl
import pytest

from arraycal.config.errors import ConfigurationError
from arraycal.flows.terminal.truth import TrueValues, compare_with_truth, read_truth


def table(**columns):
    return pl.DataFrame({"tel_type": ["LST", "LST", "LST"], "tel_id": [1, 2, 3]} | columns)


def test_truth_is_scaled_to_the_mean_of_the_telescopes_with_a_value():
    telescopes = table(value=[2.0, 8.0, math.nan], error=[0.1, 0.5, math.nan])
    compared = compare_with_truth(telescopes, TrueValues({1: 0.5, 2: 0.5, 3: 7.0}))
    # geometric means: values 4, truth 0.5 over telescopes 1 and 2, so the scale is 8
    assert compared["truth"].to_list()[:2] == pytest.approx([4.0, 4.0])
    # (2 - 4) / 0.1 and (8 - 4) / 0.5
    assert compared["pull"].to_list()[:2] == pytest.approx([-20.0, 8.0])
    assert math.isnan(compared["truth"][2])
    assert math.isnan(compared["pull"][2])


def test_a_fixed_reference_has_no_pull():
    compared = compare_with_truth(
        table(value=[1.0, 1.0, 1.0], error=[0.0, 0.1, 0.1]), TrueValues({1: 1, 2: 1, 3: 1})
    )
    assert math.isnan(compared["pull"][0])
    assert compared["pull"][1] == pytest.approx(0.0)


def test_a_telescope_without_truth_does_not_spoil_the_others():
    compared = compare_with_truth(
        table(value=[1.0, 2.0, 9.0], error=[0.1] * 3), TrueValues({1: 1.0, 2: 2.0})
    )
    assert compared["truth"].to_list()[:2] == pytest.approx([1.0, 2.0])
    assert math.isnan(compared["truth"][2])


def test_types_are_scaled_apart():
    telescopes = pl.DataFrame(
        {"tel_type": ["LST", "MST"], "tel_id": [1, 2], "value": [3.0, 5.0], "error": [0.1, 0.1]}
    )
    assert compare_with_truth(telescopes, TrueValues({1: 1.0, 2: 1.0}))[
        "truth"
    ].to_list() == pytest.approx([3.0, 5.0])


@pytest.mark.parametrize("content", ["no json", "[]", "{}", '{"throughput": {"one": 1}}'])
def test_another_file_than_a_truth_is_refused(tmp_path, content):
    path = tmp_path / "truth.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"expected the truth\.json"):
        read_truth(path, "energy-inter")


def test_a_truth_is_read_by_telescope(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"throughput": {"1": 0.9, "12": 1.1}}))
    assert read_truth(path, "energy-inter") == TrueValues({1: 0.9, 12: 1.1})


@pytest.mark.parametrize(
    ("calibration", "entry"),
    [
        ("energy-inter", "energy_factor"),
        ("energy-cross", "energy_factor"),
        ("image-inter", "size_factor"),
    ],
)
def test_every_calibration_has_a_truth_of_its_own(tmp_path, calibration, entry):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"throughput": {"1": 0.9}, entry: {"1": 1.3}}))
    assert read_truth(path, calibration) == TrueValues({1: 1.3})


def test_the_truth_of_clocks_holds_latency_and_jumps(tmp_path):
    path = tmp_path / "truth.json"
    clocks = {"1": 2.0, "2": -3.0}
    steps = [[2, 700.0, 10.0], [2, 900.0, -4.0]]
    content = {"clock_offset_ns": clocks, "latency_ns": {"1": 0.5}, "clock_steps": steps}
    path.write_text(json.dumps(content))
    assert read_truth(path, "timing-cross") == TrueValues({1: 2.5, 2: 3.0}, additive=True)


def test_a_drifting_clock_is_compared_at_the_date_of_its_value(tmp_path):
    path = tmp_path / "truth.json"
    content = {
        "clock_offset_ns": {"1": 2.0, "2": -3.0, "3": 1.0},
        "clock_drift_ns_per_h": {"2": 6.0},
        "start_s": 1_700_000_000,
    }
    path.write_text(json.dumps(content))
    # Half an hour of 6 ns/h: -3 + 3 = 0; the mean of 2, 0 and 1 is 1.
    found = table(value=[1.0, -1.0, 0.5], error=[0.0, 0.5, 0.5])
    dates = dict.fromkeys((1, 2, 3), 1_700_001_800.0)
    compared = compare_with_truth(found, read_truth(path, "timing-cross"), dates=dates)
    assert compared["truth"].to_list() == pytest.approx([1.0, -1.0, 0.0])
    assert compared["pull"].to_list()[1:] == pytest.approx([0.0, 1.0])


def test_a_truth_without_clocks_says_what_is_missing(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"throughput": {"1": 1.0}}))
    with pytest.raises(ConfigurationError, match="with clock_offset_ns by telescope"):
        read_truth(path, "timing-cross")


def test_true_clocks_are_shifted_over_all_types():
    telescopes = table(value=[3.0, 1.0, math.nan], error=[0.5, 0.5, math.nan], tel_type=list("LMM"))
    compared = compare_with_truth(telescopes, TrueValues({1: 10.0, 2: 12.0, 3: 7.0}, additive=True))
    # Differences -7 and -11: the mean shift is -9.
    assert compared["truth"].to_list()[:2] == pytest.approx([1.0, 3.0])
    assert compared["difference"].to_list()[:2] == pytest.approx([2.0, -2.0])
    assert compared["pull"].to_list()[:2] == pytest.approx([4.0, -4.0])
    assert math.isnan(compared["truth"][2])


def test_true_clocks_are_shifted_to_the_reference():
    telescopes = table(value=[0.0, 1.0, 5.0], error=[0.0, 0.5, 0.5])
    compared = compare_with_truth(
        telescopes, TrueValues({1: 10.0, 2: 12.0, 3: 15.0}, additive=True)
    )
    assert compared["truth"].to_list() == pytest.approx([0.0, 2.0, 5.0])
    assert compared["pull"].to_list()[1:] == pytest.approx([-2.0, 0.0])
