"""Cross-calibration on toys: no bias across types, honest errors, biases of a type are seen."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_CROSS
from arraycal.calib.report import markdown
from arraycal.calib.schema import PAIRS
from arraycal.calib.simulation import SimulationSettings, block_path, simulate_night
from arraycal.calib.types.joint import FACTORS_PATH, INTER_PATH
from arraycal.config import load_configuration

#: 2 LST, 5 MST of which the first, the reference, is 20 % below the others.
LOG_C = np.array([0.05, -0.03, np.log(0.8), 0.02, -0.02, 0.04, -0.01])
SIGMA = [0.12, 0.12, 0.2, 0.2, 0.2, 0.2, 0.2]
TYPES = ("LST",) * 2 + ("MST",) * 5
#: They know a pull width to 0.05.
N_TOYS = 200


def array():
    return replace(toy_subarray(7), types=TYPES)


def drawn(seed, *, n_showers=1500, slope=0.0):
    """Draw PAIRS; ln E of the LST rises by `slope` a unit of ln E more than that of the MST."""
    toy = Toy(log_throughput=LOG_C.tolist(), sigma=SIGMA, n_showers=n_showers, multiplicity=4)
    pairs = toy_pairs(toy, seed)
    kinds = dict(enumerate(TYPES, 1))
    mixed = [
        "-".join(sorted({kinds[i], kinds[j]}))
        for i, j in pairs.select("tel_id_1", "tel_id_2").iter_rows()
    ]
    biased = [
        pl.when(pl.col(f"tel_id_{side}") < 3)
        .then(pl.col(f"value_{side}") ** (1 + slope))
        .otherwise(pl.col(f"value_{side}"))
        .alias(f"value_{side}")
        for side in (1, 2)
    ]
    pairs = pairs.with_columns(pl.Series("tel_type", mixed), *biased)
    return pairs.with_columns(*ENERGY_CROSS.statistic).select(pairs.columns)


def solved(pairs, cache, name, overrides=()):
    ends = pl.concat(
        [pairs.select("event_id", tel_id=f"tel_id_{side}") for side in (1, 2)]
    ).unique()
    counted = ends.group_by("tel_id").len().filter(pl.col("tel_id") > 2)
    participation = counted.select(pl.lit("LST").alias("tel_type"), "tel_id", "len")
    summary = {
        "n_events": 0,
        "n_pairs": len(pairs),
        "rejected": [],
        "participation": participation.rows(),
        "shower_columns": [name for name in pairs.columns if name not in PAIRS],
    }
    entry = PairCache(cache).store(name, [pairs], summary)
    block = BlockPairs(Path("toy.h5"), "ok", obs_ids=(1,), subarray=array(), entry=entry)
    settings = [
        "ShowerSelection.threshold=null",
        "RelativeThroughputFitter.reference_telescopes={LST: 1, MST: 3}",
        "ShowerSelection.resolution=telescope",
        *overrides,
    ]
    configuration = load_configuration(preset="energy-cross", overrides=settings)
    same = pairs.filter(~pl.col("tel_type").str.contains("-"))
    companion = replace(
        block, entry=PairCache(cache).store(f"{name}-inter", [same], summary | {"n_pairs": 1})
    )
    return calibrate([replace(block, companion=companion)], ENERGY_CROSS, configuration)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return [solved(drawn(seed), cache, f"toy{seed}") for seed in range(N_TOYS)]


def test_a_reference_telescope_20_percent_low_does_not_bias_the_types(toys):
    factor = np.array([r.published[FACTORS_PATH]["scaling_factor"][0] for r in toys])
    error = np.array([r.published[FACTORS_PATH]["scaling_factor_uncertainty"][0] for r in toys])
    truth = np.exp(LOG_C[0] - LOG_C[2])
    residual = np.log(factor / truth)
    assert abs(residual.mean()) < 0.002
    pull = residual / (error / factor)
    assert 0.9 < pull.std(ddof=1) < 1.1
    contrast = np.array([r.extras["types"]["contrast"][0] for r in toys])
    size = np.array([r.extras["types"]["contrast_error"][0] for r in toys])
    difference = contrast - (LOG_C[:2].mean() - LOG_C[2:].mean())
    assert abs(difference.mean()) < 0.002
    assert 0.9 < (difference / size).std(ddof=1) < 1.1


def test_every_coefficient_is_its_factor_times_its_inter_calibration(toys):
    result = toys[0]
    inter = result.published[INTER_PATH]
    factors = {"MST": 1.0, "LST": result.published[FACTORS_PATH]["scaling_factor"][0]}
    assert inter.filter(pl.col("tel_id").is_in([1, 3]))["value"].to_list() == [1.0, 1.0]
    product = [value * factors[t] for t, value in inter.select("tel_type", "value").iter_rows()]
    np.testing.assert_allclose(product, result.telescopes["value"], rtol=1e-12)
    known = dict(zip(result.tel_ids, np.diag(result.covariance), strict=True))
    errors = result.telescopes["error"].to_numpy()
    np.testing.assert_allclose([known[i] for i in inter["tel_id"]], errors**2, atol=1e-15)


def test_an_energy_bias_of_one_type_is_seen_flagged_and_removed_by_a_simulation(tmp_path):
    plain = solved(drawn(1, n_showers=8000), tmp_path, "plain")
    biased = solved(drawn(1, n_showers=8000, slope=0.05), tmp_path, "biased")
    lines = [
        r.extras["contrast_trends"].filter(pl.col("covariate") == "energy") for r in (plain, biased)
    ]
    assert lines[0]["flag"].to_list() == ["ok"]
    assert lines[1]["flag"].to_list() == ["trend"]
    assert lines[1]["slope"][0] == pytest.approx(0.05, abs=4 * lines[1]["slope_error"][0])
    assert biased.verdict.status == "degraded"
    assert "over the energies" in str(biased.verdict)
    other = solved(drawn(2, n_showers=8000, slope=0.05), tmp_path, "other")
    path = tmp_path / "result.json"
    path.write_text(json.dumps(other.to_json()))
    overrides = [f"CalculateCrossCalibration.simulation_reference={path}"]
    removed = solved(drawn(1, n_showers=8000, slope=0.05), tmp_path, "removed", overrides)
    line = removed.extras["contrast_trends"].filter(pl.col("covariate") == "energy")
    assert line["flag"].to_list() == ["ok"]
    types = removed.extras["types"].row(0, named=True)
    # The simulation has the same throughputs here, so nothing is left.
    assert types["contrast"] == pytest.approx(0.0, abs=4 * types["contrast_error"])


def test_a_simulation_that_says_nothing_of_a_type_degrades_the_verdict(tmp_path):
    content = solved(drawn(1), tmp_path, "other").to_json()
    for row in content["extras"]["contrast_bins"]:
        row["low"], row["high"] = row["low"] * 1e6, row["high"] * 1e6  # no energy in common
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    overrides = [f"CalculateCrossCalibration.simulation_reference={path}"]
    found = solved(drawn(1), tmp_path, "data", overrides)
    assert found.verdict.status == "degraded"
    assert "the factor of LST is not corrected" in str(found.verdict)


def off_axis(pairs, per_degree):
    """Showers up to 2 deg beside a pointing; ln E of the LST changes by so much a degree."""
    offset = 0.25 + 0.5 * (pl.col("event_id") % 4)
    biased = [
        pl.when(pl.col(f"tel_id_{side}") < 3)
        .then(pl.col(f"value_{side}") * (per_degree * offset).exp())
        .otherwise(pl.col(f"value_{side}"))
        .alias(f"value_{side}")
        for side in (1, 2)
    ]
    return (
        pairs.with_columns(*biased)
        .with_columns(*ENERGY_CROSS.statistic)
        .select(pairs.columns)
        # Across the zenith, where altitude and azimuth alone say little.
        .with_columns(
            altitude_deg=89.0 + offset * 0.5 + 0.5,
            azimuth_deg=pl.lit(10.0),
            pointing_altitude_rad=(89.5 + offset * 0.5).radians() - offset.radians(),
            pointing_azimuth_rad=pl.lit(370.0).radians(),
        )
    )


def test_a_bias_off_axis_is_seen_and_flagged(tmp_path):
    lines, bins = {}, {}
    for name, per_degree in (("plain", 0.0), ("biased", -0.05)):
        result = solved(off_axis(drawn(3, n_showers=8000), per_degree), tmp_path, name)
        trends, shown = result.extras["contrast_trends"], result.extras["contrast_bins"]
        lines[name] = trends.filter(pl.col("covariate") == "offset").row(0, named=True)
        bins[name] = shown.filter(pl.col("covariate") == "offset")
    assert bins["biased"]["mean"].to_list() == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=1e-6)
    assert lines["plain"]["flag"] == "ok"
    assert lines["biased"]["flag"] == "trend"
    assert lines["biased"]["slope"] == pytest.approx(-0.05, abs=4 * lines["biased"]["slope_error"])


@pytest.mark.parametrize("tables", [("observation", "configuration"), ()])
def test_offsets_of_a_file_are_from_its_pointing_or_left_out_with_the_reason(tmp_path, tables):
    settings = SimulationSettings(
        array="north", n_blocks=1, n_showers=1500, seed=4, pointing_tables=tables
    )
    simulate_night(tmp_path, settings)
    configuration = load_configuration(preset="energy-cross")
    block = pairs_of_block(
        block_path(tmp_path, 1001), ENERGY_CROSS, configuration, tmp_path / "cache"
    )
    shown = calibrate([block], ENERGY_CROSS, configuration).extras["contrast_bins"]
    offsets = shown.filter(pl.col("covariate") == "offset")
    notes = dict(block.notes)
    if tables:
        # Gamma rays 0.5 deg about the pointing per coordinate, protons 1.5 deg.
        assert 0.3 < np.average(offsets["mean"], weights=offsets["n_showers"]) < 1.5
        assert notes["pointing"].startswith("taken from /configuration")
    else:
        assert offsets.is_empty()
        assert "no offset" in notes["pointing"]


def test_the_participation_factor_shifts_three_steps_by_the_mean_coefficient(tmp_path):
    truth = np.exp(LOG_C[0] - LOG_C[2])
    shifts = []
    for used in ("true", "false"):
        overrides = [
            "CalculateCrossCalibration.method=three_step",
            f"CalculateCrossCalibration.participation_factor={used}",
        ]
        result = solved(drawn(3, n_showers=6000), tmp_path, f"three-{used}", overrides)
        shifts.append(result.published[FACTORS_PATH]["scaling_factor"][0] / truth)
    weight = result.extras["steps"]["participation_factor"][0]
    assert weight == 1.0
    assert shifts[1] == pytest.approx(1.0, abs=0.02)
    # Four telescopes 25 % above the reference and the reference itself.
    assert shifts[0] == pytest.approx(1 + 0.8 * 0.25, abs=0.03)


@pytest.fixture(scope="module")
def sloped(tmp_path_factory):
    """Toys with a slope, fitted along; the LST are biased by ``E ** 0.05``, so the pivot is 1."""
    cache = tmp_path_factory.mktemp("sloped")
    fitted = ["CalculateCrossCalibration.energy_slope=true"]
    return [solved(drawn(seed, slope=SLOPE), cache, f"{seed}", fitted) for seed in range(N_TOYS)]


#: ln E of the LST is multiplied by one plus this, and with it its throughput and its noise.
SLOPE = 0.05


def test_an_injected_slope_comes_back_and_leaves_the_contrast_at_the_pivot_alone(sloped):
    table = pl.concat([result.extras["energy_slopes"] for result in sloped])
    assert set(table["tel_type"]) == {"LST"}
    assert set(table["pivot"]) == {1.0}
    pull = ((table["slope"] - SLOPE) / table["error"]).to_numpy()
    assert abs((table["slope"] - SLOPE).mean()) < 0.002
    assert 0.9 < pull.std(ddof=1) < 1.1
    types = pl.concat([result.extras["types"][:1] for result in sloped])
    residual = types["contrast"] - ((1 + SLOPE) * LOG_C[:2].mean() - LOG_C[2:].mean())
    assert abs(residual.mean()) < 0.002
    assert 0.9 < (residual / types["contrast_error"]).std() < 1.1


def test_a_fitted_slope_takes_the_trend_out_of_the_bins(tmp_path):
    fitted = ["CalculateCrossCalibration.energy_slope=true"]
    result = solved(drawn(1, n_showers=8000, slope=SLOPE), tmp_path, "fitted", fitted)
    line = result.extras["contrast_trends"].filter(pl.col("covariate") == "energy")
    assert line["flag"].to_list() == ["ok"]
    assert result.verdict.status == "usable"
    assert "slope against ln(energy)" in markdown(result)
