"""Simulated sizes, energies, positions and pointings: what the files hold against the truth."""

import dataclasses
import json

import numpy as np
import pytest

from arraycal.calib.dl2.columns import find_columns
from arraycal.calib.hdf5.file import open_file
from arraycal.calib.simulation import (
    CameraSettings,
    SimulationSettings,
    Truth,
    block_path,
    simulate_night,
)
from arraycal.calib.simulation.arrays import KINDS
from arraycal.calib.simulation.camera import field_of_view_deg
from arraycal.calib.simulation.geometry import direction_vector
from arraycal.calib.simulation.showers import ln_lateral_profile

BRIGHT = SimulationSettings(
    array="mixed", n_blocks=1, n_showers=2500, seed=4, energy_min_tev=5.0, proton_fraction=0.0
)
PARAMETERS = "dl1/event/telescope/parameters"


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate nights; returns the folder and the truth."""

    def simulate(settings=BRIGHT, **changes):
        folder = tmp_path_factory.mktemp("night")
        return folder, simulate_night(folder, dataclasses.replace(settings, **changes))

    return simulate


@pytest.fixture(scope="module")
def plain(make):
    """A night in which nothing is biased or lost."""
    return make()


def images(night, group=PARAMETERS, obs_id=1001):
    """Rows of the tables of a group by telescope."""
    folder, truth = night
    with open_file(block_path(folder, obs_id)) as file:
        return {
            tel_id: file[f"{group}/tel_{tel_id:03d}"][:]
            for tel_id in truth.types
            if f"tel_{tel_id:03d}" in file[group]
        }


def showers(night, obs_id=1001):
    with open_file(block_path(night[0], obs_id)) as file:
        return file["simulation/event/subarray/shower"][:]


def all_sizes(night):
    return np.concatenate([rows["hillas_intensity"] for rows in images(night).values()])


def ln_nominal(night):
    """ln(size) of images of a nominal telescope of the type, without fluctuations."""
    impact = images(night, "simulation/event/telescope/impact")
    energy = showers(night)["true_energy"]
    return {
        tel_id: 1.05 * np.log(energy[rows["event_id"] - 1])
        + np.log(KINDS[night[1].types[tel_id]].light_yield)
        + ln_lateral_profile(rows["true_impact_distance"])
        for tel_id, rows in impact.items()
    }


def is_bright(night, tel_id, ln_size):
    """Ten thresholds are out of reach of the trigger's selection."""
    return np.exp(ln_size) > 10 * KINDS[night[1].types[tel_id]].threshold


def sights(night, tel_id):
    """Unit vectors from a telescope to the maxima of all showers."""
    true = showers(night)
    axes = direction_vector(true["true_alt"], true["true_az"])
    # Depth at the maximum: 1030 exp(-h / 7500 m) / sin(altitude), as the file has it.
    depth = true["true_x_max"] * np.sin(np.radians(true["true_alt"]))
    slant = (-7500 * np.log(depth / 1030) - 2147) / axes[:, 2]
    cores = np.column_stack([true["true_core_x"], true["true_core_y"], np.zeros(len(true))])
    sight = cores + slant[:, None] * axes - np.array(night[1].positions_m[tel_id])
    return sight / np.linalg.norm(sight, axis=1, keepdims=True)


# Sizes


def test_sizes_at_a_distance_give_the_throughput_and_the_bias_of_the_type(make):
    night = make(camera=CameraSettings(size_bias={"MST": -0.15, "SST": 0.3}))
    truth, nominal = night[1], ln_nominal(night)
    for tel_id, rows in images(night).items():
        chosen = np.isfinite(rows["hillas_intensity"]) & is_bright(night, tel_id, nominal[tel_id])
        residual = np.log(rows["hillas_intensity"][chosen]) - nominal[tel_id][chosen]
        known_to = residual.std() / np.sqrt(chosen.sum())
        # 55 telescopes: 4 sigma happens by chance once in 300 seeds.
        assert abs(residual.mean() - np.log(truth.size_factor[tel_id])) < 4 * known_to, tel_id
    lst, mst, sst = (np.log(truth.size_factor[i] / truth.throughput[i]) for i in (1, 5, 30))
    assert (lst, mst, sst) == pytest.approx((0.0, -0.15, 0.3))


