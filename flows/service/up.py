"""``arraycal up``, ``down`` and ``status``: everything that runs by itself, on one machine.

A Prefect server with its SQLite database and one worker, both as processes of this user, with all
their state in one folder (ARRAYCAL_HOME). Nothing in it is needed twice: `up` starts what is not
running and leaves alone what is.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.calib.disk.locks import exclusive
from arraycal.calib.errors import ArraycalError, WrongUsage
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, given_settings, load_settings, variable
from arraycal.flows.jobs.home import POOL, Home
from arraycal.flows.jobs.remembered import (
    Changes,
    changes,
    read_remembered,
    remember,
    settings_texts,
    to_remember,
)
from arraycal.flows.service.environment import service_environment
from arraycal.flows.service.processes import (
    Process,
    has_survivors,
    limit_log,
    read_process,
    start,
    stop,
)
from arraycal.flows.service.server import HOST, START_S, is_healthy, say, start_server, tail
from arraycal.flows.terminal.console import stdout
from arraycal.flows.terminal.outcomes import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["down", "status", "up"]

#: A worker waits for its runs to stop, a server for its connections to close.
WORKER_STOP_S, SERVER_STOP_S = 60.0, 30.0
POLL_S = 0.5
#: A log that is longer is set aside, and the one that was set aside before is given up.
LARGEST_LOG_BYTES = 20_000_000
WORKER = "arraycal"
#: User and password, as the server and as its clients know them.
AUTH_VARIABLES = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")


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
    home = _home()
    home.prefect.mkdir(parents=True, exist_ok=True)
    with exclusive(home.folder / ".lock"):
        before = read_remembered(home.settings)  # None if nothing is known of the last time
        settings = load_settings(before or {}, str(home.settings))
        kept = to_remember(settings, before or {})
        _check(settings)
        environment = _environment(settings, home)
        for name in ("ARRAYCAL_DATA_ROOT", "ARRAYCAL_OUTPUT_ROOT"):
            Path(environment[name]).mkdir(parents=True, exist_ok=True)
        for name in ("server", "worker"):
            limit_log(home.log(name), LARGEST_LOG_BYTES)
        _refuse_new_password(before, settings, home)
        server = start_server(home, port, environment)
        address = f"http://{HOST}:{server.note}"
        environment |= {"PREFECT_API_URL": f"{address}/api"}
        is_stale = _is_stale(before, settings, home, environment)
        _register(settings, environment)
        if is_stale:
            say("restarting the worker: its settings have changed")
            stop(home.file("worker"), WORKER_STOP_S)
        remember(home.settings, kept)
        _start_worker(home, environment)
    _show(
        settings,
        environment,
        address,
        home,
        remembered=frozenset(kept.keys() - given_settings().keys()),
    )
    return Exit.USABLE


def _home() -> Home:
    return Home(load_settings().home.absolute())


def _check(settings: Settings) -> None:
    """Refuse what cannot be before anything is started."""
    from arraycal.flows.service.registering import check_site

    check_site(settings)


def _show(
    settings: Settings,
    environment: Mapping[str, str],
    address: str,
    home: Home,
    *,
    remembered: frozenset[str],
) -> None:
    """Say where everything is, and which of it nobody has said this time."""
    console = stdout()
    for name, value, sources in (
        ("UI", address, ()),
        ("data", environment["ARRAYCAL_DATA_ROOT"], ("data_root",)),
        ("results", environment["ARRAYCAL_OUTPUT_ROOT"], ("output_root",)),
        (
            "nightly",
            f"{settings.nightly_cron} ({settings.time_zone})",
            ("nightly_cron", "time_zone"),
        ),
        ("logs", str(home.log("worker").parent), ()),
        ("stop with", "arraycal down", ()),
    ):
        note = ", remembered" if remembered.intersection(sources) else ""
        console.print(f"{name:10}{value}{note}", markup=False, soft_wrap=True)
    if remembered:
        names = ", ".join(map(variable, sorted(remembered)))
        console.print(
            f"not set here, remembered in {home.settings}: {names}", markup=False, soft_wrap=True
        )


def _environment(settings: Settings, home: Home) -> dict[str, str]:
    """Environment of server and worker: all settings, whatever the shell has of them."""
    texts = {name: text for name, text in settings_texts(settings).items() if text}
    texts |= {"data_root": str(settings.data_folder), "output_root": str(settings.output_folder)}
    ours = {variable(name): text for name, text in texts.items()}
    ours |= {"PREFECT_HOME": str(home.prefect), "ARRAYCAL_HOME": str(home.folder)}
    if settings.auth is not None:
        ours |= dict.fromkeys(AUTH_VARIABLES, settings.auth)
    return service_environment(ours)


def _is_stale(
    before: Mapping[str, str] | None,
    settings: Settings,
    home: Home,
    environment: Mapping[str, str],
) -> bool:
    """Whether a worker runs with other settings than those that are wanted.

    Raises
    ------
    WrongUsage
        If so, and a run is under way: it would be cut off, or go on with the old settings.
    """
    found = changes(before, settings) if before is not None else Changes()
    for line in found.values():
        say(f"changed since the last `arraycal up`: {line}")
    if read_process(home.file("worker")) is None:
        return False
    if before is not None and not found.concern_the_worker:
        return False
    from arraycal.flows.service.pool_runs import runs_under_way

    with _client(environment) as client:
        names = [run.name for run in runs_under_way(client)]
    if names:
        raise WrongUsage(
            f"the running worker may have other settings than these, and is busy with "
            f"{', '.join(names)}. Nothing has been changed: call `arraycal up` again when it is "
            "done, or `arraycal down` first, which cancels it"
        )
    return True


def _refuse_new_password(before: Mapping[str, str] | None, settings: Settings, home: Home) -> None:
    if read_process(home.file("server")) and (before or {}).get("auth", "") != (
        settings.auth or ""
    ):
        raise WrongUsage(
            f"the server runs with another {variable('auth')}; call `arraycal down` first"
        )


def _register(settings: Settings, environment: Mapping[str, str]) -> None:
    say("registering deployments and automations")
    from arraycal.flows.service.registering import register

    try:
        with _client(environment) as client:
            register(client, settings)
    except (ArraycalError, ConfigurationError):
        raise
    except Exception as error:  # of httpx, which is Prefect's and not ours
        raise ConnectionError(f"the server did not take the deployments: {error}") from error


@contextmanager
def _client(environment: Mapping[str, str]) -> "Iterator[SyncPrefectClient]":
    """Client of our server, whatever profile this user has."""
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_URL,
        PREFECT_HOME,
        temporary_settings,
    )

    names = (PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME)
    ours = {item: environment[item.name] for item in names if item.name in environment}
    with (
        temporary_settings(ours, restore_defaults={PREFECT_API_KEY, *names} - ours.keys()),
        get_client(sync_client=True) as client,
    ):
        yield client


def _start_worker(home: Home, environment: Mapping[str, str]) -> None:
    runs_may_live = has_survivors(home.file("worker"))
    if read_process(home.file("worker")) is not None:
        return
    from arraycal.flows.service.pool_runs import crash_lost_runs

    if not runs_may_live:
        with _client(environment) as client:
            crash_lost_runs(client)
    say("starting the worker")
    command = [sys.executable, "-m", "prefect", "worker", "start"]
    command += ["--pool", POOL, "--type", "process", "--name", WORKER]
    worker = start(home.file("worker"), command, environment, home.log("worker"))
    size = home.log("worker").stat().st_size
    end = time.monotonic() + START_S
    while not _has_started(home.log("worker"), size):
        if not worker.is_running:
            home.file("worker").unlink(missing_ok=True)
            raise ConnectionError(f"the worker did not start. {tail(home.log('worker'))}")
        if time.monotonic() > end:
            raise ConnectionError(f"the worker does not start. {tail(home.log('worker'))}")
        time.sleep(POLL_S)


def _has_started(log: Path, before: int) -> bool:
    with log.open("rb") as stream:
        stream.seek(before)
        return b"started!" in stream.read()


def down() -> Exit:
    """Cancel the runs, stop the worker, and then the server."""
    home = _home()
    if not home.folder.is_dir():
        stdout().print("nothing is running", markup=False)
        return Exit.USABLE
    with exclusive(home.folder / ".lock"):
        # The worker first: without its server it does not end by itself.
        stopped = ["worker"] if _stop_worker(home) else []
        stopped += ["server"] if stop(home.file("server"), SERVER_STOP_S) else []
    text = f"stopped {' and '.join(stopped)}" if stopped else "nothing is running"
    stdout().print(text, markup=False)
    return Exit.USABLE


def _stop_worker(home: Home) -> bool:
    """Stop the worker; its runs are cancelled first: a planned stop is no failure of theirs."""
    worker, server = (read_process(home.file(name)) for name in ("worker", "server"))
    if worker is None:
        return False
    if server is None or not is_healthy(int(server.note)):
        return stop(home.file("worker"), WORKER_STOP_S)
    from arraycal.flows.service.pool_runs import cancel_runs, close_runs

    settings = load_settings(read_remembered(home.settings) or {}, str(home.settings))
    environment = _environment(settings, home)
    environment |= {"PREFECT_API_URL": f"http://{HOST}:{server.note}/api"}
    _try("the runs could not be cancelled", environment, partial(cancel_runs, say=say))
    stopped = stop(home.file("worker"), WORKER_STOP_S)
    _try("runs that were cut off may look as if they went on", environment, close_runs)
    return stopped


def _try(
    failure: str, environment: Mapping[str, str], action: "Callable[[SyncPrefectClient], None]"
) -> None:
    """Ask the server for something without which everything can be stopped as well."""
    try:
        with _client(environment) as client:
            action(client)
    except Exception as error:  # noqa: BLE001  of httpx, which is Prefect's and not ours
        say(f"{failure}: {error}")


def status() -> Exit:
    """Say what is running; usable if all is, degraded if some, unusable if nothing."""
    home = _home()
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
