"""Closure of corrections: what was put into the telescopes is gone from blocks to come."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import pytest

from arraycal.calib.apply.block import apply_to_block
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.hdf5.file import open_file, telescope_tables
from arraycal.calib.monitoring.read_coefficients import read_coefficients
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.publish.writing import publish
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from arraycal.calib.result.result import CalibrationResult

GROUP = "/dl2/event/telescope/energy/RandomForestRegressor"
COLUMN = "RandomForestRegressor_tel_energy"
#: Nights differ in throughput and showers.
SEEDS = (5, 6, 7, 8)
TYPES = ("LST", "MST")


class Remaining(NamedTuple):
    """ln c by telescope about the mean of its type: before, after, its error, and the truth."""

    measured: np.ndarray
    corrected: np.ndarray
    error: np.ndarray
    truth: np.ndarray


def calibrated(blocks: list[Path], cache: Path) -> CalibrationResult:
    configuration = load_configuration(preset="energy-inter")
    pairs = [pairs_of_block(block, ENERGY_INTER, configuration, cache) for block in blocks]
    return calibrate(pairs, ENERGY_INTER, configuration)


def with_corrected_energies(block: Path, corrected: Path, path: Path) -> Path:
    """Copy of a block with the corrected energies in the place of the measured ones."""
    shutil.copy(block, path)
    with open_file(corrected) as source, h5py.File(path, "r+") as file:
        for table in telescope_tables(source, GROUP, corrected).values():
            dataset = file[table.name].id
            rows = np.empty(dataset.shape, file[table.name].dtype)
            dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=dataset.get_type())
            found = table.read()
            np.testing.assert_array_equal(rows["event_id"], found["event_id"])
            np.testing.assert_array_equal(rows[COLUMN], found[COLUMN])
            rows[COLUMN] = found[f"{COLUMN}_corrected"]
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, rows, mtype=dataset.get_type())
    return path


def remaining(folder: Path, seed: int) -> Remaining:
    """Two blocks are calibrated, the third is corrected: its showers are independent of theirs."""
    settings = SimulationSettings(
        array="north",
        n_blocks=3,
        n_showers=20_000,
        seed=seed,
        throughput_scatter=0.15,
        write_dl1=False,
    )
    truth = simulate_night(folder, settings)
    *before, last = sorted(folder.glob("*.dl2.h5"))
    first = calibrated(before, folder / "cache")
    published = publish(first, ENERGY_INTER, folder / "out", overwrite=False)
    content = last.read_bytes()
    coefficients = read_coefficients(published.monitoring)
    output = folder / "last.corrected.h5"
    outcome = apply_to_block(last, coefficients, output, {"command": "test"}, folder / "cache")
    assert outcome.complete
    assert last.read_bytes() == content
    copy = with_corrected_energies(last, output, folder / "copy.h5")
    parts = []
    for tel_type in TYPES:
        found = [
            of_type(calibrated([path], folder / "cache").telescopes, tel_type)
            for path in (last, copy)
        ]
        used = of_type(first.telescopes, tel_type)
        true = np.log([truth.throughput[tel_id] for tel_id in used["tel_id"]])
        measured, corrected = (np.log(telescopes["value"].to_numpy()) for telescopes in found)
        errors = [
            (telescopes["error"] / telescopes["value"]).to_numpy()
            for telescopes in (used, found[1])
        ]
        parts.append((measured, corrected, np.hypot(*errors), true - true.mean()))
    return Remaining(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def of_type(telescopes: pl.DataFrame, tel_type: str) -> pl.DataFrame:
    return telescopes.filter(telescopes["tel_type"] == tel_type).sort("tel_id")


def test_a_corrected_block_has_no_difference_left(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    nights = [remaining(tmp_path_factory.mktemp("night"), seed) for seed in SEEDS]
    measured, corrected, error, truth = (
        np.concatenate(values) for values in zip(*nights, strict=True)
    )
    pulls = corrected / error
    weight = truth / error**2
    slopes = [float(weight @ values / (weight @ truth)) for values in (measured, corrected)]
    slope_error = float(weight @ truth) ** -0.5
    # Without a correction all of the truth is there, which shows that the test can fail.
    assert slopes[0] == pytest.approx(1, abs=5 * slope_error)
    assert abs(slopes[1]) < 3 * slope_error
    # The gauge takes one degree of freedom per type and night: 52 - 8 = 44 are left, so the width
    # is known to 1 / sqrt(2 * 44) = 0.107.
    n_free = len(pulls) - len(TYPES) * len(SEEDS)
    assert n_free == 44
    assert np.sqrt(pulls @ pulls / n_free) == pytest.approx(1, abs=3 / np.sqrt(2 * n_free))
