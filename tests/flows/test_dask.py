"""Blocks on a real Dask cluster: a scheduler and two workers, some of which are killed."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import arraycal
from arraycal.calib.observables import ENERGY_INTER
from arraycal.config.errors import ConfigurationError
from arraycal.config.models import Configuration
from arraycal.config.settings import Settings
from arraycal.flows.cli.main import main
from arraycal.tasks import dask_cluster as cluster_module
from arraycal.tasks.dask_cluster import Cluster
from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.workers import block_stage

distributed = pytest.importorskip("distributed")

ROOT = Path(arraycal.__file__).resolve().parents[1]


class Processes:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.folder, self.workers = folder, []
        self.environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port)
        )

    def _start(self, program, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"]
        with (self.folder / "dask.log").open("ab") as stream:
            return subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=stream, stderr=stream
            )

    def add_worker(self, n_threads=1):
        arguments = [self.address, "--nthreads", str(n_threads), "--no-nanny"]
        self.workers.append(
            self._start("dask_worker", *arguments, "--host", "127.0.0.1", "--death-timeout", "90")
        )

    def stop(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextmanager
def running(folder, n_workers, **how):
    cluster = Processes(folder)
    try:
        for _ in range(n_workers):
            cluster.add_worker(**how)
        for _ in range(600):
            try:
                with distributed.Client(cluster.address, timeout=2) as client:
                    client.wait_for_workers(n_workers, timeout=90)
                    break
            except OSError:
                time.sleep(0.1)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    """Two workers that no test kills."""
    with running(tmp_path_factory.mktemp("dask"), 2, n_threads=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(tmp_path):
    """Two workers to be killed."""
    with running(tmp_path, 2) as found:
        yield found


@contextmanager
def stage_on(address, tmp_path, workers=0):
    settings = Settings(runner="dask", dask_address=address, cache_root=tmp_path / "cache")
    told = list[str]()
    opened = block_stage(
        ENERGY_INTER, Configuration(), settings, workers, one_polars_thread, told.append
    )
    with opened as stage:
        yield stage, told


def test_a_night_on_two_workers_is_that_of_threads(
    shared_cluster, blocks, tmp_path, monkeypatch, lenient
):
    results = []
    monkeypatch.setattr("arraycal.calib.throughput.MIN_SPREAD_ROWS", 0)
    summed = []
    original = Cluster.call

    def call(self, work, item):
        summed.append(type(item).__name__)
        return original(self, work, item)

    monkeypatch.setattr(Cluster, "call", call)
    for runner in ("threads", "dask"):
        monkeypatch.setenv("ARRAYCAL_RUNNER", runner)
        monkeypatch.setenv("ARRAYCAL_DASK_ADDRESS", shared_cluster.address)
        monkeypatch.setenv("ARRAYCAL_CACHE_ROOT", str(tmp_path / runner))
        output = tmp_path / f"out-{runner}"
        files = map(str, blocks)
        command = ["run", "energy-inter", *files, "--output", str(output), "--direct", *lenient]
        assert main(command) in {0, 3}
        results.append(json.loads((output / "result.json").read_text())["telescopes"])
    assert results[0] == results[1]
    # Two blocks were read, sketched and swept by the workers.
    assert sorted(summed) == [*["PosixPath"] * 2, *["_Showers"] * 4]
    # The rows were made by the workers, in the folder that both see.
    assert list((tmp_path / "dask").rglob("*.parquet"))
    assert not list((tmp_path / "dask").glob("dask-*"))


def test_so_many_blocks_are_under_way_as_the_cluster_has_threads(shared_cluster, tmp_path):
    with stage_on(shared_cluster.address, tmp_path) as (stage, _):
        assert stage.at_once == 4
    with stage_on(shared_cluster.address, tmp_path, workers=3) as (stage, _):
        assert stage.at_once == 3


def test_without_an_address_a_cluster_of_so_many_workers_is_started_here(tmp_path):
    with stage_on(None, tmp_path, workers=1) as (stage, _):
        assert stage.at_once == 1
        assert "missing.h5" in stage(tmp_path / "missing.h5").reason


def test_a_run_that_ends_leaves_no_complaint_with_the_scheduler(shared_cluster, tmp_path):
    log = shared_cluster.folder / "dask.log"
    start = log.stat().st_size
    with stage_on(shared_cluster.address, tmp_path):
        pass
    until(lambda: "Close client connection" in log.read_text()[start:])
    assert "Remove client" in log.read_text()[start:]
    assert "Traceback" not in log.read_text()[start:]


def test_a_defect_on_a_worker_is_a_failed_block(shared_cluster, tmp_path):
    with stage_on(shared_cluster.address, tmp_path) as (stage, _):
        block = stage(tmp_path / "missing.h5")
    assert block.status == "failed"
    assert "missing.h5" in block.reason


def slow_stage(path):
    """Take one's time."""
    import time

    from arraycal.calib.blocks.stage import BlockPairs

    (path.parent / f"{path.name}.{os.getpid()}").touch()
    time.sleep(3)
    return BlockPairs(path, "failed", reason="read")


