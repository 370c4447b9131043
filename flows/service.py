"""``arraycal up``, ``down`` and ``status``: everything that runs by itself, on one machine.

A Prefect server with its SQLite database and one worker, both as processes of this user, with all
their state in one folder (ARRAYCAL_HOME). Nothing in it is needed twice: `up` starts what is not
running and leaves alone what is.
"""

import socket
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from calib.errors import ArraycalError, WrongUsage
from calib.locks import exclusive
from config.errors import ConfigurationError
from config.settings import Settings, load_settings
from flows.console import stderr, stdout
from flows.environment import service_environment
from flows.outcomes import Exit
from flows.processes import Process, has_survivors, read_process, start, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["Home", "down", "status", "up"]

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
#: A new database takes half a minute on a busy machine.
START_S = 180.0
#: A worker waits for its runs to stop, a server for its connections to close.
WORKER_STOP_S, SERVER_STOP_S = 60.0, 30.0
POLL_S = 0.5
#: Lines of a log that are shown when something does not start.
SHOWN_LINES = 15
WORKER = "arraycal"


@dataclass(frozen=True)
class Home:
    """Where the state is.

    Parameters
    ----------
    folder : Path
        ARRAYCAL_HOME.
    """

    folder: Path

    @property
    def prefect(self) -> Path:
        """Database and settings of the server."""
        return self.folder / "prefect"

    @property
    def data(self) -> Path:
        """Data folder unless ARRAYCAL_DATA_ROOT is set."""
        return self.folder / "data"

    @property
    def output(self) -> Path:
        """Output folder unless ARRAYCAL_OUTPUT_ROOT is set."""
        return self.folder / "output"

    @property
    def port(self) -> Path:
        """Port of the last server: addresses that people keep stay the same."""
        return self.folder / "port"

    def file(self, name: str) -> Path:
        """File of a process."""
        return self.folder / f"{name}.json"

    def log(self, name: str) -> Path:
        """What a process prints."""
        return self.folder / "logs" / f"{name}.log"


def up(port: int | None) -> Exit:
    """Start what is not running, register what is not there, and say where.

    Parameters
    ----------
    port : int or None
        Of the server on 127.0.0.1; None for that of the running or the last one, else 4200.

    Raises
    ------
    WrongUsage
        If the port is taken, or the server runs on another one.
    ConfigurationError
        If a setting cannot be.
    OSError
        If something does not start.
    """
    settings = load_settings()
    home = Home(settings.home.absolute())
    home.prefect.mkdir(parents=True, exist_ok=True)
    with exclusive(home.folder / ".lock"):
        environment = _environment(settings, home)
        for name in ("ARRAYCAL_DATA_ROOT", "ARRAYCAL_OUTPUT_ROOT"):
            Path(environment[name]).mkdir(parents=True, exist_ok=True)
        server = _start_server(home, port, environment)
        address = f"http://{HOST}:{server.note}"
        environment |= {"PREFECT_API_URL": f"{address}/api"}
        _register(address, settings, home)
        _start_worker(home, address, environment)
    console = stdout()
    for name, value in (
        ("UI", address),
        ("data", environment["ARRAYCAL_DATA_ROOT"]),
        ("results", environment["ARRAYCAL_OUTPUT_ROOT"]),
        ("nightly", f"{settings.nightly_cron} ({settings.time_zone})"),
        ("logs", str(home.log("worker").parent)),
        ("stop with", "arraycal down"),
    ):
        console.print(f"{name:10}{value}", markup=False, soft_wrap=True)
    return Exit.USABLE


def _environment(settings: Settings, home: Home) -> dict[str, str]:
    """Environment of server and worker."""
    roots = {
        "ARRAYCAL_DATA_ROOT": str((settings.data_root or home.data).absolute()),
        "ARRAYCAL_OUTPUT_ROOT": str((settings.output_root or home.output).absolute()),
        "ARRAYCAL_CACHE_ROOT": str(settings.cache_root.absolute()),
        "ARRAYCAL_HOME": str(home.folder),
    }
    return service_environment({"PREFECT_HOME": str(home.prefect)} | roots)


def _start_server(home: Home, port: int | None, environment: Mapping[str, str]) -> Process:
    server = read_process(home.file("server"))
    if server is not None:
        if port not in {None, int(server.note)}:
            raise WrongUsage(
                f"the server runs on port {server.note} already; `arraycal down` stops it"
            )
    else:
        wanted = _last_port(home) if port is None else port
        _refuse_taken(wanted)
        home.port.write_text(f"{wanted}\n", encoding="ascii")
        _say(f"starting the Prefect server on {HOST}:{wanted}")
        command = [sys.executable, "-m", "prefect", "server", "start"]
        command += ["--host", HOST, "--port", str(wanted)]
        address = f"http://{HOST}:{wanted}"
        ours = {
            "PREFECT_API_URL": f"{address}/api",
            # Pages of other sites, open in the same browser, must not start runs or read results.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            # Where Prefect is installed this user may not be allowed to write: no UI, and a 404.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.prefect / "ui"),
        }
        server = start(
            home.file("server"),
            command,
            dict(environment) | ours,
            home.log("server"),
            note=str(wanted),
        )
    _wait_until_healthy(server, home)
    return server


