"""Command line: ``arraycal run``, ``simulate``, ``check`` and ``presets``.

Nothing heavy is imported before it is known what is wanted.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from flows.outcomes import Exit, describe_failure

__all__ = ["main", "one_polars_thread"]

#: Set unless the user has set them; Prefect reads them when it is imported.
PREFECT_DEFAULTS = {
    # A server that starts on a busy machine for the first time needs more than the default 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The terminal gets our own messages; the run log of the server keeps everything.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}

EXIT_STATUS = """\
exit status:
  0  usable
  1  the machine failed (disk full, server lost): run again
  2  wrong usage or configuration
  3  degraded: some block or telescope was left out; it is named
  4  unusable, or nothing could be computed
  130  interrupted; nothing half-written is left
"""

RUN = """\
Calibrate an array from its observation blocks.

calibrations:
  energy-inter  relative throughput of the telescopes of a type, from the energies they
                assign to the same showers; no unit

The run is a Prefect flow: on the server of PREFECT_API_URL or of the active profile, otherwise
on a temporary server of its own, which takes about 20 s to start. --direct does the same without
Prefect. Either way blocks that were read before come from the cache (ARRAYCAL_CACHE_ROOT,
default ~/.cache/arraycal) unless the file or a setting that matters for them has changed.
"""

RUN_END = f"""\
settings of the machine (environment variables):
  ARRAYCAL_DATA_ROOT    if set, blocks and configuration files must lie in this folder
  ARRAYCAL_OUTPUT_ROOT  if set, outputs must lie in this folder; relative ones start there
  ARRAYCAL_RUNNER       threads (default), processes or dask: what runs blocks side by side
  ARRAYCAL_LOG_LEVEL    least severity in DIR/arraycal.log, default INFO

{EXIT_STATUS}"""

CHECK = """\
Say what block files hold, and which calibration runs on them with which preset, and why not.
Only the structure is read, no events.
"""

CHECK_END = """\
exit status:
  0  every file can be calibrated with some preset
  2  wrong usage
  3  some files can
  4  none can
