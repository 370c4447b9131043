"""The simulated nights: reproducible, physical, and files like ctapipe's own."""

import dataclasses
import re

import numpy as np
import pytest

from arraycal.calib.hdf5.file import open_file, telescope_tables
from arraycal.calib.simulation import (
    SimulationSettings,
    Truth,
    block_path,
    draw_throughput,
    simulate_block,
    simulate_night,
)
from arraycal.calib.simulation import showers as simulation_showers
from arraycal.calib.simulation.arrays import KINDS, make_layout
from arraycal.calib.simulation.geometry import (
    SPEED_OF_LIGHT_M_PER_NS,
    altitude_azimuth,
    arrival_delay_ns,
    direction_vector,
    displace,
    impact_distance_m,
)
from arraycal.calib.simulation.showers import ln_lateral_profile


@pytest.fixture(scope="module")
def settings():
    return SimulationSettings(array="mixed", n_blocks=2, n_showers=12_000, seed=11)


@pytest.fixture(scope="module")
def throughput(settings):
    return draw_throughput(settings)


@pytest.fixture(scope="module")
def block(settings, throughput):
    return simulate_block(settings, 1001, throughput, 42)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    settings = SimulationSettings(array="north", n_blocks=2, n_showers=300, seed=3)
    return folder, simulate_night(folder, settings)


def all_tables(path):
    """Rows of every table of a file, by path."""
    found = {}
    with open_file(path) as file:
        file.visititems(
            lambda name, node: found.update({name: node[:]}) if hasattr(node, "dtype") else None
        )
    return found


def ln_residual(block, throughput):
    """ln(E_rec / L) - ln(c) of every image; 0 but for the noise."""
    images, showers = block.images, block.showers
    light = showers.energy_tev * np.where(showers.is_proton, 0.4, 1.0)
    ln_c = np.log([throughput[tel_id] for tel_id in block.layout.tel_ids.tolist()])
    return np.log(images.energy_tev / light[images.shower]) - ln_c[images.telescope]


def true_brightness(block):
    """Nominal size over threshold of every image: what neither throughput nor luck changes."""
    images, showers, layout = block.images, block.showers, block.layout
    light = (showers.energy_tev * np.where(showers.is_proton, 0.4, 1.0))[images.shower]
    nominal = layout.response("light_yield") / layout.response("threshold")
    return nominal[images.telescope] * light**1.05 * np.exp(ln_lateral_profile(images.impact_m))


# Nights and files


def test_the_same_seed_gives_the_same_night(tmp_path):
    settings = SimulationSettings(array="north", n_blocks=1, n_showers=200, seed=5)
    assert simulate_night(tmp_path / "a", settings) == simulate_night(tmp_path / "b", settings)
    first = all_tables(block_path(tmp_path / "a", 1001))
    second = all_tables(block_path(tmp_path / "b", 1001))
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_another_seed_gives_another_night():
    nights = [SimulationSettings(array="north", seed=seed) for seed in (1, 2)]
    first, second = (draw_throughput(settings) for settings in nights)
    assert not set(first.values()) & set(second.values())


def test_a_block_does_not_depend_on_how_many_others_there_are(tmp_path):
    settings = SimulationSettings(array="north", n_blocks=3, n_showers=100, seed=5, write_dl1=False)
    many = simulate_night(tmp_path / "many", settings)
    few = simulate_night(tmp_path / "few", dataclasses.replace(settings, n_blocks=2))
    assert many.throughput == few.throughput
    first, second = (all_tables(block_path(tmp_path / n, 1002)) for n in ("many", "few"))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_blocks_of_a_night_differ(night):
    folder, truth = night
    first, second = (all_tables(block_path(folder, obs_id)) for obs_id in truth.obs_ids)
    true = "simulation/event/subarray/shower"
    assert not np.isin(first[true]["true_energy"], second[true]["true_energy"]).any()


def test_truth_survives_the_way_through_json(night, tmp_path):
    folder, truth = night
    assert Truth.read(folder / "truth.json") == truth
    given = SimulationSettings(array="north", n_showers=10, throughput={3: 0.8}, n_blocks=1)
    truth = simulate_night(tmp_path, given)
    assert truth.throughput[3] == 0.8
    assert Truth.read(tmp_path / "truth.json") == truth