def _last_port(home: Home) -> int:
    try:
        return int(home.port.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return DEFAULT_PORT


def _refuse_taken(port: int) -> None:
    """Refuse a port on which somebody listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that just ended
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise WrongUsage(
                f"port {port} of {HOST} cannot be used ({error.strerror}). Another program listens "
                "there; choose another one with --port"
            ) from None


def _wait_until_healthy(server: Process, home: Home) -> None:
    end = time.monotonic() + START_S
    while not is_healthy(int(server.note)):
        if not server.is_running:
            home.file("server").unlink(missing_ok=True)
            raise ConnectionError(f"the server did not start. {_tail(home.log('server'))}")
        if time.monotonic() > end:
            raise ConnectionError(
                f"the server did not answer within {START_S:.0f} s. {_tail(home.log('server'))}"
            )
        time.sleep(POLL_S)


def is_healthy(port: int) -> bool:
    """Whether a Prefect server answers on a port of this machine."""
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().read() == b"true"
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _register(address: str, settings: Settings, home: Home) -> None:
    _say("registering deployments and automations")
    from flows.registering import register

    try:
        with _client(address, home) as client:
            register(client, settings)
    except (ArraycalError, ConfigurationError):
        raise
    except Exception as error:  # of httpx, which is Prefect's and not ours
        raise ConnectionError(f"the server did not take the deployments: {error}") from error


@contextmanager
def _client(address: str, home: Home) -> "Iterator[SyncPrefectClient]":
    """Client of our server, whatever profile this user has."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_HOME, temporary_settings

    ours = {PREFECT_API_URL: f"{address}/api", PREFECT_HOME: home.prefect}
    with (
        temporary_settings(ours, restore_defaults={PREFECT_API_KEY}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _start_worker(home: Home, address: str, environment: Mapping[str, str]) -> None:
    runs_may_live = has_survivors(home.file("worker"))
    if read_process(home.file("worker")) is not None:
        return
    from flows.lost_runs import crash_lost_runs
    from flows.registering import POOL

    if not runs_may_live:
        with _client(address, home) as client:
            crash_lost_runs(client, POOL)
    _say("starting the worker")
    command = [sys.executable, "-m", "prefect", "worker", "start"]
    command += ["--pool", POOL, "--type", "process", "--name", WORKER]
    worker = start(home.file("worker"), command, environment, home.log("worker"))
    size = home.log("worker").stat().st_size
    end = time.monotonic() + START_S
    while not _has_started(home.log("worker"), size):
        if not worker.is_running:
            home.file("worker").unlink(missing_ok=True)
            raise ConnectionError(f"the worker did not start. {_tail(home.log('worker'))}")
        if time.monotonic() > end:
            raise ConnectionError(f"the worker does not start. {_tail(home.log('worker'))}")
        time.sleep(POLL_S)


def _has_started(log: Path, before: int) -> bool:
    with log.open("rb") as stream:
        stream.seek(before)
        return b"started!" in stream.read()


def down() -> Exit:
    """Stop the worker, with its runs, and then the server."""
    home = Home(load_settings().home.absolute())
    if not home.folder.is_dir():
        stdout().print("nothing is running", markup=False)
        return Exit.USABLE
    with exclusive(home.folder / ".lock"):
        # The worker first: without its server it does not end by itself.
        stopped = [
            name
            for name, timeout_s in (("worker", WORKER_STOP_S), ("server", SERVER_STOP_S))
            if stop(home.file(name), timeout_s)
        ]
    text = f"stopped {' and '.join(stopped)}" if stopped else "nothing is running"
    stdout().print(text, markup=False)
    return Exit.USABLE


def status() -> Exit:
    """Say what is running; usable if all is, degraded if some, unusable if nothing."""
    home = Home(load_settings().home.absolute())
    server, worker = (read_process(home.file(name)) for name in ("server", "worker"))
    healthy = server is not None and is_healthy(int(server.note))
    address = f", http://{HOST}:{server.note}" if server else ""
    answer = "" if healthy or server is None else ", but it does not answer"
    console = stdout()
    console.print(f"server  {_running(server)}{address}{answer}", markup=False)
    console.print(f"worker  {_running(worker)}", markup=False)
    if healthy and worker:
        return Exit.USABLE
    return Exit.DEGRADED if server or worker else Exit.UNUSABLE


def _running(process: Process | None) -> str:
    return f"running as process {process.pid}" if process else "not running"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
    return f"The last lines of {log}:\n" + "\n".join(lines)


def _say(text: str) -> None:
    stderr().print(text, markup=False, soft_wrap=True)
