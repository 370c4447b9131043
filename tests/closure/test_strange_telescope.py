"""Closure: a telescope whose values say nothing of the showers must not spoil its siblings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import polars as pl
import pytest

from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.observables import ENERGY_INTER
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.config import load_configuration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = "dl2/event/telescope/energy/RandomForestRegressor/tel_005"
COLUMN = "RandomForestRegressor_tel_energy"
STRANGE = 5
NAMED = pl.col("tel_id") == STRANGE
SEEDS = range(21, 25)

Values = dict[str, "Callable[[int, int], np.ndarray]"]
#: What stands in place of its energies in TeV, by number of events and seed.
VALUES: Values = {
    "missing": lambda n, _: np.full(n, np.nan),
    "random": lambda n, seed: np.random.default_rng(seed).lognormal(0.0, 2.0, n),
    "constant": lambda n, _: np.ones(n),
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Deviations of its siblings from the truth about their mean, over their quoted errors."""
    configuration = load_configuration(preset="energy-inter")
    found: dict[str, list[float]] = {name: [] for name in VALUES}
    for seed in SEEDS:
        folder = tmp_path_factory.mktemp("night")
        settings = SimulationSettings(
            array="north", n_blocks=2, n_showers=12_000, seed=seed, write_dl1=False
        )
        truth = simulate_night(folder, settings)
        blocks = sorted(folder.glob("*.dl2.h5"))
        for name, values in VALUES.items():
            for block in blocks:
                write(block, values, seed)
            pairs = [pairs_of_block(b, ENERGY_INTER, configuration, folder) for b in blocks]
            rows = calibrate(pairs, ENERGY_INTER, configuration).telescopes
            if name == "random":
                assert (
                    "its values scatter by 1" in rows.row(by_predicate=NAMED, named=True)["reason"]
                )
            rows = rows.filter((rows["tel_type"] == "MST") & (rows["tel_id"] != STRANGE))
            true = np.log([truth.throughput[tel_id] for tel_id in rows["tel_id"]])
            deviation = np.log(rows["value"].to_numpy()) - true
            error = (rows["error"] / rows["value"]).to_numpy()
            found[name] += ((deviation - deviation.mean()) / error).tolist()
    return {name: np.array(values) for name, values in found.items()}


def write(block: Path, values: Callable[[int, int], np.ndarray], seed: int) -> None:
    with h5py.File(block, "r+") as file:
        table = file[TABLE][()]
        table[COLUMN] = values(len(table), seed)
        file[TABLE][...] = table


@pytest.mark.parametrize("strange", ["random", "constant"])
def test_siblings_of_a_strange_telescope_are_as_good_as_without_it(
    errors: dict[str, np.ndarray], strange: str
) -> None:
    with_it, without = (np.sqrt(np.mean(errors[name] ** 2)) for name in (strange, "missing"))
    print(f"pull width {with_it:.3f} with it, {without:.3f} without")
    # The same showers, so that the two pull widths share their fluctuation.
    assert with_it < 1.1 * without