def test_a_night_is_not_overwritten_unasked(tmp_path):
    settings = SimulationSettings(array="north", n_blocks=2, n_showers=20)
    simulate_night(tmp_path, settings)
    with pytest.raises(FileExistsError, match=re.escape("already holds a night (truth.json and 2")):
        simulate_night(tmp_path, settings)
    simulate_night(tmp_path, dataclasses.replace(settings, n_blocks=1), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["block_1001.dl2.h5", "truth.json"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arraycal.calib.simulation.files.set_attributes", fail)
    with pytest.raises(OSError, match="No space"):
        simulate_night(tmp_path, SimulationSettings(array="north", n_blocks=1, n_showers=20))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"array": "east"}, "there is no array 'east'; there are north, south, mixed"),
        ({"array": "north", "throughput": {14: 1.0}}, r"telescopes \[14\], but array 'north' has"),
        ({"throughput": {1: 0.0}}, "throughput of telescope 1 is 0.0; it must be positive"),
        ({"throughput_scatter": -1.0}, "throughput_scatter is -1.0; it must be 0 or more"),
        ({"core_error_m": np.inf}, "core_error_m is inf; it must be 0 or more"),
        ({"n_showers": 0}, "n_showers is 0; it must be at least 1"),
        ({"proton_fraction": 1.5}, "proton_fraction is 1.5; it must be between 0 and 1"),
        ({"zenith_deg": 75.0}, "zenith_deg is 75.0; it must be between 0 and 60"),
        ({"energy_min_tev": 200.0}, "energy_min_tev is 200.0; it must be positive, below"),
    ],
)
def test_settings_no_night_can_have_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SimulationSettings(**wrong)


@pytest.mark.parametrize("energy_max_tev", [0.0101, 0.06])
def test_showers_too_faint_for_the_array_end_with_a_message(energy_max_tev):
    faint = SimulationSettings(
        array="south", energy_max_tev=energy_max_tev, throughput=dict.fromkeys(range(5, 19), 0.12)
    )
    with pytest.raises(ValueError, match=r"raise (energy_max_tev|it)"):
        simulate_block(faint, 1, draw_throughput(faint), 1)


def test_without_dl1_only_the_image_parameters_are_missing(tmp_path):
    full = SimulationSettings(array="north", n_blocks=1, n_showers=30)
    simulate_night(tmp_path / "full", full)
    simulate_night(tmp_path / "lean", dataclasses.replace(full, write_dl1=False))
    missing = all_tables(block_path(tmp_path / "full", 1001)).keys() - all_tables(
        block_path(tmp_path / "lean", 1001)
    )
    assert missing
    assert all(name.startswith("dl1/event/telescope/parameters/tel_") for name in missing)


def test_a_telescope_that_never_triggered_has_no_table(tmp_path):
    blind = SimulationSettings(
        array="south", n_blocks=1, n_showers=100, throughput={66: 1e-6}, write_dl1=False
    )
    simulate_night(tmp_path, blind)
    tables = all_tables(block_path(tmp_path, 1001))
    assert 66 in tables["configuration/instrument/subarray/layout"]["tel_id"]
    assert not [name for name in tables if name.endswith("tel_066")]


def test_rows_of_all_tables_of_a_telescope_agree(night):
    folder, truth = night
    path = block_path(folder, truth.obs_ids[0])
    tables = all_tables(path)
    triggers = tables["dl1/event/telescope/trigger"]
    with open_file(path) as file:
        seen = telescope_tables(file, "/dl2/event/telescope/impact/HillasReconstructor", path)
    for tel_id in seen:
        expected = triggers["event_id"][triggers["tel_id"] == tel_id]
        for name, rows in tables.items():
            if name.endswith(f"tel_{tel_id:03d}") and "event_id" in rows.dtype.names:
                np.testing.assert_array_equal(rows["event_id"], expected, err_msg=name)


def test_masks_and_subarray_times_follow_from_the_telescope_triggers(night):
    folder, truth = night
    tables = all_tables(block_path(folder, truth.obs_ids[0]))
    array, telescopes = (tables[f"dl1/event/{n}/trigger"] for n in ("subarray", "telescope"))
    layout = tables["configuration/instrument/subarray/layout"]["tel_id"]
    for row in array[:50]:
        own = telescopes[telescopes["event_id"] == row["event_id"]]
        assert layout[row["tels_with_trigger"] == 1].tolist() == own["tel_id"].tolist()
        assert row["time"].tolist() == min(own["time"].tolist())


# Physics


