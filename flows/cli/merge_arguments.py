"""Arguments of ``arraycal merge``."""

import argparse
from typing import Any

from arraycal.flows.cli.argument_types import not_empty
from arraycal.flows.cli.night_arguments import night_date

__all__ = ["MERGE", "MERGE_END", "add_merge_arguments"]

MERGE = """\
Solve a week or a month as one, from the sums that its nights left in the history; no block is read.
Nights are those of the history (noon to noon, date of the evening), both ends included. Gauge and
least numbers of showers are those of the nights' configuration. The result is like that of a run,
with a table of the nights and how well they agree.

Works for energy-inter, image-inter and energy-cross (method joint, without the tables in bins).
Offsets of clocks are never merged: clocks drift and jump between nights.
"""

MERGE_END = """\
exit status:
  0  usable
  1  the machine failed (disk full, database lost): run again
  2  wrong usage, or runs of several configurations: choose one with --configuration
  3  degraded: a run, block or telescope is missing or looks wrong, or nights disagree; it is named
  4  unusable, or the nights cannot be merged: other telescopes, sums of another version
  5  nothing to do: no run in the window
  130  interrupted; nothing half-written is left
"""

#: As argparse wants them.
ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--calibration",
        {
            "metavar": "NAME",
            "required": True,
            "help": "energy-inter, image-inter or energy-cross (required)",
        },
    ),
    (
        "--from",
        {
            "dest": "since",
            "metavar": "DATE",
            "type": night_date,
            "required": True,
            "help": "first night, YYYY-MM-DD of its evening (required)",
        },
    ),
    (
        "--to",
        {
            "dest": "until",
            "metavar": "DATE",
            "type": night_date,
            "required": True,
            "help": "last night likewise (required)",
        },
    ),
    (
        "--output",
        {
            "metavar": "DIR",
            "type": not_empty,
            "required": True,
            "help": "folder for monitoring.h5, result.json, report.html and arraycal.log; created "
            "if missing (required)",
        },
    ),
    (
        "--configuration",
        {
            "metavar": "DIGEST",
            "help": "digest of the configuration whose runs are meant, or its beginning (default: "
            "the only one in the window)",
        },
    ),
    (
        "--database",
        {
            "metavar": "URL",
            "help": "SQLAlchemy URL of the history (default: ARRAYCAL_DATABASE_URL, else "
            "that of the site: history.sqlite in its output folder)",
        },
    ),
    (
        "--overwrite",
        {"action": "store_true", "help": "replace results that exist (default: refuse)"},
    ),
)


def add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    for name, options in ARGUMENTS:
        parser.add_argument(name, **options)
