"""Sizes against energies: contrasts in one gauge, errors of both, files that are no result."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from arraycal.calib.checks.comparison import COMPARISON, Other, read_other, with_comparison
from arraycal.calib.errors import WrongUsage
from arraycal.calib.report import html
from tests.unit_calib.report.test_report import make_result, without_values


def saved(result, folder):
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result.to_json()))
    return folder


def other_of(values, variance=1e-4, tel_type="MST", obs_ids=(1,)):
    tel_ids = tuple(range(1, len(values) + 1))
    c = np.array(values)
    named = {(tel_type, i): value for i, value in zip(tel_ids, values, strict=True)}
    covariance = variance * np.diag(c**2)
    return Other(Path("r.json"), "energy-inter", obs_ids, named, tel_ids, covariance)


def sizes(values, variance=3e-4):
    result = make_result({"MST": len(values)})
    c = np.array(values)
    table = result.telescopes.with_columns(value=pl.Series(c))
    return replace(
        result,
        calibration="image-inter",
        telescopes=table,
        covariance=variance * np.diag(c**2),
    )


def test_contrasts_do_not_depend_on_the_gauges():
    result = with_comparison(sizes([1.1, 1.0, 0.9, 1.0]), other_of([2.2, 2.0, 1.8, 2.0]))
    table = result.extras["comparison"]
    assert table.schema == COMPARISON
    np.testing.assert_allclose(table["contrast"], 0.0, atol=1e-12)
    # Variances add up, and the mean of four takes a quarter: (3e-4 + 1e-4) * 3 / 4.
    np.testing.assert_allclose(table["error"], np.sqrt(3e-4))
    assert result.verdict.status == "usable"
    assert result.fit["compared_observations"] == "the same"


def test_a_telescope_whose_energies_are_off_is_flagged_and_named():
    values = [1.0] * 8
    result = with_comparison(sizes(values), other_of([*values[:7], 1.3]))
    table = result.extras["comparison"]
    shift = np.log(1.3)
    np.testing.assert_allclose(table["contrast"], [*[shift / 8] * 7, -shift * 7 / 8])
    assert table["flag"].to_list() == [*["ok"] * 7, "contrast"]
    assert result.verdict.status == "degraded"
    assert "MST 8: sizes and energies (energy-inter) disagree by -20.5%" in str(result.verdict)
    page = html(result)
    assert 'alt="contrast with energies"' in page
    assert "Sizes against energies" in page


def test_shared_errors_of_a_common_scale_drop_out():
    result, other = sizes([1.0] * 4), other_of([1.0] * 4)
    common = replace(other, covariance=other.covariance + 0.04)
    plain, shared = (with_comparison(result, o).extras["comparison"] for o in (other, common))
    np.testing.assert_allclose(plain["error"], shared["error"])


def test_telescopes_that_one_of_the_two_lacks_say_so():
    here = without_values(sizes([1.0] * 4), known=(1, 2, 3))
    there = other_of([1.0] * 4)
    del there.values["MST", 1]
    table = with_comparison(here, there).extras["comparison"]
    assert table["flag"].to_list() == ["missing", "ok", "ok", "missing"]
    assert table["reason"].to_list() == [
        "no coefficient in energy-inter", "", "", "no coefficient of sizes",
    ]  # fmt: skip
    assert np.isnan(table["contrast"].to_numpy()[[0, 3]]).all()


def test_one_telescope_in_common_compares_with_nothing():
    there = other_of([1.0])
    table = with_comparison(sizes([1.0, 1.0]), there).extras["comparison"]
    assert table["contrast"].is_nan().all()
    assert table["reason"][0] == "no other telescope of the type has both"


def test_other_observations_are_stated():
    result = with_comparison(sizes([1.0, 1.0]), other_of([1.0, 1.0], obs_ids=(1, 2)))
    assert result.fit["compared_observations"] == "other ones: 1 here, 1 2 there, 1 in common"
    assert result.verdict.status == "usable"


def test_a_result_is_read_from_its_file_or_folder(tmp_path):
    energies = without_values(make_result({"LST": 2, "MST": 3}), known=(1, 3, 4))
    folder = saved(energies, tmp_path / "energy")
    for path in (folder, folder / "result.json"):
        other = read_other(path)
        assert other.calibration == "energy-inter"
        assert set(other.values) == {("LST", 1), ("MST", 3), ("MST", 4)}
        np.testing.assert_array_equal(other.covariance, energies.covariance)


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        '{"calibration": "energy-inter", "obs_ids": [1], "telescopes": 3, "covariance": {}}',
        json.dumps(
            {
                "calibration": "energy-inter",
                "obs_ids": [1],
                "telescopes": [{"tel_type": "MST", "tel_id": 1, "value": 1.0}],
                "covariance": {"tel_ids": [], "matrix": []},
            }
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(WrongUsage, match="something else or a damaged file"):
        read_other(path)


def test_results_of_other_calibrations_and_missing_ones_are_refused(tmp_path):
    folder = saved(replace(make_result({"MST": 2}), calibration="image-inter"), tmp_path / "image")
    with pytest.raises(WrongUsage, match="found one of image-inter"):
        read_other(folder)
    with pytest.raises(WrongUsage, match="No such file"):
        read_other(tmp_path / "nowhere.json")
