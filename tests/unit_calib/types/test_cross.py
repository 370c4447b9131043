"""Cross-calibration of odd arrays and odd requests: numbers where there are any, else a reason."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib import report
from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.calib.monitoring.inter import read_inter
from arraycal.calib.observables import ENERGY_CROSS
from arraycal.calib.types.joint import FACTORS_PATH, INTER_PATH, TYPES
from arraycal.calib.types.three_step import TypeFactor
from arraycal.calib.types.three_step_result import _types
from arraycal.config import ConfigurationError, load_configuration

#: Every pair row.
ALL = pl.lit(value=True)
LOG_C = [0.1, -0.1, 0.05, -0.05, 0.0]


def array(types):
    return replace(toy_subarray(len(types)), types=tuple(types))


def solved(types, cache, *overrides, keep=ALL, constant=()):
    """Calibrate 5 telescopes of the given types from the pair rows to keep.

    Types in `constant` report the same value whatever they see.
    """
    toy = Toy(log_throughput=LOG_C, sigma=[0.2] * 5, n_showers=800, multiplicity=3)
    pairs = toy_pairs(toy, 5)
    labels = [
        "-".join(sorted({types[i - 1], types[j - 1]}))
        for i, j in pairs.select("tel_id_1", "tel_id_2").iter_rows()
    ]
    pairs = pairs.with_columns(pl.Series("tel_type", labels)).filter(keep)
    for side in ("1", "2"):
        still = pl.col(f"tel_id_{side}").is_in([i + 1 for i in range(5) if types[i] in constant])
        value = pl.when(still).then(1.0).otherwise(f"value_{side}")
        pairs = pairs.with_columns(value.alias(f"value_{side}"))
    one, two = pl.col("value_1"), pl.col("value_2")
    ratio = (one / two).log() if constant else pl.col("log_ratio")
    asymmetry = (one - two) / (one + two) if constant else pl.col("asymmetry")
    pairs = pairs.with_columns(log_ratio=ratio, asymmetry=asymmetry)
    summary = {"n_events": 0, "n_pairs": len(pairs), "rejected": []}
    entry = PairCache(cache).store("toy", [pairs], summary)
    block = BlockPairs(Path("toy.h5"), "ok", obs_ids=(1,), subarray=array(types), entry=entry)
    settings = ["ShowerSelection.threshold=null", *overrides]
    configuration = load_configuration(preset="energy-cross", overrides=settings)
    return calibrate([block], ENERGY_CROSS, configuration)


def test_one_type_is_nothing_to_do(tmp_path):
    with pytest.raises(NothingToDo, match="all 5 telescopes are of type MST"):
        solved(["MST"] * 5, tmp_path)


def test_an_unknown_reference_type_is_refused_with_the_types_there_are(tmp_path):
    setting = "CalculateCrossCalibration.reference_subsystem=SST"
    with pytest.raises(WrongUsage, match="reference_subsystem is SST, but the array has LST, MST"):
        solved(["LST", "LST", "MST", "MST", "MST"], tmp_path, setting)


@pytest.mark.parametrize("single", ["LST", "MST"])
def test_a_type_of_one_telescope_has_a_factor_and_a_coefficient(tmp_path, single):
    other = "MST" if single == "LST" else "LST"
    result = solved([single, *[other] * 4], tmp_path)
    assert result.telescopes["value"].is_finite().all()
    # The reference type is the MST: alone, it is the scale.
    assert result.verdict.status == ("usable" if single == "LST" else "degraded")
    inter = result.published[INTER_PATH].filter(pl.col("tel_type") == single)
    assert inter.select("value", "error").rows() == [(1.0, 0.0)]
    types = result.extras["types"].filter(pl.col("tel_type") == "LST").row(0, named=True)
    expected = {"LST": LOG_C[0] - np.mean(LOG_C[1:])}
    sign = 1 if single == "LST" else -1
    assert types["contrast"] == pytest.approx(
        sign * expected["LST"], abs=4 * types["contrast_error"]
    )


def test_a_factor_has_the_errors_of_its_contrast(tmp_path):
    # Both types have their geometric mean as gauge: the factor is exp(contrast).
    types = solved(["MST", "LST", "LST", "MST", "SST"], tmp_path).extras["types"]
    row = types.filter(pl.col("tel_type") == "SST").row(0, named=True)
    factor = np.exp(row["contrast"])
    assert row["scaling_factor"] == pytest.approx(factor)
    assert row["error"] == pytest.approx(factor * row["contrast_error"])
    assert row["systematic"] == pytest.approx(factor * row["contrast_systematic"])
    assert row["systematic"] > 0


def test_a_type_without_a_reference_telescope_has_its_mean_as_its_own_gauge(tmp_path):
    references = "RelativeThroughputFitter.reference_telescopes={MST: 3}"
    result = solved(["LST", "LST", "MST", "MST", "MST"], tmp_path, references)
    types = {row["tel_type"]: row for row in result.extras["types"].iter_rows(named=True)}
    assert types["LST"]["gauge"] == "geometric_mean"
    assert types["MST"]["gauge"] == "reference"
    inter = result.published[INTER_PATH].filter(pl.col("tel_type") == "LST")
    assert inter["value"].log().mean() == pytest.approx(0.0, abs=1e-12)
    reference = result.telescopes.filter(pl.col("tel_id") == 3)
    assert reference.select("value", "error").rows() == [(1.0, 0.0)]


def test_a_reference_telescope_that_the_array_does_not_have_is_wrong_usage(tmp_path):
    types = ["LST", "LST", "MST", "MST", "MST"]
    for references, found in (("LST: 77", "77.*none of this array"), ("LST: 4", "4.*type MST")):
        setting = f"RelativeThroughputFitter.reference_telescopes={{{references}}}"
        with pytest.raises(WrongUsage, match=found):
            solved(types, tmp_path, setting)
    # A type that the array does not have, or a gauge that needs no reference.
    for setting in ("reference_telescopes={SST: 77, MST: 3}", "reference_telescopes={LST: 77}"):
        settings = [f"RelativeThroughputFitter.{setting}"]
        if "SST" not in setting:
            settings.append("RelativeThroughputFitter.gauge=geometric_mean")
        assert solved(types, tmp_path, *settings).telescopes["value"].is_finite().all()


def test_a_reference_telescope_without_data_costs_the_factor_of_its_type_only(tmp_path):
    references = "RelativeThroughputFitter.reference_telescopes={LST: 1, MST: 4}"
    seen = pl.col("tel_id_1") != 1
    result = solved(["LST", "LST", "LST", "MST", "MST"], tmp_path, references, keep=seen)
    types = {row["tel_type"]: row for row in result.extras["types"].iter_rows(named=True)}
    assert np.isnan(types["LST"]["scaling_factor"])
    assert types["LST"]["reason"] == "the reference telescope 1 has too little data"
    assert np.isfinite(types["LST"]["contrast"])
    assert result.telescopes.filter(pl.col("tel_id") > 1)["value"].is_finite().all()
    assert result.verdict.status == "degraded"
    assert (
        "LST has no inter-calibration and no scaling factor: the reference telescope 1 has too "
        "little data" in result.verdict.reasons
    )
    assert result.published[FACTORS_PATH].is_empty()
    assert set(result.published[INTER_PATH]["tel_type"]) == {"MST"}


def test_types_without_a_common_shower_get_no_factor_and_a_reason(tmp_path):
    types = ["LST", "LST", "MST", "MST", "MST"]
    result = solved(types, tmp_path, keep=~pl.col("tel_type").str.contains("-"))
    lst = result.telescopes.filter(pl.col("tel_type") == "LST")
    assert lst["value"].is_nan().all()
    assert set(lst["reason"]) == {"not connected to the reference type MST"}
    assert result.published[FACTORS_PATH].is_empty()
    # No type is compared with another, so that nothing is left to be used.
    assert result.published[INTER_PATH].is_empty()
    assert result.telescopes["value"].is_nan().all()
    assert result.verdict.status == "unusable"


def test_without_data_of_the_reference_type_the_result_is_unusable(tmp_path):
    types = ["LST", "LST", "LST", "LST", "MST"]
    result = solved(types, tmp_path, keep=pl.col("tel_type") == "LST")
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"obs_id": [1, 2]}, WrongUsage, r"observations \[1, 2\], the blocks are \[1\]"),
        ({"value": [1.0, -2.0]}, CannotCompute, "telescope 2"),
        ({"tel_id": [1, 1]}, CannotCompute, "telescope"),
        ({"tel_type": ["MST", "MST"]}, CannotCompute, r"telescopes \[1\] are of another type"),
        ({"tel_id": [7, 8]}, CannotCompute, "none of its telescopes"),
    ],
)
def test_an_inter_calibration_that_does_not_fit_is_refused(tmp_path, content, error, message):
    path = written(tmp_path, **content)
    with pytest.raises(error, match=message):
        read_inter(path, array(["LST", "MST"]), (1,), allow_other=False)


def test_an_inter_calibration_of_other_observations_can_be_accepted(tmp_path):
    path = written(tmp_path, obs_id=[1, 2])
    inter = read_inter(path, array(["LST", "MST", "MST"]), (1,), allow_other=True)
    np.testing.assert_array_equal(inter.value, [1.0, 1.1, np.nan])


def test_a_coefficient_without_an_error_is_none(tmp_path):
    path = written(tmp_path, error=[0.01, np.nan])
    inter = read_inter(path, array(["LST", "MST"]), (1,), allow_other=False)
    np.testing.assert_array_equal(inter.value, [1.0, np.nan])
    np.testing.assert_array_equal(inter.covariance, [[1e-4, np.nan], [np.nan, np.nan]])


def test_an_inter_calibration_of_sizes_is_refused_with_advice_that_can_be_followed(tmp_path):
    path = written(tmp_path)
    with h5py.File(path, "a") as file:
        file.create_group("/dl2/service/arraycal/image-inter")
    with pytest.raises(WrongUsage, match="belong to size, not to energy"):
        read_inter(path, array(["LST", "MST"]), (1,), allow_other=False)


def written(
    folder,
    *,
    obs_id=(1,),
    value=(1.0, 1.1),
    error=None,
    tel_id=(1, 2),
    tel_type=("LST", "MST"),
):
    columns = {
        "tel_type": Column(np.asarray(tel_type)),
        "tel_id": Column(np.asarray(tel_id)),
        "value": Column(np.asarray(value)),
        "error": Column(np.asarray([0.0, 0.01] if error is None else error)),
    }
    with create_file(folder / "inter.h5") as file:
        write_table(file, INTER_PATH, columns, {"obs_id": np.asarray(obs_id, np.uint64)})
    return folder / "inter.h5"


def test_a_simulation_reference_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('{"calibration": "energy-inter"}')
    setting = f"CalculateCrossCalibration.simulation_reference={path}"
    with pytest.raises(
        WrongUsage, match="expected the result.json of a joint energy-cross".replace(".", r"\.")
    ):
        solved(["LST", "LST", "MST", "MST", "MST"], tmp_path, setting)


def test_keys_of_the_other_method_are_refused():
    with pytest.raises(ConfigurationError, match="set method: three_step, or leave it out"):
        load_configuration(overrides=["CalculateCrossCalibration.inter_calibration=x.h5"])


def test_the_report_shows_factors_bins_and_lines(tmp_path):
    text = report.html(solved(["LST", "LST", "MST", "MST", "MST"], tmp_path))
    assert "Telescope types relative to MST" in text
    assert "Straight lines through the bins" in text
    assert "Log contrast of each type with the reference type in bins of energy" in text


def test_the_markdown_page_says_why_a_type_has_no_factor(tmp_path):
    references = "RelativeThroughputFitter.reference_telescopes={LST: 1, MST: 4}"
    seen = pl.col("tel_id_1") != 1
    result = solved(["LST", "LST", "LST", "MST", "MST"], tmp_path, references, keep=seen)
    lines = report.markdown(result).splitlines()
    row = next(line for line in lines if line.startswith("| LST |") and "telescope 1" in line)
    assert row.count("|") == 8
    contrast = result.extras["types"].filter(pl.col("tel_type") == "LST")["contrast"][0]
    assert f"{contrast:.4f}".replace("-", "") in row


@pytest.mark.parametrize("other", ["method=three_step", "simulation_reference=x.json"])
def test_a_slope_is_refused_beside_what_it_does_not_go_with(other):
    settings = ["CalculateCrossCalibration.energy_slope=true", f"CalculateCrossCalibration.{other}"]
    with pytest.raises(ConfigurationError, match="energy_slope"):
        load_configuration(overrides=settings)


def test_a_slope_needs_the_event_estimator(tmp_path):
    settings = [
        "CalculateCrossCalibration.energy_slope=true",
        "RelativeThroughputFitter.estimator=pair",
    ]
    with pytest.raises(WrongUsage, match="estimator: event"):
        solved(["LST", "LST", "MST", "MST", "MST"], tmp_path, *settings)


def test_a_type_without_showers_in_common_has_no_slope_and_others_keep_theirs(tmp_path):
    types = ["LST", "SST", "SST", "MST", "MST"]
    apart = ~pl.col("tel_type").is_in(["LST-MST", "LST-SST"])
    fitted = "CalculateCrossCalibration.energy_slope=true"
    result = solved(types, tmp_path, fitted, keep=apart)
    slopes = {row["tel_type"]: row for row in result.extras["energy_slopes"].iter_rows(named=True)}
    assert np.isnan(slopes["LST"]["slope"])
    assert np.isnan(slopes["LST"]["error"])
    assert slopes["SST"]["slope"] == pytest.approx(0.0, abs=4 * slopes["SST"]["error"])
    assert "energy_slopes" not in solved(types, tmp_path / "without", keep=apart).extras


def test_types_whose_values_do_not_scatter_have_no_factor(tmp_path):
    types = ["LST", "LST", "MST", "MST", "MST"]
    result = solved(types, tmp_path, constant=("LST", "MST"))
    for row in result.extras["types"].iter_rows(named=True):
        assert np.isnan(row["scaling_factor"])
        assert np.isnan(row["error"])
        assert row["reason"].endswith("has a coefficient: its values do not scatter at all")
    assert result.published[FACTORS_PATH].is_empty()
    assert set(result.telescopes["flag"]) == {"degenerate"}
    assert result.verdict.status == "unusable"


def test_of_three_steps_a_type_has_its_factor_only_if_both_types_have_coefficients():
    # The SST have a factor and no coefficient; no shower compares the third type.
    subarray = array(["LST", "MST", "MST", "SCT", "SST"])
    telescopes = pl.DataFrame(
        {"tel_type": subarray.types, "value": [1.0, 0.9, float("nan"), 1.1, float("nan")]}
    )
    found = [TypeFactor(name, 0.8, 0.01, 0.8, 0.01, 1.0, 0.0, 70, ()) for name in ("MST", "SST")]
    result: Any = SimpleNamespace(telescopes=telescopes)
    table = _types(result, found, subarray, "LST")
    assert table.schema == TYPES
    assert table["tel_type"].to_list() == ["LST", "MST", "SCT", "SST"]
    nan = float("nan")
    np.testing.assert_array_equal(table["scaling_factor"], [1.0, 0.8, nan, nan])
    np.testing.assert_array_equal(table["error"], [0.0, 0.01, nan, nan])
    assert table["n_telescopes"].to_list() == [1, 1, 1, 0]
    assert table["reason"].to_list() == [
        "",
        "",
        "no shower compares it with LST",
        "no telescope of SST has a coefficient",
    ]
