"""The history on SQLite and on a real PostgreSQL server, which the tests start themselves."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from toy_pairs import toy_subarray

from arraycal.calib.dl2.observed import Span
from arraycal.calib.fit.model import Model
from arraycal.calib.fit.sums.kept import FORMAT, Sums, pack
from arraycal.calib.fit.sums.summary import empty_summary
from arraycal.calib.history import database, upgrading
from arraycal.calib.history.database import open_history, read_history
from arraycal.calib.history.digest import configuration_digest
from arraycal.calib.history.errors import HistoryError
from arraycal.calib.history.reading import (
    COEFFICIENTS,
    RUNS,
    Selection,
    covariances,
    recorded_coefficients,
    runs,
)
from arraycal.calib.history.recording import entry_of, record
from arraycal.calib.history.tables import Base, StoredSums
from arraycal.calib.history.window import read_window
from arraycal.calib.result.result import RESIDUALS, TELESCOPES, CalibrationResult, Verdict
from arraycal.calib.schema import BLOCKS, REJECTED
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import load_configuration

NIGHT = date(2026, 3, 1)
SPAN = Span(datetime(2026, 3, 1, 21, tzinfo=UTC), datetime(2026, 3, 2, 4, tzinfo=UTC))
CONFIGURATION = load_configuration([], preset="energy-inter")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """URL of a new, empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/history.sqlite"
    return request.getfixturevalue("postgres_database")


def make_result(values=(1.02, 0.98, float("nan")), status="usable"):
    n = len(values)
    known = [i for i, value in enumerate(values) if np.isfinite(value)]
    telescopes = pl.DataFrame(
        {
            "tel_type": ["LST"] * n,
            "tel_id": range(1, n + 1),
            "value": values,
            "error": [0.01 if i in known else float("nan") for i in range(n)],
            "systematic": [float("nan")] * n,
            "n_events": [3_000_000_000 if i in known else 0 for i in range(n)],
            "flag": ["ok" if i in known else "no_data" for i in range(n)],
            "reason": ["" if i in known else "no data" for i in range(n)],
        }
    ).cast({name: TELESCOPES[name] for name in ("tel_id", "n_events", "value", "error")})
    row = ("block_1.dl2.h5", "ok", "", "101 102", "v7", "f00d", 10, 20, False)
    return CalibrationResult(
        calibration="energy-inter",
        telescopes=telescopes,
        pairs=pl.DataFrame(),
        blocks=pl.DataFrame([row], schema=BLOCKS, orient="row"),
        rejected=pl.DataFrame(schema=REJECTED),
        tel_ids=tuple(i + 1 for i in known),
        covariance=1e-4 * np.eye(len(known)),
        obs_ids=(101, 102),
        positions_m={},
        fit={"estimator": "event", "chi2": float("nan")},
        residuals=pl.DataFrame(schema=RESIDUALS),
        verdict=Verdict(status, ("odd",) if status != "usable" else ()),
        configuration="{}",
        provenance={"time_utc": "2026-03-02T09:00:00.5+00:00", "versions": {"arraycal": "1"}},
    )


def make_entry(night=NIGHT, configuration=CONFIGURATION, result=None):
    return entry_of(
        result or make_result(),
        night,
        configuration,
        result_path=Path("/data/out/result.json"),
        span=SPAN,
    )


def everything(history):
    return runs(history, Selection()), recorded_coefficients(history, Selection())


def test_what_is_recorded_is_read_back(url):
    with open_history(url) as history:
        run_id = record(history, make_entry())
        assert covariances(history, Selection())[run_id] == pytest.approx(1e-4 * np.eye(2))
    with read_history(url) as history:
        found, table = everything(history)
    assert found.schema == RUNS
    assert table.schema == COEFFICIENTS
    assert found.row(0, named=True) == {
        "run_id": run_id,
        "night": NIGHT,
        "calibration": "energy-inter",
        "configuration_digest": configuration_digest(CONFIGURATION),
        "status": "usable",
        "verdict": "usable",
        "unit": "",
        "n_blocks": 1,
        "observed_from": datetime(2026, 3, 1, 21),  # noqa: DTZ001  UTC without a zone
        "observed_until": datetime(2026, 3, 2, 4),  # noqa: DTZ001
        "published": datetime(2026, 3, 2, 9, 0, 0, 500_000),  # noqa: DTZ001
        "result_path": "/data/out/result.json",
    }
    assert table["value"].to_list()[:2] == [1.02, 0.98]
    assert table["value"].is_nan().to_list() == [False, False, True]
    assert table["n_events"].to_list() == [3_000_000_000, 3_000_000_000, 0]
    assert table["reason"].to_list() == ["", "", "no data"]


