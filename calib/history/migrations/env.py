"""What alembic runs to migrate: on the connection, and in the transaction, it is given.

`arraycal.calib.history.database` gives them; the connection holds the lock that keeps other
processes out.
"""

from alembic import context

from arraycal.calib.history.tables import Base

#: Not alembic's own name: the database may be shared with Prefect, which has a table of it.
VERSION_TABLE = "arraycal_schema"

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
