"""The cross-calibration of genuine ctapipe files: the peer's numbers, and sound ones."""

import json

import numpy as np
import polars as pl
import pytest

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.calib.observables import ENERGY_CROSS
from arraycal.calib.types.joint import FACTORS_PATH, INTER_PATH
from arraycal.config import load_configuration


def run(paths, configuration, cache):
    blocks = [pairs_of_block(path, ENERGY_CROSS, configuration, cache) for path in sorted(paths)]
    assert [(block.status, block.reason) for block in blocks] == [("ok", "")] * len(blocks)
    return calibrate(blocks, ENERGY_CROSS, configuration)


@pytest.fixture(scope="module")
def peer(real_data):
    """What the peer made of the La Palma blocks."""
    return json.loads((real_data / "peer_outputs" / "lapalma_gamma_energy.json").read_text())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def configured(real_data, names, overrides):
    paths = [real_data / "configs" / f"{name}.yaml" for name in names]
    return load_configuration(paths, overrides=overrides)


def test_the_peers_files_in_three_steps_give_the_peers_numbers(real_data, peer, cache):
    names = ("peer_energy_asymmetry", "peer_inter_calibration_energy", "peer_cross_calibration")
    overrides = [
        "RelativeThroughputFitter.estimator=pair",
        "CalculateCrossCalibration.method=three_step",
    ]
    configuration = configured(real_data, names, overrides)
    result = run(real_data.glob("lapalma_*.h5"), configuration, cache)
    theirs = pl.DataFrame(peer["cross_calibration_coefficients"]).sort("tel_id")
    ours = result.telescopes.sort("tel_id")
    assert ours["tel_id"].to_list() == theirs["tel_id"].to_list()
    assert ((ours["value"] - theirs["value"]).abs() / theirs["error"]).max() < 1e-2
    factor = result.published[FACTORS_PATH].row(0, named=True)
    its = peer["cross_calibration_scaling_factors"][0]
    assert (factor["tel_type"], factor["tel_ref"]) == ("LST", "MST")
    difference = factor["scaling_factor"] - its["scaling_factor"]
    assert abs(difference) < 1e-2 * its["scaling_factor_uncertainty"]


def test_from_the_peers_inter_calibration_numbers_and_errors_agree_to_the_last_digits(
    real_data, peer, cache, tmp_path
):
    inter = pl.DataFrame(peer["inter_calibration"])
    path = tmp_path / "inter.h5"
    with create_file(path) as file:
        columns = {name: Column(inter[name].to_numpy()) for name in ("tel_id", "value", "error")}
        text = {"tel_type": Column(np.asarray(inter["tel_type"].to_list(), np.str_))}
        obs_ids = {"obs_id": np.asarray(peer["obs_ids"], np.uint64)}
        write_table(file, INTER_PATH, text | columns, obs_ids)
    overrides = [
        "CalculateCrossCalibration.method=three_step",
        f"CalculateCrossCalibration.inter_calibration={path}",
    ]
    configuration = configured(real_data, ["peer_cross_calibration"], overrides)
    result = run(real_data.glob("lapalma_*.h5"), configuration, cache)
    ours = result.telescopes.sort("tel_id")
    theirs = pl.DataFrame(peer["cross_calibration_coefficients"]).sort("tel_id")
    for name in ("value", "error"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    factor = result.published[FACTORS_PATH].row(0, named=True)
    its = peer["cross_calibration_scaling_factors"][0]
    for name in ("scaling_factor", "scaling_factor_uncertainty"):
        assert factor[name] == pytest.approx(its[name], rel=1e-12)


@pytest.mark.parametrize("name", ["paranal_gamma_diffuse_ob99", "lapalma_gamma_ob9890"])
def test_the_joint_solution_runs_on_genuine_files(real_data, cache, name):
    overrides = [
        "RelativeThroughputFitter.min_events=5",
        "RelativeThroughputFitter.min_common_events=2",
        "ShowerSelection.threshold=null",
    ]
    configuration = load_configuration(preset="energy-cross", overrides=overrides)
    result = run([real_data / f"{name}.dl2.h5"], configuration, cache)
    types = result.extras["types"].filter(pl.col("tel_type") == "LST").row(0, named=True)
    assert types["n_telescopes"] > 0
    assert types["error"] > 0
