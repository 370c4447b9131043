"""Arguments of the command line: what there is, with defaults and units."""

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraycal.flows.cli import (
    apply_arguments,
    asymmetry_arguments,
    history_arguments,
    merge_arguments,
)
from arraycal.flows.cli.argument_types import count, not_empty
from arraycal.flows.cli.night_arguments import add_night_commands, night_date
from arraycal.flows.cli.simulate_arguments import SIMULATE, add_simulate_arguments

__all__ = ["make_parser", "parse_arguments"]

if TYPE_CHECKING:
    # argparse has no public name for it
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001


EXIT_STATUS = """\
exit status:
  0  usable
  1  the machine failed (disk full, server lost): run again
  2  wrong usage or configuration
  3  degraded: some block or telescope was left out or looks wrong; it is named
  4  unusable, or nothing could be computed
  5  nothing to do: the data are sound and hold nothing for this calibration
  130  interrupted; nothing half-written is left
"""

RUN = """\
Calibrate an array from its observation blocks.

calibrations:
  energy-inter  relative throughput of the telescopes of a type, from the energies they
                assign to the same showers; no unit
  image-inter   the same from image sizes, with the effect of the impact distance fitted along
  timing-cross  offsets of the telescope clocks, from the time stamps of the same showers; ns
  energy-cross  the same across telescope types, in one solution, with the factor of each type

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


#: Arguments of `run`, as argparse wants them.
RUN_ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "calibration",
        {
            "metavar": "CALIBRATION",
            "help": "which calibration: energy-inter, image-inter, energy-cross or timing-cross",
        },
    ),
    (
        "blocks",
        {
            "metavar": "BLOCK",
            "nargs": "+",
            "help": "DL2 block files, folders (their *.dl2.h5, or all HDF5 files if there are "
            "none), or quoted patterns such as 'night/**/*.dl2.h5'",
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
        "--config",
        {
            "metavar": "YAML",
            "action": "append",
            "default": [],
            "help": "configuration file, also one of ctao-calibpipe, also as .json or .toml; "
            "repeat for several, a later "
            "one wins (default: none)",
        },
    ),
    (
        "--preset",
        {
            "metavar": "NAME",
            "default": "automatic",
            "help": "settings to start from: a name of `arraycal presets`; automatic, which is the "
            "recommended preset of the calibration unless --config is given; or none, which"
            " is the documented defaults. A --config without --preset stands on the "
            "defaults (default: automatic)",
        },
    ),
    (
        "--set",
        {
            "dest": "overrides",
            "metavar": "SECTION.KEY=VALUE",
            "action": "append",
            "default": [],
            "help": "a single setting, stronger than any file, also as --SECTION.KEY=VALUE; the "
            "value is YAML, with the unit "
            "where the setting has one: CalculateAsymmetry.event_filters.min_energy='50 "
            "GeV' (default: none)",
        },
    ),
    (
        "--inter",
        {
            "metavar": "FILE",
            "help": "energy-cross by method three_step: monitoring file with the inter-calibration "
            "to start from, or the folder of a result (default: made of the same blocks)",
        },
    ),
    (
        "--simulation-reference",
        {
            "metavar": "JSON",
            "help": "energy-cross: result.json of the same calibration of simulated blocks, whose "
            "contrasts between types are subtracted (default: none)",
        },
    ),
    (
        "--record",
        {
            "action": "store_const",
            "const": "yes",
            "default": "automatic",
            "help": "put the result into the history (default: if ARRAYCAL_DATABASE_URL is set)",
        },
    ),
    (
        "--no-record",
        {
            "dest": "record",
            "action": "store_const",
            "const": "no",
            "default": "automatic",
            "help": "do not put it there (default: as --record)",
        },
    ),
    (
        "--night",
        {
            "metavar": "DATE",
            "type": night_date,
            "help": "night under which the history keeps the result, YYYY-MM-DD of its evening "
            "(default: that of the observations)",
        },
    ),
    (
        "--compare",
        {
            "metavar": "RESULT",
            "help": "image-inter: result.json of energy-inter or energy-cross, or the folder that "
            "holds it, whose coefficients are shown beside those of the sizes (default: none)",
        },
    ),
    (
        "--overwrite",
        {
            "action": "store_true",
            "help": "replace results that exist; overwrite: true in the section of the asymmetry or"
            " of CalculateInterCalibration does the same (default: refuse)",
        },
    ),
    (
        "--direct",
        {"action": "store_true", "help": "run without Prefect (default: as a Prefect flow)"},
    ),
    (
        "--workers",
        {
            "metavar": "N",
            "type": count(0),
            "default": 0,
            "help": "number of blocks at a time (default: 0, one per CPU, or per thread of a Dask "
            "cluster)",
        },
    ),
    (
        "--truth",
        {
            "metavar": "JSON",
            "type": Path,
            "help": "truth.json of a simulated night, to show beside the result (default: none)",
        },
    ),
)


#: Commands whose files may stand behind options as well as before them.
INTERMIXED = ("run", "apply", "asymmetry", "merge", "check")
#: Commands that take single settings, and a setting as the tools of ctapipe take it.
CONFIGURED = ("run", "asymmetry", "history")
TRAIT = re.compile(r"--([A-Z]\w*(?:\.\w+)+)(=.*)?", re.ASCII | re.DOTALL)


def parse_arguments(given: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; the name of the command ends up in ``command``.

    Raises
    ------
    SystemExit
        If it makes no sense, or asks for help.
    """
    parser, commands = _parsers()
    if given and given[0] in CONFIGURED:
        given = list(_with_settings(given))
    if given and given[0] in commands.choices:
        _refuse_unknown_options(commands.choices[given[0]], given[1:])
    if not given or given[0] not in INTERMIXED:
        return parser.parse_args(given)
    # argparse cannot do it through a parser with subcommands.
    name, *rest = given
    return commands.choices[name].parse_intermixed_args(rest, argparse.Namespace(command=name))