def test_bright_gamma_rays_give_back_the_throughput_of_every_telescope(throughput):
    settings = SimulationSettings(
        array="mixed", n_showers=3000, seed=11, energy_min_tev=10.0, proton_fraction=0.0
    )
    block = simulate_block(settings, 1001, throughput, 7)
    residual = ln_residual(block, throughput)
    # Ten times the threshold is six standard deviations from not triggering: an unbiased sample.
    chosen = block.images.is_valid & (true_brightness(block) > 10)
    for telescope, tel_id in enumerate(block.layout.tel_ids.tolist()):
        own = residual[chosen & (block.images.telescope == telescope)]
        assert len(own) > 100, tel_id
        # 55 telescopes: 4 sigma happens by chance once in 300 seeds.
        assert abs(own.mean()) < 4 * own.std() / np.sqrt(len(own)), tel_id


@pytest.mark.parametrize("kind", ["LST", "MST", "SST"])
def test_resolution_improves_with_size(block, throughput, kind):
    images = block.images
    gamma = ~block.showers.is_proton[images.shower] & images.is_valid
    gamma &= np.array(block.layout.types)[images.telescope] == kind
    ratio = true_brightness(block)
    residual = ln_residual(block, throughput)
    bands = [residual[gamma & (ratio > low) & (ratio < high)] for low, high in ((1, 2), (10, 1e9))]
    faint, bright = (band.std() for band in bands)
    response = KINDS[kind]
    # ln(E_rec) of bright images: floor, noise at > 10 thresholds, energy noise, common 0.12
    expected = np.sqrt(
        response.resolution_floor**2
        + response.resolution_noise / (20 * response.threshold)
        + response.energy_noise**2
        + 0.12**2
    )
    assert bright == pytest.approx(expected, rel=0.15)
    assert 0.24 < faint < 0.40


def test_protons_are_dim_wide_and_look_like_protons(block, throughput):
    images = block.images
    proton = block.showers.is_proton[images.shower] & images.is_valid
    gamma = ~block.showers.is_proton[images.shower] & images.is_valid
    bright = true_brightness(block) > 3
    residual = ln_residual(block, throughput)
    assert residual[proton & bright].std() > 1.4 * residual[gamma & bright].std()
    assert images.gammaness[proton].mean() < 0.4
    assert images.gammaness[gamma].mean() > 0.6
    assert 0.2 < block.showers.is_proton.mean() < 0.35


@pytest.mark.parametrize("array", ["north", "south", "mixed"])
def test_events_have_plausible_multiplicities(array):
    settings = SimulationSettings(array=array, n_showers=2000, seed=2)
    block = simulate_block(settings, 1001, draw_throughput(settings), 1)
    multiplicity = np.bincount(block.images.shower)
    assert len(multiplicity) == 2000
    assert multiplicity.min() == 2
    assert 3 < multiplicity.mean() < 6


def test_images_trigger_above_their_threshold_only(block):
    threshold = block.layout.response("threshold")[block.images.telescope]
    assert (block.images.size > threshold).all()


def test_simulating_farther_out_adds_no_showers(monkeypatch):
    settings = SimulationSettings(array="north", n_showers=15_000, seed=2)
    throughput = draw_throughput(settings)
    near = simulate_block(settings, 1, throughput, 1)
    monkeypatch.setattr(simulation_showers, "REACH_MARGIN", 12.0)
    far = simulate_block(settings, 1, throughput, 2)
    # Multiplicities scatter by 2.3: the means of 15,000 differ by 0.027 by chance.
    difference = (len(near.images.size) - len(far.images.size)) / 15_000
    assert abs(difference) < 3 * 2.3 * np.sqrt(2 / 15_000)
    medians = [np.median(block.showers.energy_tev) for block in (near, far)]
    assert medians[0] == pytest.approx(medians[1], rel=0.05)


def test_few_reconstructions_fail_and_those_that_do_say_so(block):
    images, showers = block.images, block.showers
    assert 0.01 < 1 - images.is_valid.mean() < 0.025
    np.testing.assert_array_equal(np.isnan(images.energy_tev), ~images.is_valid)
    np.testing.assert_array_equal(np.isnan(images.gammaness), ~images.is_valid)
    lost = ~showers.rec_is_valid
    assert 0 < lost.mean() < 0.03
    np.testing.assert_array_equal(np.isnan(images.rec_impact_m), lost[images.shower])
    np.testing.assert_array_equal(np.isnan(showers.rec_core_x_m), lost)


