"""Options of ``arraycal simulate``: what there is, with defaults and units, and what it sets."""

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from arraycal.flows.cli.argument_types import (
    clock_step,
    count,
    dated_step,
    names,
    number_of_telescope,
    number_of_type,
    pair_of_angles,
)
from arraycal.flows.cli.night_arguments import night_date

__all__ = ["OPTIONS", "SIMULATE", "add_simulate_arguments"]

SIMULATE = """\
Write a simulated night: genuine DL2 block files (block_OBSID.dl2.h5) and truth.json, with
everything that was put into them: throughput, biases, pointings, clocks. Several nights (--nights)
go into a folder each that bears its date, with a truth of its own.

TYPE is LST, MST or SST, ID a telescope id. Options with TYPE, ID or a pair of angles may be
repeated.
"""

COUNT = {"metavar": "N"}
NUMBER = {"metavar": "X", "type": float}
BY_TYPE: dict[str, Any] = {
    "metavar": "TYPE=X",
    "type": number_of_type,
    "action": "append",
    "default": [],
}
BY_TELESCOPE: dict[str, Any] = BY_TYPE | {"metavar": "ID=X", "type": number_of_telescope}
PAIRS: dict[str, Any] = {
    "metavar": "ZENITH,AZIMUTH",
    "type": pair_of_angles,
    "action": "append",
    "default": [],
}

