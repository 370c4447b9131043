"""What may pass into a calibration is judged once, when a block is read: the same in all four."""

import re
import shutil
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the filter of the tables
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from arraycal.calib.blocks.rows import rows_of_block
from arraycal.calib.blocks.stage import select_blocks, without_repeats
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.monitoring.published_tables import monitoring_file
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, TIMING_CROSS
from arraycal.calib.simulation import SimulationSettings, block_path, simulate_night
from arraycal.calib.stamps.stamps import STAMPS
from arraycal.config.loading import load_preset

FOUR = [ENERGY_INTER, IMAGE_INTER, ENERGY_CROSS, TIMING_CROSS]
ARRAY_TRIGGER, TRIGGER = "/dl1/event/subarray/trigger", "/dl1/event/telescope/trigger"
ENERGIES = "/dl2/event/telescope/energy/RandomForestRegressor"
IMPACTS = "/dl2/event/telescope/impact/HillasReconstructor"
PARAMETERS = "/dl1/event/telescope/parameters"
GEOMETRY = "/dl2/event/subarray/geometry/HillasReconstructor"
ENERGY = "RandomForestRegressor_tel_energy"
DISTANCE = "HillasReconstructor_tel_impact_distance"
KEYS = ("obs_id", "event_id", "tel_id", "tel_id_1", "tel_id_2")
N_SHOWERS = 800


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    settings = SimulationSettings(array="north", n_blocks=1, n_showers=N_SHOWERS, seed=3)
    simulate_night(folder, settings)
    return block_path(folder, 1001)


@pytest.fixture
def copied(simulated, tmp_path):
    """A copy of the block, to be spoilt."""
    return Path(shutil.copy(simulated, tmp_path / "block.dl2.h5"))


@pytest.fixture(scope="module")
def untouched(simulated, tmp_path_factory):
    """Rows of the block as it is, by calibration."""
    cache = tmp_path_factory.mktemp("cache")
    return {observable.name: rows_of(block_of(simulated, observable, cache)) for observable in FOUR}


@pytest.fixture
def block(tmp_path):
    return lambda path, observable, **changes: block_of(
        path, observable, tmp_path / "cache", **changes
    )


def block_of(path, observable, cache, **changes):
    configuration = load_preset(observable.name)
    return rows_of_block(path, observable, configuration.model_copy(update=changes), cache)


def result_of(blocks, observable=ENERGY_INTER):
    return calibrate(blocks, observable, load_preset(observable.name))


def rows_of(block):
    assert block.status == "ok", block.reason
    schema = STAMPS if "has_sizes" in block.entry.summary else None
    return in_order(pl.concat(list(block.windows(schema))))


def in_order(rows):
    """Windows and files part the rows; each part has one pair after the other."""
    return rows.sort([name for name in KEYS if name in rows.columns])


def assert_same_but(rows, base, lost):
    """ROWS are those of `base` without the lost ones, and without what these leave alone."""
    in_company = pl.len().over("obs_id", "event_id", "tel_type") > 1
    expected = base.filter(~lost).filter(in_company)
    untouched = ~lost.any().over("obs_id", "event_id", "tel_type")
    assert_frame_equal(rows.drop("asymmetry"), expected.drop("asymmetry"))
    # To whom nobody is missing the others are as they were.
    same = base.filter(untouched)
    assert_frame_equal(rows.join(same.select(KEYS[:3]), on=KEYS[:3], how="semi"), same)


def counts(block):
    return {rule: (n, one) for _, rule, n, one in block.rejected.iter_rows() if n}


def change(path, table, rule):
    """Replace the rows of a table by what `rule` makes of them."""
    with h5py.File(path, "r+") as file:
        stored = file[table]
        rows = rule(stored[:])
        stored.resize((len(rows),))
        rows = np.ascontiguousarray(rows)
        # The file's own type: h5py has no way from its bytes to bit fields.
        stored.id.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=stored.id.get_type())
        if "NROWS" in stored.attrs:
            stored.attrs["NROWS"] = len(rows)


def event_tables(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.append(f"/{name}")
                if isinstance(item, h5py.Dataset)
                and "/event/" in f"/{name}"
                and {"obs_id", "event_id"} <= set(item.dtype.names or ())
                else None
            )
        )
    return found


