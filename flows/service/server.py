"""The Prefect server of `arraycal up`: a process of this user that answers on this machine only."""

import socket
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from arraycal.calib.errors import WrongUsage
from arraycal.flows.jobs.home import Home
from arraycal.flows.service.processes import Process, read_process, start
from arraycal.flows.terminal.console import stderr

__all__ = ["HOST", "START_S", "is_healthy", "say", "start_server", "tail"]

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
#: A new database takes half a minute on a busy machine.
START_S = 180.0
POLL_S = 0.5
#: Lines of a log that are shown when something does not start.
SHOWN_LINES = 15


def start_server(home: Home, port: int | None, environment: Mapping[str, str]) -> Process:
    """Start the server if it is not running, and wait until it answers.

    Raises
    ------
    WrongUsage
        If the port is taken, or the server runs on another one.
    ConnectionError
        If it does not start.
    """
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
        say(f"starting the Prefect server on {HOST}:{wanted}")
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
            raise ConnectionError(f"the server did not start. {tail(home.log('server'))}")
        if time.monotonic() > end:
            raise ConnectionError(
                f"the server did not answer within {START_S:.0f} s. {tail(home.log('server'))}"
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


def tail(log: Path) -> str:
    """Last lines of a log, for a message."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
    return f"The last lines of {log}:\n" + "\n".join(lines)


def say(text: str) -> None:
    """Tell who waits what is going on."""
    stderr().print(text, markup=False, soft_wrap=True)
