"""Closure on whole nights: genuine DL2 files with known truth, through the recommended preset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from calib.observables import ENERGY_INTER
from calib.pipeline import calibrate, pairs_of_block
from calib.simulation import SimulationSettings, Truth, simulate_night
from config import load_configuration

if TYPE_CHECKING:
    from pathlib import Path

    from calib.result import CalibrationResult


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Truth]:
    folder = tmp_path_factory.mktemp("night")
    settings = SimulationSettings(
        array="north",
        n_blocks=3,
        n_showers=25_000,
        seed=2,
        throughput_scatter=0.15,
        write_dl1=False,
    )
    truth = simulate_night(folder, settings)
    return sorted(folder.glob("*.dl2.h5")), truth


def run(blocks: list[Path], cache: Path, preset: str) -> CalibrationResult:
    configuration = load_configuration(preset=preset)
    pairs = [pairs_of_block(block, ENERGY_INTER, configuration, cache) for block in blocks]
    return calibrate(pairs, ENERGY_INTER, configuration)


def deviations(result: CalibrationResult, truth: Truth, tel_type: str) -> tuple[np.ndarray, ...]:
    """Found and true ln c about their mean, and the errors, of one type."""
    rows = result.telescopes.filter(result.telescopes["tel_type"] == tel_type)
    true = np.log([truth.throughput[tel_id] for tel_id in rows["tel_id"]])
    found = np.log(rows["value"].to_numpy())
    error = (rows["error"] / rows["value"]).to_numpy()
    return found - found.mean(), true - true.mean(), error


def test_recommended_preset_recovers_the_truth(
    night: tuple[list[Path], Truth], tmp_path: Path
) -> None:
    result = run(night[0], tmp_path, "energy-inter")
    assert result.verdict.status == "usable"
    for tel_type in ("LST", "MST"):
        found, true, error = deviations(result, night[1], tel_type)
        # The slope of found against true carries the threshold bias; it is known to
        # error / (rms of truth * sqrt(n)), 1-2 % here.
        slope = float(found @ true / (true @ true))
        known_to = float(np.median(error) / np.sqrt(true @ true))
        assert abs(slope - 1) < 0.01 + 3 * known_to
        # chi2 with n - 1 degrees of freedom, 4 sigma: n - 1 + 4 sqrt(2 (n - 1)).
        ndf = len(found) - 1
        assert np.sum(((found - true) / error) ** 2) < ndf + 4 * np.sqrt(2 * ndf)


def test_recommended_selection_beats_the_peers_on_the_same_night(
    night: tuple[list[Path], Truth], tmp_path: Path
) -> None:
    scatter = {}
    for preset in ("energy-inter", "energy-inter-peer"):
        found, true, _ = deviations(run(night[0], tmp_path, preset), night[1], "MST")
        scatter[preset] = np.std(found - true)
    assert scatter["energy-inter-peer"] > 1.5 * scatter["energy-inter"]


def test_a_second_run_reuses_the_pairs_and_repeats_the_result(
    night: tuple[list[Path], Truth], tmp_path: Path
) -> None:
    first, second = (run(night[0], tmp_path, "energy-inter") for _ in range(2))
    assert not first.blocks["cached"].any()
    assert second.blocks["cached"].all()
    assert first.telescopes.equals(second.telescopes, null_equal=True)
    np.testing.assert_array_equal(first.covariance, second.covariance)
