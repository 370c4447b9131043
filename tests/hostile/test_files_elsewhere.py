"""HDF5 files whose parts lie in other files: refused, and the other file is never opened.

The other file is a pipe that nobody writes to: whoever opens it waits for ever.
"""

import json
import os

import h5py
import numpy as np
import pytest

from arraycal.calib.dl2 import open_block
from arraycal.calib.errors import CannotCompute
from arraycal.calib.monitoring.origin import TABLES
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.pairs.exchange import META, _table_path, read_asymmetries
from arraycal.flows.cli.main import main

TRIGGER = "/dl1/event/subarray/trigger"
LAYOUT = "/configuration/instrument/subarray/layout"


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "secret.h5"
    os.mkfifo(path)
    return path


def external_link(file, name, other):
    del file[name]
    file[name] = h5py.ExternalLink(str(other), "/dl1")


def soft_link_to_external_link(file, name, other):
    del file[name]
    file["/elsewhere"] = h5py.ExternalLink(str(other), "/dl1")
    file[name] = h5py.SoftLink("/elsewhere")


def external_link_of_a_group(file, name, other):
    external_link(file, name.rpartition("/")[0], other)


def link_that_nobody_needs(file, name, other):  # noqa: ARG001  the same signature for all
    file["/notes/of/somebody"] = h5py.ExternalLink(str(other), "/x")


def virtual(file, name, other):
    rows = file[name]
    layout = h5py.VirtualLayout(rows.shape, rows.dtype)
    layout[:] = h5py.VirtualSource(str(other), "/x", rows.shape, rows.dtype)
    del file[name]
    file.create_virtual_dataset(name, layout)


def endless_virtual(file, name, other):
    """Only the other file tells how many rows there are."""
    rows = file[name]
    n = h5py.h5s.UNLIMITED
    layout = h5py.VirtualLayout((1,), rows.dtype, maxshape=(None,))
    source = h5py.VirtualSource(str(other), "/x", (1,), rows.dtype, maxshape=(None,))
    layout[0:n] = source[0:n]
    del file[name]
    file.create_virtual_dataset(name, layout)


def external_storage(file, name, other):
    rows = file[name]
    shape, dtype = rows.shape, rows.dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


WAYS = (
    external_link,
    soft_link_to_external_link,
    external_link_of_a_group,
    link_that_nobody_needs,
    virtual,
    endless_virtual,
    external_storage,
)


@pytest.mark.parametrize("name", [LAYOUT, TRIGGER])
@pytest.mark.parametrize("way", WAYS)
def test_a_block_that_leads_elsewhere_is_refused_by_name(block, pipe, way, name):
    with h5py.File(block, "a") as file:
        way(file, name, pipe)
    with pytest.raises(CannotCompute, match=r"was not opened") as caught:
        open_block(block)
    assert str(pipe) in str(caught.value)


@pytest.mark.parametrize("way", [soft_link_to_external_link, endless_virtual])
def test_it_is_a_failed_block_of_a_run(night, block, pipe, way, tmp_path, lenient, capsys):
    with h5py.File(block, "a") as file:
        way(file, TRIGGER, pipe)
    arguments = ["run", "energy-inter", str(night), "--output", str(tmp_path / "out"), "--direct"]
    assert main([*arguments, *lenient]) == 3
    reasons = [
        b["reason"] for b in json.loads((tmp_path / "out/result.json").read_text())["blocks"]
    ]
    assert sum("was not opened" in reason for reason in reasons) == 1
    assert main(["check", str(block)]) == 4
    assert "was not opened" in capsys.readouterr().out


def test_a_table_of_one_telescope_that_leads_elsewhere_is_refused(block, pipe, tmp_path):
    group = "/dl2/event/telescope/energy/RandomForestRegressor"
    with h5py.File(block, "a") as file:
        external_storage(file, f"{group}/tel_004", pipe)
    command = ["run", "energy-inter", str(block), "--output", str(tmp_path / "out"), "--direct"]
    assert main(command) == 4


def test_links_inside_the_file_are_followed(block):
    with h5py.File(block, "a") as file:
        file.move(LAYOUT, "/moved")
        file[LAYOUT] = h5py.SoftLink("/moved")
    assert len(open_block(block).subarray) == 13


@pytest.fixture
def result(simulated, tmp_path, lenient):
    """Folder of a sound result."""
    folder = tmp_path / "out"
    command = ["run", "energy-inter", str(simulated), "--direct", *lenient]
    assert main([*command, "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("way", [external_link, external_storage])
def test_results_that_lead_elsewhere_are_refused(simulated, result, pipe, way, tmp_path, capsys):
    with h5py.File(result / "monitoring.h5", "a") as file:
        for name in (TABLES["inter"], "/dl2/service/arraycal/energy-inter/telescopes"):
            way(file, name, pipe)
    monitoring, out = str(result / "monitoring.h5"), str(tmp_path / "more")
    three_step = "CalculateCrossCalibration.method=three_step"
    cross = ["run", "energy-cross", str(simulated), "--output", out, "--direct"]
    for arguments in (
        ["report", str(result)],
        ["apply", monitoring, str(simulated), "--output", out],
        [*cross, "--inter", monitoring, "--set", three_step],
    ):
        capsys.readouterr()
        assert main(arguments) == 4, arguments
        shown = capsys.readouterr()
        assert "was not opened" in " ".join((shown.out + shown.err).split()), arguments


@pytest.mark.parametrize("part", ["", META])
def test_asymmetries_that_lie_elsewhere_are_refused(tmp_path, pipe, part):
    path = tmp_path / "asymmetries.h5"
    rows = np.zeros(3, [("obs_id", "i4"), ("event_id", "i8")])
    table = _table_path(ENERGY_INTER)
    with h5py.File(path, "w") as file:
        file[table] = rows
        file[f"{table}{META}"] = rows
        external_storage(file, f"{table}{part}", pipe)
    with pytest.raises(CannotCompute, match="was not opened"):
        read_asymmetries(path, ENERGY_INTER)
