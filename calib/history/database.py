"""The database of the history: opened for writing or reading, its failures explained."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import exc

from arraycal.calib.history.errors import HistoryError
from arraycal.calib.history.sqlite import sqlite_reader, sqlite_writer
from arraycal.calib.history.upgrading import is_outdated, upgrade, version_of
from arraycal.config.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["History", "HistoryError", "open_history", "read_history"]

#: How long a publisher waits for the others, in seconds; each holds the lock for milliseconds.
PATIENCE_S = 60.0
RECORD_FIRST = (
    "Record results with `arraycal run --record`, or name another database in "
    "ARRAYCAL_DATABASE_URL."
)


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
def open_history(url: str) -> Iterator[History]:
    """Open the history for writing, made or upgraded if necessary.

    Parameters
    ----------
    url : str
        SQLAlchemy URL: ``sqlite:////absolute/path`` or ``postgresql://user@host/name``.

    Yields
    ------
    History
        Closed at the end.

    Raises
    ------
    ConfigurationError
        If the URL cannot be used, or needs a package that is not installed.
    HistoryError
        If the database is damaged, or was written by a newer arraycal.
    OSError
        If it cannot be reached or written, or stays locked.
    """
    parsed = _parse(url)
    if path := _file_of(parsed):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(_engine(parsed), _without_secrets(parsed)) as history:
        with _explained(history.name):
            upgrade(history.engine, history.name)
        yield history


@contextmanager
def read_history(url: str) -> Iterator[History]:
    """Open the history for reading, by whoever may read it; nothing is made or changed.

    Only the tables of an earlier arraycal are upgraded, by who may do so.

    Parameters
    ----------
    url : str
        As for `open_history`.

    Yields
    ------
    History
        Closed at the end.

    Raises
    ------
    ConfigurationError
        If the URL cannot be used, or needs a package that is not installed.
    HistoryError
        If there is no history, or it is damaged, was written by a newer arraycal, or by an
        earlier one and cannot be upgraded by this user.
    OSError
        If it cannot be reached.
    """
    parsed = _parse(url)
    name, path = _without_secrets(parsed), _file_of(parsed)
    if path and not path.exists():
        raise HistoryError(f"there is no history at {name} yet. {RECORD_FIRST}")
    engine = sqlite_reader(parsed, path) if path else _engine(parsed)
    with _opened(engine, name) as history:
        with history.reading() as connection:
            found = version_of(connection)
            tables = sa.inspect(connection).get_table_names() if found is None else []
        if found is None:
            raise HistoryError(_no_history(name, path, tables))
        if is_outdated(found, name):
            _upgrade_for_reader(parsed, name, found)
        yield history


def _no_history(name: str, path: Path | None, tables: list[str]) -> str:
    found = f"tables {', '.join(sorted(tables))}" if tables else "no table at all"
    if path and not path.stat().st_size:
        found = "an empty file"
    return f"there is no history at {name}: found {found}. {RECORD_FIRST}"


def _upgrade_for_reader(url: sa.URL, name: str, found: str) -> None:
    """Upgrade a history of an earlier version, if this user may."""
    engine = _engine(url)
    try:
        upgrade(engine, name)
    except exc.DBAPIError as error:
        raise HistoryError(
            f"the history at {name} has schema version {found}, of an earlier arraycal, and this "
            f"user cannot upgrade it ({error.orig}). The next run that records a result does so."
        ) from error
    finally:
        engine.dispose()


@contextmanager
def _opened(engine: sa.Engine, name: str) -> Iterator[History]:
    try:
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


def _file_of(url: sa.URL) -> Path | None:
    """File of an SQLite database; None for a server."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        return sqlite_writer(url, PATIENCE_S)
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        msg = (
            f"a history in PostgreSQL needs the package {error.name}, which is not installed: "
            "pip install 'arraycal[postgres]'"
        )
        raise ConfigurationError(msg) from None


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
