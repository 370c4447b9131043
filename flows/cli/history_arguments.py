"""Arguments of ``arraycal history``."""

import argparse
from pathlib import Path

from arraycal.flows.cli.argument_types import count
from arraycal.flows.cli.night_arguments import night_date

__all__ = ["HISTORY", "HISTORY_END", "add_history_arguments"]

HISTORY = """\
Show what the history holds: published runs, coefficients of chosen telescopes, and the trends of
all of them over the nights, relative to the steady telescopes of each type. The trends of a
calibration stand on one configuration: that of the newest night in the folder of the nights.
"""

HISTORY_END = """\
flags:
  ageing   changes steadily, as a straight line
  step     changed between two nights
  both     with "cannot tell" in the reason: few nights, either may be true
  outlier  single nights stand out

exit status:
  0  shown, and written
  1  the machine failed (database cannot be reached, disk full): run again
  2  wrong usage or configuration
  4  there is no history, or it is damaged
  5  nothing to do: the history holds nothing of the selection
"""


def add_history_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the parser of the command."""
    _add_selection(parser)
    _add_outputs(parser)
    add = parser.add_argument
    add(
        "--database",
        metavar="URL",
        help="SQLAlchemy URL of the history, such as sqlite:////data/history.sqlite (default: "
        "ARRAYCAL_DATABASE_URL, else that of the site: history.sqlite in its output folder)",
    )
    add(
        "--config",
        metavar="YAML",
        type=Path,
        action="append",
        default=[],
        help="configuration whose section TrendMonitor holds the limits of the flags; repeat for "
        "several (default: none)",
    )
    add(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="a single setting, stronger than any file: TrendMonitor.min_change=0.02 (default: "
        "none)",
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--tel",
        metavar="ID",
        type=count(0),
        nargs="+",
        action="extend",
        default=[],
        help="telescopes whose coefficients are listed and written (default: trends of all, "
        "coefficients of none listed)",
    )
    add(
        "--since",
        metavar="DATE",
        type=night_date,
        help="first night, YYYY-MM-DD of its evening; the trends begin there (default: the first "
        "one; trends begin TrendMonitor.look_back before the last one)",
    )
    add("--until", metavar="DATE", type=night_date, help="last night (default: the last one)")
    add("--calibration", metavar="NAME", help="only this calibration (default: all)")
    add(
        "--configuration",
        metavar="DIGEST",
        help="only runs with this configuration: its digest, or the beginning (default: runs with "
        "any, trends with that of the newest night in the folder of the nights)",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--export",
        metavar="FILE",
        help="write a table to FILE.parquet, FILE.csv or FILE.ecsv, the last with units "
        "(default: none)",
    )
    add(
        "--table",
        choices=("coefficients", "trends", "runs"),
        default="coefficients",
        help="which table is written (default: coefficients)",
    )
    add(
        "--figure",
        metavar="FILE",
        help="draw the trends to FILE.svg, FILE.pdf or FILE.png (default: none)",
    )
    add("--overwrite", action="store_true", help="replace files that exist (default: refuse them)")
