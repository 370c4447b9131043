"""Image sizes of simulated blocks: either frame, every source of the pointing, what is missing."""

import dataclasses
import shutil

import h5py
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraycal.calib import dl2
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.dl2.pointing import ALTITUDE, Pointing
from arraycal.calib.errors import CannotCompute
from arraycal.calib.observables import IMAGE_INTER
from arraycal.calib.pairs.rules import pair_rules
from arraycal.calib.result.assemble import DISTANCE_IGNORED
from arraycal.calib.simulation import CameraSettings, SimulationSettings, block_path, simulate_night
from arraycal.config import load_configuration

SETTINGS = SimulationSettings(array="north", n_blocks=1, n_showers=1500, seed=4)
#: Zenith angle 20 deg, the default of the simulation.
EXPECTED_ALTITUDE = np.radians(70.0)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate a block and return its path."""

    def simulate(*, frame="telescope", saturation_pe=None, **changes):
        folder = tmp_path_factory.mktemp("night")
        camera = CameraSettings(frame=frame, saturation_pe=saturation_pe or {})
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
    directions = np.array([[1.0, 6.2], [1.2, 6.4]])
    pointing = Pointing({5: (np.array([10.0, 20.0]), directions)}, {})
    times = np.array([10.0, 15.0, 20.0, 9.9, 20.1, np.nan, 15.0])
    tel_ids = np.array([5, 5, 5, 5, 5, 5, 6])
    found = pointing.directions(tel_ids, np.ones(7, np.int64), times)
    np.testing.assert_allclose(found[:, 0], [1.0, 1.1, 1.2, *[np.nan] * 4])
    np.testing.assert_allclose(found[:, 1], [6.2, 6.3, 6.4, *[np.nan] * 4])


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 4), st.integers(-1, 5)), st.integers(0, 9), max_size=12
    ),
    st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 7)), max_size=20),
)
def test_fixed_directions_are_those_of_observation_and_telescope(stated, events):
    # -1 stands for any telescope, unless it has a direction of its own.
    fixed = {key: (0.1 * value, 0.2 * value) for key, value in stated.items()}
    obs_ids, tel_ids = (np.array([event[i] for event in events], np.int64) for i in (0, 1))
    found = Pointing({}, fixed).directions(tel_ids, obs_ids, None)
    nowhere = (np.nan, np.nan)
    expected = [fixed.get(event, fixed.get((event[0], -1), nowhere)) for event in events]
    np.testing.assert_array_equal(found, np.array(expected).reshape(-1, 2))


def test_measured_directions_are_found_for_rows_in_any_order():
    times, n = np.array([0.0, 10.0]), 60
    rng = np.random.default_rng(1)
    measured = {tel: (times, np.array([[tel, 0.0], [tel + 1.0, 1.0]])) for tel in (2, 3, 9)}
    tel_ids, moments = rng.integers(1, 11, size=n), rng.uniform(-1, 11, n)
    found = Pointing(measured, {}).directions(tel_ids, np.ones(n, np.int64), moments)
    known = np.isin(tel_ids, (2, 3, 9)) & (moments >= 0) & (moments <= 10)
    expected = np.where(known, tel_ids + moments / 10, np.nan)
    np.testing.assert_allclose(found[:, 0], expected)


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
    residuals = result.extras["residual_bins"]
    for (covariate,), part in residuals.group_by("covariate"):
        assert set(part["tel_type"]) == {"LST", "MST"}, covariate
        assert part["error"].is_between(1e-4, 0.5).all()


# --- bad input ---------------------------------------------------------------------------

PARAMETERS = "/dl1/event/telescope/parameters"
CAMERA = "/configuration/instrument/telescope/camera/geometry_0"


def altered(path, folder, alter):
    """Copy a block and change the copy."""
    copy = folder / "altered.dl2.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        alter(file)
    return copy


def test_sizes_of_zero_or_below_make_no_pair_and_are_counted(path, tmp_path):
    def empty(file):
        rows = file[f"{PARAMETERS}/tel_001"][:]
        rows["hillas_intensity"][0::3] = 0.0
        rows["hillas_intensity"][1::3] = -5.0
        file[f"{PARAMETERS}/tel_001"][:] = rows
        return len(rows)

    sound, _ = pairs_of(path, tmp_path)
    block, configuration = pairs_of(altered(path, tmp_path, empty), tmp_path)
    counts = {rule: rows for _, rule, rows, _ in block.rejected.iter_rows() if "positive" in rule}
    before = {rule: rows for _, rule, rows, _ in sound.rejected.iter_rows() if "positive" in rule}
    assert sum(counts.values()) > sum(before.values()) + 500
    rows = block.entry.scan().collect()
    assert rows["value"].min() > 0
    one = (pl.col("tel_id") == 1).sum()
    assert 0 < rows.select(one).item() < sound.entry.scan().collect().select(one).item() / 2
    assert calibrate([block], IMAGE_INTER, configuration).fit["n_telescope_events"] > 0


def test_without_any_positive_size_a_block_has_no_pair(path, tmp_path):
    def empty(file):
        for table in file[PARAMETERS].values():
            rows = table[:]
            rows["hillas_intensity"] = 0.0
            table[:] = rows

    block, configuration = pairs_of(altered(path, tmp_path, empty), tmp_path)
    assert (block.status, block.n_pairs) == ("ok", 0)
    result = calibrate([block], IMAGE_INTER, configuration)
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()


def test_without_camera_geometry_the_containment_is_left_out_and_said_so(path, tmp_path):
    def lose(file):
        del file[CAMERA]

    block, configuration = pairs_of(altered(path, tmp_path, lose), tmp_path)
    assert block.status == "ok"
    ((topic, note),) = block.notes
    assert "max_radius_fraction" in f"{topic} {note}"
    assert "the file has no geometry of camera 0" in note
    # More images pass than with it.
    assert block.n_pairs > pairs_of(path, tmp_path)[0].n_pairs
    result = calibrate([block], IMAGE_INTER, configuration)
    assert result.extras["block_notes"].height == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("DistanceCurve.knots=null",), True),
        (("RelativeThroughputFitter.estimator=pair",), True),
        (("CalculateImageAsymmetry.event_filters.equidistant_event_selection=[0.05, 0.1]",), False),
        ((), False),
    ],
)
def test_sizes_that_are_compared_whatever_the_distances_degrade_the_verdict(
    path, tmp_path, overrides, says
):
    settings = (
        ["DistanceCurve.knots=null", *overrides] if "event_filters" in str(overrides) else overrides
    )
    block, configuration = pairs_of(path, tmp_path, overrides=settings)
    result = calibrate([block], IMAGE_INTER, configuration)
    assert (DISTANCE_IGNORED in result.verdict.reasons) == says
    assert result.verdict.status != "usable" or not says


def test_saturated_images_tell_nothing_of_throughput_above_the_ceiling(make, tmp_path):
    # Every pixel of every image is at its limit: a size is the number of pixels.
    limits = dict.fromkeys(("LST", "MST"), 1.0)
    path = make(saturation_pe=limits)
    block, configuration = pairs_of(path, tmp_path, overrides=["ShowerSelection.ceiling=5"])
    assert block.n_pairs > 0
    result = calibrate([block], IMAGE_INTER, configuration)
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()
    assert (result.telescopes["reason"] != "").all()


def test_a_file_in_the_frame_of_the_camera_gives_the_same_coefficients(make, path, tmp_path):
    found = []
    for file in (path, make(frame="camera")):
        block, configuration = pairs_of(file, tmp_path)
        found.append(calibrate([block], IMAGE_INTER, configuration).telescopes)
    assert found[0]["value"].is_finite().sum() >= 4
    assert found[0].equals(found[1], null_equal=True)
