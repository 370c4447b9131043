"""A site of its own: `arraycal up` in a folder, and nights of simulated blocks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.flows.service.processes import read_process

#: Few showers give every telescope a coefficient only with low limits.
LENIENT = (
    "RelativeThroughputFitter.min_events=5",
    "RelativeThroughputFitter.min_common_events=2",
    "ShowerSelection.threshold=null",
)
OPTIONS = {
    "calibrations": [{"calibration": "energy-inter", "overrides": list(LENIENT)}],
    "settle_s": 1,
}
POLL_S = 0.2
#: Status of an answer that asks to be asked again.
BUSY = 503


class Site:
    """A machine with `arraycal up`, and the options of its nights."""

    def __init__(self, folder, options=OPTIONS):
        self.home, self.data = folder / "home", folder / "data"
        self.output, self.cache = folder / "output", folder / "cache"
        self.port = _free_port()
        self.data.mkdir()
        file = folder / "nightly.yaml"
        file.write_text(json.dumps(options))
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ARRAYCAL_", "PREFECT_"))
        } | {
            "ARRAYCAL_HOME": str(self.home),
            "ARRAYCAL_DATA_ROOT": str(self.data),
            "ARRAYCAL_OUTPUT_ROOT": str(self.output),
            "ARRAYCAL_CACHE_ROOT": str(self.cache),
            "ARRAYCAL_NIGHTLY_OPTIONS": str(file),
            "ARRAYCAL_NIGHTLY_CRON": "* * * * *",
        }

    def arraycal(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "arraycal.flows.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def up(self):
        done = self.arraycal("up", "--port", str(self.port))
        assert done.returncode == 0, done.stderr
        return done

    def process(self, name):
        found = read_process(self.home / f"{name}.json")
        assert found is not None, name
        return found

    def kill(self, name):
        process = self.process(name)
        os.kill(process.pid, signal.SIGKILL)
        _wait_until(lambda: not process.is_running, 10)

    def flow_process(self):
        """Id of the process of the flow run under way: a child of the worker."""
        worker = self.process("worker").pid
        found = _wait_until(lambda: _children(worker), 60)
        return found[0]

    def api(self, method, path, content=None):
        """Ask the server; a busy one (SQLite has one writer) is asked again, as clients do."""
        for _ in range(20):
            status, text = self._ask(method, path, content)
            if status != BUSY:
                break
            time.sleep(POLL_S)
        assert status < 300, text
        return json.loads(text) if text else None

    def _ask(self, method, path, content):
        # Longer than the 60 s that the server itself waits for its database, which has one writer.
        connection = HTTPConnection("127.0.0.1", self.port, timeout=150)
        try:
            headers = {"Content-Type": "application/json"}
            if method != "GET":  # the server knows its pages by a token
                connection.request("GET", "/api/csrf-token?client=test")
                token = json.loads(connection.getresponse().read())["token"]
                headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
            connection.request(method, f"/api/{path}", json.dumps(content or {}), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def start(self, night, **changes):
        """Start a run of a night, as the UI does; return its id."""
        deployment = self.api("GET", "deployments/name/nightly/nightly")
        parameters = {"parameters": {"night": night.isoformat(), "options": OPTIONS | changes}}
        path = f"deployments/{deployment['id']}/create_flow_run"
        return self.api("POST", path, {"parameters": parameters})["id"]

    def state(self, run_id):
        return self.api("GET", f"flow_runs/{run_id}")["state"]

    def finish(self, run_id, timeout_s=180):
        """Wait for a run to end and return its last state."""
        final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        return _wait_until(
            lambda: (state := self.state(run_id))["type"] in final and state, timeout_s
        )

    def runs(self):
        return self.api("POST", "flow_runs/filter")

    def status(self, night):
        """Verdict on a night; None if there is none."""
        file = self.output / night.isoformat() / "night.json"
        return json.loads(file.read_text())["status"] if file.exists() else None

    def simulate(self, night, *, n_blocks=1, n_showers=1500):
        """Drop the blocks of a night into the data folder."""
        settings = SimulationSettings(
            array="north",
            n_blocks=n_blocks,
            n_showers=n_showers,
            seed=night.toordinal(),
            night=night,
            first_obs_id=10 * night.toordinal(),
        )
        simulate_night(self.data / night.isoformat(), settings)


def _wait_until(condition, timeout_s):
    """Poll until something is true, and return it."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {timeout_s} s in vain"
        time.sleep(POLL_S)
    return found


def _children(pid):
    """Ids of the processes that a process has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(file.parent.name))
    return found


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def wait_until():
    return _wait_until


@pytest.fixture(scope="session")
def yesterday():
    return datetime.now(UTC).date() - timedelta(days=1)


@contextmanager
def running(folder, *options):
    """A running site, shut down at the end, whatever happened."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("finds processes by /proc, which is not here")
    site = Site(folder, *options)
    try:
        site.up()
        yield site
    finally:
        site.arraycal("down")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site that most tests share."""
    with running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def other_site(tmp_path_factory):
    """Start a site with options of its own: for tests whose nights others must not see."""
    with ExitStack() as stack:
        yield lambda options: stack.enter_context(running(tmp_path_factory.mktemp("site"), options))
