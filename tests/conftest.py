"""Settings of the whole suite, the real files beside the checkout, and a PostgreSQL server."""

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa

ROOT = Path(__file__).resolve().parent.parent
#: Debian keeps the server's programs out of the path, in a folder of each version.
SERVER_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)

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


def server_program(name):
    folders = os.pathsep.join([os.environ.get("PATH", ""), *map(str, SERVER_FOLDERS)])
    return shutil.which(name, path=folders)


def as_ordinary_user(folder):
    """Words before a command that let another user run it: root may not run a server."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")


@pytest.fixture(scope="session")
def postgres():
    """URL of the maintenance database of a fresh server, reached by a socket in its own folder."""
    initdb, pg_ctl = server_program("initdb"), server_program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'arraycal[postgres]')")
    # Not below pytest's folder, into which only its owner may look.
    with tempfile.TemporaryDirectory(prefix="arraycal-pg-") as name:
        folder = Path(name)
        user, data = as_ordinary_user(folder), str(folder / "data")
        run(*user, initdb, "-D", data, "-U", "arraycal", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        log = str(folder / "log")
        run(*user, pg_ctl, "-D", data, "-o", options, "-l", log, "-w", "start")
        try:
            yield f"postgresql+psycopg://arraycal@/postgres?host={folder}"
        finally:
            run(*user, pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")


@pytest.fixture
def postgres_database(postgres):
    """URL of a new, empty database on the server."""
    name = f"history_{os.urandom(6).hex()}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres.replace("/postgres?", f"/{name}?").replace("+psycopg", "")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")
    engine.dispose()
