"""Arguments of ``arraycal apply``."""

import argparse
from typing import Any

from arraycal.flows.cli.argument_types import not_empty

__all__ = ["APPLY", "APPLY_END", "add_apply_arguments"]

APPLY = """\
Apply coefficients to blocks: for each, DIR/NAME.corrected.h5 gets the original and the corrected
value of every telescope event. The blocks themselves are only read. Which coefficients belong to
energies, sizes or times is read from the file; one of another program does not say it and needs
--quantity. With --lookup, the corrections are written as a table by telescope instead.
"""

APPLY_END = """\
exit status:
  0  everything was corrected
  1  the machine failed (disk full): run again
  2  wrong usage
  3  degraded: a block failed, or a telescope has no coefficient; it is named
  4  the coefficients cannot be used, or nothing was corrected
  5  nothing to do: there is no coefficient, or no row to correct
  130  interrupted; nothing half-written is left
"""

#: As argparse wants them.
ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "coefficients",
        {
            "metavar": "COEFFICIENTS",
            "help": "monitoring.h5 of a calibration, or its folder, or a file of ctao-calibpipe",
        },
    ),
    (
        "blocks",
        {"metavar": "BLOCK", "nargs": "*", "help": "files, folders or patterns, as for run"},
    ),
    (
        "--output",
        {
            "metavar": "DIR",
            "type": not_empty,
            "required": True,
            "help": "folder for the new files; created if missing (required)",
        },
    ),
    (
        "--lookup",
        {
            "action": "store_true",
            "help": "write lookup.ecsv and lookup.h5, corrections by telescope, and read no block",
        },
    ),
    (
        "--table",
        {
            "choices": ("cross", "inter", "timing"),
            "help": "which coefficients of a file that holds several (default: cross-calibration "
            "if there is one, else inter-calibration)",
        },
    ),
    (
        "--quantity",
        {
            "choices": ("energy", "size"),
            "help": "what the coefficients were made from, if the file does not say",
        },
    ),
    (
        "--column",
        {
            "metavar": "NAME",
            "help": "column to correct (default: what the coefficients were made from; if the "
            "file does not say, RandomForestRegressor_tel_energy or hillas_intensity)",
        },
    ),
    (
        "--overwrite",
        {"action": "store_true", "help": "replace outputs that exist (default: refuse)"},
    ),
)


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    for name, options in ARGUMENTS:
        parser.add_argument(name, **options)