def in_threads(stage, paths):
    found = {}

    def call(path):
        try:
            found[path] = stage(path)
        except Exception as error:  # noqa: BLE001  the test looks at it
            found[path] = error

    threads = [threading.Thread(target=call, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    return threads, found


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.05)


def test_a_block_of_a_killed_worker_goes_to_the_other_and_that_is_told(
    cluster, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("arraycal.tasks.workers._pairs_or_reason", kept_apart)
    paths = [tmp_path / name for name in ("a", "b")]
    with stage_on(cluster.address, tmp_path) as (stage, told), caplog.at_level(logging.WARNING):
        threads, found = in_threads(stage, paths)
        until(lambda: len(list(tmp_path.glob("[ab].*"))) == 2)
        cluster.workers[0].kill()
        for thread in threads:
            thread.join(60)
    assert [found[path].reason for path in paths] == ["read", "read"]
    (text,) = told
    assert "died; its blocks go to others" in text
    assert text in caplog.text


def kept_apart(path, **_):
    return slow_stage(path)


def test_a_cluster_that_loses_all_workers_is_an_error_after_a_while(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "WITHOUT_WORKERS_S", 2.0)
    monkeypatch.setattr("arraycal.tasks.workers._pairs_or_reason", kept_apart)
    with stage_on(cluster.address, tmp_path) as (stage, _):
        threads, found = in_threads(stage, [tmp_path / "a"])
        until(lambda: list(tmp_path.glob("a.*")))
        for worker in cluster.workers:
            worker.kill()
        threads[0].join(60)
    assert isinstance(found[tmp_path / "a"], ConnectionError)
    assert str(found[tmp_path / "a"]).endswith(
        "has had no worker for 2 s. Start workers there and run again."
    )


def test_a_scheduler_that_goes_away_is_one_sentence(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("arraycal.tasks.workers._pairs_or_reason", kept_apart)
    monkeypatch.setattr(cluster_module, "CONNECT_S", 2.0)
    with stage_on(cluster.address, tmp_path) as (stage, _):
        threads, found = in_threads(stage, [tmp_path / "a"])
        until(lambda: list(tmp_path.glob("a.*")))
        cluster.scheduler.kill()
        threads[0].join(60)
        assert "is gone. Start it and its workers" in str(found[tmp_path / "a"])
        # What is tried again does not wait for ever either.
        with pytest.raises(ConnectionError, match="is gone"):
            stage(tmp_path / "b")


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path, blocks, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("ARRAYCAL_RUNNER", "dask")
    monkeypatch.setenv("ARRAYCAL_DASK_ADDRESS", f"tcp://127.0.0.1:{port}")
    command = ["run", "energy-inter", str(blocks[0]), "--output", str(tmp_path / "out"), "--direct"]
    assert main(command) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert f"no Dask scheduler answers at tcp://127.0.0.1:{port}" in shown
    assert "Traceback" not in shown


def refused(blocks, tmp_path, monkeypatch, capsys, address, *mode):
    """Run with an address, and look at what is said."""
    monkeypatch.setenv("ARRAYCAL_RUNNER", "dask")
    monkeypatch.setenv("ARRAYCAL_DASK_ADDRESS", address)
    command = ["run", "energy-inter", str(blocks[0]), "--output", str(tmp_path / "out"), *mode]
    assert main(command) == 2
    shown = capsys.readouterr().err
    assert f"ARRAYCAL_DASK_ADDRESS is {address!r}" in " ".join(shown.split())
    assert "Traceback" not in shown


@pytest.mark.parametrize("address", ["nonsense", "foo://host:8786", "tcp://host"])
def test_an_address_that_is_none_is_wrong_usage(tmp_path, blocks, monkeypatch, capsys, address):
    refused(blocks, tmp_path, monkeypatch, capsys, address, "--direct")


@pytest.mark.usefixtures("prefect_server")
def test_an_address_that_is_none_is_wrong_usage_of_a_flow_too(
    tmp_path, blocks, monkeypatch, capsys
):
    refused(blocks, tmp_path, monkeypatch, capsys, "nonsense")


def test_a_cache_that_the_workers_do_not_see_is_refused_before_any_block_is_read(
    shared_cluster, tmp_path, monkeypatch
):
    # The workers look elsewhere: what other machines do that have another disk there.
    monkeypatch.setattr(cluster_module, "_meet", elsewhere)
    opened = stage_on(shared_cluster.address, tmp_path)
    with pytest.raises(ConfigurationError, match="is not shared with worker tcp://"), opened:
        pass


def elsewhere(folder, _):
    return (folder / "nowhere").exists()


def test_a_block_that_kills_every_worker_is_a_failed_block(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("arraycal.tasks.workers._pairs_or_reason", deadly)
    for _ in range(3):  # Dask gives up after the fourth
        cluster.add_worker()
    with stage_on(cluster.address, tmp_path) as (stage, told):
        block = stage(tmp_path / "a")
    assert block.status == "failed"
    assert "every Dask worker that read it died" in block.reason
    assert told


def deadly(_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