def first_telescope(path, group=ENERGIES):
    with h5py.File(path) as file:
        return next(f"{group}/{name}" for name in file[group])


def with_flat_fields(path, n_events, event_ids):
    """Add flat-field events: they are in every table, with images and energies of their own."""

    def add(rows):
        more = np.resize(rows, n_events).copy()
        more["event_id"] = event_ids
        for name in ("event_type", "hillas_intensity", ENERGY):
            if name in (rows.dtype.names or ()):
                more[name] = {"event_type": 0}.get(name, 5.0 * more[name])
        # As a camera writes them, all through the block.
        at = np.sort(np.random.default_rng(1).integers(0, len(rows) + 1, n_events))
        return np.insert(rows, at, more)

    for table in event_tables(path):
        change(path, table, add)


# --- what is no shower -------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["of their own", "-1"])
@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_flat_fields_among_the_showers_change_no_row(copied, block, untouched, observable, ids):
    event_ids = -1 if ids == "-1" else 10_000_000 + np.arange(60)
    with_flat_fields(copied, 60, event_ids)
    found = block(copied, observable)
    rows = rows_of(found)
    assert_frame_equal(rows, untouched[observable.name])
    n_lost, one = counts(found)["no shower event"]
    assert n_lost >= 60
    assert f"event_id {-1 if ids == '-1' else 10_000_000}" in one
    assert found.remarks == []


def test_columns_of_both_trigger_tables_can_be_criteria(copied, block):
    criteria = (("shower", "event_type == 32"), ("large", "n_trigger_pixels >= 100"))
    query = type(load_preset("energy-inter").QualityQuery)(quality_criteria=criteria)

    def rule(rows):
        rows["n_trigger_pixels"] = np.where(rows["event_id"] % 2 == 0, 150, 50)
        return rows

    change(copied, TRIGGER, rule)
    found = block(copied, ENERGY_INTER, QualityQuery=query)
    assert (rows_of(found)["event_id"] % 2 == 0).all()
    assert "shower" not in counts(found)
    n_lost, _ = counts(found)["large"]
    assert 0.4 < n_lost / found.n_events < 0.6


def test_without_event_types_the_result_says_what_was_not_tested(make_block, block):
    found = block(make_block().write(), ENERGY_INTER)
    assert found.status == "ok"
    assert any("no event_type" in text for text in found.untested)
    result = result_of([found])
    assert any(
        "trigger table has no event_type (block.dl2.h5)" in t for t in result.verdict.untested
    )


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
@pytest.mark.parametrize("kind", ["no rows", "only flat fields"])
def test_a_block_without_a_shower_is_empty_and_not_failed(copied, block, observable, kind):
    def rule(rows):
        if kind == "no rows":
            return rows[:0]
        if "event_type" in rows.dtype.names:
            rows["event_type"] = 0
        return rows

    for table in event_tables(copied):
        change(copied, table, rule)
    found = block(copied, observable)
    assert found.status == "empty"
    assert "no shower in it" in found.reason
    with pytest.raises(NothingToDo, match="no shower in any of the 1 blocks"):
        result_of([found], observable)


def test_an_empty_block_does_not_degrade_the_others(copied, simulated, block):
    for table in event_tables(copied):
        change(copied, table, lambda rows: rows[:0])
    result = result_of([block(simulated, ENERGY_INTER), block(copied, ENERGY_INTER)])
    assert sorted(result.blocks["status"]) == ["empty", "ok"]
    assert not any("left out" in reason for reason in result.verdict.reasons)


# --- the same key twice ------------------------------------------------------------------


def doubled(factor=1.0, column=ENERGY, part=4):
    """Every fourth row twice, the first one times a factor."""

    def rule(rows):
        again = rows[::part].copy()
        again[column] *= factor
        return np.insert(rows, np.arange(0, len(rows), part), again)

    return rule


def rows_of_events(path, group, event_ids):
    """Rows of the tables of a group that are of some events."""
    with h5py.File(path) as file:
        return sum(int(np.isin(t["event_id"], event_ids).sum()) for t in file[group].values())


def torn_by(path, table, column):
    """Showers of which `doubled` makes unequal rows: NaN times a factor is NaN."""
    with h5py.File(path) as file:
        rows = file[table][::4]
    return rows["event_id"][np.isfinite(rows[column])].tolist()