def test_publishing_again_replaces_and_never_duplicates(url):
    with open_history(url) as history:
        first = record(history, make_entry())
        other_night = record(history, make_entry(night=date(2026, 3, 2)))
        again = record(history, make_entry(result=make_result((1.5, 0.5), "degraded")))
        found, table = everything(history)
    assert again == first != other_night
    assert found["status"].to_list() == ["degraded", "usable"]
    assert table.filter(pl.col("run_id") == first)["value"].to_list() == [1.5, 0.5]
    assert len(table) == 2 + 3


def test_another_configuration_is_another_run(url):
    strict = load_configuration(
        [], preset="energy-inter", overrides=["RelativeThroughputFitter.min_events=100"]
    )
    quiet = load_configuration(
        [], preset="energy-inter", overrides=["CalculateAsymmetry.chunk_size=7"]
    )
    with open_history(url) as history:
        for configuration in (CONFIGURATION, strict, quiet):
            record(history, make_entry(configuration=configuration))
        found, _ = everything(history)
        digest = configuration_digest(strict)
        assert found["configuration_digest"].n_unique() == len(found) == 2
        assert len(runs(history, Selection(configuration=digest[:6]))) == 1
        assert not len(runs(history, Selection(configuration="%")))


def test_a_selection_of_nights_and_telescopes_is_inclusive(url):
    with open_history(url) as history:
        for day in (1, 2, 3, 4):
            record(history, make_entry(night=date(2026, 3, day)))
        selection = Selection("energy-inter", since=date(2026, 3, 2), until=date(2026, 3, 3))
        table = recorded_coefficients(history, selection, tel_ids=(2,))
        assert table["night"].to_list() == [date(2026, 3, 2), date(2026, 3, 3)]
        assert set(table["tel_id"]) == {2}
        assert not len(runs(history, Selection("image-inter")))


def test_names_of_files_need_not_be_text(url):
    odd = Path(os.fsdecode(b"/data/n\xffght/result.json"))
    entry = entry_of(make_result(), NIGHT, CONFIGURATION, result_path=odd)
    with open_history(url) as history:
        record(history, entry)
        found, _ = everything(history)
    assert found["result_path"].to_list() == ["/data/n\\udcffght/result.json"]
    assert found["observed_from"].to_list() == [None]


def test_the_migrations_end_at_the_tables_the_code_uses(url):
    with open_history(url) as history, history.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": upgrading.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


LATER_VERSION = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
"""


@pytest.fixture
def later_migrations():
    """The migrations of a version to come, which has one table more, for anybody to read."""
    with tempfile.TemporaryDirectory(prefix="arraycal-migrations-") as name:
        Path(name).chmod(0o755)
        folder = shutil.copytree(upgrading.MIGRATIONS, Path(name) / "migrations")
        (folder / "versions" / "v0002.py").write_text(LATER_VERSION)
        yield folder


def make_first_version(url):
    """A history as its first version makes it, with one run."""
    with open_history(url) as history:
        return record(history, make_entry())


@pytest.mark.parametrize("opened", [open_history, read_history], ids=["writer", "reader"])
def test_writers_and_readers_upgrade_what_an_earlier_version_wrote(
    url, opened, later_migrations, monkeypatch
):
    run_id = make_first_version(url)
    monkeypatch.setattr(upgrading, "MIGRATIONS", later_migrations)
    with opened(url) as history:
        found, table = everything(history)
        assert found["run_id"].to_list() == [run_id]
        assert table["value"].to_list()[:2] == [1.02, 0.98]
        assert covariances(history, Selection())[run_id] == pytest.approx(1e-4 * np.eye(2))
        with history.reading() as connection:
            assert upgrading.version_of(connection) == "0002"
            assert sa.inspect(connection).has_table("later")
            assert sa.inspect(connection).has_table("summaries")


def test_an_upgraded_history_is_too_new_for_the_version_before(url, later_migrations, monkeypatch):
    make_first_version(url)
    with monkeypatch.context() as patch:
        patch.setattr(upgrading, "MIGRATIONS", later_migrations)
        with open_history(url):
            pass
    with (
        pytest.raises(HistoryError, match=r"schema version 0002, of a newer arraycal.* up to 0001"),
        read_history(url),
    ):
        pass


READ = """
import os, sys
from pathlib import Path
from arraycal.calib.history import upgrading
from arraycal.calib.history.database import HistoryError, open_history, read_history
from arraycal.calib.history.reading import Selection, runs
upgrading.MIGRATIONS = Path(sys.argv[3])
if os.geteuid() == 0:  # everything is imported while the programs can be read
    with open_history(sys.argv[2]):
        os.setuid(65534)
try:
    with read_history(sys.argv[1]) as history:
        print(len(runs(history, Selection())))
except HistoryError as error:
    print(error)
