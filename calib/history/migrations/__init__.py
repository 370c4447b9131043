"""Migrations of the history, run by alembic; every version has its file in ``versions``."""