def test_biases_and_losses_leave_showers_and_triggers_alone(make, plain):
    camera = CameraSettings(
        size_bias={"LST": 0.1}, cleaning_loss_pe=5.0, saturation_pe={"MST": 30.0}
    )
    other = make(camera=camera, energy_bias={"SST": 0.2}, energy_slope={"LST": 0.05})
    with open_file(block_path(plain[0], 1001)) as a, open_file(block_path(other[0], 1001)) as b:
        for name in ("dl1/event/telescope/trigger", "simulation/event/subarray/shower"):
            assert a[name][:].tobytes() == b[name][:].tobytes()


def test_cleaning_takes_the_same_from_every_image(make, plain):
    lost = all_sizes(plain) - all_sizes(make(camera=CameraSettings(cleaning_loss_pe=6.0)))
    np.testing.assert_allclose(lost[np.isfinite(lost)], 6.0, atol=1e-6)


def test_an_analysis_threshold_can_be_the_same_for_all_types(make):
    night = make(energy_min_tev=0.05, camera=CameraSettings(threshold_pe={"SST": 80.0}))
    smallest = {tel_id: np.nanmin(r["hillas_intensity"]) for tel_id, r in images(night).items()}
    assert all(size > 80 for size in smallest.values())
    # Steep spectra fill the first per cent above the threshold.
    assert min(smallest.values()) < 81


def test_saturated_images_look_fainter_than_they_are(make, plain):
    night = make(camera=CameraSettings(saturation_pe={"LST": 40.0}))
    unsaturated = images(plain)
    for tel_id, rows in images(night).items():
        true = unsaturated[tel_id]["hillas_intensity"]
        ratio = rows["hillas_intensity"] / true
        brightest = unsaturated[tel_id]["intensity_max"]
        saturated = brightest > 40
        if night[1].types[tel_id] != "LST":
            np.testing.assert_array_equal(ratio[np.isfinite(ratio)], 1.0)
            continue
        assert 20 < saturated.sum() < np.isfinite(ratio).sum() - 20
        assert np.nanmax(rows["intensity_max"]) == pytest.approx(40)
        np.testing.assert_allclose(ratio[brightest < 40], 1.0)
        # 1 - (1 - 40 / M)^2 of the light is left.
        expected = 1 - (1 - 40 / brightest[saturated]) ** 2
        np.testing.assert_allclose(ratio[saturated], expected, rtol=1e-5)
        # Sizes stay in order, and are compressed by several per cent at least somewhere.
        order = np.argsort(true[saturated])
        assert (np.diff(rows["hillas_intensity"][saturated][order]) > -1).all()
        assert ratio[saturated].min() < 0.95


def test_light_beyond_the_edge_of_the_camera_is_lost(make):
    night = make(camera=CameraSettings(truncation=True))
    truth, parameters, nominal = night[1], images(night), ln_nominal(night)
    for kind, radius_deg in (("LST", 2.21), ("MST", 3.93)):
        # 1855 pixels of 0.05 m: R = 1.131 m, over focal lengths of 29.3 m and 16.4 m.
        assert KINDS[kind].camera_radius_deg == pytest.approx(radius_deg, abs=0.02)
        chosen = [tel_id for tel_id in truth.types if truth.types[tel_id] == kind]
        rows = np.concatenate([parameters[tel_id] for tel_id in chosen])
        expected = [nominal[tel_id] + np.log(truth.throughput[tel_id]) for tel_id in chosen]
        residual = np.log(rows["hillas_intensity"]) - np.concatenate(expected)
        seen = [sights(night, tel_id)[parameters[tel_id]["event_id"] - 1] for tel_id in chosen]
        cosine = np.concatenate(seen) @ direction_vector(70.0, 180.0)
        radius = np.degrees(np.arccos(cosine)) / radius_deg
        clean = np.isfinite(residual)
        centre = clean & (radius < 0.6)
        edge = clean & (radius > 0.98) & (radius < 1.02)
        assert edge.sum() > 20
        assert rows["leakage_intensity_width_2"][centre].max() < 0.01
        assert rows["leakage_intensity_width_2"][edge].min() > 0.2
        assert abs(residual[centre].mean()) < 0.02
        # Half of an image centred on the edge is outside, and the rest is inside.
        assert residual[edge].mean() == pytest.approx(np.log(0.5), abs=0.1)
        assert np.nanmax(rows["hillas_r"]) < radius_deg
        np.testing.assert_allclose(
            rows["hillas_r"][centre], radius[centre] * radius_deg, rtol=0.01, atol=0.001
        )