"""


@pytest.fixture
def shared():
    """A folder that everybody can look into; below that of pytest only its owner can."""
    with tempfile.TemporaryDirectory(prefix="arraycal-shared-") as name:
        yield Path(name)
        Path(name).chmod(0o755)


def read_as_other_user(folder, tmp_path, migrations=upgrading.MIGRATIONS):
    """What a user says who may read the history in a folder, and write nothing."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    urls = [f"sqlite:///{place}/history.sqlite" for place in (folder, tmp_path / "other")]
    command = [sys.executable, "-c", READ, *urls, str(migrations)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.check_output(command, text=True, env=environment, timeout=120).strip()


def test_who_may_only_read_can_read_beside_a_writer_and_without_one(shared, tmp_path):
    with open_history(f"sqlite:///{shared}/history.sqlite") as history:
        record(history, make_entry())
        assert read_as_other_user(shared, tmp_path) == "1"
    # The last writer has removed the files of the write-ahead log.
    assert [path.name for path in shared.iterdir()] == ["history.sqlite"]
    assert read_as_other_user(shared, tmp_path) == "1"


def test_who_may_only_read_hears_that_an_earlier_version_must_be_upgraded(
    shared, tmp_path, later_migrations
):
    make_first_version(f"sqlite:///{shared}/history.sqlite")
    said = read_as_other_user(shared, tmp_path, later_migrations)
    assert "schema version 0001, of an earlier arraycal" in said
    assert "The next run that records a result does so" in said


def test_reading_leaves_nothing_behind(tmp_path):
    url = f"sqlite:///{tmp_path}/history.sqlite"
    with open_history(url) as history:
        record(history, make_entry())
    before = (tmp_path / "history.sqlite").read_bytes()
    with read_history(url) as history:
        assert len(runs(history, Selection())) == 1
        with pytest.raises(ConnectionError, match="readonly"):
            record(history, make_entry())
    assert [path.name for path in tmp_path.iterdir()] == ["history.sqlite"]
    assert (tmp_path / "history.sqlite").read_bytes() == before


def test_reading_what_is_no_history_says_what_was_found_and_leaves_it(tmp_path):
    path = tmp_path / "history.sqlite"
    path.touch()
    with (
        pytest.raises(HistoryError, match=r"no history at .*: found an empty file\..*--record"),
        read_history(f"sqlite:///{path}"),
    ):
        pass
    assert path.read_bytes() == b""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE stars (name)")
    connection.close()
    before = path.read_bytes()
    with (
        pytest.raises(HistoryError, match=r"no history at .*: found tables stars"),
        read_history(f"sqlite:///{path}"),
    ):
        pass
    assert path.read_bytes() == before


def test_reading_an_empty_server_makes_no_tables(postgres_database):
    with (
        pytest.raises(HistoryError, match=r"no history at .*: found no table at all"),
        read_history(postgres_database),
    ):
        pass
    engine = database._engine(database._parse(postgres_database))
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_snapshot_does_not_see_what_is_recorded_meanwhile(url):
    with open_history(url) as history:
        record(history, make_entry())
        with read_history(url) as reader, reader.snapshot() as seen:
            assert len(runs(seen, Selection())) == 1
            record(history, make_entry(night=NIGHT + timedelta(days=1)))
            assert len(runs(seen, Selection())) == 1
        assert len(runs(history, Selection())) == 2


def sums_in(history):
    with history.reading() as connection:
        query = sa.select(StoredSums.run_id, StoredSums.format, StoredSums.content)
        return [tuple(row) for row in connection.execute(query)]


def test_a_run_without_sums_takes_them_when_its_night_is_recorded_again(url):
    with open_history(url) as history:
        run_id = record(history, make_entry())
        assert sums_in(history) == []
        # It takes sums when its night is recorded again.
        assert record(history, replace(make_entry(), sums=b"sums")) == run_id
        assert sums_in(history) == [(run_id, FORMAT, b"sums")]


def test_sums_are_kept_bit_by_bit_and_replaced_with_their_run(url):
    content = bytes(range(256)) * 5000
    with open_history(url) as history:
        first = record(history, replace(make_entry(), sums=b"older"))
        other = record(history, replace(make_entry(night=date(2026, 3, 2)), sums=b"other"))
        record(history, replace(make_entry(), sums=content))
        assert sorted(sums_in(history)) == [(first, FORMAT, content), (other, FORMAT, b"other")]
        # A result without sums must not keep those of the one it replaces.
        record(history, make_entry())
        assert sums_in(history) == [(other, FORMAT, b"other")]
        with history.writing() as connection:
            connection.execute(sa.delete(Base.metadata.tables["runs"]))
        assert sums_in(history) == []


def test_a_window_is_read_from_either_database(url):
    subarray = toy_subarray(3)
    model = Model.initial(subarray, variance=0.04, margin=2.5)
    sums = Sums(subarray, empty_summary(model), (), model, settled=True)
    next_night = NIGHT + timedelta(days=1)
    with open_history(url) as history:
        run_id = record(history, replace(make_entry(), sums=pack(sums)))
        record(history, make_entry(night=NIGHT + timedelta(days=5)))
        window = read_window(history, Selection("energy-inter", NIGHT, next_night))
    assert [(night.night, night.status) for night in window.nights] == [
        (NIGHT, "used"),
        (next_night, "no run"),
    ]
    found = window.nights[0].sums
    assert found is not None
    assert pack(found) == pack(sums)
    assert window.origin["runs"] == [
        {
            "night": "2026-03-01",
            "run_id": run_id,
            "published": "2026-03-02T09:00:00.500000",
            "arraycal": "1",
            "result": "/data/out/result.json",
        }
    ]


def test_a_database_shared_with_other_programs_keeps_their_tables(url):
    with open_history(url) as history, history.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('of Prefect')")
    with open_history(url) as history:
        record(history, make_entry())
        with history.reading() as connection:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert found == "of Prefect"


def test_a_history_of_a_newer_version_is_refused_and_left_alone(url):
    with open_history(url) as history, history.writing() as connection:
        connection.exec_driver_sql("UPDATE arraycal_schema SET version_num='9999'")
    with (
        pytest.raises(HistoryError, match=r"schema version 9999, of a newer arraycal.* up to 0001"),
        open_history(url),
    ):
        pass


def publish_many(url, nights, value, start):
    """What a process of its own does: publish several nights, all with the same value."""
    start.wait(60)
    with open_history(url) as history:
        for day in nights:
            record(history, make_entry(date(2026, 3, day), result=make_result([value] * 40)))


def test_concurrent_publishers_lose_and_mix_nothing(url):
    # Four processes find no database at the same time, and all publish the same nights.
    nights, n = range(1, 11), 4
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(n)
    publishers = [
        context.Process(target=publish_many, args=(url, nights, 1.0 + number, start))
        for number in range(n)
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(120)
    assert [publisher.exitcode for publisher in publishers] == [0] * n
    with open_history(url) as history:
        found, table = everything(history)
    assert found["night"].to_list() == [date(2026, 3, day) for day in nights]
    whole = table.group_by("run_id").agg(pl.len(), pl.col("value").n_unique())
    assert whole["len"].to_list() == [40] * 10
    assert whole["value"].to_list() == [1] * 10


def test_a_transaction_that_fails_leaves_the_older_result(url):
    entry = make_entry(result=make_result((1.5, 0.5)))
    damaged = replace(entry, coefficients=[*entry.coefficients, entry.coefficients[0]])
    with open_history(url) as history:
        record(history, make_entry())
        with pytest.raises(HistoryError, match="cannot be used: "):
            record(history, damaged)
        found, table = everything(history)
    assert found["status"].to_list() == ["usable"]
    assert table["value"].to_list()[:2] == [1.02, 0.98]


def test_a_damaged_file_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"this is no database at all " * 100)
    with (
        pytest.raises(HistoryError, match=r"not a database.*published results are not touched"),
        open_history(f"sqlite:///{path}"),
    ):
        pass


def test_a_locked_file_is_a_failure_that_may_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE_S", 0.1)
    url = f"sqlite:///{tmp_path}/history.sqlite"
    with (
        open_history(url) as history,
        open_history(url) as other,
        other.writing(),
        pytest.raises(ConnectionError, match="database is locked"),
    ):
        record(history, make_entry())


def test_readers_do_not_wait_for_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE_S", 0.1)
    url = f"sqlite:///{tmp_path}/history.sqlite"
    with open_history(url) as history:
        record(history, make_entry())
        with history.writing() as connection:
            connection.execute(sa.delete(Base.metadata.tables["runs"]))
            with open_history(url) as other:
                assert len(runs(other, Selection())) == 1


def test_a_history_that_is_not_there_is_not_made_by_looking_at_it(tmp_path):
    url = f"sqlite:///{tmp_path}/history.sqlite"
    with (
        pytest.raises(HistoryError, match=r"no history at .*--record"),
        read_history(url),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "bad", ["history.sqlite", "sqlite://", "sqlite:///:memory:", "mysql://user:secret@host/name"]
)
def test_other_urls_are_refused_without_showing_a_password(bad):
    with (
        pytest.raises(ConfigurationError, match="sqlite:////absolute/path") as found,
        open_history(bad),
    ):
        pass
    assert "secret" not in str(found.value)


def test_a_server_that_cannot_be_reached_is_a_failure_that_may_pass(tmp_path):
    if find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'arraycal[postgres]')")
    url = f"postgresql://user:secret@/name?host={tmp_path}"
    with pytest.raises(ConnectionError, match="cannot be used now") as found, open_history(url):
        pass
    assert "secret" not in str(found.value)
