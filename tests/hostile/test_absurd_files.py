"""Blocks that declare more than they hold, or that are no files at all."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from arraycal.calib.dl2 import block as dl2_block
from arraycal.calib.dl2 import open_block
from arraycal.calib.errors import CannotCompute
from arraycal.calib.hdf5 import elsewhere, open_file
from arraycal.calib.hdf5 import table as hdf5_table
from arraycal.flows.cli.main import main

LAYOUT = "/configuration/instrument/subarray/layout"
OBSERVATIONS = "/configuration/observation/observation_block"
TRIGGER = "/dl1/event/subarray/trigger"
ENERGY = "/dl2/event/telescope/energy/RandomForestRegressor"
TABLES = (LAYOUT, OBSERVATIONS, TRIGGER, f"{ENERGY}/tel_001", "/dl1/event/telescope/trigger")


def declare(file, name, n_rows, dtype=None, chunk=1000):
    """Replace a table by one of many rows that were never written."""
    dtype = file[name].dtype if dtype is None else dtype
    del file[name]
    return file.create_dataset(name, (n_rows,), dtype, chunks=(chunk,), maxshape=(None,))


def run(night, out, *more):
    return main(["run", "energy-inter", str(night), "--output", str(out), "--direct", *more])


def reasons(out):
    blocks = json.loads((out / "result.json").read_text())["blocks"]
    return [block["reason"] for block in blocks if block["reason"]]


@pytest.mark.parametrize("n_rows", [10**10, 10**7])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_declares_rows_it_does_not_hold_is_damage(block, name, n_rows):
    with h5py.File(block, "a") as file:
        declare(file, name, n_rows)
    with pytest.raises(CannotCompute, match=f"declares {n_rows:,} rows"), open_file(block) as file:
        hdf5_table.Table(h5py.h5d.open(file.id, name.encode()), name, block)


@pytest.mark.parametrize("name", TABLES[:4])
def test_it_is_one_failed_block_of_the_run(night, block, name, tmp_path, lenient):
    with h5py.File(block, "a") as file:
        declare(file, name, 10**10)
    assert run(night, tmp_path / "out", *lenient) == 3
    (reason,) = reasons(tmp_path / "out")
    assert f"{name} declares 10,000,000,000 rows" in reason


def test_a_contiguous_table_in_a_hole_is_damage(block):
    with h5py.File(block, "a") as file:
        dtype = file[OBSERVATIONS].dtype
        del file[OBSERVATIONS]
        file.create_dataset(OBSERVATIONS, (10**8,), dtype)
    with pytest.raises(CannotCompute, match="were ever written"):
        open_block(block)


@pytest.mark.parametrize(
    ("dtype", "chunk", "text"),
    [
        ([("obs_id", "i8"), ("pad", "V2000000")], 1, "declares 1 rows of 2,000,008 bytes"),
        ([("obs_id", "i8"), ("pad", "V500000")], 1000, "chunks of 1,000 rows"),
    ],
)
def test_rows_and_chunks_larger_than_memory_are_refused(block, dtype, chunk, text):
    with h5py.File(block, "a") as file:
        declare(file, OBSERVATIONS, 1, np.dtype(dtype), chunk)
    with pytest.raises(CannotCompute, match=text):
        open_block(block)


def test_a_table_that_is_always_small_has_few_rows(block):
    with h5py.File(block, "a") as file:
        rows = np.zeros(70_000, file[LAYOUT].dtype)
        del file[LAYOUT]
        file[LAYOUT] = rows
    with pytest.raises(CannotCompute, match=r"70,000 rows, expected at most 65,536"):
        open_block(block)


def test_observations_without_end_are_refused(block, monkeypatch):
    monkeypatch.setattr(dl2_block, "MAX_OBSERVATIONS", 10)
    with h5py.File(block, "a") as file:
        rows = np.zeros(20, file[OBSERVATIONS].dtype)
        rows["obs_id"] = np.arange(20)
        del file[OBSERVATIONS]
        file[OBSERVATIONS] = rows
    with pytest.raises(CannotCompute, match="more than 10 observations"):
        open_block(block)


def test_a_telescope_id_without_end_is_refused(night, block, tmp_path, lenient):
    with h5py.File(block, "a") as file:
        file.move(f"{ENERGY}/tel_001", f"{ENERGY}/tel_99999999999999")
    assert run(night, tmp_path / "out", *lenient) == 3
    assert "telescope ids must be 0 to 65535" in reasons(tmp_path / "out")[0]


def test_too_many_unordered_rows_are_not_sorted_in_memory(
    night, block, tmp_path, lenient, monkeypatch
):
    monkeypatch.setattr(dl2_block, "MAX_SORTED_ROWS", 100)
    monkeypatch.setattr(dl2_block, "READ_ROWS", 1)
    with h5py.File(block, "a") as file:
        rows = file[f"{ENERGY}/tel_001"][()]
        file[f"{ENERGY}/tel_001"][:] = rows[::-1]
    command = ["--set", "CalculateAsymmetry.chunk_size=20", *lenient]
    assert run(night, tmp_path / "out", *command) == 3
    assert "out of order, expected at most 100" in reasons(tmp_path / "out")[0]


def test_groups_inside_each_other_without_end_do_not_crash(block):
    # The library calls itself for each, until the stack of the process is full.
    with h5py.File(block, "a") as file:
        group = file.create_group("deep").id
        for _ in range(30_000):
            group = h5py.h5g.create(group, b"x")
    code = (
        "from pathlib import Path; from arraycal.calib.hdf5 import open_file; "
        f"open_file(Path({str(block)!r})).__enter__()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "more than 32 groups deep" in ended.stderr


def test_objects_without_end_are_not_listed(block, monkeypatch):
    monkeypatch.setattr(elsewhere, "MAX_OBJECTS", 20)
    with pytest.raises(CannotCompute, match="more than 20 objects"):
        open_block(block)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere"),
        (os.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_is_named_and_never_opened(tmp_path, make, what):
    path = tmp_path / "block.dl2.h5"
    make(path)
    with pytest.raises(CannotCompute, match=f"expected a DL2 HDF5 file, found {what}"):
        open_block(path)


def test_a_pipe_among_the_blocks_of_a_run_is_a_failed_block(night, tmp_path, lenient):
    os.mkfifo(night / "block_0.dl2.h5")
    assert run(night, tmp_path / "out", *lenient) == 3
    assert "found a pipe" in reasons(tmp_path / "out")[0]


def test_a_file_of_holes_is_too_large(tmp_path):
    path = tmp_path / "block.dl2.h5"
    with path.open("wb") as stream:
        stream.truncate((1 << 40) + 1)
    with pytest.raises(CannotCompute, match="1,099,511,627,777 bytes long"):
        open_block(path)
