"""up, down and status, without starting a server."""

import json
import os
import socket
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from arraycal.config.settings import Settings, variable
from arraycal.flows.cli.main import main
from arraycal.flows.service import pool_runs, server
from arraycal.flows.service import up as service
from arraycal.flows.service.environment import service_environment
from arraycal.flows.service.processes import Process, read_process, start, stop


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ARRAYCAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_and_nothing_is_left(home, taken, capsys):
    assert main(["up", "--port", str(taken)]) == 2
    message = capsys.readouterr().err
    assert f"port {taken} of 127.0.0.1 cannot be used" in message
    assert "--port" in message
    assert not (home / "server.json").exists()


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_a_port_that_cannot_be_is_refused(text, capsys):
    assert main(["up", "--port", text]) == 2
    assert "expected a number from 1 to 65535" in capsys.readouterr().err


def test_a_running_server_does_not_move_to_another_port(home, taken, capsys):
    home.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    start(home / "server.json", command, os.environ, home / "log", note=str(taken))
    try:
        assert main(["up", "--port", "1"]) == 2
        assert f"the server runs on port {taken} already" in capsys.readouterr().err
        assert read_process(home / "server.json") is not None
    finally:
        assert main(["down"]) == 0


def test_without_anything_running_down_has_nothing_to_do(home, capsys):
    assert main(["down"]) == 0
    assert "nothing is running" in capsys.readouterr().out
    assert not home.exists()


def test_status_tells_all_from_some_from_nothing(home, capsys):
    assert main(["status"]) == 4
    home.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    start(home / "worker.json", command, os.environ, home / "log")
    try:
        capsys.readouterr()
        assert main(["status"]) == 3
        shown = capsys.readouterr().out
        assert "server  not running" in shown
        assert "worker  running as process" in shown
    finally:
        assert main(["down"]) == 0
    assert "stopped worker" in capsys.readouterr().out
    assert main(["status"]) == 4


def test_a_stale_file_is_no_process(home, capsys):
    home.mkdir()
    stale = {"pid": os.getpid(), "started": "1", "note": "4200"}
    (home / "server.json").write_text(json.dumps(stale))
    assert main(["status"]) == 4
    assert "server  not running" in capsys.readouterr().out


