"""Connections to a history in an SQLite file, for those who may write and those who may not."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sqlite_reader", "sqlite_writer"]


def sqlite_writer(url: sa.URL, patience_s: float) -> sa.Engine:
    """Engine that makes the file, and writes; it waits for other writers so long."""
    # The driver warns of arguments of the URL; none says more than the path.
    plain = url.set(query={})
    engine = sa.create_engine(plain, connect_args={"timeout": patience_s})
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    return engine


def sqlite_reader(url: sa.URL, path: Path) -> sa.Engine:
    """Engine that only reads a file, which is there; it needs no right to write."""
    engine = sa.create_engine(url.set(query={}), creator=lambda: _connect_reading(path))
    sa.event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _: object) -> None:  # noqa: ANN401  the DBAPI has no types
    """Let SQLAlchemy alone begin transactions, and readers not wait for the writer."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except connection.OperationalError:
        # Another process is just doing the same, or the file cannot be written: a writer hears
        # of it soon enough.
        return


def _begin(connection: sa.Connection) -> None:
    """Take the lock at the start: a transaction that reads first could not wait for it later."""
    reads = connection.get_execution_options().get("arraycal_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _connect_reading(path: Path) -> sqlite3.Connection:
    """Connect as the rights of the user allow."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        # A reader of a write-ahead log needs the two files beside it. Only who may write to the
        # database also removes them at the end; `mode=ro` would leave them behind.
        connection = _connect(path, "mode=rw")
        connection.execute("PRAGMA query_only=ON")
        return connection
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        # Without the log nobody writes, and all is in the file itself.
        return _connect(path, "immutable=1")
    return connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
