"""A whole site: nothing that dies takes a night with it. Its schedule is in `test_new_site`."""

import json
import os
import signal
import time
from datetime import timedelta
from http.client import HTTPConnection

import pytest

from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, runs

pytestmark = pytest.mark.timeout(900)


def names(site, kind):
    return sorted(item["name"] for item in site.api("POST", f"{kind}/filter"))


def leftovers(site, night):
    """Half-written files of a night, and of the cache."""
    folder = site.output / night.isoformat()
    found = [*folder.rglob(".arraycal-*"), *folder.rglob("*.tmp")]
    return [path for path in found if path.name != ".lock"]


def test_up_again_changes_nothing(site):
    kinds = ("deployments", "automations", "work_pools")
    before = {kind: names(site, kind) for kind in kinds}
    assert before["work_pools"] == ["arraycal"]
    assert "nightly" in before["deployments"]
    assert len(before["automations"]) == len(set(before["automations"])) == 6
    pids = [site.process(name).pid for name in ("server", "worker")]
    site.up()
    assert {kind: names(site, kind) for kind in kinds} == before
    assert [site.process(name).pid for name in ("server", "worker")] == pids
    assert site.arraycal("status").returncode == 0


def test_up_from_a_bare_shell_changes_nothing(site, monkeypatch):
    pids = [site.process(name).pid for name in ("server", "worker")]
    schedules = site.api("GET", "deployments/name/nightly/nightly")["schedules"]
    bare = {
        name: text
        for name, text in site.environment.items()
        if not name.startswith("ARRAYCAL_") or name == "ARRAYCAL_HOME"
    }
    monkeypatch.setattr(site, "environment", bare)
    done = site.up()
    assert f"{site.data}, remembered" in done.stdout
    assert "restarting" not in done.stderr
    assert [site.process(name).pid for name in ("server", "worker")] == pids
    after = site.api("GET", "deployments/name/nightly/nightly")["schedules"]
    assert [item["schedule"]["cron"] for item in after] == ["* * * * *"]
    assert [item["active"] for item in after] == [item["active"] for item in schedules]


def test_pages_of_other_sites_can_neither_start_runs_nor_read_results(site):
    connection = HTTPConnection("127.0.0.1", site.port)
    try:
        headers = {"Content-Type": "application/json", "Origin": "https://elsewhere.example"}
        connection.request("POST", "/api/flow_runs/filter", "{}", headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 403
        connection.request("GET", "/api/health", headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.getheader("Access-Control-Allow-Origin") is None
    finally:
        connection.close()


def test_a_schedule_that_was_switched_off_stays_off(site, wait_until):
    deployment = site.api("GET", "deployments/name/nightly/nightly")
    schedule = deployment["schedules"][0]
    path = f"deployments/{deployment['id']}/schedules/{schedule['id']}"
    site.api("PATCH", path, {"active": False})
    site.up()
    deployment = site.api("GET", "deployments/name/nightly/nightly")
    assert [item["active"] for item in deployment["schedules"]] == [False]
    wait_until(
        lambda: not [run for run in site.runs() if run["state_type"] in {"RUNNING", "PENDING"}], 120
    )


@pytest.fixture
def started(site, wait_until):
    """Start a night of many blocks and wait until it is in the middle of them."""

    def start(night):
        site.simulate(night, n_blocks=8)
        run_id = site.start(night)
        wait_until(lambda: list((site.output / night.isoformat()).rglob("arraycal.log")), 90)
        return run_id

    return start


def test_the_next_run_completes_a_night_whose_process_was_killed(site, yesterday, started):
    night = yesterday - timedelta(days=10)
    run_id = started(night)
    os.kill(site.flow_process(), signal.SIGKILL)
    assert site.finish(run_id)["type"] == "CRASHED"
    assert site.status(night) is None
    begin = time.monotonic()
    assert site.finish(site.start(night))["name"] == "Completed"
    print(f"completed {time.monotonic() - begin:.0f} s after the start of the next run")
    assert site.status(night) == "usable"
    assert not leftovers(site, night)


def test_a_night_survives_the_death_of_worker_and_run(site, yesterday, started):
    night = yesterday - timedelta(days=11)
    started(night)
    process = site.flow_process()
    site.kill("worker")
    os.kill(process, signal.SIGKILL)
    assert site.arraycal("status").returncode == 3
    site.up()
    assert site.finish(site.start(night), 300)["name"] == "Completed"
    assert site.status(night) == "usable"
    assert not leftovers(site, night)


def test_a_night_survives_the_death_of_the_server(site, yesterday, started):
    night = yesterday - timedelta(days=12)
    n_runs = len(site.runs())
    started(night)
    site.kill("server")
    site.up()
    assert len(site.runs()) == n_runs + 1
    assert site.finish(site.start(night), 300)["name"] == "Completed"
    assert site.status(night) == "usable"
    assert not leftovers(site, night)


def test_a_planned_stop_in_the_middle_of_a_night_is_no_failure(site, yesterday, started):
    night = yesterday - timedelta(days=13)
    run_id = started(night)
    done = site.arraycal("down")
    assert done.returncode == 0
    assert "cancelling night" in done.stderr
    site.up()
    assert site.state(run_id)["type"] == "CANCELLED"
    assert site.finish(site.start(night), 300)["name"] == "Completed"
    assert site.status(night) == "usable"
    assert not leftovers(site, night)


def test_every_night_is_in_the_history_once(site):
    with read_history(f"sqlite:///{site.output}/history.sqlite") as history:
        found = runs(history, Selection())
    finished = sorted(
        path.parent.name
        for path in site.output.glob("*/night.json")
        if json.loads(path.read_text())["status"] in {"usable", "degraded"}
    )
    assert finished
    by_name = [night.isoformat() for night in found.filter(calibration="energy-inter")["night"]]
    assert sorted(by_name) == finished


def test_down_leaves_no_process_and_up_finds_everything_again(site):
    runs = {run["id"] for run in site.runs()}
    processes = [site.process(name) for name in ("worker", "server")]
    assert site.arraycal("down").returncode == 0
    assert not any(process.is_running for process in processes)
    assert site.arraycal("status").returncode == 4
    site.up()
    assert runs <= {run["id"] for run in site.runs()}
