"""Closure on whole nights: genuine DL2 files with known truth, through the recommended preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.simulation import SimulationSettings, Truth, simulate_night
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from arraycal.calib.result.result import CalibrationResult


Night = tuple[list[Path], Truth]

SEEDS = range(2, 10)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Night]:
    return [simulated(tmp_path_factory.mktemp("night"), seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def night(nights: list[Night]) -> Night:
    return nights[0]


def simulated(folder: Path, seed: int) -> Night:
    settings = SimulationSettings(
        array="north",
        n_blocks=3,
        n_showers=25_000,
        seed=seed,
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


def chi_square(result: CalibrationResult, truth: Truth, tel_type: str) -> float:
    """Of the differences between telescopes of a type: one degree of freedom less than they are."""
    found, true, _ = deviations(result, truth, tel_type)
    rows = result.telescopes.filter(result.telescopes["tel_type"] == tel_type)
    at = [result.tel_ids.index(tel_id) for tel_id in rows["tel_id"]]
    value = rows["value"].to_numpy()
    # With the full covariance: deviations from a common mean are not independent.
    centre = np.eye(len(at)) - 1 / len(at)
    covariance = centre @ (result.covariance[np.ix_(at, at)] / np.outer(value, value)) @ centre
    difference = found - true
    return float(difference @ np.linalg.pinv(covariance, rcond=1e-9) @ difference)


def test_recommended_preset_recovers_the_truth(nights: list[Night], tmp_path: Path) -> None:
    # Of a single night the slope of MST is known to 1.6 %: several say more than one.
    sums = {tel_type: np.zeros(2) for tel_type in ("LST", "MST")}
    chi2, ndf = 0.0, 0
    for blocks, truth in nights:
        result = run(blocks, tmp_path, "energy-inter")
        assert result.verdict.status == "usable"
        for tel_type in sums:
            found, true, error = deviations(result, truth, tel_type)
            weight = 1 / float(np.median(error)) ** 2
            sums[tel_type] += np.array([found @ true, true @ true]) * weight
            chi2 += chi_square(result, truth, tel_type)
            ndf += len(found) - 1
    # Honest errors stay below this in all but one of 1,000 such sets of nights.
    print(f"pull width {np.sqrt(chi2 / ndf):.3f} of {ndf} degrees of freedom")
    assert chi2 < stats.chi2.isf(1e-3, ndf)
    for tel_type, (product, square) in sums.items():
        # The slope of found against true carries the threshold bias.
        slope, known_to = product / square, 1 / np.sqrt(square)
        print(f"{tel_type}: slope {slope:.4f} +- {known_to:.4f}")
        assert abs(slope - 1) < 0.01 + 3 * known_to


def test_recommended_selection_beats_the_peers_on_the_same_night(
    night: Night, tmp_path: Path
) -> None:
    scatter = {}
    for preset in ("energy-inter", "energy-inter-peer"):
        found, true, _ = deviations(run(night[0], tmp_path, preset), night[1], "MST")
        scatter[preset] = np.std(found - true)
    assert scatter["energy-inter-peer"] > 1.5 * scatter["energy-inter"]


def test_a_second_run_reuses_the_pairs_and_repeats_the_result(night: Night, tmp_path: Path) -> None:
    first, second = (run(night[0], tmp_path, "energy-inter") for _ in range(2))
    assert not first.blocks["cached"].any()
    assert second.blocks["cached"].all()
    assert first.telescopes.equals(second.telescopes, null_equal=True)
    np.testing.assert_array_equal(first.covariance, second.covariance)
