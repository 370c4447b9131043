"""Closure: energies of one telescope that do not fit their showers, in a simulated night."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import polars as pl
import pytest

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.report import html
from arraycal.calib.simulation import SimulationSettings, block_path, simulate_night
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from arraycal.calib.result.result import CalibrationResult

TABLE = "dl2/event/telescope/energy/RandomForestRegressor/tel_001"
COLUMN = "RandomForestRegressor_tel_energy"


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    settings = SimulationSettings(
        array="north", n_blocks=1, n_showers=9000, seed=11, write_dl1=False
    )
    simulate_night(folder, settings)
    return block_path(folder, settings.first_obs_id)


def calibrated(path: Path, cache: Path) -> CalibrationResult:
    configuration = load_configuration(preset="energy-inter")
    pairs = pairs_of_block(path, ENERGY_INTER, configuration, cache)
    return calibrate([pairs], ENERGY_INTER, configuration)


def changed(
    block: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray], share: float = 0.05
) -> Path:
    """Copy the block with other energies of telescope 1 in a share of its events."""
    path = folder / block.name
    shutil.copy(block, path)
    with h5py.File(path, "r+") as file:
        table = file[TABLE][()]
        hit = np.random.default_rng(7).random(len(table)) < share
        table[COLUMN] = np.where(hit, change(table[COLUMN]), table[COLUMN])
        file[TABLE][...] = table
    return path


def moved(one: CalibrationResult, two: CalibrationResult) -> pl.DataFrame:
    both = one.telescopes.join(two.telescopes, on="tel_id", suffix="_two")
    return both.with_columns(moved=(pl.col("value_two") - pl.col("value")).abs() / pl.col("error"))


def test_outlying_energies_are_named_and_leave_the_other_telescopes_alone(
    block: Path, tmp_path: Path
) -> None:
    base = calibrated(block, tmp_path / "cache")
    assert base.verdict.status == "usable"
    assert base.fit["robust"] == "none"
    result = calibrated(changed(block, tmp_path, lambda energy: 4 * energy), tmp_path / "cache")
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert "of the values of LST 1 lie more than 4 sigma" in reason
    tests = result.extras["residual_tests"]
    row = tests.row(by_predicate=pl.col("tel_id") == 1, named=True)
    # Of 2,000 values the share is known to 0.5 %; in showers of two each counts by half, and faint
    # showers are lifted above the threshold.
    assert row["share"] == pytest.approx(0.05, abs=0.02)
    assert row["flag"] == "outlying"
    assert set(tests.filter(pl.col("tel_id") != 1)["flag"]) <= {"ok", "few"}
    others = moved(base, result).filter(pl.col("tel_id") != 1)
    assert others["moved"].to_numpy().max() < 2.5
    assert "Residuals of the telescopes" in html(result)


@pytest.mark.parametrize("share", [0.08, 0.15])
def test_many_outlying_energies_pull_no_sibling_and_are_told_in_full(
    block: Path, tmp_path: Path, share: float
) -> None:
    base = calibrated(block, tmp_path / "cache")
    path = changed(block, tmp_path, lambda energy: 4 * energy, share=share)
    result = calibrated(path, tmp_path / "cache")
    assert "of the values of LST 1 lie more than 4 sigma" in result.verdict.reasons[0]
    tests = result.extras["residual_tests"]
    row = tests.row(by_predicate=pl.col("tel_id") == 1, named=True)
    assert row["flag"] == "outlying"
    assert share / 1.3 < row["share"] < share * 1.3
    # Its resolution is that of its type, and not that of values that are not its own.
    assert row["resolution"] == pytest.approx(row["usual"], rel=0.05)
    others = moved(base, result).filter(pl.col("tel_id") != 1)
    step = (others["value_two"] - others["value"]).to_numpy()
    systematic = others["systematic_two"].fill_nan(0.0).to_numpy()
    assert np.abs(step / np.hypot(others["error_two"].to_numpy(), systematic)).max() < 2.5


def test_energies_no_telescope_can_measure_are_left_out_and_counted(
    block: Path, tmp_path: Path
) -> None:
    base = calibrated(block, tmp_path / "cache")
    path = changed(block, tmp_path, lambda energy: np.full_like(energy, 1e10))
    result = calibrated(path, tmp_path / "cache")
    rule = "value outside what a telescope can measure (0.0001 to 10000 TeV)"
    (rows,) = result.rejected.filter(pl.col("rule") == rule)["rows"]
    with h5py.File(path) as file:
        table = file[TABLE][()]
        valid = table["RandomForestRegressor_tel_is_valid"]
        assert rows == np.count_nonzero((table[COLUMN] == 1e10) & valid)
    # A twentieth of the showers of one telescope is missing: sqrt(0.05) errors, and selection.
    assert moved(base, result)["moved"].to_numpy().max() < 1.5
    assert result.verdict.status == "usable"


@pytest.mark.parametrize("factor", [1000.0, 100.0, 1e-3])
def test_a_telescope_in_other_units_is_named_and_the_others_are_right(
    block: Path, tmp_path: Path, factor: float
) -> None:
    base = calibrated(block, tmp_path / "cache")
    path = changed(block, tmp_path, lambda energy: factor * energy, share=1.0)
    result = calibrated(path, tmp_path / "cache")
    assert result.verdict.status == "degraded"
    assert any("LST-1" in text for text in result.verdict.reasons)
    # It is no part of the mean of the LST any more: the others are compared with each other.
    found = moved(base, result).filter((pl.col("tel_id") != 1) & (pl.col("tel_type") == "LST"))
    step = (found["value_two"] / found["value"]).log().to_numpy()
    z = (step - step.mean()) / (found["error"] / found["value"]).to_numpy()
    # A third of the showers of three LST had the fourth in them, and are weighed without it.
    assert np.abs(z).max() < 2.5