def _refuse_unknown_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """End with the option that nobody knows: argparse would first ask for those that lack."""
    known = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001
    for word in takewhile(lambda word: word != "--", words):
        name = word.partition("=")[0]
        if name.startswith("--") and name not in known and " " not in name:
            near = get_close_matches(name, known, n=1)
            parser.error(f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _with_settings(given: Sequence[str]) -> Iterator[str]:
    """Write ``--Section.key=value``, or ``--Section.key value``, as ``--set Section.key=value``."""
    words = iter(given)
    for word in words:
        trait = TRAIT.fullmatch(word)
        if word == "--":  # what follows are names of files
            yield from (word, *words)
        elif trait is None:
            yield word
        else:
            name, value = trait.groups()
            yield f"--set={name}{value or '=' + next(words, '')}"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser; the name of the command ends up in ``command``."""
    return _parsers()[0]


def _parsers() -> "tuple[argparse.ArgumentParser, Commands]":
    parser = argparse.ArgumentParser(
        prog="arraycal",
        allow_abbrev=False,
        description="Array calibration of imaging atmospheric Cherenkov telescopes.",
        epilog="`arraycal COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"arraycal {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    _add_run(commands)
    _add_apply(commands)
    _add_asymmetry(commands)
    _add_merge(commands)
    _add_simulate(commands)
    _add_check(commands)
    _add_presets(commands)
    add_night_commands(commands)
    _add_history(commands)
    return parser, commands


def _add_command(
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


def _add_run(commands: "Commands") -> None:
    parser = _add_command(commands, "run", "calibrate an array", RUN, RUN_END)
    for name, options in RUN_ARGUMENTS:
        parser.add_argument(name, **options)


def _add_apply(commands: "Commands") -> None:
    parser = _add_command(
        commands, "apply", "correct blocks", apply_arguments.APPLY, apply_arguments.APPLY_END
    )
    apply_arguments.add_apply_arguments(parser)


def _add_asymmetry(commands: "Commands") -> None:
    parser = _add_command(
        commands, "asymmetry", "write asymmetries by event", asymmetry_arguments.ASYMMETRY,
        asymmetry_arguments.ASYMMETRY_END,
    )  # fmt: skip
    for name, options in RUN_ARGUMENTS:
        if name in asymmetry_arguments.SHARED:
            parser.add_argument(name, **options)
    asymmetry_arguments.add_asymmetry_arguments(parser)


def _add_merge(commands: "Commands") -> None:
    parser = _add_command(
        commands, "merge", "solve several nights as one", merge_arguments.MERGE,
        merge_arguments.MERGE_END,
    )  # fmt: skip
    merge_arguments.add_merge_arguments(parser)


def _add_simulate(commands: "Commands") -> None:
    parser = _add_command(commands, "simulate", "simulate a night of block files", SIMULATE)
    add_simulate_arguments(parser)


def _add_check(commands: "Commands") -> None:
    parser = _add_command(commands, "check", "say what block files hold", CHECK, CHECK_END)
    parser.add_argument(
        "blocks", metavar="BLOCK", nargs="+", help="files, folders or patterns, as for run"
    )


def _add_presets(commands: "Commands") -> None:
    description = "List the presets, or print one as the YAML file it is."
    parser = _add_command(commands, "presets", "list or print presets", description)
    parser.add_argument("name", metavar="NAME", nargs="?", help="preset to print (default: list)")


def _add_history(commands: "Commands") -> None:
    parser = _add_command(
        commands,
        "history",
        "show results and trends of many nights",
        history_arguments.HISTORY,
        history_arguments.HISTORY_END,
    )
    history_arguments.add_history_arguments(parser)


def _version() -> str:
    try:
        return version("arraycal")
    except PackageNotFoundError:
        return "(not installed)"
