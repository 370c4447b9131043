"""Arguments of ``arraycal asymmetry``, beside those it shares with ``run``."""

import argparse
from typing import Any

from arraycal.flows.cli.argument_types import not_empty

__all__ = ["ASYMMETRY", "ASYMMETRY_END", "SHARED", "add_asymmetry_arguments"]

ASYMMETRY = """\
Write the asymmetry (v1 - v2) / (v1 + v2) of every shower and pair of telescopes, the table that
the coefficients are fitted to: to look at, or for the inter-calibration of ctao-calibpipe, which
reads the file as it is (/energy_asymmetry/events or /image_asymmetry/events). Blocks that were read
before come from the cache. All rows are in memory at once, about 100 bytes each.
"""

ASYMMETRY_END = """\
exit status:
  0  all blocks are in the file
  1  the machine failed (disk full): run again
  2  wrong usage or configuration
  3  degraded: some block was left out; it is named
  4  no block can be used
  5  nothing to do: no two telescopes of a type saw the same shower
  130  interrupted; nothing half-written is left
"""

#: Arguments that mean what they mean to `run`.
SHARED = ("blocks", "--config", "--preset", "--set", "--workers")

#: As argparse wants them.
ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--calibration",
        {
            "metavar": "NAME",
            "choices": ("energy-inter", "image-inter"),
            "default": "energy-inter",
            "help": "energy-inter: asymmetry of energies; image-inter: of image sizes (default: "
            "energy-inter)",
        },
    ),
    (
        "--output",
        {
            "metavar": "FILE",
            "type": not_empty,
            "required": True,
            "help": "HDF5 file to write; its folder is created if missing (required)",
        },
    ),
    (
        "--overwrite",
        {"action": "store_true", "help": "replace the file if it exists (default: refuse)"},
    ),
)


def add_asymmetry_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that are its own."""
    for name, options in ARGUMENTS:
        parser.add_argument(name, **options)
