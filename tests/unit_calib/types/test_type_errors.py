"""Factors of types under norms, and the errors that telescopes of a type share, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_CROSS
from arraycal.calib.types.bins import CONTRAST_BINS, ENERGY
from arraycal.calib.types.joint import INTER_PATH, TYPES
from arraycal.calib.types.reference import NOT_SIMULATED, reference_corrected
from arraycal.calib.types.three_step import Inter, TypeFactor, three_step
from arraycal.calib.types.three_step_result import _scaled, _types
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from arraycal.calib.result.result import CalibrationResult

KINDS = ("LST", "LST", "MST", "MST", "MST")


def array(types: tuple[str, ...] = KINDS) -> Any:
    return replace(toy_subarray(len(types)), types=types)


def solved(cache: Path, *overrides: str) -> CalibrationResult:
    toy = Toy([0.1, -0.1, 0.05, -0.05, 0.0], [0.2] * 5, 600, 3)
    pairs = toy_pairs(toy, 5)
    kinds = dict(enumerate(KINDS, 1))
    labels = [
        "-".join(sorted({kinds[i], kinds[j]}))
        for i, j in pairs.select("tel_id_1", "tel_id_2").iter_rows()
    ]
    pairs = pairs.with_columns(pl.Series("tel_type", labels))
    summary = {"n_events": 0, "n_pairs": len(pairs), "rejected": []}
    entry = PairCache(cache).store("toy", [pairs], summary)
    block = BlockPairs(Path("toy.h5"), "ok", obs_ids=(1,), subarray=array(), entry=entry)
    settings = ["ShowerSelection.threshold=null", *overrides]
    configuration = load_configuration(preset="energy-cross", overrides=settings)
    return calibrate([block], ENERGY_CROSS, configuration)


def test_norms_of_types_divide_into_their_factors(tmp_path: Path) -> None:
    norms = "RelativeThroughputFitter.throughput_normalisation={LST: 0.8, MST: 0.9}"
    plain, normed = solved(tmp_path / "plain"), solved(tmp_path / "normed", norms)
    before, after = (
        {row["tel_type"]: row for row in result.extras["types"].iter_rows(named=True)}
        for result in (plain, normed)
    )
    # Of each type alone the mean is its norm; with the common one, that of the reference type.
    # An LST of mean throughput is 0.8 in its own gauge and exp(contrast) 0.9 in the common one.
    reference = before["LST"]["tel_ref"]
    assert reference == "MST"
    contrast = before["LST"]["contrast"]
    assert before["LST"]["scaling_factor"] == pytest.approx(math.exp(contrast), rel=1e-9)
    factor = after["LST"]["scaling_factor"]
    assert factor == pytest.approx(math.exp(contrast) * 0.9 / 0.8, rel=1e-9)
    relative = [row["LST"]["error"] / row["LST"]["scaling_factor"] for row in (before, after)]
    assert relative[0] == pytest.approx(relative[1], rel=1e-9)
    assert after["MST"]["scaling_factor"] == 1.0
    # The product of both is what every telescope has.
    inter = normed.published[INTER_PATH]
    for kind, norm in (("LST", 0.8), ("MST", 0.9)):
        own = inter.filter(pl.col("tel_type") == kind)
        assert math.exp(own["value"].log().mean()) == pytest.approx(norm)  # type: ignore[arg-type]
        joined = own.join(normed.telescopes, on="tel_id")
        scale = after[kind]["scaling_factor"]
        np.testing.assert_allclose(joined["value"] * scale, joined["value_right"], rtol=1e-9)
    ratio = normed.telescopes["value"] / plain.telescopes["value"]
    np.testing.assert_allclose(ratio, 0.9, rtol=1e-9)


@dataclass(frozen=True)
class _Result:
    """What the correction reads of a result."""

    telescopes: pl.DataFrame
    covariance: np.ndarray
    tel_ids: tuple[int, ...] = (1, 2, 3)


def bins_of(tel_type: str, low: float, contrast: float, error: float) -> dict[str, Any]:
    return dict.fromkeys(CONTRAST_BINS, 0.0) | {
        "covariate": ENERGY.name, "unit": "TeV", "tel_type": tel_type, "tel_ref": "MST",
        "low": low, "high": 2 * low, "n_showers": 10, "contrast": contrast, "error": error,
    }  # fmt: skip


def test_an_expected_contrast_has_the_weights_of_the_data_and_the_errors_of_the_simulation() -> (
    None
):
    data = pl.DataFrame(
        [bins_of("LST", 1.0, 0.3, 0.01), bins_of("LST", 2.0, 0.4, 0.02), bins_of("LST", 4.0, 9, 1)],
        schema=CONTRAST_BINS,
    )
    simulated = pl.DataFrame(
        [bins_of("LST", 1.0, 0.1, 0.05), bins_of("LST", 2.0, 0.2, 0.03)], schema=CONTRAST_BINS
    )
    row = dict.fromkeys(TYPES, 0.0) | {"tel_ref": "MST", "gauge": "", "reason": ""}
    row |= {"n_telescopes": 2, "n_pairs": 9, "systematic": 0.01}
    types = pl.DataFrame(
        [
            row | {"tel_type": "LST", "scaling_factor": 1.5, "error": 0.03, "contrast": 0.4},
            row | {"tel_type": "MST", "scaling_factor": 1.0},
            row | {"tel_type": "SST", "scaling_factor": 1.2, "error": 0.02},
        ],
        schema=TYPES,
    )
    telescopes = pl.DataFrame(
        {
            "tel_type": ["LST", "LST", "MST"],
            "tel_id": [1, 2, 3],
            "value": [1.5, 1.8, 1.0],
            "error": [0.03, 0.04, 0.0],
            "systematic": [0.01, 0.02, 0.0],
        }
    )
    result = _Result(telescopes=telescopes, covariance=np.diag([9e-4, 16e-4, 0.0]))
    found, shifted, matched = reference_corrected(
        cast("CalibrationResult", result), types, data, simulated
    )
    # Weights 1/0.01^2 : 1/0.02^2 = 4 : 1, shares 0.8 and 0.2; the third bin was not simulated.
    shift = 0.8 * 0.1 + 0.2 * 0.2
    error = math.hypot(0.8 * 0.05, 0.2 * 0.03)
    assert matched["low"].to_list() == [1.0, 2.0]
    assert matched["expected_error"].to_list() == [0.05, 0.03]
    lst, mst, sst = shifted.iter_rows(named=True)
    assert lst["expected"] == pytest.approx(shift)
    assert lst["expected_error"] == pytest.approx(error)
    scale = math.exp(-shift)
    assert lst["scaling_factor"] == pytest.approx(1.5 * scale)
    assert lst["error"] == pytest.approx(scale * math.hypot(0.03, 1.5 * error))
    assert lst["systematic"] == pytest.approx(0.01 * scale)
    assert lst["contrast"] == pytest.approx(0.4 - shift)
    assert lst["contrast_error"] == pytest.approx(error)
    assert (mst["scaling_factor"], mst["error"], mst["reason"]) == (1.0, 0.0, "")
    assert (sst["scaling_factor"], sst["reason"]) == (1.2, NOT_SIMULATED)
    # Both LST have the error of the shift in common.
    values = np.array([1.5, 1.8]) * scale
    np.testing.assert_allclose(found.telescopes["value"][:2], values)
    own = np.diag([9e-4, 16e-4]) * scale**2 + np.outer(values, values) * error**2
    np.testing.assert_allclose(found.covariance[:2, :2], own)
    np.testing.assert_allclose(found.telescopes["error"][:2], np.sqrt(np.diag(own)))
    np.testing.assert_array_equal(found.covariance[2], 0.0)


def test_telescopes_of_a_type_share_the_error_of_its_factor() -> None:
    c = np.array([1.1, 0.9, 1.0, 1.2, 0.8])
    inter = Inter(c, np.full(5, 0.01), np.diag(np.full(5, 1e-4)))
    factor = TypeFactor("LST", 2.0, 0.1, 2.0, 0.1, 1.0, 0.0, 100, ())
    scaled = _scaled(inter, [factor], array(), "MST")
    np.testing.assert_allclose(scaled.fixed.value, [2.2, 1.8, 1.0, 1.2, 0.8])
    # Of ln c f: (0.01 / c)^2 each, and (0.1 / 2)^2 for both LST together; MST are the scale.
    expected = np.diag(1e-4 / c**2)
    expected[:2, :2] += 0.05**2
    np.testing.assert_allclose(scaled.fixed.covariance, expected, atol=1e-18)


@dataclass(frozen=True)
class _Ratios:
    """Moments of ln(E_1 / E_2) by pair."""

    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray


@pytest.mark.parametrize("taking_part", [False, True])
def test_a_factor_of_three_steps_has_the_error_of_the_mean_ratio(taking_part: bool) -> None:
    # One LST and two MST with 40 and 60 showers in common with it.
    n, mean, m2 = (np.zeros((3, 3)) for _ in range(3))
    n[0, 1:], mean[0, 1:], m2[0, 1:] = (40.0, 60.0), (0.3, 0.5), (1.0, 2.0)
    c, error = np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.06, 0.02])
    if taking_part:
        c[1:] = 1.2, 0.9
        mean[0, 1:] -= np.log(c[1:])  # the ratios of corrected energies stay
    inter = Inter(c, error, np.diag(error**2))
    selected = {"LST": np.array([0.0, 1.0, 3.0])} if taking_part else None
    (found,) = three_step(
        cast("Any", _Ratios(n, mean, m2)),
        inter,
        ("LST", "MST", "MST"),
        "MST",
        selected,
        np.array([[0, 1], [0, 2]]),
    )
    # Mean 0.42; squares 1 + 2 + 40 x 0.12^2 + 60 x 0.08^2 = 3.96 of 100 ratios.
    ratio = math.exp(0.42)
    assert found.n_ratios == 100
    assert found.ratio == pytest.approx(ratio)
    assert found.ratio_error == pytest.approx(ratio * math.sqrt(0.0396 / 100))
    # One and three quarters: 0.3 + 0.675; errors 0.015 and 0.015.
    w, w_error = (0.975, math.hypot(0.015, 0.015)) if taking_part else (1.0, 0.0)
    assert (found.participation, found.participation_error) == pytest.approx((w, w_error))
    assert found.value == pytest.approx(ratio * w)
    assert found.error == pytest.approx(math.hypot(found.ratio_error * w, ratio * w_error))


def test_what_a_type_lacks_for_a_factor_is_said_and_the_first_lack_first() -> None:
    telescopes = pl.DataFrame(
        {"tel_type": ["LST", "MST", "SST", "SCT"], "value": [1.1, 1.0, np.nan, np.nan]}
    )
    subarray = array(("LST", "MST", "SST", "SCT"))
    made = [TypeFactor(kind, 2.0, 0.1, 2.0, 0.1, 1.0, 0.0, 100, ()) for kind in ("LST", "SCT")]
    found = _types(cast("Any", _Result(telescopes, np.eye(4))), made, subarray, "MST")
    by_type = {row["tel_type"]: row for row in found.iter_rows(named=True)}
    assert by_type["LST"]["reason"] == by_type["MST"]["reason"] == ""
    assert (by_type["LST"]["scaling_factor"], by_type["LST"]["error"]) == (2.0, 0.1)
    # Neither shower nor coefficient.
    assert by_type["SST"]["reason"] == "no shower compares it with MST"
    assert by_type["SCT"]["reason"] == "no telescope of SCT has a coefficient"
    for kind in ("SST", "SCT"):
        assert math.isnan(by_type[kind]["scaling_factor"])
        assert math.isnan(by_type[kind]["error"])
