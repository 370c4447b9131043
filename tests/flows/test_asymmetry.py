"""`arraycal asymmetry`: the event-wise asymmetries of blocks in a file of ctao-calibpipe."""

import pytest
from astropy.table import QTable

from arraycal.calib.observables import ENERGY_INTER, IMAGE_INTER
from arraycal.calib.pairs.exchange import read_asymmetries
from arraycal.flows.cli.main import main

KEYS = ["obs_id", "event_id", "tel_id_1", "tel_id_2"]


def asymmetry(*arguments):
    return main(["asymmetry", *map(str, arguments)])


@pytest.fixture(scope="module")
def file(blocks, tmp_path_factory, cache_root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARRAYCAL_CACHE_ROOT", str(cache_root))
        path = tmp_path_factory.mktemp("asymmetry") / "new" / "asymmetry.h5"
        assert asymmetry(*blocks, "--output", path) == 0
    return path


def test_a_file_holds_every_pair_of_all_blocks(file, blocks, night, tmp_path, capsys):
    pairs, rejected = read_asymmetries(file, ENERGY_INTER)
    assert rejected["rows"].sum() == 0
    assert set(pairs["obs_id"]) == {1001, 1002}
    assert not pairs.select(KEYS).is_duplicated().any()
    assert asymmetry(night, "--output", tmp_path / "again.h5") == 0
    shown = capsys.readouterr()
    rows = {kind: len(part) for (kind,), part in pairs.group_by("tel_type")}
    for kind, n in rows.items():
        line = next(line for line in shown.out.splitlines() if f" {kind} " in line)
        assert f" {n:,} " in line
    assert "left out, telescope event: no other selected telescope saw the shower" in shown.out
    assert str(tmp_path / "again.h5") in shown.out
    assert shown.err.count("from the cache") == len(blocks)


def test_the_peer_finds_the_columns_it_wants(file):
    table = QTable.read(file, path="/energy_asymmetry/events", format="hdf5")
    value = "RandomForestRegressor_tel_energy"
    assert {"tel_type", *KEYS, f"{value}_1", f"{value}_2", "energy_asymmetry"} <= {*table.colnames}
    one, two = table[f"{value}_1"], table[f"{value}_2"]
    assert abs((one - two) / (one + two) - table["energy_asymmetry"]).max() < 1e-12
    assert list(table.meta["obs_id"]) == [1001, 1002]


def test_selection_is_that_of_preset_and_settings(file, blocks, tmp_path):
    out = tmp_path / "peer.h5"
    assert asymmetry(blocks[0], "--output", out, "--preset", "energy-inter-peer") == 0
    peer = read_asymmetries(out, ENERGY_INTER).pairs
    everything = read_asymmetries(file, ENERGY_INTER).pairs
    # More than 50 GeV on both telescopes, of the same pairs.
    assert 0 < len(peer) < len(everything)
    assert peer.select("value_1", "value_2").to_numpy().min() > 0.05
    assert len(peer.join(everything, on=KEYS)) == len(peer)
    cut = "CalculateAsymmetry.event_filters.min_energy=200 GeV"
    assert asymmetry("--set", cut, "--output", out, blocks[0], "--overwrite") == 0
    assert read_asymmetries(out, ENERGY_INTER).pairs["value_1"].to_numpy().min() >= 0.2


def test_sizes_have_a_table_of_their_own(blocks, tmp_path):
    out = tmp_path / "sizes.h5"
    assert asymmetry(blocks[0], "--output", out, "--calibration", "image-inter") == 0
    assert len(read_asymmetries(out, IMAGE_INTER).pairs) > 0


def test_a_block_that_cannot_be_used_is_named(blocks, tmp_path, capsys):
    broken, out = tmp_path / "broken.dl2.h5", tmp_path / "out.h5"
    broken.write_bytes(b"no HDF5")
    assert asymmetry(blocks[0], broken, "--output", out) == 3
    assert f"left out: {broken}" in capsys.readouterr().out
    assert set(read_asymmetries(out, ENERGY_INTER).pairs["obs_id"]) == {1001}
    assert asymmetry(broken, "--output", out, "--overwrite") == 4
    assert len(read_asymmetries(out, ENERGY_INTER).pairs) > 0  # as it was


def test_without_a_pair_there_is_nothing_to_do(blocks, tmp_path, capsys):
    cut = "CalculateAsymmetry.event_filters.min_energy=9000 TeV"
    assert asymmetry(blocks[0], "--output", tmp_path / "a.h5", "--set", cut) == 5
    assert "no pair of telescopes is left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out: out.mkdir(), "is a folder; expected the name of a file"),
        (lambda out: out.write_text("mine"), "exists. Choose another --output"),
    ],
)
def test_nothing_is_replaced_unasked(make, message, blocks, tmp_path, capsys):
    out = tmp_path / "out.h5"
    make(out)
    assert asymmetry(blocks[0], "--output", out) == 2
    assert message in capsys.readouterr().err


def test_an_input_is_never_replaced(blocks, tmp_path, capsys):
    block = tmp_path / "block.h5"
    block.symlink_to(blocks[0])
    before = blocks[0].stat()
    assert asymmetry(blocks[0], "--output", block, "--overwrite") == 2
    assert "is an input; inputs are never replaced" in capsys.readouterr().err
    assert blocks[0].stat() == before


def test_wrong_settings_are_refused(blocks, tmp_path, capsys):
    out = tmp_path / "a.h5"
    assert asymmetry(blocks[0], "--output", out, "--set", "no section") == 2
    assert asymmetry(blocks[0], "--output", out, "--preset", "image-inter") == 2
    assert "is not made for energy-inter" in capsys.readouterr().err
    assert asymmetry(blocks[0], "--output", out, "--calibration", "timing-cross") == 2
