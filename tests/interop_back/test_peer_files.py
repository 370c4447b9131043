"""What ctao-calibpipe made of our blocks, read and calibrated by us.

Runs in our environment after ``tests/interop`` has run in the peer's, on the same folder.
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from arraycal.calib.apply.block import apply_to_block
from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import WrongUsage
from arraycal.calib.hdf5.file import has_table, open_file, require_table
from arraycal.calib.monitoring.read_coefficients import read_coefficients
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER
from arraycal.calib.pairs.exchange import is_asymmetry_file, read_asymmetries, telescopes_of
from arraycal.calib.types.joint import FACTORS_PATH
from arraycal.config import load_configuration

ENERGY_GROUP = "/dl2/event/telescope/energy/RandomForestRegressor"
KEYS = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]
#: The peer's minimiser stops up to a few thousandths of an error from the minimum.
STOPS_SHORT = 1e-2


@pytest.fixture(scope="module", params=["north", "mixed"])
def array(request):
    folder = os.environ.get("ARRAYCAL_INTEROP")
    if not folder:
        pytest.skip("ARRAYCAL_INTEROP does not name a folder where the peer has been")
    return Path(folder) / request.param


@pytest.fixture(scope="module")
def asymmetry_files(array):
    files = sorted((array / "peer" / "asymmetries").glob("*.h5"))
    assert len(files) == 2
    return files


@pytest.fixture(scope="module")
def peer_pairs(asymmetry_files):
    """PAIRS of each of the peer's files."""
    assert all(is_asymmetry_file(path, ENERGY_INTER) for path in asymmetry_files)
    return [read_asymmetries(path, ENERGY_INTER) for path in asymmetry_files]


def read_rows(path, table):
    with open_file(path) as file:
        found = require_table(file, table, path)
        rows = found.read()
        columns = {name: found.column(name, rows) for name in found.columns}
    return pl.DataFrame(columns).sort("tel_type", "tel_id")


def test_the_peers_rows_are_our_rows(array, peer_pairs):
    theirs = pl.concat(paired.pairs for paired in peer_pairs).sort(KEYS)
    ours = pl.read_csv(array / "pairs.csv").sort(KEYS)
    assert theirs.select(pl.col(KEYS).cast(pl.Int64)).equals(ours.select(KEYS))
    for column in ("value_1", "value_2", "asymmetry"):
        np.testing.assert_allclose(theirs[column], ours[column], rtol=0, atol=1e-12)
    assert sum(paired.rejected["rows"].sum() for paired in peer_pairs) == 0


def test_our_solver_on_the_peers_asymmetries_gives_the_peers_coefficients(
    array, asymmetry_files, peer_pairs, tmp_path
):
    configs = array.parent / "configs"
    configuration = load_configuration(
        [configs / "asymmetry.yaml", configs / "inter_calibration.yaml"],
        overrides=[
            "RelativeThroughputFitter.estimator=pair",
            "RelativeThroughputFitter.min_events=2",
            "RelativeThroughputFitter.min_common_events=2",
        ],
    )
    subarray = telescopes_of(pl.concat(paired.pairs for paired in peer_pairs))
    blocks = []
    for path, paired in zip(asymmetry_files, peer_pairs, strict=True):
        summary = {"n_events": 0, "n_pairs": len(paired.pairs), "rejected": []}
        entry = PairCache(tmp_path).store(path.stem, [paired.pairs], summary)
        obs_ids = tuple(paired.pairs["obs_id"].unique())
        blocks.append(BlockPairs(path, "ok", obs_ids=obs_ids, subarray=subarray, entry=entry))
    ours = calibrate(blocks, ENERGY_INTER, configuration).telescopes.sort("tel_type", "tel_id")
    path = array / "peer" / "inter_calibration.h5"
    theirs = read_rows(path, ENERGY_INTER.monitoring_path)
    assert ours["tel_id"].to_list() == theirs["tel_id"].to_list()
    difference = ((ours["value"] - theirs["value"]) / theirs["error"]).abs()
    print(f"largest difference of a coefficient: {difference.max():.1e} of its error")
    assert difference.max() < STOPS_SHORT


