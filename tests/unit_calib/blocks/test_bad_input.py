"""Bad input, block by block: left out with a clear reason, and the rest goes on."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest

import arraycal.calib
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.blocks.stage import select_blocks, without_repeats
from arraycal.calib.calibrate import calibrate
from arraycal.calib.errors import CannotCompute, WrongUsage
from arraycal.calib.hdf5.writing import Column
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.pairs.telescope_rows import select_rows
from arraycal.config.models import Configuration

ENERGY = "RandomForestRegressor_tel_energy"
IMPACT = "HillasReconstructor_tel_impact_distance"
GAMMANESS = "RandomForestClassifier_tel_prediction"
TEL_ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
TEL_IMPACT = "/dl2/event/telescope/impact/HillasReconstructor"
TEL_PARTICLE = "/dl2/event/telescope/particle_type/RandomForestClassifier"
LAYOUT = "/configuration/instrument/subarray/layout"
TRIGGER = "/dl1/event/subarray/trigger"
OBSERVATION_BLOCK = "/configuration/observation/observation_block"
VERSION = "CTA PRODUCT DATA MODEL VERSION"


def configure(criteria=(), **event_filters):
    return Configuration.model_validate(
        {
            "CalculateAsymmetry": {"event_filters": event_filters},
            "QualityQuery": {"quality_criteria": list(criteria)},
            "PairFinder": {"max_impact_distance": 500.0},
            "RelativeThroughputFitter": {"min_events": 2, "min_common_events": 2},
        }
    )


@pytest.fixture
def cache_root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def run(cache_root):
    """Make the pairs of a block."""

    def run(path, configuration=None, root=cache_root):
        return pairs_of_block(path, ENERGY_INTER, configuration or configure(), root)

    return run


@pytest.fixture
def refusal(run, cache_root):
    """Why a block fails; the reason names the file, and no pairs are left behind."""

    def refusal(path, configuration=None):
        block = run(path, configuration)
        assert block.status == "failed"
        assert block.entry is None
        assert (block.n_events, block.n_pairs) == (0, 0)
        assert not list(cache_root.rglob("*.parquet"))
        assert not list(cache_root.rglob("*.tmp"))
        return block.reason

    return refusal


def rejected(block):
    return {rule: rows for _, rule, rows, _ in block.rejected.iter_rows() if rows}


# --- files that are none, or no longer ---------------------------------------------------


def test_a_missing_file_is_missing(refusal, tmp_path):
    assert "nothing.h5: expected a DL2 HDF5 file, found nothing" in refusal(tmp_path / "nothing.h5")


def test_a_folder_is_no_file(refusal, tmp_path):
    assert "expected a DL2 HDF5 file, found a folder" in refusal(tmp_path)


def test_an_empty_file_is_empty(refusal, tmp_path):
    path = tmp_path / "empty.h5"
    path.touch()
    assert "empty.h5: the file is empty (0 bytes)" in refusal(path)


def test_a_text_file_is_no_hdf5(refusal, tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("event_id,energy\n1,2.0\n" * 200)
    assert "text.h5: not a readable HDF5 file" in refusal(path)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.95, 0.9999])
def test_a_truncated_file_is_truncated(refusal, make_block, part):
    path = make_block().write()
    os.truncate(path, int(part * path.stat().st_size))
    assert "block.dl2.h5: truncated (" in refusal(path)


def test_hdf5_of_another_kind_is_no_ctapipe_file(refusal, tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(3)
    assert "other.h5: no ctapipe file, the attribute CTA PRODUCT DATA MODEL" in refusal(path)


@pytest.mark.parametrize(
    "version", ["v3.0.0", "v8.0.0", "v1.0.0", "7.6.0", "v76", "v-7.0", "latest"]
)
def test_an_unsupported_data_model_is_named(refusal, make_block, version):
    file = make_block()
    file.attributes[VERSION] = version
    assert f"data model {version} is not supported, expected v4 to v7" in refusal(file.write())


def test_a_file_before_dl2_says_which_level_it_is(refusal, make_block):
    file = make_block()
    file.attributes["CTA PRODUCT DATA LEVELS"] = "DL1_PARAMETERS"
    file.tables = {name: table for name, table in file.tables.items() if "/dl2" not in name}
    assert "no DL2 event tables found (data levels: DL1_PARAMETERS)" in refusal(file.write())


# --- flipped bits ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", [LAYOUT, OBSERVATION_BLOCK, f"{TEL_ENERGY}/tel_007", f"{TEL_IMPACT}/tel_561"]
)
def test_a_flipped_bit_in_a_table_that_is_needed_is_damage(refusal, make_block, table):
    path = make_block().write()
    with h5py.File(path) as file:
        chunk = file[table].id.get_chunk_info(0)
    sound = path.read_bytes()
    for place in np.linspace(0, chunk.size - 1, 15, dtype=int):
        damaged = bytearray(sound)
        damaged[chunk.byte_offset + place] ^= 1 << place % 8
        path.write_bytes(damaged)
        reason = refusal(path)
        assert f"of {table} cannot be read, the file is damaged" in reason


def test_a_flipped_bit_in_a_table_that_is_not_needed_does_no_harm(run, make_block):
    path = make_block().write()
    with h5py.File(path) as file:
        chunk = file[f"{TEL_PARTICLE}/tel_007"].id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset + 30] ^= 1
    path.write_bytes(damaged)
    assert run(path).status == "ok"


FLIP_BITS = """
import random, sys, warnings
from pathlib import Path
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.config.models import Configuration

