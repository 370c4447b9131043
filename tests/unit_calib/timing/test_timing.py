"""Stamps from files: what is read, what is refused and why; the front; small pieces of the fit."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import polars.testing
import pytest
from astropy import units
from astropy.coordinates import AltAz, EarthLocation
from hypothesis import given
from hypothesis import strategies as st
from toy_stamps import TimingToy, toy_setup, toy_stamps, toy_timing_array

from arraycal.calib import dl2, hdf5
from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.dl2.cursor import UnsortedRows
from arraycal.calib.dl2.door import open_door
from arraycal.calib.errors import CannotCompute, WrongUsage
from arraycal.calib.figures import CLOCK_FIGURES, draw_figures
from arraycal.calib.hdf5.writing import Column, create_file, set_attributes, write_table
from arraycal.calib.observables import TIMING_CROSS
from arraycal.calib.pairs.matching import REPEATED
from arraycal.calib.publish.writing import publish
from arraycal.calib.report import html, markdown
from arraycal.calib.report.facts import key_facts
from arraycal.calib.simulation import SimulationSettings, block_path, simulate_night
from arraycal.calib.stamps.front import C_M_PER_NS, Front, arrival_ns, direction, front
from arraycal.calib.stamps.stamps import RULES, Facts, check_block, stamp_windows
from arraycal.calib.stamps.usable import refuse_useless
from arraycal.calib.timing import fit as timing_fit
from arraycal.calib.timing import residuals as timing_residuals
from arraycal.calib.timing import sums as timing_sums
from arraycal.calib.timing.acquire import coincidences, group_median
from arraycal.calib.timing.showers import Setup, make_plan, prepare_stamps
from arraycal.calib.timing.steps import locate
from arraycal.config.models import CalculateTimingCalibrationOptions, Configuration

ARRAY = toy_timing_array()
REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "real"
GEOMETRY = "HillasReconstructor"
HIGH_RES = {"TIME_FORMAT": "ctao_high_res", "TIME_SCALE": "tai"}
SITE = EarthLocation.from_geodetic(-17.89 * units.deg, 28.76 * units.deg, 2200 * units.m)


def block_tables(stamps):
    """Tables of a DL2 file with the content of STAMPS."""
    carried = stamps["shower_quarters"] + stamps["delay_quarters"]
    seconds = (stamps["shower_s"] + carried // 4_000_000_000).to_numpy()
    time = np.stack([seconds, (carried % 4_000_000_000).to_numpy()], axis=1).astype(np.uint32)
    showers = stamps.unique("event_id", keep="first", maintain_order=True)
    keys = {name: stamps[name].to_numpy() for name in ("obs_id", "event_id", "tel_id")}
    shower_keys = {name: showers[name].to_numpy() for name in ("obs_id", "event_id")}
    geometry = {
        "alt": ("alt_deg", "deg"),
        "az": ("az_deg", "deg"),
        "core_x": ("core_x_m", "m"),
        "core_y": ("core_y_m", "m"),
        "h_max": ("h_max_m", "m"),
    }
    tables = {
        "/configuration/instrument/subarray/layout": {
            "tel_id": np.asarray(ARRAY.tel_ids, np.uint16),
            "type": np.asarray(ARRAY.types),
            "tel_description": np.asarray(ARRAY.descriptions),
            **dict(zip(("pos_x", "pos_y", "pos_z"), np.asarray(ARRAY.positions_m).T, strict=True)),
        },
        "/configuration/observation/observation_block": {
            "obs_id": stamps["obs_id"].unique().to_numpy(),
            "subarray_pointing_lat": stamps["pointing_alt_deg"].to_numpy()[:1],
            "subarray_pointing_lon": stamps["pointing_az_deg"].to_numpy()[:1],
            "subarray_pointing_frame": np.zeros(1, np.int64),
        },
        "/dl1/event/telescope/trigger": {
            **keys,
            "time": time,
            "event_type": np.full(len(stamps), 32),
        },
        f"/dl2/event/subarray/geometry/{GEOMETRY}": {
            **shower_keys,
            **{
                f"{GEOMETRY}_{name}": Column(showers[source].to_numpy(), unit=unit)
                for name, (source, unit) in geometry.items()
            },
            f"{GEOMETRY}_is_valid": np.ones(len(showers), np.bool_),
        },
    }
    for tel_id in sorted(set(stamps["tel_id"])):
        own = stamps.filter(pl.col("tel_id") == tel_id)
        names = ("obs_id", "event_id", "tel_id")
        tables[f"/dl1/event/telescope/parameters/tel_{tel_id:03d}"] = {
            **{name: own[name].to_numpy() for name in names},
            "hillas_intensity": own["size"].to_numpy(),
        }
    return tables


def write(path, tables, process="Observation", model="v7.6.0"):
    site = {f"reference_itrs_{axis}": getattr(SITE, axis).to_value("m") for axis in "xyz"}
    with create_file(path) as file:
        set_attributes(
            file,
            {
                "CTA PRODUCT DATA MODEL VERSION": model,
                "CTA PRODUCT DATA LEVELS": "DL1_PARAMETERS,DL2",
                "CTA PROCESS TYPE": process,
            },
        )
        for name, columns in tables.items():
            made = {k: v if isinstance(v, Column) else Column(v) for k, v in columns.items()}
            about = {"name": "toy", **site} if name.endswith("layout") else {}
            write_table(file, name, made, about)
    return path


def stamps_of(toy=None, seed=0, **changes):
    truth = 5.0 * np.random.default_rng(99).standard_normal(len(ARRAY))
    return toy_stamps(toy or TimingToy(truth, **changes), ARRAY, seed)


def options(**timing):
    return Configuration(CalculateTimingCalibration=CalculateTimingCalibrationOptions(**timing))


def read(path, configuration=None, *, stream=True):
    facts = Facts()
    block = dl2.open_block(path)
    with hdf5.open_file(path) as file:
        door = open_door(file, block.path, block.obs_ids)
    configuration = configuration or options()
    windows = list(stamp_windows(block, configuration, facts, door, rows=500, stream=stream))
    return (pl.concat(windows) if windows else None), facts


def run(tmp_path, tables, configuration=None, **attributes):
    path = write(tmp_path / "block.dl2.h5", tables, **attributes)
    configuration = configuration or options()
    block = rows_of_block(path, TIMING_CROSS, configuration, tmp_path / "cache")
    return block, calibrate([block], TIMING_CROSS, configuration)


def test_the_direction_is_that_of_astropy():
    # astropy's horizon frame is left-handed (north, east, up): y has the other sign.
    alt, az = np.array([70.0, 20.0]), np.array([40.0, 200.0])
    theirs = AltAz(alt=alt * units.deg, az=az * units.deg).cartesian.xyz.value.T
    assert direction(alt, az) == pytest.approx(theirs * [1, -1, 1], abs=1e-12)


def test_a_far_maximum_gives_a_plane_wave():
    rng = np.random.default_rng(1)
    position, core = 300 * rng.standard_normal((50, 3)), np.zeros((50, 3))
    towards = np.broadcast_to(direction(np.array(60.0), np.array(30.0)), (50, 3))
    time, _ = arrival_ns(front(position, core, towards), np.full(50, 1e12), C_M_PER_NS)
    assert time == pytest.approx(-np.sum(position * towards, axis=1) / C_M_PER_NS, abs=1e-3)


def test_a_near_maximum_delays_by_the_square_of_the_distance():
    # d^2 / (2 R c) = 100^2 / (2 * 10^4 * 0.29979) = 1.668 ns; the next order is 2.5e-5 of it.
    place = front(np.array([[100.0, 0, 0]]), np.zeros((1, 3)), np.array([[0.0, 0, 1]]))
    time, _ = arrival_ns(place, np.array([1e4]), C_M_PER_NS)
    assert time[0] == pytest.approx(1e4 / (2e4 * C_M_PER_NS), rel=1e-4)


@given(st.floats(-200, 200), st.floats(10, 300), st.floats(2e3, 2e4))
def test_the_derivative_by_the_radius_is_that_of_the_time(along, distance, radius):
    place = Front(np.array([along]), np.array([along**2 + distance**2]))
    step = 1e-4
    up, down = (
        arrival_ns(place, np.array([radius * np.exp(s)]), C_M_PER_NS)[0][0] for s in (step, -step)
    )
    _, slope = arrival_ns(place, np.array([radius]), C_M_PER_NS)
    assert slope[0] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


def test_stamps_come_back_from_a_file_to_the_quarter_of_a_nanosecond(tmp_path):
    stamps = stamps_of(n_showers=60)
    found, facts = read(
        write(tmp_path / "block.h5", block_tables(stamps)),
        options(max_core_distance=1e4, max_pointing_offset=90.0),
    )
    assert found is not None
    assert len(found) == len(stamps) == facts.n_rows
    keys = ["event_id", "tel_id"]
    both = found.join(stamps, on=keys, suffix="_in").sort(keys)

    def date(ending):
        return both[f"shower_quarters{ending}"] + both[f"delay_quarters{ending}"] + (
            both[f"shower_s{ending}"] - 1_700_000_000) * 4_000_000_000  # fmt: skip

    assert date("").equals(date("_in"), check_names=False)


def damaged(tables, **columns):
    trigger = tables["/dl1/event/telescope/trigger"]
    return tables | {"/dl1/event/telescope/trigger": trigger | columns}


def test_missing_stamps_are_dropped_and_counted(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    time = tables["/dl1/event/telescope/trigger"]["time"].copy()
    time[::50] = 0
    _, facts = read(write(tmp_path / "block.h5", damaged(tables, time=time)))
    assert facts.rejected[RULES["no_stamp"]] == 30


def test_stamps_of_another_year_are_dropped_and_counted(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    time = tables["/dl1/event/telescope/trigger"]["time"].copy()
    time[7, 0] += 365 * 86400
    _, facts = read(write(tmp_path / "block.h5", damaged(tables, time=time)))
    assert facts.rejected[RULES["far"]] == 1


def test_events_that_are_no_showers_are_dropped_and_counted(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    kind = tables["/dl1/event/telescope/trigger"]["event_type"].copy()
    kind[:10] = 2
    _, facts = read(write(tmp_path / "block.h5", damaged(tables, event_type=kind)))
    assert facts.rejected[RULES["no_shower"]] == 10


def test_repeated_rows_count_once(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    trigger = tables["/dl1/event/telescope/trigger"]
    again = {
        name: np.repeat(values, [2] * 5 + [1] * 1495, axis=0) for name, values in trigger.items()
    }
    found, facts = read(write(tmp_path / "b.h5", damaged(tables, **again)))
    plain, _ = read(write(tmp_path / "a.h5", tables))
    assert facts.rejected[REPEATED] == 5
    assert found is not None
    assert plain is not None
    assert found.equals(plain)


def test_unordered_rows_are_read_again_in_memory(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    trigger = tables["/dl1/event/telescope/trigger"]
    turned = damaged(tables, **{name: values[::-1] for name, values in trigger.items()})
    path = write(tmp_path / "block.h5", turned)
    with pytest.raises(UnsortedRows):
        read(path)
    found, _ = read(path, stream=False)
    plain, _ = read(write(tmp_path / "plain.h5", tables))
    assert found is not None
    assert plain is not None
    assert found.equals(plain)


def test_floating_point_dates_are_refused_with_the_reason(tmp_path):
    tables = block_tables(stamps_of(n_showers=50))
    days = np.full(250, 59000.0)
    path = write(tmp_path / "b.h5", damaged(tables, time=days), model="v6.0.0")
    block = rows_of_block(path, TIMING_CROSS, options(), tmp_path / "cache")
    assert block.status == "failed"
    assert "needs whole seconds and quarter nanoseconds" in block.reason
    assert "v6.0.0" in block.reason


def test_a_file_without_geometry_is_refused_with_what_there_is(tmp_path):
    tables = block_tables(stamps_of(n_showers=50))
    path = write(tmp_path / "b.h5", tables)
    found = rows_of_block(
        path, TIMING_CROSS, options(geometry_reconstructor="Disp"), tmp_path / "cache"
    )
    assert found.status == "failed"
    assert "Disp_alt does not exist" in found.reason
    assert "HillasReconstructor_alt" in found.reason


def test_a_geometry_that_is_said_to_be_invalid_is_not_used_although_it_is_finite(tmp_path):
    tables = block_tables(stamps_of(n_showers=300))
    geometry = tables[f"/dl2/event/subarray/geometry/{GEOMETRY}"]
    valid = geometry[f"{GEOMETRY}_is_valid"].copy()
    valid[:20] = False
    invalid = set(geometry["event_id"][:20].tolist())
    tables[f"/dl2/event/subarray/geometry/{GEOMETRY}"] = geometry | {f"{GEOMETRY}_is_valid": valid}
    found, facts = read(write(tmp_path / "block.h5", tables))
    # 20 showers of 5 telescopes each.
    assert facts.rejected[RULES["geometry"]] == 100
    assert found is not None
    assert not invalid & set(found["event_id"])


def test_images_below_twice_the_threshold_are_left_out(tmp_path):
    stamps = stamps_of(n_showers=300)
    path = write(tmp_path / "block.h5", block_tables(stamps))
    wide = {"max_core_distance": 1e4, "max_pointing_offset": 90.0}
    plain, _ = read(path, options(**wide))
    found, facts = read(path, options(**wide, size_threshold=60.0))
    # The toy's images have 50 p.e. and more, (50 / 120) ** 1.5 = 27 % of them over 120.
    assert facts.rejected[RULES["faint"]] == (stamps["size"] <= 120.0).sum() > 500
    assert plain is not None
    assert plain["size"].min() < 120.0
    assert found is not None
    assert 120.0 < found["size"].min() < 130.0


def test_two_telescopes_a_shower_are_too_few(tmp_path):
    tables = block_tables(stamps_of(n_showers=100, multiplicity=2))
    path = write(tmp_path / "b.h5", tables)
    found = rows_of_block(path, TIMING_CROSS, options(), tmp_path / "cache")
    assert found.n_rows == 0
    assert "none of 200 telescope events can be compared" in found.remarks[0]
    assert "too few telescopes (min_telescopes): 198" in found.remarks[0]
    with pytest.raises(CannotCompute, match="there is no stamp to compare"):
        calibrate([found], TIMING_CROSS, options())


@pytest.mark.parametrize("unit", [0, 2515])
def test_copied_and_rounded_stamps_are_useless(unit):
    rng = np.random.default_rng(2)
    differences = unit * rng.integers(0, 2, 500)
    counts = dict(
        zip(*(x.tolist() for x in np.unique(differences, return_counts=True)), strict=True)
    )
    with pytest.raises(CannotCompute, match=r"useless for timing\. Of 500 differences"):
        refuse_useless(counts, "file")


def test_stamps_of_clocks_are_not_useless_even_when_they_agree_well():
    rng = np.random.default_rng(3)
    differences = np.round(4 * np.abs(rng.normal(0, 1.4, 5000))).astype(int)
    counts = dict(
        zip(*(x.tolist() for x in np.unique(differences, return_counts=True)), strict=True)
    )
    refuse_useless(counts, "file")


def test_a_check_looks_at_stamps_as_a_run_does(tmp_path):
    tables = block_tables(stamps_of(n_showers=50))
    trigger = tables["/dl1/event/telescope/trigger"]
    copied = trigger["time"].copy()
    copied[:] = copied[0]
    turned = {name: values[::-1] for name, values in trigger.items()}
    good = [tables, damaged(tables, **turned)]  # in whatever order
    for number, content in enumerate(good):
        check_block(dl2.open_block(write(tmp_path / f"{number}.h5", content)), options())
    path = write(tmp_path / "copied.h5", damaged(tables, time=copied))
    with pytest.raises(CannotCompute, match="useless for timing"):
        check_block(dl2.open_block(path), options())
    # Stamps of calibration events may well be equal.
    no_showers = damaged(tables, time=copied, event_type=np.zeros(250, np.int64))
    check_block(dl2.open_block(write(tmp_path / "flat_field.h5", no_showers)), options())


def test_a_file_goes_all_the_way_and_the_cache_serves_the_second_time(tmp_path):
    truth = 5.0 * np.random.default_rng(99).standard_normal(len(ARRAY))
    block, result = run(tmp_path, block_tables(stamps_of()))
    value = result.telescopes["value"].to_numpy()
    assert np.std(value - truth) < 0.25
    together = result.pairs.select("tel_id_1", "tel_id_2").rows()
    partners = [sum(tel_id in pair for pair in together) for tel_id in result.telescopes["tel_id"]]
    assert result.telescopes["n_partners"].to_list() == partners
    assert result.fit["time_convention"] == "raw"
    assert result.verdict.status == "usable"
    assert "unconstrained" in result.fit
    again = rows_of_block(block.path, TIMING_CROSS, options(clip=6.0), tmp_path / "cache")
    assert again.cached
    json.dumps(result.to_json(), allow_nan=False)


def test_the_report_shows_clocks_with_their_jumps(tmp_path):
    stamps = stamps_of(n_showers=2000, duration_s=800.0)
    late = (pl.col("tel_id") == 6) & (pl.col("event_id") > 1000)
    jumped = stamps.with_columns(delay_quarters=pl.col("delay_quarters") + 40 * late)
    _, result = run(tmp_path, block_tables(jumped))
    assert result.verdict.status == "degraded"
    assert any("the clock of MST-6 jumped (+" in reason for reason in result.verdict.reasons)
    page = html(result)
    assert "Jumps of clocks (1)" in page
    assert "offset/ns" in page
    assert set(CLOCK_FIGURES) <= set(draw_figures(result))
    assert "MST" in markdown(result)


def test_many_jumps_are_one_sentence_of_the_verdict_and_one_line_of_each_telescope(tmp_path):
    stamps = stamps_of(n_showers=4000, duration_s=1600.0)
    late = pl.lit(0, pl.Int64)
    for tel_id in (2, 6, 7, 9):
        own = pl.col("tel_id") == tel_id
        late += 200 * (own & (pl.col("event_id") > 1000)) - 80 * (own & (pl.col("event_id") > 2500))
    jumped = stamps.with_columns(delay_quarters=pl.col("delay_quarters") + late)
    _, result = run(tmp_path, block_tables(jumped))
    (reason,) = (reason for reason in result.verdict.reasons if "jump" in reason)
    assert reason.startswith("8 jumps of 4 clocks by up to 50.")
    assert "(LST-2, MST-6, MST-7, 1 more); see the table of steps" in reason
    rows = result.telescopes.filter(pl.col("flag") == "step")
    assert rows["tel_id"].to_list() == [2, 6, 7, 9]
    assert all(text.startswith("jumped 2 times, last: -") for text in rows["reason"])


def test_the_published_table_has_offsets_in_ns(tmp_path):
    _, result = run(tmp_path, block_tables(stamps_of()))
    published = publish(result, TIMING_CROSS, tmp_path / "out", overwrite=False)
    with hdf5.open_file(published.monitoring) as file:
        path = "/dl2/monitoring/subarray/timing_calibration"
        table = hdf5.require_table(file, path, published.monitoring)
        assert table.columns == ("tel_type", "tel_id", "offset", "error")
        assert (table.unit("offset"), table.unit("error")) == ("ns", "ns")
        described = [str(value) for value in file[path].attrs.values()]
        assert any("corrected = stamp - offset" in text for text in described)
        rows = table.read()
    known = result.telescopes.filter(pl.col("value").is_finite()).sort("tel_type", "tel_id")
    assert rows["offset"].tolist() == known["value"].to_list()


def test_simulations_are_taken_for_compensated_and_can_be_overruled(tmp_path):
    tables = block_tables(stamps_of(compensated=True))
    block, result = run(tmp_path, tables, process="Simulation")
    assert result.fit["time_convention"] == "pointing_compensated"
    with pytest.raises(CannotCompute, match="time_convention=pointing_compensated"):
        calibrate([block], TIMING_CROSS, options(time_convention="raw"))


def test_without_a_pointing_compensated_stamps_cannot_be_used(tmp_path):
    tables = block_tables(stamps_of(compensated=True))
    del tables["/configuration/observation/observation_block"]
    tables["/dl1/event/subarray/trigger"] = {"obs_id": np.ones(1, int), "event_id": np.ones(1, int)}
    with pytest.raises(CannotCompute, match="the pointing is not in the file"):
        run(tmp_path, tables, process="Simulation")


@pytest.mark.parametrize("place", ["dl1", "dl0"])
def test_a_monitored_pointing_serves_as_well_as_a_fixed_one(tmp_path, place):
    stamps = []
    for tables in (("configuration",), (place,)):
        folder = tmp_path / tables[0]
        settings = SimulationSettings(
            array="north", n_blocks=1, n_showers=300, seed=3, pointing_tables=tables
        )
        simulate_night(folder, settings)
        stamps.append(read(block_path(folder, 1001))[0])
    fixed, monitored = stamps
    assert len(fixed) > 100
    # The toy does not track: only the way to the same angles differs.
    pl.testing.assert_frame_equal(fixed, monitored, abs_tol=1e-4)
    assert fixed["pointing_alt_deg"].is_finite().all()


def test_stamps_that_run_backwards_are_told(tmp_path):
    stamps = stamps_of(n_showers=2000, duration_s=600.0)
    back = stamps.with_columns(shower_s=pl.col("shower_s") - 100 * (pl.col("event_id") > 1000))
    _, result = run(tmp_path, block_tables(back))
    assert any("run backwards 1 times, by up to" in reason for reason in result.verdict.reasons)
    assert result.telescopes["value"].is_finite().all()


def test_a_reference_that_the_array_does_not_have_is_wrong_usage(tmp_path):
    with pytest.raises(WrongUsage, match="telescope 99 is none of this array, which has 1, "):
        run(tmp_path, block_tables(stamps_of()), options(reference_telescope=99))


def test_few_showers_give_no_number_and_the_reason(tmp_path):
    _, result = run(tmp_path, block_tables(stamps_of(n_showers=60)))
    few = result.telescopes.filter(pl.col("flag") == "few_events")
    assert len(few)
    assert few["value"].is_nan().all()
    published = next(iter(result.published.values()))
    assert len(published) == result.telescopes["value"].is_finite().sum()


def test_medians_by_group_are_those_of_a_loop():
    rng = np.random.default_rng(4)
    values, group = rng.standard_normal(200), rng.integers(0, 20, 200)
    expected = [np.sort(values[group == g])[(np.sum(group == g) - 1) // 2] for g in range(20)]
    assert group_median(values, group, 20).tolist() == expected


def test_coincidences_find_offsets_through_wrong_stamps():
    rng = np.random.default_rng(5)
    truth = np.array([0.0, 3.2e6, -7.5e4, 800.0])
    telescope, group = np.tile(np.arange(4), 300), np.repeat(np.arange(300), 4)
    delay = truth[telescope] + 20 * rng.standard_normal(1200)
    wrong = rng.uniform(size=1200) < 0.1
    delay[wrong] += rng.uniform(-1e6, 1e6, wrong.sum())
    found = coincidences(delay, telescope, group, 4)
    assert np.abs(found - found[0] - truth + truth[0]).max() < 30


def test_the_sums_are_those_of_the_full_design():
    stamps = stamps_of(n_showers=30)
    showers = prepare_stamps(stamps, toy_setup(ARRAY))
    n = len(ARRAY)
    model = timing_residuals.FrontModel(
        np.zeros((1, n)),
        0.2,
        np.array([1.0, 2.0]),
        np.linspace(1, 2, n),
        1e9,
        ("curvature", "walk"),
    )
    found = timing_residuals.stamp_residuals(showers, np.zeros(30, int), model)
    got = timing_sums.sums(showers, np.zeros(30, int), 1, found, n)
    # By explicit elimination: telescope indicators and columns, less their mean in the shower.
    time, slope = showers.predict(0.2)
    y = showers.delay_ns - time - model.walk_ns[showers.kind] * showers.brightness
    walks = [np.where(showers.kind == k, showers.brightness, 0.0) for k in (0, 1)]
    design = np.column_stack([np.eye(n)[showers.telescope], slope, *walks])
    weight = 1 / model.sigma_ns[showers.telescope] ** 2
    size = design.shape[1]
    matrix, vector, meat = np.zeros((size, size)), np.zeros(size), np.zeros((size, size))
    for low, high in zip(showers.start[:-1], showers.start[1:], strict=True):
        w, X, z = weight[low:high], design[low:high], y[low:high]
        X = X - np.average(X, axis=0, weights=w)
        g = X.T @ (w * (z - np.average(z, weights=w)))
        matrix, vector = matrix + X.T @ (w[:, None] * X), vector + g
        meat = meat + np.outer(g, g)
    assert got.matrix[0] == pytest.approx(matrix, rel=1e-9, abs=1e-9)
    assert got.vector[0] == pytest.approx(vector, rel=1e-9, abs=1e-7)
    assert got.meat[0] == pytest.approx(meat, rel=1e-9, abs=1e-6)


def test_groups_of_showers_in_any_order_add_up_to_the_whole():
    showers = prepare_stamps(stamps_of(n_showers=40), toy_setup(ARRAY))
    n, columns = len(ARRAY), ("curvature", "walk")
    model = timing_residuals.FrontModel(np.zeros((1, n)), 0.2, np.ones(2), np.ones(n), 1e9, columns)
    found = timing_residuals.stamp_residuals(showers, np.zeros(40, int), model)
    whole = timing_sums.sums(showers, np.zeros(40, int), 1, found, n)
    parts = timing_sums.sums(showers, np.arange(40) % 3, 4, found, n)
    assert parts.matrix.sum(axis=0) == pytest.approx(whole.matrix[0], rel=1e-9, abs=1e-9)
    assert parts.meat.sum(axis=0) == pytest.approx(whole.meat[0], rel=1e-9, abs=1e-9)
    assert not parts.matrix[3].any()
    assert np.linalg.norm(parts.matrix[:3, n:, n:], axis=(1, 2)).min() > 0


def test_clipping_takes_the_wrong_stamp_and_not_its_neighbours():
    showers = prepare_stamps(stamps_of(n_showers=50, outliers=0.0), toy_setup(ARRAY))
    rest = np.random.default_rng(6).standard_normal(len(showers.shower))
    rest[[12, 100, 103]] += [-60.0, 60.0, 60.0]  # early and late
    weight = timing_residuals.clip(showers, rest, np.ones(len(rest)), 5.0)
    assert np.flatnonzero(weight == 0).tolist() == [12, 100, 103]


def test_chunks_are_long_enough_full_enough_and_of_one_observation():
    frames = [toy_stamps(TimingToy([0.0] * 13, n_showers=n, duration_s=d), ARRAY, n, obs_id=obs)
              for obs, (n, d) in enumerate([(1000, 100.0), (900, 900.0)])]  # fmt: skip
    windows = [prepare_stamps(frame, toy_setup(ARRAY)) for frame in frames]
    plan = make_plan(windows, 60.0, 200)
    count = np.diff(plan.edges)
    # 1000 showers in 100 s: the second chunk would last 40 s but has 400 showers, enough.
    assert plan.obs_id.tolist() == [0, 0, 1, 1, 1, 1]
    assert (count >= 200).all()
    assert count.sum() == 1900


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared real files are not here")
class TestRealFiles:
    @pytest.mark.parametrize("name", ["lapalma_gamma_ob9890", "lapalma_gamma_ob9891",
                                      "paranal_gamma_diffuse_ob99"])  # fmt: skip
    def test_rounded_and_made_up_stamps_are_refused(self, name, tmp_path):
        path = REAL / f"{name}.dl2.h5"
        block = rows_of_block(path, TIMING_CROSS, options(), tmp_path)
        assert block.status == "failed"
        assert "useless for timing" in block.reason

    def test_stamps_of_sim_telarray_agree_with_the_front_and_their_convention(self):
        path = REAL / "simtel_proton_ob202.dl2.h5"
        found, _ = read(path)
        assert found is not None
        array = dl2.open_block(path).subarray
        spread: dict[bool, list[float]] = {True: [], False: []}
        for compensated, into in spread.items():
            setup = Setup(array, compensated, 2158.0, (5000.0, 15000.0), 8000.0)
            for scale in np.linspace(-0.5, 1.5, 41):
                showers = prepare_stamps(found, setup)
                rest = showers.delay_ns - showers.predict(scale)[0]
                mean = showers.total(rest) / np.diff(showers.start)
                into.append(float(np.std(rest - mean[showers.shower])))
        assert min(spread[True]) < 3.0
        assert min(spread[False]) > 30.0


def test_of_places_for_a_jump_that_are_equally_good_the_middle_one_is_taken():
    # Stamps half-way between both levels, or wrong by far, tell nothing.
    assert locate(np.array([0.0, 0.0, 5.0, 500.0, 5.0, 500.0, 10.0, 10.0]), 10.0) == 4
    assert locate(np.array([0.0, 10.0]), 10.0) == 1


@pytest.mark.parametrize("passes", [1, 2])
def test_sums_are_those_of_the_model_also_when_the_loop_does_not_settle(monkeypatch, passes):
    monkeypatch.setattr(timing_fit, "MAX_PASSES", passes)
    showers = prepare_stamps(stamps_of(), toy_setup(ARRAY))
    choice = timing_fit.ClockFitOptions(5.0, 1.0, True, True, 60.0, 200)
    found = timing_fit.fit_clocks(lambda: [showers], 2, ARRAY.type_codes, choice)
    assert not found.settled
    again = timing_fit.one_pass(lambda: [showers], found.plan, found.model)
    assert again.vector == pytest.approx(found.sums.vector, abs=1e-9)
    assert again.matrix.shape == found.sums.matrix.shape


def test_the_degrees_of_freedom_know_of_front_and_walk(tmp_path):
    frame = stamps_of()
    _, free = run(tmp_path, block_tables(frame))
    (tmp_path / "held").mkdir()
    held = options(fit_walk=False, fit_curvature=False)
    _, result = run(tmp_path / "held", block_tables(frame), held)
    facts = (free.fit, result.fit)
    more, less = (
        fit["n_telescope_events"] - fit["n_showers"] - fit["ndf"] - (len(ARRAY) - 1)
        for fit in facts
    )
    assert (more, less) == (3, 0)  # a curvature and the walk of two types


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
def test_sizes_that_say_nothing_are_told(tmp_path, size):
    _, result = run(tmp_path, block_tables(stamps_of().with_columns(size=pl.lit(size))))
    assert timing_fit.NO_SIZES in str(result.verdict)
    assert not any(name.startswith("walk_ns") for name in result.fit)


def test_the_plane_that_one_pointing_leaves_open_is_in_the_report_and_on_the_terminal(tmp_path):
    _, result = run(tmp_path, block_tables(stamps_of()))
    assert "0.01 deg" in dict(key_facts(result))["unconstrained"]
    assert "ns" in dict(key_facts(result))["unconstrained"]
