"""up, down and status, without starting a server."""

import json
import os
import socket
import sys

import pytest

from flows import service
from flows.cli import main
from flows.environment import service_environment
from flows.processes import read_process, start


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

    monkeypatch.setattr(service, "start", fails)
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