def test_energies_can_follow_the_size_less_than_fully(throughput):
    def correlation(follows):
        settings = SimulationSettings(
            array="mixed", n_showers=1500, energy_min_tev=2.0, proton_fraction=0.0,
            gamma_fluctuation=0.0, energy_follows_size=follows,
        )  # fmt: skip
        block = simulate_block(settings, 1, throughput, 9)
        chosen = block.images.is_valid & (true_brightness(block) > 4)
        nominal = (
            true_brightness(block) * block.layout.response("threshold")[block.images.telescope]
        )
        ln_c = np.log([throughput[tel_id] for tel_id in block.layout.tel_ids.tolist()])
        ln_size = np.log(block.images.size / nominal) - ln_c[block.images.telescope]
        return np.corrcoef(ln_residual(block, throughput)[chosen], ln_size[chosen])[0, 1]

    assert correlation(1.0) > 0.8
    assert abs(correlation(0.0)) < 0.05


# Geometry and time


def test_impact_distance_agrees_with_an_independent_calculation(block):
    image = 17
    shower, telescope = block.images.shower[image], block.images.telescope[image]
    alt, az = np.radians([block.showers.alt_deg[shower], block.showers.az_deg[shower]])
    axis = np.array([np.cos(alt) * np.cos(az), -np.cos(alt) * np.sin(az), np.sin(alt)])
    core = np.array([block.showers.core_x_m[shower], block.showers.core_y_m[shower], 0.0])
    to_telescope = block.layout.positions_m[telescope] - core
    expected = np.linalg.norm(np.cross(to_telescope, axis))
    assert block.images.impact_m[image] == pytest.approx(expected, rel=1e-9)


def test_impact_distance_from_a_vertical_axis_is_the_distance_on_the_ground():
    distance = impact_distance_m(
        np.array([30.0, 40.0, 7.0]), np.zeros(3), np.array([0.0, 0.0, 1.0])
    )
    assert distance == pytest.approx(50.0)


def test_reconstructed_impact_distances_err_by_the_core_error(block, settings):
    error = block.images.rec_impact_m - block.images.impact_m
    two = np.bincount(block.images.shower)[block.images.shower] == 2
    far = two & (block.images.impact_m > 100) & np.isfinite(error)
    # Far from the core only the component along the line to it counts. The direction adds
    # nothing: both axes pass through their core, and telescopes stand in the plane of the cores.
    assert error[far].std() == pytest.approx(settings.core_error_m, rel=0.1)


def test_directions_go_to_and_fro():
    alt, az = np.array([70.0, 5.0, 45.0]), np.array([0.5, 359.0, 180.0])
    there = altitude_azimuth(direction_vector(alt, az))
    np.testing.assert_allclose(there, [alt, az], rtol=1e-12)


def test_displacement_is_isotropic_even_at_the_zenith():
    n = 20_000
    rng = np.random.default_rng(1)
    for alt in (90.0, 30.0):
        moved = displace(np.full(n, alt), np.full(n, 77.0), np.full(n, 0.5), rng)
        cosine = direction_vector(*moved) @ direction_vector(alt, 77.0)
        # The rms angle of a two-dimensional Gaussian is sqrt(2) sigma; 20,000 give 0.4 %.
        rms = np.degrees(np.sqrt(np.mean(np.arccos(np.minimum(cosine, 1)) ** 2)))
        assert rms == pytest.approx(0.5 * np.sqrt(2), rel=0.02)


