"""Input and output of somebody who means harm, or of a machine that fails."""

import os
import shutil

import pytest

from arraycal.calib.simulation import SimulationSettings, simulate_night

#: Few showers give every telescope a coefficient only with low limits.
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Folder with two sound blocks and truth.json, which no test changes."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_night(folder, SimulationSettings(array="north", n_blocks=2, n_showers=1000, seed=3))
    return folder


@pytest.fixture
def night(simulated, tmp_path):
    """A copy of the night that a test may damage."""
    return shutil.copytree(simulated, tmp_path / "night")


@pytest.fixture
def block(night):
    """One of its blocks."""
    return min(night.glob("*.dl2.h5"))


@pytest.fixture
def lenient():
    """Options of the command line under which the night is usable."""
    return [item for text in LENIENT for item in ("--set", text)]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path_factory, tmp_path):
    for name in [name for name in os.environ if name.startswith("ARRAYCAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("ARRAYCAL_HOME", str(tmp_path / "no site"))
    from arraycal.flows.cli.main import PREFECT_DEFAULTS

    for name in PREFECT_DEFAULTS:
        monkeypatch.setenv(name, os.environ.get(name, PREFECT_DEFAULTS[name]))
