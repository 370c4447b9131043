"""Genuine ctapipe files: the peer's numbers where it has some, sound ones where it crashes."""

import json

import numpy as np
import polars as pl
import pytest

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.hdf5.file import open_file, require_table
from arraycal.calib.observables import ENERGY_INTER, IMAGE_INTER
from arraycal.config import load_configuration

GEOMETRY = "/dl2/event/subarray/geometry/HillasReconstructor"
KEYS = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]
#: The peer's minimiser stops up to a few thousandths of an error from the minimum.
STOPS_SHORT = 1e-2


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def calibrated(paths, configuration, cache, observable=ENERGY_INTER):
    blocks = [pairs_of_block(path, observable, configuration, cache) for path in sorted(paths)]
    assert [(block.status, block.reason) for block in blocks] == [("ok", "")] * len(blocks)
    return blocks, calibrate(blocks, observable, configuration)


@pytest.fixture(scope="module")
def peer(real_data):
    """What the peer made of the La Palma blocks."""
    outputs = real_data / "peer_outputs"
    return {
        "rows": pl.read_csv(outputs / "lapalma_gamma_energy_event_asymmetries.csv"),
        "pairs": pl.read_csv(outputs / "lapalma_gamma_energy_pair_summary.csv"),
        "coefficients": pl.DataFrame(
            json.loads((outputs / "lapalma_gamma_energy.json").read_text())["inter_calibration"]
        ),
    }


@pytest.fixture(scope="module")
def lapalma(real_data, cache):
    """The La Palma blocks with the peer's own configuration files and its estimator."""
    names = ("peer_energy_asymmetry", "peer_inter_calibration_energy")
    configuration = load_configuration(
        [real_data / "configs" / f"{name}.yaml" for name in names],
        overrides=["RelativeThroughputFitter.estimator=pair"],
    )
    return calibrated(real_data.glob("lapalma_*.h5"), configuration, cache)


def test_the_event_rows_are_the_peers(lapalma, peer):
    blocks, _ = lapalma
    ours = pl.concat(block.entry.scan() for block in blocks).collect().sort(KEYS)
    theirs = peer["rows"].sort(KEYS)
    assert len(theirs) == 1897
    assert ours.select(pl.col(KEYS).cast(pl.Int64)).equals(theirs.select(KEYS))
    difference = ours["asymmetry"] - theirs["energy_asymmetry"]
    assert difference.abs().max() < 1e-12


def test_a_criterion_on_the_multiplicity_keeps_showers_of_that_many_telescopes(real_data, cache):
    criterion = "[[many, 'np.count_nonzero(HillasReconstructor_telescopes, axis=1) >= 4']]"
    configuration = load_configuration(overrides=[f"QualityQuery.quality_criteria={criterion}"])
    path = real_data / "lapalma_gamma_ob9890.dl2.h5"
    block = pairs_of_block(path, ENERGY_INTER, configuration, cache)
    with open_file(path) as file:
        table = require_table(file, GEOMETRY, path)
        rows = table.read()
    used = rows["HillasReconstructor_telescopes"].astype(bool).sum(axis=1)
    many = set(rows["event_id"][used >= 4].tolist())
    assert block.entry is not None
    found = set(block.entry.scan().select("event_id").collect()["event_id"])
    assert 50 < len(found) < len(used)
    assert found <= many
    rejected = dict(block.rejected.select("rule", "rows").iter_rows())
    # of 2125 telescope events, 1429 have an energy; the value is judged first
    assert 0 < rejected["many"] < 1429


def test_the_pair_means_are_the_peers(lapalma, peer):
    keys = ["tel_id_1", "tel_id_2"]
    ours = lapalma[1].pairs.sort(keys)
    theirs = peer["pairs"].sort(keys)
    assert ours.select(keys).equals(theirs.select(keys))
    assert ours["n_events"].to_list() == theirs["n_events"].to_list()
    for mine, its in (
        ("mean_asymmetry", "mean_asymmetry"),
        ("mean_asymmetry_error", "mean_asymmetry_err"),
        ("std_asymmetry", "std_asymmetry"),
    ):
        np.testing.assert_allclose(ours[mine], theirs[its], rtol=0, atol=1e-12)


def test_the_coefficients_are_the_peers(lapalma, peer):
    ours = lapalma[1].telescopes.sort("tel_id")
    theirs = peer["coefficients"].sort("tel_id")
    assert ours["tel_id"].to_list() == theirs["tel_id"].to_list()
    assert ((ours["value"] - theirs["value"]) / theirs["error"]).abs().max() < STOPS_SHORT
    # The reference telescopes are fixed; 0.01 there is the first step of the peer's minimiser.
    fixed = ours["tel_id"].is_in([1, 5])
    assert ours.filter(fixed)["error"].to_list() == [0.0, 0.0]
    assert theirs.filter(fixed)["error"].to_list() == [0.01, 0.01]
    # Minuit's errors are estimates from its last steps.
    ratio = (ours["error"] / theirs["error"]).filter(~fixed)
    assert (ratio - 1).abs().max() < 0.05


def test_lapalma_calibrates_with_the_recommended_preset(real_data, cache):
    configuration = load_configuration(preset="energy-inter")
    _, result = calibrated(real_data.glob("lapalma_*.h5"), configuration, cache)
    known = result.telescopes.filter(pl.col("value").is_finite())
    # Every true throughput is 1; the files hold a few hundred showers.
    assert len(known) >= 10
    assert (known["value"].log() / (known["error"] / known["value"])).abs().max() < 4
    missing = result.telescopes.filter(pl.col("value").is_nan())
    assert (missing["reason"] != "").all()


