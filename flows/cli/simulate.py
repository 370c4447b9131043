"""``arraycal simulate``: a night of block files with known truth."""

from argparse import Namespace
from pathlib import Path
from textwrap import shorten
from typing import Any

from arraycal.calib.disk.files import refuse_file_in_the_way
from arraycal.calib.errors import WrongUsage
from arraycal.calib.simulation import (
    CameraSettings,
    ClockSettings,
    NightSettings,
    SimulationSettings,
    Truth,
    settings_of_nights,
    simulate_night,
    simulate_nights,
)
from arraycal.calib.simulation.night import TRUTH_FILE
from arraycal.config.errors import ConfigurationError
from arraycal.flows.cli.simulate_arguments import OPTIONS
from arraycal.flows.terminal.console import stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["settings_of", "simulate"]

#: Characters of a list of files in a message.
MAX_LISTED = 100


def simulate(arguments: Namespace) -> Exit:
    """Write a simulated night, or several, and say where they are.

    Raises
    ------
    ConfigurationError
        If no night can have these settings.
    WrongUsage
        If the folder holds a night already, or is a file.
    OSError
        If the machine fails.
    """
    settings, nights = settings_of(arguments)
    folder: Path = arguments.directory
    refuse_file_in_the_way(folder)
    if not arguments.overwrite:
        _refuse_other_files(folder)
    try:
        if nights.n_nights == 1:
            (changed,) = settings_of_nights(settings, nights)
            truth = simulate_night(folder, changed, overwrite=arguments.overwrite)
            _print(folder, truth)
        else:
            truths = simulate_nights(folder, settings, nights, overwrite=arguments.overwrite)
            for truth in truths:
                _print(folder / truth.settings.night.isoformat(), truth)
    except FileExistsError as error:
        if error.errno is not None:  # a file where the folder should be
            raise
        raise WrongUsage(f"{error} (--overwrite)") from None
    return Exit.USABLE


def _refuse_other_files(folder: Path) -> None:
    """Refuse a folder that holds something, and none of it simulated."""
    found = sorted(path.name for path in folder.glob("[!.]*"))
    if found and not any(folder.glob(TRUTH_FILE)) and not any(folder.glob(f"*/{TRUTH_FILE}")):
        raise WrongUsage(
            f"{folder} holds other files ({shorten(', '.join(found), MAX_LISTED)}); expected an "
            "empty folder, or one of simulated nights. Choose another, or add to this one with "
            "--overwrite."
        )


def _print(folder: Path, truth: Truth) -> None:
    stdout().print(
        f"{folder}: {len(truth.obs_ids)} blocks of {truth.settings.n_showers:,} showers, "
        f"{len(truth.types)} telescopes, truth in truth.json",
        markup=False,
        soft_wrap=True,
    )


def settings_of(arguments: Namespace) -> tuple[SimulationSettings, NightSettings]:
    """Collect the settings of a simulation from the command line.

    Raises
    ------
    ConfigurationError
        If no night can have these settings.
    """
    groups: dict[str, dict[str, Any]] = {"": {}, "camera": {}, "clocks": {}, "nights": {}}
    for _, setting, options in OPTIONS:
        group, _, name = setting.rpartition(".")
        value = vars(arguments)[setting]
        if isinstance(value, list):  # options that may be repeated
            value = dict(value) if options["metavar"].endswith("=X") else tuple(value)
        groups[group][name] = value
    try:
        camera = CameraSettings(**groups["camera"])
        clocks = ClockSettings(**groups["clocks"])
        settings = SimulationSettings(camera=camera, clocks=clocks, **groups[""])
        nights = NightSettings(**groups["nights"])
        settings_of_nights(settings, nights)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return settings, nights
