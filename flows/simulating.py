"""``arraycal simulate``: a night of block files with known truth."""

from argparse import Namespace

from calib.errors import WrongUsage
from calib.simulation import SimulationSettings, simulate_night
from config.errors import ConfigurationError
from flows.console import stdout
from flows.outcomes import Exit

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
    """Collect the settings of a simulation from the command line."""
    try:
        return SimulationSettings(
            array=arguments.array,
            n_blocks=arguments.blocks,
            n_showers=arguments.showers,
            seed=arguments.seed,
            first_obs_id=arguments.first_obs_id,
            throughput_scatter=arguments.throughput_scatter,
            proton_fraction=arguments.proton_fraction,
            zenith_deg=arguments.zenith,
            energy_min_tev=arguments.energy_min,
            energy_max_tev=arguments.energy_max,
            block_duration_s=arguments.duration,
            write_dl1=arguments.write_dl1,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