def test_copies_of_rows_count_once_and_are_counted(copied, block, untouched):
    table = first_telescope(copied)
    with h5py.File(copied) as file:
        n_copies = len(file[table][::4])
    change(copied, table, doubled())
    found = block(copied, ENERGY_INTER)
    assert_frame_equal(rows_of(found), untouched["energy-inter"])
    assert counts(found)["repeated row"][0] == n_copies
    assert found.remarks == []


@pytest.mark.parametrize("streamed", [True, False])
def test_an_event_with_unequal_rows_of_a_telescope_is_left_out_altogether(
    copied, block, untouched, streamed
):
    table = first_telescope(copied)
    tel_id = int(table[-3:])
    torn = torn_by(copied, table, ENERGY)
    change(copied, table, doubled(1.5))
    if not streamed:
        change(copied, table, lambda rows: np.roll(rows, 7))
    found = block(copied, ENERGY_INTER)
    base = untouched["energy-inter"]
    assert_frame_equal(rows_of(found), base.filter(~pl.col("event_id").is_in(torn)))
    n_lost, one = counts(found)["rows of the same key that contradict each other"]
    assert n_lost == rows_of_events(copied, ENERGIES, torn)
    assert f"event_id {torn[0]}, tel_id {tel_id}" in one
    result = result_of([found])
    assert result.verdict.status == "degraded"
    (reason,) = (r for r in result.verdict.reasons if "unequal rows" in r)
    assert f"LST {tel_id} {len(torn):,} times" in reason


def test_contradictions_across_a_window_are_found(copied, block, monkeypatch, untouched):
    monkeypatch.setattr("arraycal.calib.dl2.block.READ_ROWS", 1)
    monkeypatch.setattr("arraycal.calib.blocks.pair_rows.window_rows", lambda *_: 300)
    table = first_telescope(copied)
    change(copied, table, doubled(1.5, part=1))
    with h5py.File(copied) as file:
        rows = file[table][:]
    torn = rows["event_id"][np.isfinite(rows[ENERGY])].tolist()
    found = block(copied, ENERGY_INTER)
    base = untouched["energy-inter"]
    assert_frame_equal(rows_of(found), base.filter(~pl.col("event_id").is_in(torn)))
    # They are not missing as well.
    (remark,) = found.remarks
    assert "unequal rows" in remark


def test_contradicting_distances_leave_out_the_event(copied, block, untouched):
    table = first_telescope(copied, IMPACTS)
    torn = torn_by(copied, table, DISTANCE)
    change(copied, table, doubled(2.0, DISTANCE))
    found = block(copied, ENERGY_INTER)
    expected = untouched["energy-inter"].filter(~pl.col("event_id").is_in(torn))
    assert_frame_equal(rows_of(found), expected)
    n_lost = rows_of_events(copied, ENERGIES, torn)
    assert counts(found)["rows of the same key that contradict each other"][0] == n_lost
    assert "impact/HillasReconstructor has unequal rows" in found.remarks[0]


def test_a_shower_with_two_geometries_is_left_out(copied, block, untouched):
    with h5py.File(copied) as file:
        torn = file[GEOMETRY]["event_id"][::4].tolist()
    change(copied, GEOMETRY, doubled(1.01, "HillasReconstructor_core_x"))
    found = block(copied, TIMING_CROSS)
    expected = untouched["timing-cross"].filter(~pl.col("event_id").is_in(torn))
    assert_frame_equal(rows_of(found), expected)
    assert "geometry/HillasReconstructor has unequal rows" in found.remarks[0]


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_an_event_that_triggered_in_two_ways_is_left_out(copied, block, untouched, observable):
    def rule(rows):
        again = rows[::4].copy()
        again["time"][:, 1] += 4
        return np.insert(rows, np.arange(0, len(rows), 4), again)

    with h5py.File(copied) as file:
        torn = file[ARRAY_TRIGGER]["event_id"][::4].tolist()
    change(copied, ARRAY_TRIGGER, rule)
    found = block(copied, observable)
    expected = untouched[observable.name].filter(~pl.col("event_id").is_in(torn))
    assert_frame_equal(rows_of(found), expected)
    (remark,) = found.remarks
    assert (
        f"subarray/trigger has unequal rows of the same key, all of them left out: {len(torn)}"
        in remark
    )


