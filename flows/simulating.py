"""``arraycal simulate``: a night of block files with known truth."""

from argparse import Namespace
from typing import Any

from calib.errors import WrongUsage
from calib.simulation import CameraSettings, ClockSettings, SimulationSettings, simulate_night
from config.errors import ConfigurationError
from flows.console import stdout
from flows.outcomes import Exit
from flows.simulate_arguments import OPTIONS

__all__ = ["settings_of", "simulate"]


def simulate(arguments: Namespace) -> Exit:
    """Write a simulated night and say where it is.

    Raises
    ------
    ConfigurationError
        If no night can have these settings.
    WrongUsage
        If the folder holds a night already.
    OSError
        If the machine fails.
    """
    settings = settings_of(arguments)
    try:
        truth = simulate_night(arguments.directory, settings, overwrite=arguments.overwrite)
    except FileExistsError as error:
        if error.errno is not None:  # a file where the folder should be
            raise
        raise WrongUsage(f"{error} (--overwrite)") from None
    stdout().print(
        f"{arguments.directory}: {len(truth.obs_ids)} blocks of {settings.n_showers:,} showers, "
        f"{len(truth.types)} telescopes, truth in truth.json",
        markup=False,
        soft_wrap=True,
    )
    return Exit.USABLE


def settings_of(arguments: Namespace) -> SimulationSettings:
    """Collect the settings of a simulation from the command line.

    Raises
    ------
    ConfigurationError
        If no night can have these settings.
    """
    groups: dict[str, dict[str, Any]] = {"": {}, "camera": {}, "clocks": {}}
    for _, setting, options in OPTIONS:
        group, _, name = setting.rpartition(".")
        value = vars(arguments)[setting]
        if isinstance(value, list):  # options that may be repeated
            value = dict(value) if "=" in options["metavar"] else tuple(value)
        groups[group][name] = value
    try:
        camera = CameraSettings(**groups["camera"])
        clocks = ClockSettings(**groups["clocks"])
        return SimulationSettings(camera=camera, clocks=clocks, **groups[""])
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
