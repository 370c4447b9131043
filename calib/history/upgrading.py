"""The tables of the history in their present version; of several processes, one upgrades."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from arraycal.calib.history.errors import HistoryError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

__all__ = ["is_outdated", "upgrade", "version_of"]

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "arraycal_schema"
#: Key of the advisory lock under which PostgreSQL databases are upgraded: the letters "arraycal".
UPGRADE_LOCK = int.from_bytes(b"arraycal", "big")


def version_of(connection: sa.Connection) -> str | None:
    """Version of the tables; None where there are none."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    versions = sa.table(VERSION_TABLE, sa.column("version_num", sa.String()))
    return connection.scalar(sa.select(versions.c.version_num))


def is_outdated(found: str | None, name: str) -> bool:
    """Whether tables of a version have to be upgraded.

    Raises
    ------
    HistoryError
        If they are of a newer version.
    """
    script = _script()
    head = script.get_current_head()
    known = [revision.revision for revision in script.walk_revisions()]
    if found is not None and found not in known:
        raise HistoryError(
            f"the history at {name} has schema version {found}, of a newer arraycal; "
            f"this one knows versions up to {head}. "
            "Update arraycal, or name another database in ARRAYCAL_DATABASE_URL."
        )
    return found != head


def upgrade(engine: sa.Engine, name: str) -> None:
    """Bring the tables to the present version, or make them.

    Raises
    ------
    HistoryError
        If they are of a newer version.
    """
    from alembic import command

    with engine.connect() as connection:
        found = version_of(connection.execution_options(arraycal_reads=True))
    if not is_outdated(found, name):
        return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        # Another process may have been first, of whichever version.
        if is_outdated(version_of(connection), name):
            config = _script_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _script() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_script_config())


def _script_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