def test_our_tables_survive_the_peers_cross_calibration(array):
    (home,) = (array / "peer").glob("cross_calibration_peer_selection_*")
    path, own = home / "monitoring.h5", array / "peer_selection" / "monitoring.h5"
    with open_file(path) as file:
        assert has_table(file, "/dl2/monitoring/subarray/cross_calibration/coefficients", path)
    telescopes = "/dl2/service/arraycal/energy-inter/telescopes"
    assert read_rows(path, telescopes).equals(read_rows(own, telescopes), null_equal=True)


@pytest.mark.parametrize(
    ("name", "result", "config"),
    [
        ("mixed", "peer_selection", "cross_calibration"),
        ("mixed", "peer_selection", "guide_energy_cross_calibration"),
        ("north", "lacking", "cross_calibration"),
        ("north", "cross", "cross_calibration"),
    ],
)
def test_our_three_steps_give_the_peers_factors_and_coefficients(
    array, tmp_path, name, result, config
):
    # The peer wrote its tables into a copy of our result, which so holds both its input and output.
    if array.name != name:
        pytest.skip("the peer has cross-calibrated another array")
    path = array / "peer" / f"{config}_{result}_False" / "monitoring.h5"
    configuration = load_configuration(
        [array.parent / "configs" / f"{config}.yaml"],
        preset="energy-cross-peer",
        overrides=[f"CalculateCrossCalibration.inter_calibration={path}"],
    )
    paths = sorted((array / "blocks").glob("*.h5"))
    blocks = [pairs_of_block(path, ENERGY_CROSS, configuration, tmp_path) for path in paths]
    ours = calibrate(blocks, ENERGY_CROSS, configuration)
    theirs = read_rows(path, ENERGY_CROSS.monitoring_path).sort("tel_id")
    coefficients = ours.telescopes.filter(pl.col("value").is_finite()).sort("tel_id")
    assert coefficients["tel_id"].to_list() == theirs["tel_id"].to_list()
    with open_file(path) as file:
        table = require_table(file, FACTORS_PATH, path)
        rows = table.read()
        factors = dict(zip(table.column("tel_type", rows), rows, strict=True))
    for row in ours.published[FACTORS_PATH].iter_rows(named=True):
        its = factors[row["tel_type"]]
        for column in ("scaling_factor", "scaling_factor_uncertainty"):
            assert row[column] == pytest.approx(its[column], rel=1e-9)
    assert len(ours.published[FACTORS_PATH]) == len(factors)
    for column in ("value", "error"):
        np.testing.assert_allclose(coefficients[column], theirs[column], rtol=1e-9)


def test_the_peers_coefficients_are_applied_to_our_blocks(array, tmp_path):
    path = array / "peer" / "inter_calibration.h5"
    with pytest.raises(WrongUsage, match="--quantity energy"):
        read_coefficients(path)
    coefficients = read_coefficients(path, quantity="energy")
    theirs = read_rows(path, ENERGY_INTER.monitoring_path).sort("tel_id")
    assert coefficients.telescopes["value"].to_list() == theirs["value"].to_list()
    block = min((array / "blocks").glob("*.h5"))
    assert coefficients.obs_ids == (1001, 1002)
    outcome = apply_to_block(block, coefficients, tmp_path / "out.h5", {}, tmp_path / "cache")
    assert outcome.status == "ok"
    first = theirs["tel_id"][0]
    with open_file(tmp_path / "out.h5") as file:
        table = require_table(file, f"{ENERGY_GROUP}/tel_{first:03d}", tmp_path / "out.h5")
        rows = table.read()
    energy = "RandomForestRegressor_tel_energy"
    expected = rows[energy] / theirs["value"][0]
    np.testing.assert_allclose(rows[f"{energy}_corrected"], expected, rtol=1e-14)
