"""A small simulated night, a cache of its own, and one Prefect server for the session."""

import os

import pytest

from arraycal.calib.simulation import SimulationSettings, simulate_night

#: Few showers give every telescope a coefficient only with low limits.
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """Folder with two blocks and truth.json."""
    folder = tmp_path_factory.mktemp("night")
    settings = SimulationSettings(array="north", n_blocks=2, n_showers=1500, seed=3)
    simulate_night(folder, settings)
    return folder


@pytest.fixture(scope="session")
def blocks(night):
    return sorted(night.glob("*.dl2.h5"))


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, cache_root, tmp_path_factory):
    for name in [name for name in os.environ if name.startswith("ARRAYCAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(cache_root))
    # Nothing of the site of whoever runs the tests.
    monkeypatch.setenv("ARRAYCAL_HOME", str(tmp_path_factory.getbasetemp() / "no site"))
    # What the command line would set for the process must not outlive the test.
    from arraycal.flows.cli.main import PREFECT_DEFAULTS

    for name in PREFECT_DEFAULTS:
        monkeypatch.setenv(name, os.environ.get(name, PREFECT_DEFAULTS[name]))


@pytest.fixture
def lenient():
    """Options of the command line under which the night is usable."""
    return [item for text in LENIENT for item in ("--set", text)]


@pytest.fixture(scope="session")
def prefect_server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def text_file(tmp_path):
    """A text file that bears the name of a block."""
    path = tmp_path / "text.dl2.h5"
    path.write_text("this is no HDF5 file\n")
    return path
