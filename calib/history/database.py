"""The database of the history: opened, locked while it is upgraded, its failures explained."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc

from calib.history.errors import HistoryError
from config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config

__all__ = ["History", "HistoryError", "open_history"]

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "arraycal_schema"
#: How long a publisher waits for the others, in seconds; each holds the lock for milliseconds.
PATIENCE_S = 60.0
#: Key of the advisory lock under which PostgreSQL databases are upgraded: the letters "arraycal".
UPGRADE_LOCK = int.from_bytes(b"arraycal", "big")


@dataclass(frozen=True)
class History:
    """An open history of the present version.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    name : str
        Its URL without password and values of parameters, for messages.
    connection : sqlalchemy.Connection, optional
        Of `snapshot`: the transaction in which all is read.
    """

    engine: sa.Engine
    name: str
    connection: sa.Connection | None = None

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that may write; all of it happens, or nothing.

        Raises
        ------
        HistoryError
            If the database is damaged.
        OSError
            If it cannot be reached, written, or stays locked.
        """
        with _explained(self.name), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that sees one consistent state and keeps nobody from writing."""
        if self.connection is not None:
            yield self.connection
            return
        with _explained(self.name), self.engine.connect() as connection:
            options: dict[str, Any] = {"arraycal_reads": True}
            if connection.dialect.name == "postgresql":
                # Otherwise every statement would see a state of its own.
                options["isolation_level"] = "REPEATABLE READ"
            yield connection.execution_options(**options)

    @contextmanager
    def snapshot(self) -> Iterator[History]:
        """Open the history as it is now: whatever is read there belongs together."""
        with self.reading() as connection:
            yield replace(self, connection=connection)


@contextmanager
def open_history(url: str, *, create: bool = True) -> Iterator[History]:
    """Open the history, made or upgraded if necessary.

    Parameters
    ----------
    url : str
        SQLAlchemy URL: ``sqlite:////absolute/path`` or ``postgresql://user@host/name``.
    create : bool
        Whether an SQLite file may be made where there is none.

    Yields
    ------
    History
        Closed at the end.

    Raises
    ------
    ConfigurationError
        If the URL cannot be used, or needs a package that is not installed.
    HistoryError
        If the database is damaged, was written by a newer arraycal, or is not there.
    OSError
        If it cannot be reached or written, or stays locked.
    """
    parsed = _parse(url)
    name = _without_secrets(parsed)
    if parsed.get_backend_name() == "sqlite":
        _prepare_file(Path(parsed.database or ""), name, create=create)
    engine = _engine(parsed)
    try:
        with _explained(name):
            _upgrade(engine, name)
        yield History(engine, name)
    finally:
        engine.dispose()


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        # Not repeated: what is no URL may still hold a password.
        msg = (
            "the database URL (ARRAYCAL_DATABASE_URL) is no URL; "
            "expected sqlite:////absolute/path or postgresql://user@host/name"
        )
        raise ConfigurationError(msg) from None
    backend = parsed.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or parsed.database in {None, "", ":memory:"}:
        msg = (
            f"the history cannot be kept in {_without_secrets(parsed)} "
            "(ARRAYCAL_DATABASE_URL); "
            "expected sqlite:////absolute/path or postgresql://user@host/name"
        )
        raise ConfigurationError(msg)
    return parsed.set(drivername="sqlite+pysqlite")


def _without_secrets(url: sa.URL) -> str:
    """URL for messages: drivers take passwords among the parameters behind ``?`` as well."""
    hidden = url.set(query=dict.fromkeys(url.query, "***"))
    return hidden.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def _prepare_file(path: Path, name: str, *, create: bool) -> None:
    if not create and not path.exists():
        msg = (
            f"there is no history at {name} yet. Record results with `arraycal run --record`, "
            "or name another database in ARRAYCAL_DATABASE_URL."
        )
        raise HistoryError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": PATIENCE_S})
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        msg = (
            f"a history in PostgreSQL needs the package {error.name}, which is not installed: "
            "pip install 'arraycal[postgres]'"
        )
        raise ConfigurationError(msg) from None


def _configure_sqlite(connection: Any, _: object) -> None:  # noqa: ANN401  the DBAPI has no types
    """Let SQLAlchemy alone begin transactions, and readers not wait for the writer."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except connection.OperationalError:
        # Another process is just doing the same, or the file cannot be written: then a reader
        # needs no journal, and a writer hears of it soon enough.
        return


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the lock at the start: a transaction that reads first could not wait for it later."""
    reads = connection.get_execution_options().get("arraycal_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _upgrade(engine: sa.Engine, name: str) -> None:
    """Bring the tables to the present version; of several processes, one does it."""
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _alembic()
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    with engine.connect() as connection:
        found = _version(connection.execution_options(arraycal_reads=True))
    if found == head:
        return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        found = _version(connection)
        known = [revision.revision for revision in script.walk_revisions()]
        if found is not None and found not in known:
            msg = (
                f"the history at {name} has schema version {found}, of a newer arraycal; "
                f"this one knows versions up to {head}. "
                "Update arraycal, or name another database in ARRAYCAL_DATABASE_URL."
            )
            raise HistoryError(msg)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    versions = sa.table(VERSION_TABLE, sa.column("version_num", sa.String()))
    return connection.scalar(sa.select(versions.c.version_num))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what a driver says into one of our outcomes, with what to do about it."""
    try:
        yield
    except exc.DBAPIError as error:
        reason = str(error.orig).strip().replace("\n", " ")
        if isinstance(error, exc.OperationalError | exc.InterfaceError):
            msg = (
                f"the history at {name} cannot be used now: {reason}. "
                "See that it can be reached and written, and run again."
            )
            raise ConnectionError(msg) from error
        msg = (
            f"the history at {name} cannot be used: {reason}. "
            "If it is damaged, move it away or restore a copy; "
            "published results are not touched, and can be recorded again."
        )
        raise HistoryError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"the history at {name} is damaged: a cell holds no JSON ({error}); restore a copy."
        raise HistoryError(msg) from error