def test_stamps_that_contradict_each_other_cost_their_event(copied, block, untouched):
    def rule(rows):
        again = rows[::10].copy()
        again["time"][:, 1] += 400
        return np.insert(rows, np.arange(0, len(rows), 10), again)

    with h5py.File(copied) as file:
        torn = np.unique(file[TRIGGER]["event_id"][::10])
    change(copied, TRIGGER, rule)
    found = block(copied, TIMING_CROSS)
    expected = untouched["timing-cross"].filter(~pl.col("event_id").is_in(torn.tolist()))
    assert_frame_equal(rows_of(found), expected)
    with h5py.File(copied) as file:
        n_lost = int(np.isin(file[TRIGGER]["event_id"], torn).sum())
    assert counts(found)["rows of the same key that contradict each other"][0] == n_lost
    assert "telescope/trigger has unequal rows" in found.remarks[0]


# --- rows that are missing ---------------------------------------------------------------


def table_with_most_rows(path, group):
    with h5py.File(path) as file:
        return f"{group}/{max(file[group], key=lambda name: len(file[group][name]))}"


@pytest.mark.parametrize("kind", ["gone", "NaN"])
@pytest.mark.parametrize(
    ("observable", "group"),
    [
        (ENERGY_INTER, ENERGIES),
        (ENERGY_CROSS, ENERGIES),
        (IMAGE_INTER, PARAMETERS),
        (TIMING_CROSS, IMPACTS),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_table_that_ends_half_way_is_named(copied, simulated, block, observable, group, kind):
    table = table_with_most_rows(copied, group)

    def rule(rows):
        if kind == "gone":
            return rows[: len(rows) // 2]
        for name in rows.dtype.names:
            if rows[name].dtype.kind == "f":
                rows[name][len(rows) // 2 :] = np.nan
        return rows

    change(copied, table, rule)
    found = block(copied, observable)
    label = "/".join(table.split("/")[-3:-1])
    (remark,) = (text for text in found.remarks if label in text)
    assert f"rows of {label} are missing for a part of the time" in remark
    told = re.search(rf"LST {int(table[-3:])} (\d+) of (\d+) triggers", remark)
    assert told is not None
    rows, triggers = told.groups()
    # The block is looked at in 64 parts: the one in which the rows end may count to either side.
    assert int(rows) <= N_SHOWERS / 64
    with h5py.File(simulated) as file:
        assert abs(int(triggers) - len(file[table]) / 2) <= N_SHOWERS / 64
    assert re.search(r", (9[0-9]|100)% elsewhere", remark)


def test_rows_missing_here_and_there_raise_no_alarm(copied, block):
    rng = np.random.default_rng(5)
    for table in event_tables(copied):
        if table.startswith(ENERGIES):
            change(copied, table, lambda rows: rows[rng.random(len(rows)) < 0.6])
        if table.startswith(IMPACTS):
            change(copied, table, lambda rows: rows[rng.random(len(rows)) < 0.3])
    assert block(copied, ENERGY_INTER).remarks == []


# --- observations in parts, and their order ----------------------------------------------


def split(path, folder, overlap=0):
    """Two files with the first and the second half of the events."""
    with h5py.File(path) as file:
        ids = np.sort(file[ARRAY_TRIGGER]["event_id"][:])
    half, parts = len(ids) // 2, []
    for name, wanted in (("b.dl2.h5", ids[: half + overlap]), ("a.dl2.h5", ids[half:])):
        part = Path(shutil.copy(path, folder / name))
        for table in event_tables(part):
            change(part, table, lambda rows, wanted=wanted: rows[np.isin(rows["event_id"], wanted)])
        parts.append(part)
    return parts, ids[half : half + overlap]


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
@pytest.mark.parametrize("overlap", [0, 100])
def test_parts_of_an_observation_in_two_files_are_all_used(
    simulated, block, untouched, observable, overlap, tmp_path
):
    parts, both = split(simulated, tmp_path, overlap)
    blocks = [block(path, observable) for path in reversed(parts)]
    used = without_repeats(select_blocks(blocks))
    # In the order of the events, whatever the files are called.
    assert [part.path for part in used] == parts
    rows = pl.concat([rows_of(part) for part in used])
    assert_frame_equal(rows, untouched[observable.name])
    copies = untouched[observable.name]["event_id"].is_in(both.tolist()).sum()
    found = counts(used[1])
    assert found.get("copy of a row in another file of the observation", (0, ""))[0] == copies
    assert used[0].remarks == used[1].remarks == []


def test_events_that_two_files_tell_differently_are_left_out(simulated, block, untouched, tmp_path):
    parts, both = split(simulated, tmp_path, 100)
    for table in event_tables(parts[1]):
        if table.startswith(ENERGIES):

            def rule(rows):
                rows[ENERGY] *= np.where(np.isin(rows["event_id"], both), 1.5, 1.0)
                return rows

            change(parts[1], table, rule)
    blocks = [block(path, ENERGY_INTER) for path in parts]
    rows = pl.concat([rows_of(part) for part in without_repeats(select_blocks(blocks))])
    expected = untouched["energy-inter"].filter(~pl.col("event_id").is_in(both.tolist()))
    # A shower that only one of the files selects has no row to be contradicted by.
    assert len(rows.filter(pl.col("event_id").is_in(both.tolist()))) < 0.05 * len(both)
    assert_frame_equal(rows.filter(~pl.col("event_id").is_in(both.tolist())), expected)
    result = result_of(blocks)
    assert result.verdict.status == "degraded"
    assert any("contradicted by another file" in reason for reason in result.verdict.reasons)


def test_a_telescope_that_one_of_two_files_lacks_contradicts_no_other(
    simulated, block, untouched, tmp_path
):
    parts, both = split(simulated, tmp_path, 100)
    lacking = first_telescope(parts[1])
    change(parts[1], lacking, lambda rows: rows[~np.isin(rows["event_id"], both)])
    used = without_repeats(select_blocks([block(path, ENERGY_INTER) for path in parts]))
    assert_frame_equal(pl.concat([rows_of(part) for part in used]), untouched["energy-inter"])
    assert not any("contradict" in rule for rule in counts(used[1]))


def test_a_file_with_nothing_of_its_own_is_excluded(simulated, copied, block):
    result = result_of([block(simulated, ENERGY_INTER), block(copied, ENERGY_INTER)])
    assert sorted(result.blocks["status"]) == ["excluded", "ok"]
    assert any("all its rows of obs_id 1001" in reason for reason in result.blocks["reason"])


def test_the_later_observation_first_is_no_clock_running_backwards(copied, block):
    with h5py.File(copied) as file:
        ids = np.sort(file[ARRAY_TRIGGER]["event_id"][:])
    middle = ids[len(ids) // 2]

    def rule(rows):
        late = rows["event_id"] >= middle
        rows["obs_id"][late] = 1002
        return np.concatenate([rows[late], rows[~late]])

    for table in event_tables(copied):
        change(copied, table, rule)
    observations = "/configuration/observation/observation_block"

    def both(rows):
        rows = np.repeat(rows, 2)
        rows["obs_id"] = [1002, 1001]
        return rows

    change(copied, observations, both)
    for table in pointing_tables(copied):
        change(copied, table, both)
    found = block(copied, TIMING_CROSS)
    assert found.status == "ok", found.reason
    assert found.entry.summary["backwards"] == 0
    assert set(rows_of(found)["obs_id"]) == {1001, 1002}


def pointing_tables(path):
    group = "/configuration/telescope/pointing"
    with h5py.File(path) as file:
        return [f"{group}/{name}" for name in file[group]] if group in file else []


# --- ids, thresholds ---------------------------------------------------------------------


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_an_observation_without_a_number_has_the_largest_one(copied, block, observable):
    largest = 2**64 - 1
    for table in [
        *event_tables(copied),
        *pointing_tables(copied),
        "/configuration/observation/observation_block",
    ]:
        widen(copied, table, largest)
    found = block(copied, observable)
    assert found.status == "ok", found.reason
    result = result_of([found], observable)
    assert result.obs_ids == (largest,)
    assert result.blocks["obs_ids"].to_list() == [str(largest)]
    assert monitoring_file(result, observable)


def widen(path, table, obs_id):
    """Give all rows an observation id of 64 bits without sign."""
    with h5py.File(path, "r+") as file:
        stored = file[table]
        kind = stored.id.get_type()
        names = [kind.get_member_name(i) for i in range(kind.get_nmembers())]
        members = [kind.get_member_type(i) for i in range(kind.get_nmembers())]
        rows, attributes = stored[:], dict(stored.attrs)
        wide = np.dtype(
            [("obs_id", "<u8"), *((n, rows.dtype[n]) for n in rows.dtype.names if n != "obs_id")]
        )
        more = np.empty(len(rows), wide)
        for name in rows.dtype.names:
            more[name] = obs_id if name == "obs_id" else rows[name]
        places = {n: wide.fields[n][1] for n in wide.names} if wide.fields and wide.names else {}
        made = h5py.h5t.create(h5py.h5t.COMPOUND, wide.itemsize)
        for name, member in zip(names, members, strict=True):
            own = h5py.h5t.NATIVE_UINT64 if name == b"obs_id" else member
            made.insert(name, places[name.decode()], own)
        del file[table]
        space = h5py.h5s.create_simple((len(more),))
        place = h5py.h5d.create(file.id, table.encode(), made, space)
        place.write(h5py.h5s.ALL, h5py.h5s.ALL, more, mtype=made)
        for name, value in attributes.items():
            if not name.startswith(("FIELD_", "CTAFIELD_")):
                file[table].attrs[name] = value
        units(file[table], names, attributes, wide)


def units(stored, old, attributes, dtype):
    """Put the attributes of columns where they are now."""
    for place, name in enumerate(dtype.names):
        before = old.index(name.encode())
        for key, value in attributes.items():
            if key.startswith(f"CTAFIELD_{before}_"):
                stored.attrs[key.replace(f"CTAFIELD_{before}_", f"CTAFIELD_{place}_")] = value


def test_thresholds_that_differ_within_a_type_are_refused_with_the_telescopes(simulated, block):
    section = load_preset("image-inter").CalculateImageAsymmetry
    filters = type(section.event_filters).model_validate(
        section.event_filters.model_dump()
        | {"minimum_individual_intensity": [["type", "*", 80.0], ["id", 7, 120.0]]}
    )
    found = block(
        simulated,
        IMAGE_INTER,
        CalculateImageAsymmetry=section.model_copy(update={"event_filters": filters}),
    )
    assert found.status == "failed"
    assert found.wrong_request
    assert "minimum_individual_intensity differs within MST: 80 for" in found.reason
    assert "120 for 7" in found.reason
    with pytest.raises(WrongUsage, match="minimum_individual_intensity"):
        result_of([found], IMAGE_INTER)


def test_rows_of_events_that_the_trigger_table_does_not_have_are_left_out(copied, block, untouched):
    # Calibration events with ids of their own, in the tables of the telescopes alone.
    def add(rows):
        more = np.resize(rows, 40).copy()
        more["event_id"] = 700_000 + np.arange(40)
        return np.concatenate([rows, more])

    for group in (ENERGIES, IMPACTS):
        with h5py.File(copied) as file:
            tables = [f"{group}/{name}" for name in file[group]]
        for table in tables:
            change(copied, table, add)
    found = block(copied, ENERGY_INTER)
    assert_frame_equal(rows_of(found), untouched["energy-inter"])
    n, one = counts(found)["event without a row in the trigger table"]
    assert n == 40 * len(tables)
    assert "event_id 7000" in one
    assert any("of events that the trigger table does not have" in text for text in found.remarks)


# --- rows of telescopes that did not trigger ---------------------------------------------


def exchange(path, group, one, other):
    """Exchange the tables of two telescopes, each with the other's number in its rows."""
    with h5py.File(path) as file:
        names = [f"{group}/tel_{tel_id:03d}" for tel_id in (one, other)]
        tables = [file[name][:] for name in names]
    for name, rows, tel_id in zip(names, reversed(tables), (one, other), strict=True):
        rows["tel_id"] = tel_id
        change(path, name, lambda _, rows=rows: rows)


def shift(path, group, tel_id):
    """Give the rows of a telescope the number of the event after theirs."""

    def rule(rows):
        rows["event_id"] += 1
        return rows

    change(path, f"{group}/tel_{tel_id:03d}", rule)


def not_triggered(path, group, tel_id):
    """Numbers of a telescope's events in which it did not trigger, of those that are showers."""
    with h5py.File(path) as file:
        layout = file["/configuration/instrument/subarray/layout"]["tel_id"].tolist()
        trigger = file[ARRAY_TRIGGER][:]
        ids = file[f"{group}/tel_{tel_id:03d}"]["event_id"]
    own = trigger["tels_with_trigger"][:, layout.index(tel_id)] == 1
    return np.setdiff1d(np.intersect1d(ids, trigger["event_id"]), trigger["event_id"][own])


GROUPS = [(ENERGY_INTER, ENERGIES), (ENERGY_CROSS, ENERGIES), (IMAGE_INTER, PARAMETERS)]


@pytest.mark.parametrize("kind", ["exchanged", "shifted"])
@pytest.mark.parametrize(("observable", "group"), GROUPS, ids=lambda v: getattr(v, "name", ""))
def test_rows_of_telescopes_that_did_not_trigger_are_left_out(
    copied, block, observable, group, kind
):
    if kind == "exchanged":
        exchange(copied, group, 2, 3)
    else:
        shift(copied, group, 2)
    wrong = {tel_id: not_triggered(copied, group, tel_id) for tel_id in (2, 3)}
    assert len(wrong[2]) > 20
    found = block(copied, observable)
    n, one = counts(found)["telescope that did not trigger in its event"]
    assert n == sum(map(len, wrong.values()))
    assert one == f"obs_id 1001, event_id {wrong[2][0]}, tel_id 2"
    used = rows_of(found).filter(pl.col("tel_id") == 2)["event_id"]
    assert not set(used.to_list()) & set(wrong[2].tolist())
    (remark,) = (text for text in found.remarks if "did not trigger" in text)
    assert f"LST 2 {len(wrong[2]):,} of " in remark
    assert (f"LST 3 {len(wrong[3]):,} of " in remark) == (kind == "exchanged")


def test_stamps_of_telescopes_that_did_not_trigger_are_left_out(copied, block):
    def rule(rows):
        two, three = (rows["tel_id"] == tel_id for tel_id in (2, 3))
        rows["tel_id"][two], rows["tel_id"][three] = 3, 2
        return rows

    change(copied, TRIGGER, rule)
    found = block(copied, TIMING_CROSS)
    assert counts(found)["telescope that did not trigger in its event"][0] > 100
    assert any("rows of telescope/trigger" in r and "LST 2" in r for r in found.remarks)


def test_distances_of_another_telescope_are_named(copied, block):
    exchange(copied, IMPACTS, 2, 3)
    found = block(copied, ENERGY_INTER)
    (remark,) = (text for text in found.remarks if "did not trigger" in text)
    assert "rows of impact/HillasReconstructor are of events" in remark
    assert re.search(r"LST 2 \d+ of \d+, as obs_id 1001, event_id \d+, tel_id 2", remark)


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_a_sound_block_has_no_row_of_a_telescope_that_did_not_trigger(simulated, block, observable):
    found = block(simulated, observable)
    assert "telescope that did not trigger in its event" not in counts(found)
    assert found.remarks == []


def test_a_pattern_that_nobody_filled_in_says_nothing(copied, block, untouched):
    def rule(rows):
        rows["tels_with_trigger"] = 0
        return rows

    change(copied, ARRAY_TRIGGER, rule)
    found = block(copied, ENERGY_INTER)
    assert_frame_equal(rows_of(found), untouched["energy-inter"])
    assert any("which telescopes triggered" in text for text in found.untested)


# --- two showers of one number -----------------------------------------------------------


@pytest.mark.parametrize("observable", FOUR, ids=lambda observable: observable.name)
def test_events_of_one_number_in_two_files_go_as_a_whole(simulated, block, observable, tmp_path):
    other = tmp_path / "other"
    settings = SimulationSettings(array="north", n_blocks=1, n_showers=N_SHOWERS, seed=8)
    simulate_night(other, settings)
    paths = (simulated, block_path(other, 1001))
    blocks = select_blocks([block(path, observable) for path in paths])
    alone = [set(rows_of(b)["event_id"].to_list()) for b in blocks]
    used = without_repeats(blocks)
    left = [set(rows_of(b)["event_id"].to_list()) for b in used]
    both = alone[0] & alone[1]
    assert len(both) > 100
    assert left == [alone[0] - both, alone[1] - both]
    assert any("contradicted by another file" in text for text in used[0].remarks)