def test_the_number_of_pixels_grows_with_the_size(plain):
    for rows in images(plain).values():
        clean = rows["morphology_n_pixels"] > 0
        order = np.argsort(rows["hillas_intensity"][clean])
        assert (np.diff(rows["morphology_n_pixels"][clean][order]) >= 0).all()
        mean = rows["hillas_intensity"][clean] / rows["morphology_n_pixels"][clean]
        np.testing.assert_allclose(rows["intensity_max"][clean], 1.5 * mean, rtol=1e-5)


# Energies


def test_energies_have_the_bias_and_slope_of_their_type(make):
    night = make(
        energy_bias={"LST": 0.1, "SST": -0.2},
        energy_slope={"LST": 0.05},
        energy_pivot_tev=20.0,
        energy_factor={6: 0.8},
    )
    truth, energy, nominal = night[1], showers(night)["true_energy"], ln_nominal(night)
    ln_ratio, ln_energy, kinds = [], [], []
    tables = images(night, "dl2/event/telescope/energy/RandomForestRegressor")
    for tel_id, rows in tables.items():
        true = energy[rows["event_id"] - 1]
        valid = np.isfinite(rows["RandomForestRegressor_tel_energy"])
        valid &= is_bright(night, tel_id, nominal[tel_id])
        found = rows["RandomForestRegressor_tel_energy"][valid] / truth.energy_factor[tel_id]
        ln_ratio.append(np.log(found / true[valid]))
        ln_energy.append(np.log(true[valid] / 20.0))
        kinds.append(np.full(valid.sum(), truth.types[tel_id]))
    ratio, x, kind = map(np.concatenate, (ln_ratio, ln_energy, kinds))
    for name, expected in (("LST", 0.05), ("MST", 0.0), ("SST", 0.0)):
        own = kind == name
        (slope, level), covariance = np.polyfit(x[own], ratio[own], 1, cov=True)
        # The fluctuation of a shower is common to its telescopes, on average 6 of a type:
        # errors of rows taken as independent are too small by up to sqrt(6).
        assert abs(slope - expected) < 3.5 * np.sqrt(6 * covariance[0, 0]), name
        assert abs(level) < 3.5 * np.sqrt(6 * covariance[1, 1]), name
    factors = truth.energy_factor[6] / truth.throughput[6], truth.size_factor[6]
    assert factors == pytest.approx((0.8, truth.throughput[6]))


# Positions


def test_images_lie_where_the_shower_maximum_is_seen(plain):
    rows, true = images(plain)[5], showers(plain)
    seen = sights(plain, 5)[rows["event_id"] - 1]
    cosine, found = seen @ direction_vector(70.0, 180.0), np.cos(np.radians(rows["hillas_r"]))
    clean = np.isfinite(found)
    # hypot(lon, lat) is the angle but for its third power.
    near = clean & (rows["hillas_r"] < 2.0)
    np.testing.assert_allclose(found[near], cosine[near], atol=1e-6)
    row = rows[clean][3]
    shower = true[row["event_id"] - 1]
    axis = direction_vector(shower["true_alt"], shower["true_az"])
    # The axis of the image points from the source to the maximum.
    lon, lat = field_of_view_deg(axis[None], 70.0, 180.0)
    turn = np.arctan2(row["hillas_fov_lat"] - lat[0], row["hillas_fov_lon"] - lon[0])
    assert np.sin(turn - np.radians(row["hillas_psi"])) == pytest.approx(0.0, abs=1e-6)


def test_images_farther_from_the_shower_are_farther_from_its_source(plain):
    impact = images(plain, "simulation/event/telescope/impact")[5]["true_impact_distance"]
    rows, true = images(plain)[5], showers(plain)
    source = field_of_view_deg(direction_vector(true["true_alt"], true["true_az"]), 70.0, 180.0)
    lon, lat = (values[rows["event_id"] - 1] for values in source)
    apart = np.hypot(rows["hillas_fov_lon"] - lon, rows["hillas_fov_lat"] - lat)
    seen = np.isfinite(apart)
    # The maximum of a 5 TeV shower is 5600 m above the telescopes: 1 deg at 98 m.
    assert np.corrcoef(apart[seen], impact[seen])[0, 1] > 0.8
    assert np.median(apart[seen] / impact[seen]) == pytest.approx(1 / 98, rel=0.3)


