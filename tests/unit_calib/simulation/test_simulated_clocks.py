"""Simulated time stamps: what the files hold against the light front and the clocks put in."""

import dataclasses

import numpy as np
import pytest

from arraycal.calib.hdf5.file import open_file
from arraycal.calib.simulation import (
    ClockSettings,
    SimulationSettings,
    Truth,
    block_path,
    simulate_block,
    simulate_night,
)
from arraycal.calib.simulation.arrays import KINDS
from arraycal.calib.simulation.geometry import direction_vector

C_M_PER_NS = 0.299792458
#: Without jitter the stamps are exact but for the quarter nanosecond.
STEADY = ClockSettings(jitter_ns={"LST": 0.0, "MST": 0.0})
SETTINGS = SimulationSettings(
    array="north", n_blocks=1, n_showers=800, seed=6, throughput_scatter=0.0, clocks=STEADY
)
#: Two roundings to a quarter nanosecond about their mean.
ROUNDING_NS = 0.26


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Simulate nights; returns the folder and the truth."""

    def simulate(clocks=None, **changes):
        folder = tmp_path_factory.mktemp("night")
        clocks = dataclasses.replace(STEADY, **(clocks or {}))
        settings = dataclasses.replace(SETTINGS, clocks=clocks, **changes)
        return folder, simulate_night(folder, settings)

    return simulate


@pytest.fixture(scope="module")
def plain(make):
    """A night of right clocks."""
    return make()


class Stamps:
    """Stamps of a file beside the light front of the same showers."""

    def __init__(self, night, plain, obs_id=1001):
        with open_file(block_path(night[0], obs_id)) as file:
            rows = file["dl1/event/telescope/trigger"][:]
            parameters = {
                name: file[f"dl1/event/telescope/parameters/{name}"][:]
                for name in file["dl1/event/telescope/parameters"]
            }
        with open_file(block_path(plain[0], obs_id)) as file:  # observations have no truth
            true = file["simulation/event/subarray/shower"][:]
        truth, altitude_m = night[1], 2147.0
        self.shower = rows["event_id"] - 1
        self.tel_id = rows["tel_id"]
        self.kind = np.array([truth.types[tel_id] for tel_id in self.tel_id])
        seconds, quarters = rows["time"].astype(np.int64).T
        self.is_missing = (seconds == 0) & (quarters == 0)
        self.size = np.full(len(rows), np.nan)
        for tel_id in truth.types:
            own = self.tel_id == tel_id
            self.size[own] = parameters[f"tel_{tel_id:03d}"]["hillas_intensity"]
        axis = direction_vector(true["true_alt"], true["true_az"])
        depth = true["true_x_max"] * np.sin(np.radians(true["true_alt"]))
        height = -7500 * np.log(depth / 1030) - altitude_m
        radius = truth.rho * height / axis[:, 2]
        core = np.column_stack([true["true_core_x"], true["true_core_y"], np.zeros(len(true))])
        source = (core + radius[:, None] * axis)[self.shower]
        position = np.array([truth.positions_m[tel_id] for tel_id in self.tel_id])
        refraction = 1 + truth.settings.clocks.refractivity
        path = np.linalg.norm(position - source, axis=1) - radius[self.shower]
        zenith, azimuth = truth.pointings_deg[obs_id]
        pointing = direction_vector(90 - zenith, azimuth)
        self.plane_ns = position @ pointing / C_M_PER_NS
        total = (seconds - seconds.max()) * 4_000_000_000 + quarters
        first = np.full(len(true), np.iinfo(np.int64).max)
        np.minimum.at(first, self.shower, np.where(self.is_missing, first[0], total))
        self.night_s = (seconds - 1_592_172_000) + quarters / 4e9
        self.stored_ns = (total - first[self.shower]) / 4
        self.late_ns = self.stored_ns - path * refraction / C_M_PER_NS

    def centred(self, values):
        """Values about their mean of the shower."""
        n = np.bincount(self.shower)
        return values - (np.bincount(self.shower, values) / n)[self.shower]

    def assert_late_by(self, expected, rows=slice(None)):
        """Against a delay by telescope event, up to a time common to a shower."""
        found = self.centred(self.late_ns)[rows]
        np.testing.assert_allclose(found, self.centred(expected)[rows], atol=ROUNDING_NS)


def by_telescope(stamps, values):
    return np.array([values.get(tel_id, 0.0) for tel_id in stamps.tel_id])


def test_stamps_of_right_clocks_are_the_light_front_less_the_plane_of_the_pointing(plain):
    stamps = Stamps(plain, plain)
    stamps.assert_late_by(stamps.plane_ns)


def test_raw_stamps_are_the_light_front_itself(make, plain):
    stamps = Stamps(make({"convention": "raw"}), plain)
    stamps.assert_late_by(np.zeros(len(stamps.late_ns)))
    assert stamps.stored_ns.max() > 200  # a plane wave at 20 deg over 330 m is 376 ns long


def test_light_is_slower_in_air_and_the_compensation_of_the_pointing_is_not(make, plain):
    # Fifty times the refraction of air, so that it shows beside the rounding.
    stamps = Stamps(make({"refractivity": 0.01}), plain)
    stamps.assert_late_by(stamps.plane_ns)


def test_drawn_and_given_offsets_are_in_the_stamps_and_in_the_truth(make, plain):
    night = make({"offset_scatter_ns": 300.0, "offset_ns": {7: 2.5e6}})
    stamps, truth = Stamps(night, plain), night[1]
    stamps.assert_late_by(stamps.plane_ns + by_telescope(stamps, truth.clock_offset_ns))
    assert truth.clock_offset_ns[7] == 2.5e6
    drawn = [value for tel_id, value in truth.clock_offset_ns.items() if tel_id != 7]
    # 12 draws: the standard deviation is known to 20 %.
    assert np.std(drawn) == pytest.approx(300, rel=0.6)


def test_a_step_is_in_every_later_block(make):
    clocks = {"steps": ((6, 900.0, 10.0), (6, 1500.0, -4.0))}
    plain, night = make(n_blocks=2), make(clocks, n_blocks=2)
    for obs_id in (1001, 1002):
        stamps = Stamps(night, plain, obs_id)
        own = stamps.tel_id == 6
        expected = np.where(own & (stamps.night_s >= 900), 10.0, 0.0)
        expected += np.where(own & (stamps.night_s >= 1500), -4.0, 0.0)
        assert len(np.unique(expected[own])) == 2
        stamps.assert_late_by(stamps.plane_ns + expected)
    assert night[1].clock_steps == clocks["steps"]


def test_clocks_drift_steadily(make, plain):
    stamps = Stamps(make({"drift_ns_per_h": {5: 90.0}}), plain)
    expected = np.where(stamps.tel_id == 5, stamps.night_s / 3600 * 90.0, 0.0)
    assert expected.max() > 25
    stamps.assert_late_by(stamps.plane_ns + expected)


def test_faint_images_are_late_and_types_have_their_latency(make, plain):
    night = make({"walk_ns": {"MST": 3.0}, "latency_ns": {"LST": 40.0}})
    stamps, truth = Stamps(night, plain), night[1]
    walk = np.array([truth.walk_ns[kind] * KINDS[kind].threshold for kind in stamps.kind])
    expected = walk / stamps.size + by_telescope(stamps, truth.latency_ns)
    # A shower with an image that cleaning lost has no mean to compare with.
    whole = ~np.isnan(stamps.centred(expected))
    assert whole.mean() > 0.9
    stamps.assert_late_by(stamps.plane_ns + expected, whole)
    assert set(truth.latency_ns.values()) == {0.0, 40.0}


def test_the_jitter_of_a_type_can_be_chosen(make, plain):
    stamps = Stamps(make({"jitter_ns": {"LST": 0.0, "MST": 4.0}}), plain)
    late = stamps.late_ns - stamps.plane_ns
    for kind, jitter_ns in (("LST", 0.0), ("MST", 4.0)):
        own = stamps.kind == kind
        shower, values = stamps.shower[own], late[own]
        n = np.maximum(np.bincount(shower), 1)
        residual = values - (np.bincount(shower, values) / n)[shower]
        free = own.sum() - len(np.unique(shower))
        # Rounding to quarters adds 0.25 / sqrt(12) ns; a standard deviation is known to
        # 1 / sqrt(2 n) of itself.
        expected = np.hypot(jitter_ns, 0.25 / np.sqrt(12))
        found = np.sqrt(np.sum(residual**2) / free)
        assert abs(found - expected) < 4 * expected / np.sqrt(2 * free), kind


def test_outliers_are_as_many_and_as_far_as_asked_for(make, plain):
    stamps = Stamps(make({"outlier_fraction": 0.1, "outlier_window_ns": 500.0}), plain)
    with open_file(block_path(plain[0], 1001)) as file:
        seconds, quarters = file["dl1/event/telescope/trigger"]["time"].astype(np.int64).T
    true_s = (seconds - 1_592_172_000) + quarters / 4e9
    error_ns = (stamps.night_s - true_s) * 1e9
    # Seconds as a float of some 1000 s resolve 0.2 ps.
    is_outlier = np.abs(error_ns) > 0.1
    n = len(error_ns)
    assert is_outlier.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / n))
    assert np.abs(error_ns).max() <= 500.01
    # Evenly between -500 and 500: rms 500 / sqrt(3), known to 0.32 / sqrt(n) of itself or so.
    assert error_ns[is_outlier].std() == pytest.approx(500 / np.sqrt(3), rel=0.15)


def test_missing_stamps_are_zero_and_leave_the_shower_its_time(make, plain):
    night = make({"missing_fraction": 0.2})
    stamps = Stamps(night, plain)
    n = len(stamps.is_missing)
    assert stamps.is_missing.mean() == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / n))
    with open_file(block_path(night[0], 1001)) as a, open_file(block_path(plain[0], 1001)) as b:
        name = "dl1/event/subarray/trigger"
        assert a[name][:].tobytes() == b[name][:].tobytes()


def test_clocks_leave_showers_and_images_alone(make, plain):
    clocks = {"offset_scatter_ns": 5.0, "walk_ns": {"LST": 3.0}, "outlier_fraction": 0.1}
    with (
        open_file(block_path(make(clocks)[0], 1001)) as a,
        open_file(block_path(plain[0], 1001)) as b,
    ):
        for name in ("simulation/event/subarray/shower", "dl1/event/telescope/parameters/tel_005"):
            assert a[name][:].tobytes() == b[name][:].tobytes()


@pytest.mark.parametrize("convention", ["raw", "pointing_compensated"])
def test_raw_files_pass_for_observations(convention, make):
    folder, truth = make({"convention": convention}, n_showers=30)
    with open_file(block_path(folder, 1001)) as file:
        process = file.attrs["CTA PROCESS TYPE"].decode()
        has_truth = "simulation" in file or "configuration/simulation" in file
    is_raw = convention == "raw"
    assert (process, has_truth) == ("Observation" if is_raw else "Simulation", not is_raw)
    assert truth.time_convention == convention


def test_the_truth_of_the_clocks_survives_json(make):
    folder, truth = make(
        {
            "offset_scatter_ns": 5.0, "offset_ns": {5: 1e6}, "drift_ns_per_h": {6: 1.0},
            "steps": ((7, 60.0, 10.0),), "walk_ns": {"LST": 3.0}, "convention": "raw",
        },
        n_showers=20,
    )  # fmt: skip
    assert Truth.read(folder / "truth.json") == truth


def test_a_block_in_memory_has_the_offsets_of_its_night(make):
    folder, truth = make({"offset_scatter_ns": 400.0}, n_showers=50)
    rng = np.random.default_rng(np.random.SeedSequence(6, spawn_key=(1,)))
    block = simulate_block(truth.settings, 1001, truth.throughput, rng)
    with open_file(block_path(folder, 1001)) as file:
        seconds, quarters = file["dl1/event/telescope/trigger"]["time"].astype(np.int64).T
    np.testing.assert_array_equal(block.images.time, seconds * 4_000_000_000 + quarters)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"walk_ns": {"SST": 1.0}}, "clocks.walk_ns is given for SST, but array 'north' has LST"),
        ({"steps": ((99, 1.0, 1.0),)}, r"clocks.steps is given for telescopes \[99\]"),
        ({"missing_fraction": 1.5}, "clocks.missing_fraction is 1.5; it must be between 0 and 1"),
        ({"offset_scatter_ns": -1.0}, "clocks.offset_scatter_ns is -1.0; it must be 0 or more"),
    ],
)
def test_clocks_no_array_can_have_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SimulationSettings(array="north", clocks=ClockSettings(**wrong))
