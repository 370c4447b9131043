"""Two processes that calibrate the same night at once: one result, one entry in the history."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from arraycal.calib.disk.locks import exclusive
from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection, recorded_coefficients, runs
from arraycal.calib.nights.record import file_digests, read_night
from arraycal.calib.publish.writing import FILES

NIGHT = date(2020, 6, 14)
LOCKS = Path("/proc/locks")

pytestmark = pytest.mark.skipif(not LOCKS.exists(), reason="who waits is in /proc/locks, not here")


def n_waiting(lock):
    """Processes that wait for a lock."""
    inode = lock.stat().st_ino
    fields = [line.split() for line in LOCKS.read_text().splitlines()]
    return sum("->" in words and f":{inode}" in words[-3] for words in fields)


class Site:
    """Folders of a night, and runs of it in processes of their own."""

    def __init__(self, folder, overrides, database_url):
        self.folder = folder / "output" / NIGHT.isoformat()
        self.data, self.database_url = folder / "data", database_url
        self.logs = folder
        calibrations = [{"calibration": "energy-inter", "overrides": overrides}]
        (folder / "options.yaml").write_text(
            json.dumps({"calibrations": calibrations, "settle_s": 0})
        )
        self.environment = os.environ | {
            "ARRAYCAL_DATA_ROOT": str(self.data),
            "ARRAYCAL_OUTPUT_ROOT": str(folder / "output"),
            "ARRAYCAL_CACHE_ROOT": str(folder / "cache"),
            "ARRAYCAL_NIGHTLY_OPTIONS": str(folder / "options.yaml"),
            "ARRAYCAL_DATABASE_URL": database_url,
            "COLUMNS": "200",
        }

    def overlap(self, *runs):
        """Start runs and let them all want the night at the same moment; exit status of each.

        The night is held until everybody waits for it: else one could end before the other has
        imported what it needs.
        """
        with ExitStack() as stack:
            with exclusive(self.folder / ".lock"):
                processes = [stack.enter_context(self._start(words)) for words in runs]
                stack.callback(lambda: [process.kill() for process in processes])
                end = time.monotonic() + 120
                while n_waiting(self.folder / ".lock") < len(runs):
                    assert time.monotonic() < end, [self.said(n) for n in range(len(runs))]
                    time.sleep(0.1)
            return [process.wait(120) for process in processes]

    def _start(self, words):
        number = len(list(self.logs.glob("*.log")))
        command = [
            sys.executable,
            "-m",
            "arraycal.flows.cli.main",
            "nightly",
            "--night",
            NIGHT.isoformat(),
        ]
        with (self.logs / f"{number}.log").open("w") as log:
            return subprocess.Popen(
                [*command, *words], env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def said(self, number):
        return (self.logs / f"{number}.log").read_text()

    def history(self):
        with read_history(self.database_url) as history:
            return runs(history, Selection()), recorded_coefficients(history, Selection())


@pytest.fixture
def site(request, tmp_path, blocks, lenient):
    """A night, with its history on the server that a test asks for."""
    url = f"sqlite:///{tmp_path}/output/history.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    site = Site(tmp_path, [text for text in lenient if text != "--set"], url)
    site.data.mkdir()
    for path in blocks:
        shutil.copy(path, site.data)
    return site


def history_on(*servers):
    return pytest.mark.parametrize("site", servers, indirect=True)


def assert_one_result(site):
    """One verdict, whole files that are those of the verdict, every telescope once."""
    record = read_night(site.folder)
    assert record is not None
    assert record.status == "usable"
    (calibration,) = record.calibrations
    results = site.folder / "energy-inter"
    assert sorted(path.name for path in results.iterdir()) == sorted([*FILES, "arraycal.log"])
    assert file_digests(results) == calibration.digests
    leftovers = [*site.folder.rglob(".arraycal-*"), *site.folder.parent.rglob("*.tmp")]
    assert not leftovers
    found, table = site.history()
    assert found["night"].to_list() == [NIGHT]
    assert not table.select("calibration", "tel_id").is_duplicated().any()
    result = json.loads((results / "result.json").read_text())
    expected = {row["tel_id"]: row["value"] for row in result["telescopes"]}
    assert dict(table.select("tel_id", "value").iter_rows()) == expected
    assert len(table) == len(expected) == table.select(pl.col("tel_id").n_unique()).item()


@history_on("sqlite")
def test_two_processes_at_once_give_one_result(site):
    assert site.overlap(["--direct"], ["--direct"]) == [0, 0]
    assert_one_result(site)
    # The second one saw what the first one had done.
    assert sorted("usable, unchanged" in site.said(number) for number in (0, 1)) == [False, True]


@history_on("sqlite", "postgresql")
def test_two_processes_that_both_publish_give_one_result(site):
    # Nobody may rely on what the other one did: both read, solve, publish and record.
    assert site.overlap(["--direct", "--again"], ["--direct", "--again"]) == [0, 0]
    assert_one_result(site)
    assert not any("unchanged" in site.said(number) for number in (0, 1))


@history_on("postgresql")
@pytest.mark.usefixtures("prefect_server")
def test_a_flow_and_a_direct_run_at_once_give_one_result(site):
    from prefect.settings import PREFECT_API_URL

    site.environment["PREFECT_API_URL"] = PREFECT_API_URL.value()
    assert site.overlap([], ["--direct"]) == [0, 0]
    assert_one_result(site)
    assert sorted("usable, unchanged" in site.said(number) for number in (0, 1)) == [False, True]