def test_telescopes_towards_the_source_see_the_front_first():
    towards_south = direction_vector(70.0, 180.0)  # x points to the north
    telescopes = np.array([[-100.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    axis = np.array([towards_south, towards_south])
    delay = arrival_delay_ns(telescopes, np.zeros((2, 3)), axis, np.full(2, 1e7))
    assert delay[0] < delay[1]
    # From a source far away the front is a plane: 200 m cos(70 deg) / c = 228.2 ns
    expected = 200 * np.cos(np.radians(70)) / SPEED_OF_LIGHT_M_PER_NS
    assert delay[1] - delay[0] == pytest.approx(expected, abs=0.01)


def test_stamps_are_compensated_for_the_pointing(block):
    images, layout = block.images, block.layout
    stored = (images.time - block.showers.time[images.shower]) / 4
    n_p = direction_vector(block.pointing_alt_deg, block.pointing_az_deg)
    plane_ns = layout.positions_m[images.telescope] @ n_p / SPEED_OF_LIGHT_M_PER_NS
    raw = stored - plane_ns

    def slope(stamps):
        """Of the stamps against the plane wave of the pointing, within showers."""
        n = np.bincount(images.shower)
        x, y = (v - (np.bincount(images.shower, v) / n)[images.shower] for v in (plane_ns, stamps))
        return (x @ y) / (x @ x)

    # The pull of the front's curvature on the slope is a few per cent.
    assert slope(raw) == pytest.approx(-1.0, abs=0.1)
    assert abs(slope(stored)) < 0.1


def test_stamps_are_whole_quanta_inside_the_block(block, settings):
    assert block.images.time.dtype == np.int64
    start = block.start_s * 4_000_000_000
    assert block.images.time.min() >= start
    assert block.images.time.max() <= start + (block.duration_s + 1) * 4_000_000_000
    assert (np.diff(block.showers.time) > -4_000_000).all()  # by time, but for the delays
    followers = dataclasses.replace(settings, n_showers=10)
    later = simulate_block(followers, 1002, draw_throughput(followers), 1)
    assert later.start_s - block.start_s == settings.block_duration_s


def test_layouts_have_the_promised_telescopes():
    ids = {name: make_layout(name).tel_ids.tolist() for name in ("north", "south", "mixed")}
    assert ids["north"] == [*range(1, 5), *range(5, 14)]
    assert ids["south"] == [*range(5, 19), *range(30, 67)]
    assert ids["mixed"] == [*range(1, 5), *range(5, 19), *range(30, 67)]
    for layout in (make_layout("north"), make_layout("south"), make_layout("mixed")):
        positions = layout.positions_m
        apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
        assert apart[apart > 0].min() > 20  # mirrors do not overlap
        assert len(np.unique(positions[:, 2])) == len(positions)


# The format, against a real file


class Columns:
    """Columns of every kind of table of a file: dtype, storage class and ctapipe attributes."""

    def __init__(self, path):
        self.tables = {}
        with open_file(path) as file:
            file.visititems(self._note)

    def _note(self, name, node):
        if hasattr(node, "dtype"):
            kind = re.sub(r"(tel|geometry|readout)_\d+$", r"\1_N", name)
            self.tables.setdefault(kind, self._columns(node))

    @staticmethod
    def _columns(node):
        stored = node.id.get_type()
        columns = {}
        for index, name in enumerate(node.dtype.names):
            attributes = {
                key: node.attrs.get(f"CTAFIELD_{index}_{key}")
                for key in ("UNIT", "TRANSFORM", "TIME_SCALE", "TIME_FORMAT", "ENUM")
            }
            text = {key: None if v is None else str(v, "ascii") if isinstance(v, bytes) else str(v)
                    for key, v in attributes.items()}  # fmt: skip
            dtype = node.dtype[name]
            base = "text" if dtype.kind == "S" else dtype.base.str
            # The length of a text, and of a mask, is that of the longest value and of the array.
            mask = base == "|u1" and dtype.shape
            shape = "telescopes" if mask else dtype.shape
            columns[name] = (base, shape, stored.get_member_class(index), text)
        return columns


# What a real file has and ours has not: counters of the processing that made it.
NOT_SIMULATED = {
    "dl1/service/image_statistics",
    "dl2/service/tel_event_statistics/HillasReconstructor",
}


def test_every_table_is_the_real_one_column_by_column(night, real_data):
    folder, truth = night
    ours = Columns(block_path(folder, truth.obs_ids[0])).tables
    real = Columns(real_data / "lapalma_gamma_ob9890.dl2.h5").tables
    assert real.keys() - ours.keys() <= NOT_SIMULATED
    assert ours.keys() <= real.keys()
    for name, columns in ours.items():
        assert list(columns) == list(real[name]), name
        for column, description in columns.items():
            assert description == real[name][column], f"{name}: {column}"


def test_the_root_attributes_are_the_real_ones(night, real_data):
    folder, truth = night
    with (
        open_file(block_path(folder, truth.obs_ids[0])) as ours,
        open_file(real_data / "lapalma_gamma_ob9890.dl2.h5") as real,
    ):
        # FILTERS is a default of PyTables for tables yet to be written.
        assert real.attrs.keys() - ours.attrs.keys() <= {"FILTERS"}
        assert ours.attrs.keys() <= real.attrs.keys()
        fixed = "CTA PRODUCT DATA MODEL VERSION", "CTA PRODUCT DATA LEVELS", "CTA PROCESS TYPE"
        for name in fixed:
            assert ours.attrs[name].decode() == real.attrs[name].decode()