warnings.simplefilter("error")
path, seed = Path(sys.argv[1]), int(sys.argv[2])
sound, rng = path.read_bytes(), random.Random(seed)
configuration = Configuration()
for number in range(200):
    damaged = bytearray(sound)
    for _ in range(4):
        damaged[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    block = pairs_of_block(path, ENERGY_INTER, configuration, path.parent / "cache")
    print(block.status)
"""


def test_no_damage_of_whatever_kind_makes_anything_but_a_reason(make_block):
    # In a process of its own: libhdf5 itself may crash on structures that make no sense.
    path = make_block().write()
    root = Path(arraycal.calib.__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", FLIP_BITS, path, "1"],
        capture_output=True,
        check=False,
        text=True,
        cwd=root,
    )
    assert found.returncode == 0, found.stderr
    statuses = found.stdout.split()
    assert len(statuses) == 200
    assert set(statuses) == {"ok", "failed"}


# --- what is missing ---------------------------------------------------------------------


def test_a_missing_layout_is_named_with_what_there_is(refusal, make_block):
    file = make_block()
    del file.tables[LAYOUT]
    reason = refusal(file.write())
    assert f"table {LAYOUT} is missing; /configuration holds: observation." in reason


def test_missing_observations_are_named(refusal, make_block):
    file = make_block()
    del file.tables[OBSERVATION_BLOCK]
    del file.tables[TRIGGER]
    assert f"table {TRIGGER} is missing; / holds: configuration, dl2." in refusal(file.write())


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        (LAYOUT, "pos_x", "pos_xx"),
        (LAYOUT, "tel_description", "description"),
        (OBSERVATION_BLOCK, "obs_id", "obsid"),
        (f"{TEL_ENERGY}/tel_007", "event_id", "event"),
    ],
)
def test_a_missing_column_is_named_with_the_nearest(refusal, make_block, table, old, new):
    file = make_block()
    file.tables[table] = {
        new if name == old else name: column for name, column in file.tables[table].items()
    }
    assert f"{table} has no column {old}; did you mean {new}?" in refusal(file.write())


def test_missing_energies_are_named(refusal, make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        del file.tables[name]
    reason = refusal(file.write())
    assert f"column {ENERGY} (the value to compare) does not exist. The file has none of" in reason


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (slice(0), r"each telescope must be named once, found ids []"),
        ([0, 1, 2, 3, 4, 1], "each telescope must be named once, found ids [4, 4, 7, 11, 12, 561]"),
    ],
)
def test_a_layout_that_describes_no_array_is_refused(refusal, make_block, rows, message):
    file = make_block()
    file.select(LAYOUT, rows)
    assert f"{LAYOUT}: {message}" in refusal(file.write())


def test_a_telescope_without_position_is_left_out_with_its_reason(run, make_block):
    file = make_block()
    file.set_data(LAYOUT, "pos_y", [0.0, np.nan, 0.0, 0.0, 0.0])  # 4 comes second
    block = run(file.write())
    assert block.status == "ok"
    assert 4 not in set(block.entry.scan().collect()["tel_id"])
    result = calibrate([block], ENERGY_INTER, configure())
    lost = result.telescopes.filter(pl.col("tel_id") == 4)
    assert lost.select("flag", "reason").rows() == [
        ("no_position", "the layout of the array has no position of it")
    ]
    assert "1 no_position" in str(result.verdict)
    assert 4 not in result.positions_m


@pytest.mark.parametrize(
    "name",
    ["/dl2/event/subarray/geometry", LAYOUT, "/dl2/event/telescope/energy/RandomForestRegressor"],
)
def test_what_is_listed_and_cannot_be_opened_is_damaged_and_not_absent(refusal, make_block, name):
    path = make_block().write()
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file[name] = h5py.SoftLink("/nowhere")
    assert f"{name} leads nowhere, the file is damaged" in refusal(path)


def test_the_result_of_a_calibration_is_no_block(refusal, tmp_path):
    path = tmp_path / "monitoring.h5"
    with h5py.File(path, "w") as file:
        file.attrs["CTA PRODUCT DATA MODEL VERSION"] = "1.0.0"
        file.create_group("/dl2/monitoring/subarray/inter_calibration")
    assert "expected a block of DL2 events, found the result of a calibration" in refusal(path)


@pytest.mark.parametrize("text", ["9**9**9**9 > 0", f"{ENERGY} > 50 * u.m", f"{ENERGY} + 1"])
def test_a_criterion_that_no_file_can_satisfy_is_wrong_usage(run, make_block, text):
    block = run(make_block().write(), configure([("wrong", text)]))
    with pytest.raises(WrongUsage, match="criterion 'wrong'"):
        calibrate([block], ENERGY_INTER, configure())


@pytest.mark.parametrize("table", ["/dl2", LAYOUT])
def test_something_else_in_the_place_of_a_table_is_refused(refusal, make_block, table):
    path = make_block().write()
    with h5py.File(path, "r+") as file:
        del file[table]
        file[table] = np.arange(3)
    reason = refusal(path)
    assert "no DL2 event tables" in reason or f"{LAYOUT} is not a table of named columns" in reason


# --- what does not fit the configuration -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RandomForestRegresor_tel_energy > 1 * u.TeV", f"did you mean '{ENERGY}'?"),
        (f"{ENERGY} > 1 * u.m", "TeV"),
        (f"{ENERGY} > 1", "TeV"),
        (f"{ENERGY} >", "bright"),
        ("__import__('os').system('true')", "bright"),
        ("(lambda: 1)()", "bright"),
    ],
)
def test_a_criterion_that_cannot_be_used_is_a_reason(refusal, make_block, text, message):
    reason = refusal(make_block().write(), configure([("bright", text)]))
    assert message in reason


def test_gammaness_that_a_filter_needs_and_the_file_has_not_is_a_reason(refusal, run, make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_PARTICLE):
        del file.tables[name]
    path = file.write()
    assert "needed by the event filter min_gammaness" in refusal(path, configure(min_gammaness=0.5))
    assert run(path).status == "ok"


def test_energies_in_another_unit_are_a_reason(refusal, make_block):
    file = make_block()
    for name in file.telescope_tables(TEL_ENERGY):
        file.tables[name][ENERGY] = Column(1000 * file.tables[name][ENERGY].data, "GeV")
    assert "is in GeV, expected TeV" in refusal(file.write())


# --- rows that are left out and counted --------------------------------------------------


def test_every_row_is_kept_or_counted(run, make_block, make_rows):
    odd = [np.nan, np.inf, -np.inf, 0.0, -1.0]
    rows = make_rows(60).with_row_index("n")
    rows = rows.with_columns(
        energy=pl.when(pl.col("n") < 5)
        .then(pl.col("n").replace_strict(range(5), odd, default=None, return_dtype=pl.Float64))
        .otherwise("energy")
    ).drop("n")
    file = make_block(pl.concat([rows, rows[50:53]]))
    block = run(file.write(), configure([("bright", f"{ENERGY} > 0.5 * u.TeV")], min_gammaness=0.3))
    counts = rejected(block)
    assert block.n_events == len(rows) + 3
    assert counts["repeated row"] == 3
    assert counts["value is not a positive finite number"] == 5
    usable = rows[5:].filter(pl.col("energy").is_finite())
    dark = usable.filter(pl.col("energy") <= 0.5)
    assert counts["bright"] == len(dark)
    hadronic = usable.filter((pl.col("energy") > 0.5) & (pl.col("gammaness") < 0.3))
    assert counts["min_gammaness"] == len(hadronic)
    kept = block.entry.scan().collect()
    assert block.n_events == sum(counts.values()) + len(kept)
    assert block.n_rows == len(kept) == kept.select("event_id", "tel_id").n_unique()
    m = kept.group_by("event_id", "tel_type").len()["len"]
    assert block.n_pairs == (m * (m - 1) / 2).sum()


def test_rows_carry_the_trigger_time_of_their_shower(run, make_block):
    file = make_block()
    event_ids = file.tables[TRIGGER]["event_id"].data
    # Seconds, and quarter nanoseconds: half a second more; the first shower has none.
    stamps = np.stack([1_592_172_000 + event_ids, np.full(len(event_ids), 2e9)], axis=1)
    stamps[0] = 0
    file.set_data(TRIGGER, "time", stamps.astype(np.uint32))
    pairs = run(file.write(), configure()).entry.scan().collect()
    first = pl.col("event_id") == event_ids[0]
    assert pairs.filter(first)["time_s"].is_nan().all()
    known = pairs.filter(~first)
    assert len(known)
    assert known["time_s"].to_list() == [1_592_172_000.5 + n for n in known["event_id"]]


def test_blocks_without_trigger_times_have_none_in_their_pairs(run, make_block):
    file = make_block()
    del file.tables[TRIGGER]["time"]
    assert "time_s" not in run(file.write(), configure()).entry.scan().collect_schema()


def test_a_type_without_gammaness_is_rejected_row_by_row(run, make_block):
    file = make_block()
    for tel_id in (4, 7):
        del file.tables[f"{TEL_PARTICLE}/tel_{tel_id:03d}"]
    block = run(file.write(), configure(min_gammaness=0.0))
    n_lst = file.rows.filter(pl.col("tel_id").is_in([4, 7])).height
    assert rejected(block)["min_gammaness"] == n_lst
    assert block.entry.scan().collect()["tel_type"].unique().to_list() == ["MST"]


@pytest.mark.usefixtures("read_no_further_than_a_window")
@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_an_unsorted_file_in_small_windows_gives_the_same_rows(
    make_block, make_rows, tmp_path, run, order
):
    rows = make_rows(200)
    mixed = rows.reverse() if order == "reversed" else rows.sample(fraction=1, shuffle=True, seed=4)
    small = Configuration.model_validate(
        {"CalculateAsymmetry": {"chunk_size": 10}, "PairFinder": {"max_impact_distance": 500.0}}
    )
    found = []
    for name, some in (("sorted.h5", rows), ("mixed.h5", mixed)):
        block = run(make_block(some, name=name).write(chunk_bytes=200), small, tmp_path / name[:4])
        assert block.status == "ok"
        found.append((block.entry.scan().collect(), rejected(block), block.n_events))
        parts = len(block.entry.parts)
        assert parts == 1 if some is mixed else parts > 5
    assert found[0][0].equals(found[1][0])
    assert found[0][1:] == found[1][1:]


def test_a_block_without_any_selected_event_is_sound_and_empty(run, make_block):
    block = run(make_block().write(), configure([("impossible", f"{ENERGY} > 1e9 * u.TeV")]))
    assert block.status == "ok"
    assert block.n_pairs == 0
    assert rejected(block) == {"impossible": block.n_events}


def test_a_block_without_any_event_is_empty(run, make_block):
    file = make_block()
    for name in list(file.tables):
        if name.startswith(("/dl1", "/dl2")):
            file.select(name, slice(0))
    block = run(file.write())
    assert (block.status, block.n_events, block.n_pairs) == ("empty", 0, 0)
    assert "no shower in it" in block.reason


# --- the cache ---------------------------------------------------------------------------


def test_a_block_is_computed_once(run, make_block):
    path = make_block().write()
    first, second = run(path), run(path)
    assert (first.cached, second.cached) == (False, True)
    assert second.entry == first.entry
    os.utime(path)
    assert run(path).cached


def test_a_changed_block_or_selection_is_computed_again(run, make_block, make_rows):
    path = make_block().write()
    run(path)
    assert not run(path, configure(min_energy=0.5)).cached
    assert run(path).cached
    make_block(make_rows(seed=9)).write()
    assert not run(path).cached


def test_options_of_the_fit_do_not_matter_to_pairs(run, make_block):
    path = make_block().write()
    configuration = configure()
    run(path, configuration)
    other = configuration.model_dump() | {"RelativeThroughputFitter": {"robust": "huber"}}
    assert run(path, Configuration.model_validate(other)).cached


def test_damaged_pairs_are_made_again(run, make_block):
    path = make_block().write()
    entry = run(path).entry
    part = entry.folder / entry.parts[0]
    sound = part.read_bytes()
    part.write_bytes(sound[:100] + b"?" + sound[101:])
    again = run(path)
    assert not again.cached
    assert again.entry == entry
    assert part.read_bytes() == sound


def test_a_block_that_breaks_off_leaves_no_pairs(refusal, make_block, make_rows):
    path = make_block(make_rows(300)).write(chunk_bytes=200)
    with h5py.File(path) as file:
        last = file[f"{TEL_ENERGY}/tel_007"]
        chunk = last.id.get_chunk_info(last.id.get_num_chunks() - 1)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset + 20] ^= 1
    path.write_bytes(damaged)
    configuration = Configuration.model_validate({"CalculateAsymmetry": {"chunk_size": 5}})
    assert "the file is damaged" in refusal(path, configuration)


def test_a_cache_that_cannot_be_written_is_not_the_fault_of_the_block(run, make_block, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        run(make_block().write(), root=tmp_path / "file" / "cache")


# --- blocks that do not go together ------------------------------------------------------


@pytest.fixture
def night(run, make_block, make_rows):
    """Make blocks of a night: `night(obs_id, ...)`; keywords change the arrays of single ones."""

    def make(*obs_ids, telescopes=None):
        paths = [
            make_block(
                make_rows(80, obs_id=obs_id, seed=obs_id),
                name=f"{number}_ob{obs_id}.h5",
                **(
                    {"telescopes": telescopes[number]}
                    if telescopes and number in telescopes
                    else {}
                ),
            ).write()
            for number, obs_id in enumerate(obs_ids)
        ]
        return [run(path) for path in paths]

    return make


def judged(blocks):
    return {
        block.path.name: (block.status, block.reason)
        for block in without_repeats(select_blocks(blocks))
    }


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_the_block_with_another_array_is_excluded_whichever_it_is(night, odd):
    moved = {
        12: ("MST", (150.0, 40.0, 0.0)),
        4: ("LST", (-60.0, 60.0, 5.0)),
        561: ("MST", (90.0, -110.0, 0.0)),
        7: ("LST", (70.0, 0.0, 25.0)),  # 20 m higher
        11: ("MST", (0.0, 120.0, 0.0)),
    }
    blocks = night(1, 2, 3, telescopes={odd: moved})
    found = judged(blocks)
    assert [status for status, _ in found.values()].count("ok") == 2
    status, reason = found[blocks[odd].path.name]
    assert status == "excluded"
    assert "another array than the other blocks, telescopes moved: [7]" in reason


def test_arrays_are_the_same_whatever_they_are_called(night, make_block, make_rows, run):
    blocks = night(1)
    for obs_id in (2, 3):
        path = make_block(make_rows(obs_id=obs_id), name=f"{obs_id}.h5").write()
        with h5py.File(path, "r+") as file:
            file[LAYOUT].attrs["name"] = f"Array of block {obs_id}"
        blocks.append(run(path))
    extra = {1: ("SST", (0.0, 0.0, 0.0))}
    odd = make_block(make_rows(obs_id=0, tel_ids=(1,)), telescopes=extra, name="odd.h5").write()
    found = judged([run(odd), *blocks])
    # Three blocks of the same array outnumber one, although each has another name for it.
    assert [name for name, (status, _) in found.items() if status != "ok"] == ["odd.h5"]


def test_of_two_files_with_the_same_rows_the_second_is_excluded(night):
    first, second, other = night(5, 5, 6)
    found = judged([other, second, first])
    assert [status for status, _ in found.values()] == ["ok", "excluded", "ok"]
    reason = f"all its rows of obs_id 5 are already in {first.path}"
    assert reason in found[second.path.name][1]


def test_the_file_that_has_the_rows_is_named_and_not_any_before(night):
    other, first, second = night(5, 7, 7)
    status, reason = judged([other, first, second])[second.path.name]
    assert status == "excluded"
    assert f"all its rows of obs_id 7 are already in {first.path}" in reason


def test_failed_blocks_stay_failed_and_claim_no_observation(night, run, make_block, make_rows):
    path = make_block(make_rows(obs_id=5), name="0_broken.h5").write()
    with h5py.File(path) as file:
        chunk = file[f"{TEL_ENERGY}/tel_007"].id.get_chunk_info(0)
    damaged = bytearray(path.read_bytes())
    damaged[chunk.byte_offset + 20] ^= 1
    path.write_bytes(damaged)
    broken, (sound,) = run(path), night(5)
    assert broken.obs_ids == (5,)
    found = judged([sound, broken])
    assert found[path.name] == ("failed", broken.reason)
    assert found[sound.path.name] == ("ok", "")


def test_one_bad_block_does_not_spoil_the_others(night, run, tmp_path):
    blocks = [*night(1, 2), run(tmp_path / "missing.h5")]
    result = calibrate(blocks, ENERGY_INTER, configure())
    assert result.obs_ids == (1, 2)
    statuses = dict(result.blocks.select("path", "status").iter_rows())
    assert statuses[str(tmp_path / "missing.h5")] == "failed"
    assert list(statuses.values()).count("ok") == 2


def test_the_order_of_blocks_changes_nothing(night):
    blocks = night(1, 2, 3)
    one = calibrate(blocks, ENERGY_INTER, configure()).telescopes
    for order in ([2, 1, 0], [1, 2, 0]):
        other = calibrate([blocks[i] for i in order], ENERGY_INTER, configure())
        assert other.telescopes.equals(one)


def test_when_no_block_is_left_every_reason_is_given(run, tmp_path, make_block):
    empty = tmp_path / "empty.h5"
    empty.touch()
    bad_criterion = configure([("bright", "no_such_column > 1")])
    blocks = [run(tmp_path / "missing.h5"), run(empty), run(make_block().write(), bad_criterion)]
    with pytest.raises(CannotCompute) as caught:
        calibrate(blocks, ENERGY_INTER, configure())
    message = str(caught.value)
    assert "none of the 3 blocks can be used" in message
    for block in blocks:
        assert block.reason in message
        assert str(block.path) in message


def test_no_blocks_at_all_cannot_be_calibrated():
    with pytest.raises(CannotCompute, match="none of the 0 blocks"):
        calibrate([], ENERGY_INTER, configure())


def test_a_file_that_grows_while_it_is_read_is_left_out(make_block, run, monkeypatch):
    path = make_block().write()
    original = select_rows

    def select_and_touch(*args, **names):
        with path.open("ab") as stream:
            stream.write(b" ")
        return original(*args, **names)

    monkeypatch.setattr("arraycal.calib.blocks.pair_rows.select_rows", select_and_touch)
    block = run(path)
    assert block.status == "failed"
    assert "changed while it was read" in block.reason


@pytest.mark.parametrize(
    "overrides",
    [
        {"QualityQuery": {"quality_criteria": [["none", f"{ENERGY} > 1e9 * u.TeV"]]}},
        {"PairFinder": {"max_impact_distance": 0.001}},
    ],
)
@pytest.mark.parametrize("estimator", ["event", "pair"])
def test_zero_selected_events_give_an_unusable_result_that_says_why(
    make_block, run, overrides, estimator
):
    configuration = Configuration.model_validate(
        overrides | {"RelativeThroughputFitter": {"estimator": estimator}}
    )
    result = calibrate([run(make_block().write(), configuration)], ENERGY_INTER, configuration)
    assert result.verdict.status == "unusable"
    assert result.telescopes["value"].is_nan().all()
    assert set(result.telescopes["flag"]) == {"no_data"}
    assert result.rejected["rows"].sum() == result.blocks["n_events"].sum()