"""

SIMULATE = """\
Write a simulated night: genuine DL2 block files (block_OBSID.dl2.h5) and truth.json, with the
throughput that was put into every telescope.
"""

Command = Callable[[argparse.Namespace, str], int]
if TYPE_CHECKING:
    # argparse has no public name for it
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

#: Options of `simulate`: name, smallest value, default, meaning.
COUNTS = (
    ("--blocks", 1, 2, "number of observation blocks, one file each"),
    ("--showers", 1, 20_000, "showers per block, each seen by two telescopes or more"),
    ("--seed", 0, 0, "seed of everything random"),
    ("--first-obs-id", 0, 1001, "observation block id of the first block; the others follow"),
)
#: The same: name, default, meaning with unit.
NUMBERS = (
    ("--throughput-scatter", 0.08, "standard deviation of ln(throughput) of the telescopes"),
    ("--proton-fraction", 0.25, "share of protons among showers of equal light, 0 to 1"),
    ("--zenith", 20.0, "zenith angle of the pointing [deg], 0 to 60"),
    ("--energy-min", 0.01, "lowest light-equivalent energy [TeV]"),
    ("--energy-max", 100.0, "highest light-equivalent energy [TeV]"),
    ("--duration", 1200.0, "duration of a block [s]"),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status, see ``arraycal run --help``.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        arguments = _parser().parse_args(given)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    return _guarded(arguments.command, arguments, shlex.join(["arraycal", *given]))


def one_polars_thread() -> None:
    """Make polars use one thread in a new process of a pool, before polars is imported there."""
    os.environ["POLARS_MAX_THREADS"] = "1"


def _guarded(command: Command, arguments: argparse.Namespace, line: str) -> int:
    """Turn every failure that can be expected into one message and its exit status."""
    try:
        return int(command(arguments, line))
    except KeyboardInterrupt:
        return _stop("interrupted; nothing half-written is left.", Exit.INTERRUPTED)
    except Exception as error:
        # Late, but for free: a command that got this far has imported both.
        from calib.errors import ArraycalError
        from config.errors import ConfigurationError

        if isinstance(error, ConfigurationError):
            return _stop(str(error), Exit.USAGE)
        if isinstance(error, ArraycalError):
            return _stop(str(error), Exit.UNUSABLE)
        if isinstance(error, BrokenPipeError):  # `arraycal ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.INFRASTRUCTURE
        if isinstance(error, OSError | MemoryError | BrokenExecutor):
            return _stop(describe_failure(error), Exit.INFRASTRUCTURE)
        raise


def _stop(message: str, status: Exit) -> Exit:
    print(f"arraycal: {message}", file=sys.stderr)  # noqa: T201  this is the command line
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="arraycal",
        description="Array calibration of imaging atmospheric Cherenkov telescopes.",
        epilog="`arraycal COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"arraycal {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_run(commands)
    _add_simulate(commands)
    _add_check(commands)
    _add_presets(commands)
    return parser


def _add_command(
    commands: "Commands", name: str, summary: str, description: str, end: str = ""
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=end,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_run(commands: "Commands") -> None:
    parser = _add_command(commands, "run", "calibrate an array", RUN, RUN_END)
    add = parser.add_argument
    add("calibration", metavar="CALIBRATION", help="which calibration: energy-inter")
    add(
        "blocks",
        metavar="BLOCK",
        nargs="+",
        help="DL2 block files, folders (their *.dl2.h5, or all HDF5 files if there are none), or "
        "quoted patterns such as 'night/**/*.dl2.h5'",
    )
    add(
        "--output",
        metavar="DIR",
        required=True,
        help="folder for monitoring.h5, result.json, report.html and arraycal.log; created if "
        "missing (required)",
    )
    add(
        "--config",
        metavar="YAML",
        action="append",
        default=[],
        help="configuration file, also one of ctao-calibpipe; repeat for several, a later one "
        "wins (default: none)",
    )
    add(
        "--preset",
        metavar="NAME",
        default="automatic",
        help="settings to start from: a name of `arraycal presets`; automatic, which is the "
        "recommended preset of the calibration unless --config is given; or none, which is the "
        "documented defaults. A --config without --preset stands on the defaults "
        "(default: automatic)",
    )
    add(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="a single setting, stronger than any file; the value is YAML, with the unit where "
        "the setting has one: CalculateAsymmetry.event_filters.min_energy='50 GeV' "
        "(default: none)",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace results that exist; overwrite: true in the section of the asymmetry or of "
        "CalculateInterCalibration does the same (default: refuse)",
    )
    add("--direct", action="store_true", help="run without Prefect (default: as a Prefect flow)")
    add(
        "--workers",
        metavar="N",
        type=_count(0),
        default=0,
        help="number of blocks at a time (default: 0, one per CPU)",
    )
    add(
        "--truth",
        metavar="JSON",
        type=Path,
        help="truth.json of a simulated night, shown beside the coefficients (default: none)",
    )
    parser.set_defaults(command=_run)


def _add_simulate(commands: "Commands") -> None:
    parser = _add_command(commands, "simulate", "simulate a night of block files", SIMULATE)
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="folder for the night; created if missing")
    add(
        "--array",
        choices=("north", "south", "mixed"),
        default="mixed",
        help="north: 4 LST + 9 MST; south: 14 MST + 37 SST; mixed: 4 LST + 14 MST + 37 SST "
        "(default: %(default)s)",
    )
    for option, smallest, default, text in COUNTS:
        add(
            option,
            metavar="N",
            type=_count(smallest),
            default=default,
            help=f"{text} (default: %(default)s)",
        )
    for option, number, text in NUMBERS:
        add(option, metavar="X", type=float, default=number, help=f"{text} (default: %(default)s)")
    add(
        "--no-dl1",
        dest="write_dl1",
        action="store_false",
        help="leave out the image parameters; halves time and size (default: write them)",
    )
    add("--overwrite", action="store_true", help="replace a night in DIR (default: refuse)")
    parser.set_defaults(command=_simulate)


def _add_check(commands: "Commands") -> None:
    parser = _add_command(commands, "check", "say what block files hold", CHECK, CHECK_END)
    parser.add_argument(
        "blocks", metavar="BLOCK", nargs="+", help="files, folders or patterns, as for run"
    )
    parser.set_defaults(command=_check)


def _add_presets(commands: "Commands") -> None:
    description = "List the presets, or print one as the YAML file it is."
    parser = _add_command(commands, "presets", "list or print presets", description)
    parser.add_argument("name", metavar="NAME", nargs="?", help="preset to print (default: list)")
    parser.set_defaults(command=_presets)


def _count(smallest: int) -> Callable[[str], int]:
    """Make a reader of whole numbers that are not too small."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(
                f"found {text!r}, expected a whole number of at least {smallest}"
            )
        return int(text)

    return read


def _run(arguments: argparse.Namespace, line: str) -> int:
    from flows.running import run

    return run(arguments, line)


def _simulate(arguments: argparse.Namespace, _: str) -> int:
    from flows.simulating import simulate

    return simulate(arguments)


def _check(arguments: argparse.Namespace, _: str) -> int:
    from flows.checking import check

    return check(arguments.blocks)


def _presets(arguments: argparse.Namespace, _: str) -> int:
    from flows.presets import show

    return show(arguments.name)


def _version() -> str:
    try:
        return version("arraycal")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