def test_the_camera_frame_is_the_telescope_frame_in_metres(make, plain):
    night = make(camera=CameraSettings(frame="camera"))
    for tel_id in (1, 5, 30):
        sky, camera = images(plain)[tel_id], images(night)[tel_id]
        metres = np.radians(1) * KINDS[plain[1].types[tel_id]].effective_focal_length_m
        for ours, theirs in (("x", "fov_lat"), ("y", "fov_lon"), ("r", "r"), ("width", "width")):
            found, expected = camera[f"camera_frame_hillas_{ours}"], sky[f"hillas_{theirs}"]
            np.testing.assert_allclose(found, expected * metres, rtol=1e-9)
        x, y = (camera[f"camera_frame_hillas_{axis}"] for axis in "xy")
        phi = np.degrees(np.arctan2(y, x))
        np.testing.assert_allclose(camera["camera_frame_hillas_phi"], phi, atol=1e-9)
        # Both psi are angles of the same line: 90 deg between them in sum.
        total = camera["camera_frame_hillas_psi"] + sky["hillas_psi"]
        np.testing.assert_allclose(np.cos(np.radians(2 * total)), np.where(x < 9e9, -1, np.nan))
        intensity = camera["camera_frame_hillas_intensity"]
        np.testing.assert_array_equal(intensity, sky["hillas_intensity"])


@pytest.mark.parametrize(
    ("frame", "units"),
    [
        ("telescope", {"hillas_intensity": "", "hillas_r": "deg", "timing_slope": "deg**-1"}),
        (
            "camera",
            {
                "camera_frame_hillas_intensity": "",
                "camera_frame_hillas_x": "m",
                "camera_frame_hillas_psi": "deg",
                "camera_frame_timing_slope": "m**-1",
                "leakage_intensity_width_2": "",
            },
        ),
    ],
)
def test_our_reader_finds_the_parameters_of_either_frame(frame, units, make):
    folder, _ = make(n_showers=50, camera=CameraSettings(frame=frame))
    path = block_path(folder, 1001)
    with open_file(path) as file:
        columns = find_columns(file, path)
    assert {name: columns[name].kind for name in units} == units
    prefix = "camera_frame_hillas_" if frame == "camera" else "hillas_"
    # The size goes by one name in either frame.
    assert {name for name in columns if "hillas_" in name} == {"hillas_intensity"} | {
        name for name in columns if name.startswith(prefix)
    }


# Pointings


def test_blocks_take_the_pointings_in_turn(make):
    pointings = ((20.0, 180.0), (40.0, 10.0))
    folder, truth = make(array="north", n_blocks=3, n_showers=200, pointings=pointings)
    expected = {1001: pointings[0], 1002: pointings[1], 1003: pointings[0]}
    assert truth.pointings_deg == expected
    for obs_id, (zenith, azimuth) in expected.items():
        with open_file(block_path(folder, obs_id)) as file:
            block = file["configuration/observation/observation_block"][:]
            fixed = file["configuration/telescope/pointing/tel_005"][:]
            true = file["simulation/event/subarray/shower"][:]
        assert (block["subarray_pointing_lat"], block["subarray_pointing_lon"]) == (
            90 - zenith,
            azimuth,
        )
        assert np.degrees(fixed["telescope_pointing_altitude"]) == pytest.approx(90 - zenith)
        assert np.degrees(fixed["telescope_pointing_azimuth"]) == pytest.approx(azimuth)
        # 200 gamma rays 0.5 deg about the pointing, per coordinate: known to 0.035 deg.
        assert true["true_alt"].mean() == pytest.approx(90 - zenith, abs=0.15)


def test_a_block_of_a_night_of_several_pointings_is_that_of_a_night_of_one(make):
    several = make(array="north", n_blocks=2, n_showers=100, pointings=((20.0, 0.0), (40.0, 10.0)))
    one = make(array="north", n_blocks=2, n_showers=100, zenith_deg=40.0, azimuth_deg=10.0)
    np.testing.assert_array_equal(showers(several, 1002), showers(one, 1002))