def test_paranal_names_every_telescope_it_cannot_calibrate(real_data, cache):
    # 198 showers on 99 telescopes: no telescope reaches the usual number.
    configuration = load_configuration(preset="energy-inter")
    _, result = calibrated(real_data.glob("paranal_*.h5"), configuration, cache)
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()
    assert (result.telescopes["reason"] != "").all()
    never = result.telescopes.filter(pl.col("tel_id").is_in([502, 553]))
    assert never["flag"].to_list() == ["no_data", "no_data"]  # the file has no table for them


def test_paranal_calibrates_where_few_showers_are_allowed(real_data, cache):
    configuration = load_configuration(
        preset="energy-inter",
        overrides=[
            "RelativeThroughputFitter.min_events=10",
            "RelativeThroughputFitter.min_common_events=4",
            "ShowerSelection.margin=0",
        ],
    )
    _, result = calibrated(real_data.glob("paranal_*.h5"), configuration, cache)
    assert result.verdict.status == "degraded"
    known = result.telescopes.filter(pl.col("value").is_finite())
    assert len(known) >= 20
    assert ((known["value"].log()) / (known["error"] / known["value"])).abs().max() < 5


def test_paranal_has_no_gammaness_to_select_on(real_data, cache):
    configuration = load_configuration(preset="energy-inter-peer")
    (path,) = real_data.glob("paranal_*.h5")
    block = pairs_of_block(path, ENERGY_INTER, configuration, cache)
    assert block.status == "failed"
    assert "RandomForestClassifier_tel_prediction" in block.reason


def test_six_showers_are_read_and_not_enough(real_data, cache):
    configuration = load_configuration(preset="energy-inter")
    _, result = calibrated(real_data.glob("simtel_*.h5"), configuration, cache)
    assert result.verdict.status == "unusable"
    assert result.telescopes["flag"].unique().to_list() == ["few_events"]
    assert result.fit["n_showers"] > 0


# --- image sizes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lapalma_sizes(real_data, cache):
    names = ("peer_image_asymmetry", "peer_inter_calibration_image")
    configuration = load_configuration(
        [real_data / "configs" / f"{name}.yaml" for name in names],
        overrides=["RelativeThroughputFitter.estimator=pair"],
    )
    return calibrated(real_data.glob("lapalma_*.h5"), configuration, cache, IMAGE_INTER)


def test_the_event_rows_of_sizes_are_the_peers(lapalma_sizes, real_data):
    theirs = pl.read_csv(real_data / "peer_outputs" / "lapalma_gamma_image_event_asymmetries.csv")
    ours = pl.concat(block.entry.scan() for block in lapalma_sizes[0]).collect().sort(KEYS)
    theirs = theirs.sort(KEYS)
    assert len(theirs) == 2684
    assert ours.select(pl.col(KEYS).cast(pl.Int64)).equals(theirs.select(KEYS))
    assert (ours["asymmetry"] - theirs["image_asymmetry"]).abs().max() < 1e-12


def test_the_pair_means_of_sizes_are_the_peers(lapalma_sizes, real_data):
    keys = ["tel_id_1", "tel_id_2"]
    theirs = pl.read_csv(real_data / "peer_outputs" / "lapalma_gamma_image_pair_summary.csv")
    ours, theirs = lapalma_sizes[1].pairs.sort(keys), theirs.sort(keys)
    assert ours.select([*keys, "n_events"]).equals(theirs.select([*keys, "n_events"]))
    for mine, its in (
        ("mean_asymmetry", "mean_asymmetry"),
        ("mean_asymmetry_error", "mean_asymmetry_err"),
        ("std_asymmetry", "std_asymmetry"),
    ):
        np.testing.assert_allclose(ours[mine], theirs[its], rtol=0, atol=1e-12)


def test_the_coefficients_of_sizes_are_the_peers(lapalma_sizes, real_data):
    output = json.loads((real_data / "peer_outputs" / "lapalma_gamma_image.json").read_text())
    theirs = pl.DataFrame(output["inter_calibration"]).sort("tel_id")
    ours = lapalma_sizes[1].telescopes.sort("tel_id")
    assert ours["tel_id"].to_list() == theirs["tel_id"].to_list()
    assert ((ours["value"] - theirs["value"]) / theirs["error"]).abs().max() < STOPS_SHORT


def test_the_equidistant_selection_says_where_the_pointing_came_from(real_data, cache):
    configuration = load_configuration(preset="image-inter-peer")
    blocks, result = calibrated(real_data.glob("lapalma_*.h5"), configuration, cache, IMAGE_INTER)
    assert all(0 < block.n_pairs < 1267 for block in blocks)
    source = "taken from /configuration/telescope/pointing"
    assert result.extras["block_notes"].select("topic", "note").unique().rows() == [
        ("pointing", source)
    ]


def test_sizes_of_paranal_are_read_and_every_telescope_is_accounted_for(real_data, cache):
    configuration = load_configuration(preset="image-inter")
    _, result = calibrated(real_data.glob("paranal_*.h5"), configuration, cache, IMAGE_INTER)
    assert result.fit["n_telescope_events"] > 0
    assert (result.telescopes.filter(pl.col("value").is_nan())["reason"] != "").all()
    assert result.extras["distance_curve"]["tel_type"].unique().sort().to_list() == [
        "LST", "MST", "SST",
    ]  # fmt: skip
