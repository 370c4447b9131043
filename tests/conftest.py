"""Settings of the whole suite, and the real files beside the checkout."""

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Read when Prefect is first imported. The Makefile sets the same; this serves a bare `pytest`.
os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

# The same examples every time and no stop-watch: a failure is the code's, never the machine's.
hypothesis.settings.register_profile(
    "arraycal",
    derandomize=True,
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("arraycal")


@pytest.fixture(scope="session")
def real_data():
    """Folder of genuine ctapipe files, kept beside the checkout and not in it."""
    folder = ROOT.parent / "shared" / "data" / "real"
    if not folder.is_dir():
        pytest.skip("shared/data/real is not beside the checkout")
    return folder
