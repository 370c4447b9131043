"""Image sizes of simulated blocks: either frame, every source of the pointing, what is missing."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from calib import dl2
from calib.errors import CannotCompute
from calib.observables import IMAGE_INTER
from calib.pipeline import calibrate, pairs_of_block
from calib.pointing import ALTITUDE, Pointing
from calib.rules import pair_rules
from calib.simulation import SimulationSettings, block_path, simulate_night
from config import load_configuration

SETTINGS = SimulationSettings(array="north", n_blocks=1, n_showers=1500, seed=4)
#: Zenith angle 20 deg, the default of the simulation.
EXPECTED_ALTITUDE = np.radians(70.0)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate a block and return its path."""

    def simulate(*, frame="telescope", **changes):
        folder = tmp_path_factory.mktemp("night")
        camera = dataclasses.replace(SETTINGS.camera, frame=frame)
        simulate_night(folder, dataclasses.replace(SETTINGS, camera=camera, **changes))
        return block_path(folder, 1001)

    return simulate


@pytest.fixture(scope="module")
def path(make):
    return make()


def pairs_of(path, cache, preset="image-inter", overrides=()):
    configuration = load_configuration(preset=preset, overrides=overrides)
    return pairs_of_block(path, IMAGE_INTER, configuration, cache), configuration


def test_camera_and_telescope_frame_give_the_same_pairs(make, path, tmp_path):
    telescope, _ = pairs_of(path, tmp_path)
    camera, _ = pairs_of(make(frame="camera"), tmp_path)
    # Sizes are the same numbers; the containment is cut in degrees or in metres.
    assert telescope.n_pairs > 1000
    assert camera.entry.scan().collect().equals(telescope.entry.scan().collect())


@pytest.mark.parametrize(
    ("table", "group"),
    [
        ("dl1", "/dl1/monitoring/telescope/pointing"),
        ("dl0", "/dl0/monitoring/telescope/pointing"),
        ("configuration", "/configuration/telescope/pointing"),
        ("observation", "/configuration/observation/observation_block"),
    ],
)
def test_the_altitude_comes_from_whatever_the_file_has(make, tmp_path, table, group):
    path = make(pointing_tables=(table,))
    block = dl2.open_block(path)
    (window,) = dl2.windows(block, ["hillas_intensity", ALTITUDE])
    np.testing.assert_allclose(window.events[ALTITUDE], EXPECTED_ALTITUDE, atol=1e-6)
    paired, _ = pairs_of(path, tmp_path, "image-inter-peer")
    assert paired.notes == [("pointing", f"taken from {group}")]
    assert paired.n_pairs > 0


def test_without_any_pointing_the_block_fails_with_the_reason(make, tmp_path):
    path = make(pointing_tables=())
    failed, _ = pairs_of(path, tmp_path, "image-inter-peer")
    assert failed.status == "failed"
    assert "has neither a monitored pointing" in failed.reason
    # A fit of the distance needs no pointing.
    assert pairs_of(path, tmp_path)[0].status == "ok"


def test_measured_altitudes_are_interpolated_and_never_extrapolated():
    pointing = Pointing({5: (np.array([10.0, 20.0]), np.array([1.0, 1.2]))}, {})
    times = np.array([10.0, 15.0, 20.0, 9.9, 20.1, np.nan, 15.0])
    tel_ids = np.array([5, 5, 5, 5, 5, 5, 6])
    found = pointing.altitude(tel_ids, np.ones(7, np.int64), times)
    np.testing.assert_allclose(found, [1.0, 1.1, 1.2, *[np.nan] * 4])


def test_equidistant_pairs_obey_the_formula(path, tmp_path):
    everything = pairs_of(
        path, tmp_path, "image-inter-peer", ["CalculateImageAsymmetry.event_filters="]
    )[0]
    selected = pairs_of(
        path,
        tmp_path,
        "image-inter-peer",
        ["CalculateImageAsymmetry.event_filters={equidistant_event_selection: [0.05, 0.1]}"],
    )[0]
    one, two = pl.col("impact_1_m"), pl.col("impact_2_m")
    limit = 0.05 + 0.1 * np.cos(EXPECTED_ALTITUDE)
    expected = everything.entry.scan().filter((one - two).abs() / (one + two) < limit).collect()
    assert 0 < len(expected) < everything.n_pairs
    assert selected.entry.scan().collect().equals(expected)


def test_files_without_image_parameters_fail_with_the_reason(make, tmp_path):
    failed, _ = pairs_of(make(write_dl1=False), tmp_path)
    assert failed.status == "failed"
    assert "hillas_intensity (the value to compare) does not exist" in failed.reason


def test_a_ceiling_below_all_images_leaves_no_telescope_a_number(path, tmp_path):
    # As if all images were saturated.
    overrides = ["ShowerSelection.ceiling=1", "ShowerSelection.threshold=null"]
    block, configuration = pairs_of(path, tmp_path, overrides=overrides)
    result = calibrate([block], IMAGE_INTER, configuration)
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()
    assert (result.telescopes["reason"] != "").all()


def test_rules_for_a_file_without_sizes_are_refused(make):
    block = dl2.open_block(make(write_dl1=False))
    configuration = load_configuration(preset="image-inter")
    with pytest.raises(CannotCompute, match="check the names of the reconstructors"):
        pair_rules(IMAGE_INTER, configuration, block)


def test_throughputs_of_a_simulated_night_come_back_within_their_errors(tmp_path_factory, tmp_path):
    folder = tmp_path_factory.mktemp("night")
    truth = simulate_night(folder, dataclasses.replace(SETTINGS, n_showers=6000))
    block, configuration = pairs_of(block_path(folder, 1001), tmp_path)
    result = calibrate([block], IMAGE_INTER, configuration)
    for tel_type in ("LST", "MST"):
        own = result.telescopes.filter(tel_type=tel_type)
        expected = np.log([truth.throughput[tel_id] for tel_id in own["tel_id"]])
        found = np.log(own["value"].to_numpy())
        error = (own["error"] / own["value"]).to_numpy()
        # Both relative to the mean of the type; 13 telescopes.
        assert np.abs((found - expected + expected.mean()) / error).max() < 4
