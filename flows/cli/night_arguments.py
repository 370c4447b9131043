"""Arguments of the commands around the night: nightly, report, up, down, status, register."""

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from arraycal.flows.cli.argument_types import not_empty

__all__ = ["add_night_commands", "night_date"]

if TYPE_CHECKING:
    # argparse has no public name for it
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

NIGHTLY = """\
Find the blocks of a night, run its calibrations in order, publish, give one verdict.

A night goes from noon to noon on the clock of the site (ARRAYCAL_TIME_ZONE) and bears the date of
its evening. Results go to OUTPUT/<night>/<calibration>/, the verdict to OUTPUT/<night>/night.json.
Blocks that were read before come from the cache; results that would be the same are left alone.

Data folder, output folder and other settings that neither an option nor a variable names are those
of the site: what the last `arraycal up` has remembered in ARRAYCAL_HOME, else ARRAYCAL_HOME/data
and ARRAYCAL_HOME/output. The command says which ones it uses.
"""

NIGHTLY_END = """\
exit status:
  0  usable
  1  the machine failed (disk full, server lost): run again
  2  wrong usage or configuration
  3  degraded: some block, telescope or calibration was left out or looks wrong; it is named
  4  unusable
  5  nothing to do: no block of the night was found
  130  interrupted; nothing half-written is left
"""

REPORT = """\
Write reports again from the results they are about, without reading any block: after an update of
arraycal, or when a page was lost. DIR is

  a result (holds result.json)      its report.html
  a folder of results, as a night   report.html of every one
  the folder of the nights          all of them, and index.html
"""

REPORT_END = """\
exit status:
  0  every page was written
  1  the machine failed (disk full): run again
  2  wrong usage: no result in the folder
  3  some result is damaged; it is named
  4  the result, or every one of the night, is damaged
  5  nothing to do: the night has no results
"""

UP = """\
Start everything that runs by itself, on this machine: a Prefect server with its database on
127.0.0.1, the deployments (every calibration, nightly with its schedule, backfill), automations,
and a worker. What is running is left alone, what is missing is started; nothing is ever there
twice. The state is in ARRAYCAL_HOME (default: ~/.local/share/arraycal).

settings of the machine (environment variables):
  ARRAYCAL_DATA_ROOT           where blocks arrive (default: ARRAYCAL_HOME/data)
  ARRAYCAL_OUTPUT_ROOT         where results go (default: ARRAYCAL_HOME/output)
  ARRAYCAL_TIME_ZONE           of the site: a night is from noon to noon there (default: UTC)
  ARRAYCAL_NIGHTLY_CRON        when the night is calibrated, local time (default: 30 8 * * *)
  ARRAYCAL_NIGHTLY_OPTIONS     YAML file with the options of the nightly runs (default: none)
  ARRAYCAL_NOTIFICATION_BLOCK  Prefect block that is told of failures (default: nobody)
"""

DOWN = """\
Stop the worker with its runs, then the server. Nothing is lost: the next run of a night goes on
from what is in the cache, and runs that were scheduled meanwhile start after the next `up`.
"""

STATUS = "Say whether server and worker are running, and where."

STATUS_END = """\
exit status:
  0  both are running
  3  something is not
  4  nothing is running
"""

REGISTER = """\
Create or update work pool, deployments and automations on the Prefect server of PREFECT_API_URL or
of the active profile: for a site with a server of its own. `arraycal up` does it by itself.
"""

MAX_PORT = 65_535


def add_night_commands(commands: "Commands") -> None:
    """Add the commands to the parser."""
    _add_nightly(commands)
    parser = _command(commands, "report", "write reports again", REPORT, REPORT_END)
    parser.add_argument("folder", metavar="DIR", help="a result, a night, or all nights")
    parser.add_argument(
        "--index",
        action="store_true",
        help="of all nights: the index alone (default: every report, which takes seconds each)",
    )
    parser = _command(commands, "up", "start server and worker", UP)
    parser.add_argument(
        "--port",
        metavar="N",
        type=port,
        help="port of the server on 127.0.0.1 (default: that of the last time, else 4200)",
    )
    _command(commands, "down", "stop server and worker", DOWN)
    _command(commands, "status", "say what is running", STATUS, STATUS_END)
    _command(commands, "register", "bring a Prefect server up to date", REGISTER)


def _command(
    commands: "Commands", name: str, summary: str, description: str, end: str = ""
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        allow_abbrev=False,
        help=summary,
        description=description,
        epilog=end,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_nightly(commands: "Commands") -> None:
    parser = _command(commands, "nightly", "calibrate a night", NIGHTLY, NIGHTLY_END)
    add = parser.add_argument
    add(
        "--night",
        metavar="DATE",
        type=night_date,
        help="date of the evening, YYYY-MM-DD (default: the night that ended last, and unfinished "
        "ones before it)",
    )
    add(
        "--look-back",
        metavar="N",
        type=int,
        help="without --night: how many nights before it to complete (default: 3)",
    )
    add(
        "--calibration",
        metavar="NAME",
        action="append",
        default=[],
        help="a calibration to run; repeat for several (default: all of a night)",
    )
    add(
        "--blocks",
        metavar="PATTERN",
        type=not_empty,
        help="where block files are, relative to ARRAYCAL_DATA_ROOT or else to the current folder; "
        "{night:%%Y/%%m/%%d} stands for the date (default: **/*.dl2.h5 in the data folder of the "
        "site)",
    )
    add(
        "--output",
        metavar="DIR",
        type=not_empty,
        help="folder that gets a folder per night, relative to ARRAYCAL_OUTPUT_ROOT or else to the "
        "current folder (default: the output folder of the site)",
    )
    add(
        "--options",
        metavar="YAML",
        type=Path,
        help="file with the options of the form in the Prefect UI: calibrations with preset, "
        "config and overrides, blocks, output, settle_s, again (default: that of "
        "ARRAYCAL_NIGHTLY_OPTIONS)",
    )
    add(
        "--again",
        action="store_true",
        help="compute and publish even what has not changed (default: leave it alone)",
    )
    add(
        "--direct",
        action="store_true",
        help="run without Prefect (default: as a Prefect flow)",
    )


def night_date(text: str) -> date:
    """Read the date of a night."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a date such as 2026-03-01"
        ) from None


def port(text: str) -> int:
    """Read the number of a port."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 1 to {MAX_PORT}")
    return int(text)