def test_a_server_that_does_not_start_shows_the_end_of_its_log(home, monkeypatch, capsys):

    def fails(file, _, environment, log, note=""):
        command = [sys.executable, "-c", "print('no space for the database'); raise SystemExit(1)"]
        return start(file, command, environment, log, note)

    monkeypatch.setattr(server, "start", fails)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert main(["up", "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert "the server did not start" in message
    assert "no space for the database" in message
    assert not (home / "server.json").exists()


def test_the_processes_do_not_get_the_users_own_prefect(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere/api")
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("PREFECT_PROFILE", "cloud")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    found = service_environment({"PREFECT_HOME": "here"})
    ours = {name: value for name, value in found.items() if name.startswith("PREFECT_")}
    assert ours["PREFECT_HOME"] == "here"
    assert ours["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert not {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"} & set(ours)
    assert found["PATH"] == os.environ["PATH"]


def test_the_port_of_the_last_time_is_taken_again(home, taken, capsys):
    home.mkdir()
    (home / "port").write_text(f"{taken}\n")
    assert main(["up"]) == 2
    assert f"port {taken} of 127.0.0.1" in capsys.readouterr().err


class FakeSite:
    """A server that takes everything, and a worker that sleeps."""

    def __init__(self, home, monkeypatch):
        self.home, self.crons, self.environments = home, [], []
        self.busy: list[SimpleNamespace] = []
        self.server = Process(os.getpid(), "now", note="1")
        monkeypatch.setattr(service, "start_server", lambda *_: self.server)
        monkeypatch.setattr(service, "_register", self.register)
        monkeypatch.setattr(service, "_start_worker", self.start_worker)
        monkeypatch.setattr(service, "_client", lambda *_: nullcontext())
        monkeypatch.setattr(pool_runs, "runs_under_way", lambda _: self.busy)

    def register(self, settings, _environment):
        self.crons.append(settings.nightly_cron)

    def start_worker(self, home, environment):
        if read_process(home.file("worker")) is None:
            command = [sys.executable, "-c", "import time; time.sleep(300)"]
            start(home.file("worker"), command, environment, home.log("worker"))
            self.environments.append(environment)

    @property
    def pid(self):
        worker = read_process(self.home / "worker.json")
        assert worker is not None
        return worker.pid


@pytest.fixture
def fake(home, monkeypatch):
    for name in Settings.model_fields:
        if name != "home":
            monkeypatch.delenv(variable(name), raising=False)
    yield FakeSite(home, monkeypatch)
    main(["down"])


def test_up_from_a_bare_shell_changes_nothing(fake, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", str(tmp_path / "blocks"))
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_CRON", "15 9 * * *")
    assert main(["up"]) == 0
    pid = fake.pid
    assert "remembered" not in capsys.readouterr().out
    monkeypatch.delenv("ARRAYCAL_DATA_ROOT")
    monkeypatch.delenv("ARRAYCAL_NIGHTLY_CRON")
    assert main(["up"]) == 0
    shown = capsys.readouterr()
    assert f"data      {tmp_path / 'blocks'}, remembered" in shown.out
    assert "nightly   15 9 * * * (UTC), remembered" in shown.out
    assert "ARRAYCAL_DATA_ROOT, ARRAYCAL_NIGHTLY_CRON" in shown.out
    assert "changed" not in shown.err
    assert fake.crons == ["15 9 * * *"] * 2
    assert fake.pid == pid


def test_a_worker_that_died_comes_back_with_its_settings(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("ARRAYCAL_DATA_ROOT", str(tmp_path / "blocks"))
    main(["up"])
    monkeypatch.delenv("ARRAYCAL_DATA_ROOT")
    stop(fake.home / "worker.json", 0)
    main(["up"])
    roots = [item["ARRAYCAL_DATA_ROOT"] for item in fake.environments]
    assert roots == [str(tmp_path / "blocks")] * 2


def test_another_setting_restarts_the_worker_and_is_named(fake, monkeypatch, capsys):
    main(["up"])
    pid = fake.pid
    monkeypatch.setenv("ARRAYCAL_TIME_ZONE", "Atlantic/Canary")
    assert main(["up"]) == 0
    assert "ARRAYCAL_TIME_ZONE was UTC, is Atlantic/Canary" in capsys.readouterr().err
    assert fake.pid != pid
    assert fake.environments[-1]["ARRAYCAL_TIME_ZONE"] == "Atlantic/Canary"


def test_another_hour_leaves_the_worker_alone(fake, monkeypatch, capsys):
    main(["up"])
    pid, fake.busy = fake.pid, [SimpleNamespace(name="night 2026-03-01")]
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_CRON", "15 9 * * *")
    assert main(["up"]) == 0
    assert "ARRAYCAL_NIGHTLY_CRON was 30 8 * * *, is 15 9 * * *" in capsys.readouterr().err
    assert fake.pid == pid
    assert fake.crons[-1] == "15 9 * * *"


def test_a_worker_in_the_middle_of_a_run_is_not_restarted(fake, monkeypatch, capsys):
    main(["up"])
    pid, fake.busy = fake.pid, [SimpleNamespace(name="night 2026-03-01")]
    monkeypatch.setenv("ARRAYCAL_TIME_ZONE", "Atlantic/Canary")
    assert main(["up"]) == 2
    message = capsys.readouterr().err
    assert "busy with night 2026-03-01" in message
    assert "arraycal down" in message
    assert fake.pid == pid
    assert len(fake.crons) == 1
    # Nor is it remembered: without the variable all is as before.
    monkeypatch.delenv("ARRAYCAL_TIME_ZONE")
    assert main(["up"]) == 0
    assert fake.pid == pid


def test_a_worker_of_an_unknown_past_is_restarted(fake):
    main(["up"])
    pid = fake.pid
    (fake.home / "settings.yaml").unlink()
    assert main(["up"]) == 0
    assert fake.pid != pid


def test_server_and_worker_know_the_password_and_nobody_else_reads_it(fake, monkeypatch, capsys):
    monkeypatch.setenv("ARRAYCAL_AUTH", "me:secret")
    main(["up"])
    environment = fake.environments[-1]
    assert environment["PREFECT_API_AUTH_STRING"] == "me:secret"
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == "me:secret"
    assert (fake.home / "settings.yaml").stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("ARRAYCAL_AUTH")
    main(["up"])
    shown = capsys.readouterr()
    assert "ARRAYCAL_AUTH" in shown.out
    assert "secret" not in shown.out + shown.err


def test_a_running_server_does_not_change_its_password(home, monkeypatch, capsys):
    home.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(300)"]
    start(home / "server.json", command, os.environ, home / "log", note="1")
    monkeypatch.setenv("ARRAYCAL_AUTH", "me:secret")
    try:
        assert main(["up"]) == 2
        message = capsys.readouterr().err
        assert "another ARRAYCAL_AUTH" in message
        assert "arraycal down" in message
        assert "secret" not in message
    finally:
        assert main(["down"]) == 0


def test_a_password_without_a_user_is_refused_and_not_shown(monkeypatch, capsys):
    monkeypatch.setenv("ARRAYCAL_AUTH", "secret")
    assert main(["up"]) == 2
    message = capsys.readouterr().err
    assert "ARRAYCAL_AUTH" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ARRAYCAL_NIGHTLY_CRON", "61 8 * * *", "'30 8 * * *'"),
        ("ARRAYCAL_NIGHTLY_CRON", "30 8 * *", "minute, hour, day"),
        ("ARRAYCAL_TIME_ZONE", "Mars/Olympus", "Atlantic/Canary"),
        ("ARRAYCAL_TIME_ZONE", "posixrules", "Atlantic/Canary"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_anything_starts(
    home, monkeypatch, capsys, name, text, expected
):
    monkeypatch.setenv(name, text)
    assert main(["up"]) == 2
    message = capsys.readouterr().err
    assert name in message
    assert repr(text) in message
    assert expected in message
    assert "starting" not in message
    assert "pydantic" not in message
    assert not (home / "server.json").exists()


def test_options_that_cannot_be_are_refused_before_anything_starts(
    home, monkeypatch, tmp_path, capsys
):
    file = tmp_path / "nightly.yaml"
    file.write_text("calibration: energy-inter\n")
    monkeypatch.setenv("ARRAYCAL_NIGHTLY_OPTIONS", str(file))
    assert main(["up"]) == 2
    assert "calibration" in capsys.readouterr().err
    assert not (home / "server.json").exists()
