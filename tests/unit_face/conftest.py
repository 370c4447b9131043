"""One small simulated block, read once, and a cache that is nobody's own."""

import os

import pytest

import arraycal as ac
from arraycal.calib.simulation import SimulationSettings, simulate_night

#: Few showers give every telescope a coefficient only with low limits.
LENIENT = {
    "RelativeThroughputFitter.min_events": 5,
    "RelativeThroughputFitter.min_common_events": 2,
    "ShowerSelection.threshold": None,
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path_factory):
    for name in [name for name in os.environ if name.startswith("ARRAYCAL_")]:
        monkeypatch.delenv(name)
    cache = tmp_path_factory.getbasetemp() / "cache of the face"
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(cache))


@pytest.fixture(scope="session")
def block(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    simulate_night(folder, SimulationSettings(array="north", n_blocks=1, n_showers=1500, seed=3))
    return folder / "block_1001.dl2.h5"


@pytest.fixture(scope="session")
def lenient():
    return ac.preset("energy-inter", LENIENT)


@pytest.fixture(scope="session")
def blocks(block, lenient, tmp_path_factory):
    return ac.read(block, lenient, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def result(blocks):
    return ac.calibrate(blocks)


@pytest.fixture(scope="session")
def array(block):
    return ac.Array.of_block(block)
