"""Whether the history holds a result, asked without the database's own machinery."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from arraycal.calib.history.database import open_history
from arraycal.calib.history.known import is_recorded, sqlite_path
from arraycal.calib.history.recording import RecordedResult, record

NIGHT = date(2026, 3, 1)
DIGEST = "a" * 16
MADE = datetime(2026, 3, 2, 8, 31, 0, 250_000, tzinfo=UTC)


def run_of(published):
    return {
        "night": NIGHT,
        "calibration": "energy-inter",
        "configuration_digest": DIGEST,
        "configuration": "",
        "status": "usable",
        "verdict": "usable",
        "unit": "",
        "blocks": [],
        "obs_ids": [],
        "n_blocks": 3,
        "observed_from": None,
        "observed_until": None,
        "published": published.replace(tzinfo=None),
        "versions": {},
        "fit": {},
        "covariance": np.eye(2).tobytes(),
        "result_path": "result.json",
    }


@pytest.fixture(params=["file", "server"])
def url(request, tmp_path):
    """History with one result, in a file or on a server."""
    if request.param == "server":
        found = request.getfixturevalue("postgres_database")
    else:
        found = f"sqlite:///{tmp_path / 'a history.sqlite'}"
    with open_history(found) as history:
        record(history, RecordedResult(run_of(MADE), []))
    return found


def test_a_result_that_was_recorded_is_known(url):
    assert is_recorded(url, NIGHT, "energy-inter", DIGEST, MADE.isoformat())
    chile = MADE.astimezone(timezone(timedelta(hours=-3)))
    assert is_recorded(url, NIGHT, "energy-inter", DIGEST, chile.isoformat())


def test_a_later_result_of_the_night_stands_for_it_and_an_earlier_one_does_not(url):
    later, earlier = MADE + timedelta(milliseconds=1), MADE - timedelta(milliseconds=1)
    assert is_recorded(url, NIGHT, "energy-inter", DIGEST, earlier.isoformat())
    assert not is_recorded(url, NIGHT, "energy-inter", DIGEST, later.isoformat())


def test_without_its_time_any_result_of_night_and_calibration_will_do(url):
    assert is_recorded(url, NIGHT, "energy-inter", DIGEST, "")
    assert not is_recorded(url, NIGHT, "image-inter", DIGEST, "")
    assert not is_recorded(url, NIGHT + timedelta(days=1), "energy-inter", DIGEST, "")


def test_a_result_with_other_options_does_not_stand_for_it(url):
    assert not is_recorded(url, NIGHT, "energy-inter", "b" * 16, MADE.isoformat())


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_a_file_that_holds_no_history_knows_no_result_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "history.sqlite"
    if content is not None:
        path.write_bytes(content)
    assert not is_recorded(f"sqlite:///{path}", NIGHT, "energy-inter", DIGEST, MADE.isoformat())
    assert (path.read_bytes() if path.exists() else None) == content


def test_an_empty_database_of_a_server_knows_no_result(postgres_database):
    assert not is_recorded(postgres_database, NIGHT, "energy-inter", DIGEST, MADE.isoformat())


def test_a_url_names_its_file_whatever_the_driver(tmp_path):
    path = tmp_path / "history.sqlite"
    for url in (f"sqlite:///{path}", f"sqlite+pysqlite:///{path}?timeout=5"):
        assert sqlite_path(url) == path
    assert sqlite_path("postgresql://user@host/name") is None


def test_asking_a_file_starts_no_database_library(tmp_path):
    program = (
        "import sys, datetime; from arraycal.calib.history.known import is_recorded;"
        f"is_recorded('sqlite:///{tmp_path}/h.sqlite', datetime.date(2026, 3, 1), 'x', 'y', '');"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
