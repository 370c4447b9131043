"""Published results of all nights in a database: SQLite in a file, or PostgreSQL.

A result of the same night, calibration and configuration replaces the one that is there; nothing
appears twice. `database` opens and upgrades, `recording` writes, `reading` reads.
"""