Option = tuple[str, str, dict[str, Any]]
#: By heading: flag, the setting it sets (of camera, clocks, nights: with a dot), for argparse.
NIGHT: tuple[Option, ...] = (
    (
        "--array",
        "array",
        {
            "choices": ("north", "south", "mixed"),
            "default": "mixed",
            "help": "north: 4 LST + 9 MST; south: 14 MST + 37 SST; mixed: 4 LST + 14 MST + 37 SST",
        },
    ),
    (
        "--blocks",
        "n_blocks",
        COUNT
        | {"type": count(1), "default": 2, "help": "number of observation blocks, one file each"},
    ),
    (
        "--showers",
        "n_showers",
        COUNT
        | {
            "type": count(1),
            "default": 20_000,
            "help": "showers per block, each seen by two telescopes or more",
        },
    ),
    (
        "--seed",
        "seed",
        COUNT | {"type": count(0), "default": 0, "help": "seed of everything random"},
    ),
    (
        "--first-obs-id",
        "first_obs_id",
        COUNT
        | {
            "type": count(0),
            "default": 1001,
            "help": "observation block id of the first block; the others follow",
        },
    ),
    (
        "--duration",
        "block_duration_s",
        NUMBER | {"default": 1200.0, "help": "duration of a block [s]"},
    ),
    (
        "--throughput-scatter",
        "throughput_scatter",
        NUMBER
        | {"default": 0.08, "help": "standard deviation of ln(throughput) of the telescopes"},
    ),
    (
        "--throughput",
        "throughput",
        BY_TELESCOPE | {"help": "throughput of a telescope instead of the drawn one"},
    ),
    (
        "--proton-fraction",
        "proton_fraction",
        NUMBER | {"default": 0.25, "help": "share of protons among showers of equal light, 0 to 1"},
    ),
    (
        "--energy-min",
        "energy_min_tev",
        NUMBER | {"default": 0.01, "help": "lowest light-equivalent energy [TeV]"},
    ),
    (
        "--energy-max",
        "energy_max_tev",
        NUMBER | {"default": 100.0, "help": "highest light-equivalent energy [TeV]"},
    ),
)
NIGHTS: tuple[Option, ...] = (
    (
        "--night",
        "night",
        {
            "metavar": "DATE",
            "type": night_date,
            "default": date(2020, 6, 14),
            "help": "date of the evening, YYYY-MM-DD; the first block starts at 22:00 TAI",
        },
    ),
    (
        "--nights",
        "nights.n_nights",
        COUNT
        | {
            "type": count(1),
            "default": 1,
            "help": "number of nights in succession; of several each gets the folder DIR/DATE",
        },
    ),
    (
        "--step",
        "nights.steps",
        {
            "metavar": "ID=X@DATE",
            "type": dated_step,
            "action": "append",
            "default": [],
            "help": "relative change of a telescope's throughput from a night on: -0.08 takes 8 %%",
        },
    ),
    (
        "--ageing",
        "nights.ageing",
        BY_TELESCOPE
        | {"help": "share of its throughput that a telescope loses from night to night"},
    ),
)
POINTING: tuple[Option, ...] = (
    (
        "--zenith",
        "zenith_deg",
        NUMBER | {"default": 20.0, "help": "zenith angle of the pointing [deg], 0 to 60"},
    ),
    (
        "--azimuth",
        "azimuth_deg",
        NUMBER
        | {"default": 180.0, "help": "azimuth of the pointing from north through east [deg]"},
    ),
    (
        "--pointing",
        "pointings",
        PAIRS
        | {"help": "zenith angle and azimuth [deg] of the blocks in turn, instead of the above"},
    ),
    (
        "--pointing-tables",
        "pointing_tables",
        {
            "metavar": "NAME,...",
            "type": names("observation", "configuration", "dl0", "dl1"),
            "default": "observation,configuration",
            "help": "where the pointing is written: in the observation block, fixed for each "
            "telescope (configuration), monitored (dl0 or dl1), or none",
        },
    ),
)
ENERGIES: tuple[Option, ...] = (
    (
        "--energy-bias",
        "energy_bias",
        BY_TYPE | {"help": "ln(reconstructed / true energy) of a type at the pivot"},
    ),
    (
        "--energy-slope",
        "energy_slope",
        BY_TYPE | {"help": "change of that bias with ln(energy)"},
    ),
    (
        "--energy-pivot",
        "energy_pivot_tev",
        NUMBER | {"default": 1.0, "help": "energy at which the slope changes nothing [TeV]"},
    ),
    (
        "--energy-factor",
        "energy_factor",
        BY_TELESCOPE | {"help": "factor on the energies of a telescope, but not on its sizes"},
    ),
)
IMAGES: tuple[Option, ...] = (
    (
        "--threshold",
        "camera.threshold_pe",
        BY_TYPE
        | {
            "help": "size an image of a type must exceed to trigger [p.e.], instead of 80 (LST, "
            "MST) and 50 (SST)"
        },
    ),
    (
        "--size-bias",
        "camera.size_bias",
        BY_TYPE | {"help": "ln(measured / true size) of a type, after the trigger"},
    ),
    (
        "--cleaning-loss",
        "camera.cleaning_loss_pe",
        NUMBER | {"default": 0.0, "help": "what image cleaning takes from every size [p.e.]"},
    ),
    (
        "--truncation",
        "camera.truncation",
        {
            "action": "store_true",
            "help": "lose the light beyond the edge of the camera, before the trigger",
        },
    ),
    (
        "--saturation",
        "camera.saturation_pe",
        BY_TYPE | {"help": "most photo-electrons a pixel of a type counts [p.e.]"},
    ),
    (
        "--frame",
        "camera.frame",
        {
            "choices": ("telescope", "camera"),
            "default": "telescope",
            "help": "frame of the image parameters: deg on the sky or m in the camera",
        },
    ),
    (
        "--no-dl1",
        "write_dl1",
        {
            "action": "store_false",
            "help": "leave out the image parameters; halves time and size (default: write them)",
        },
    ),
)
CLOCKS: tuple[Option, ...] = (
    (
        "--time-convention",
        "clocks.convention",
        {
            "choices": ("pointing_compensated", "raw"),
            "default": "pointing_compensated",
            "help": "stamps less the plane wave of the pointing, as in simulations; or raw, as "
            "observed, in files that pass for observations",
        },
    ),
    (
        "--clock-scatter",
        "clocks.offset_scatter_ns",
        NUMBER | {"default": 0.0, "help": "standard deviation of the clock offsets [ns]"},
    ),
    (
        "--clock-offset",
        "clocks.offset_ns",
        BY_TELESCOPE | {"help": "clock offset of a telescope instead of the drawn one [ns]"},
    ),
    (
        "--clock-drift",
        "clocks.drift_ns_per_h",
        BY_TELESCOPE | {"help": "steady change of the clock offset of a telescope [ns / h]"},
    ),
    (
        "--clock-step",
        "clocks.steps",
        {
            "metavar": "ID,S,NS",
            "type": clock_step,
            "action": "append",
            "default": [],
            "help": "leap of a telescope's clock: time since the start of the night [s] and "
            "size [ns]",
        },
    ),
    (
        "--jitter",
        "clocks.jitter_ns",
        BY_TYPE
        | {
            "help": "fluctuation of the trigger time of a type [ns], instead of 0.7 (LST), 1.0 "
            "(MST) and 1.2 (SST)"
        },
    ),
    (
        "--latency",
        "clocks.latency_ns",
        BY_TYPE | {"help": "delay of the trigger of a type [ns]"},
    ),
    (
        "--walk",
        "clocks.walk_ns",
        BY_TYPE | {"help": "delay of an image at the threshold, falling as 1 / size [ns]"},
    ),
    (
        "--outliers",
        "clocks.outlier_fraction",
        NUMBER | {"default": 0.0, "help": "share of stamps that are not of the shower, 0 to 1"},
    ),
    (
        "--outlier-window",
        "clocks.outlier_window_ns",
        NUMBER | {"default": 60.0, "help": "how far they are off at most [ns]"},
    ),
    (
        "--missing-stamps",
        "clocks.missing_fraction",
        NUMBER | {"default": 0.0, "help": "share of stamps that are missing, 0 to 1"},
    ),
)
GROUPS = {
    "night": NIGHT,
    "several nights": NIGHTS,
    "pointing": POINTING,
    "energies": ENERGIES,
    "images": IMAGES,
    "clocks": CLOCKS,
}
OPTIONS = tuple(option for options in GROUPS.values() for option in options)


def add_simulate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``simulate`` to its parser."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="folder for the night; created if missing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a night in DIR (default: refuse)"
    )
    for title, group in GROUPS.items():
        add = parser.add_argument_group(title).add_argument
        for flag, setting, options in group:
            text = options["help"]
            if "default: " not in text:
                text += f" (default: {_default(options)})"
            add(flag, dest=setting, **(options | {"help": text}))


def _default(options: dict[str, Any]) -> str:
    """Say what happens without an option."""
    if options.get("action") == "store_true":
        return "no"
    return "none" if options["default"] == [] else str(options["default"])