@pytest.mark.parametrize(
    "tables", [(), ("observation",), ("configuration",), ("dl0",), ("dl1", "observation")]
)
def test_the_pointing_is_where_it_was_asked_for(tables, make):
    folder, _ = make(array="north", n_showers=60, pointing_tables=tables)
    with open_file(block_path(folder, 1001)) as file:
        for name, path in (
            ("configuration", "configuration/telescope/pointing"),
            ("dl0", "dl0/monitoring/telescope/pointing"),
            ("dl1", "dl1/monitoring/telescope/pointing"),
        ):
            assert (path in file) == (name in tables)
        block = file["configuration/observation/observation_block"][:]
    assert np.isfinite(block["subarray_pointing_lat"][0]) == ("observation" in tables)


def test_the_monitored_pointing_covers_the_block(make):
    folder, _ = make(array="north", n_showers=60, pointing_tables=("dl1",), azimuth_deg=40.0)
    with open_file(block_path(folder, 1001)) as file:
        rows = file["dl1/monitoring/telescope/pointing/tel_005"][:]
        stamps = file["dl1/event/telescope/trigger"]["time"][:, 0]
    assert rows["time"][0, 0] < stamps.min()
    assert rows["time"][-1, 0] > stamps.max()
    assert (np.diff(rows["time"][:, 0].astype(np.int64)) > 0).all()
    np.testing.assert_allclose(rows["azimuth"], np.radians(40.0))
    np.testing.assert_allclose(rows["altitude"], np.radians(70.0))


def test_mispointing_shifts_the_reconstructed_directions(make):
    night = make(array="north", pointing_bias_deg=(0.05, -0.1))
    with open_file(block_path(night[0], 1001)) as file:
        found = file["dl2/event/subarray/geometry/HillasReconstructor"][:]
    true = showers(night)
    alt = found["HillasReconstructor_alt"] - true["true_alt"]
    az = found["HillasReconstructor_az"] - true["true_az"]
    az = (az + 180) % 360 - 180
    # 0.1 deg at most of error a shower, 2500 showers: 0.002 deg
    assert np.nanmean(alt) == pytest.approx(0.05, abs=0.008)
    side = np.nanmean(az * np.cos(np.radians(true["true_alt"])))
    assert side == pytest.approx(-0.1, abs=0.008)


# Truth and settings


def test_the_truth_of_every_setting_survives_json(make):
    folder, truth = make(
        array="north", n_showers=20, throughput={5: 0.8}, energy_factor={6: 1.1},
        energy_bias={"LST": 0.1}, pointings=((20.0, 180.0), (40.0, 10.0)),
        camera=CameraSettings(size_bias={"MST": 0.1}, frame="camera", truncation=True),
    )  # fmt: skip
    assert Truth.read(folder / "truth.json") == truth


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw["settings"].update(colour=1), "another version: unknown settings colour"),
        (lambda raw: raw.pop("throughput"), "another version: 'throughput'"),
        (lambda raw: raw["settings"].update(n_blocks=0), "n_blocks is 0"),
    ],
)
def test_the_truth_of_a_later_version_is_refused(change, message, plain, tmp_path):
    raw = json.loads((plain[0] / "truth.json").read_text())
    change(raw)
    (tmp_path / "truth.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=message):
        Truth.read(tmp_path / "truth.json")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"energy_bias": {"LSST": 0.1}},
            "energy_bias is given for LSST, but array 'mixed' has LST",
        ),
        ({"energy_factor": {99: 1.0}}, r"energy_factor is given for telescopes \[99\]"),
        ({"energy_pivot_tev": 0.0}, "energy_pivot_tev is 0.0; it must be positive"),
        ({"pointings": ((20.0, 0.0), (70.0, 0.0))}, "zenith of pointings is 70.0"),
        ({"camera": CameraSettings(cleaning_loss_pe=50)}, "cleaning_loss_pe is 50; it must be at"),
        ({"camera": CameraSettings(threshold_pe={"LST": 0})}, "threshold_pe of LST is 0; it must"),
    ],
)
def test_settings_no_night_can_have_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SimulationSettings(**wrong)
