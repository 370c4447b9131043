"""``arraycal merge``: a window of nights, solved from the sums in the history."""

import logging
from argparse import Namespace

from rich.markup import escape
from rich.table import Table

from arraycal.calib.history.database import read_history
from arraycal.calib.history.reading import Selection
from arraycal.calib.history.window import USED, read_window, window_dates
from arraycal.calib.observables import OBSERVABLES, TIMING_CROSS, Observable
from arraycal.calib.publish.writing import provenance, publish, refuse_existing, reserved
from arraycal.calib.result.result import CalibrationResult
from arraycal.calib.windows.solve import refuse_unmergeable, solve_window
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import load_settings
from arraycal.flows.jobs.logs import log_file
from arraycal.flows.jobs.outputs import output_folder
from arraycal.flows.jobs.site_settings import find_site
from arraycal.flows.terminal.console import print_result, stderr, stdout
from arraycal.flows.terminal.masking import without_secrets
from arraycal.flows.terminal.outcomes import STATUS, Exit

__all__ = ["merge_nights"]

log = logging.getLogger("arraycal.flows")


def merge_nights(arguments: Namespace, command: str) -> Exit:
    """Merge the nights of a window and print what came out.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.
    command : str
        The command line, for the provenance.

    Returns
    -------
    Exit
        Says whether the result can be used.

    Raises
    ------
    ConfigurationError, WrongUsage
        If the command makes no sense.
    ArraycalError
        If nothing can be computed.
    OSError
        If the machine fails.
    """
    settings, site = load_settings(), find_site()
    observable = _observable(arguments.calibration)
    refuse_unmergeable(observable)
    selection = Selection(
        observable.name, arguments.since, arguments.until, arguments.configuration
    )
    window_dates(selection)
    output = output_folder(arguments.output, settings)
    refuse_existing(output, overwrite=arguments.overwrite)
    for line in [] if arguments.database else site.history_lines():
        stderr().print(line, markup=False, soft_wrap=True)
    with read_history(arguments.database or site.settings.history_url) as history:
        window = read_window(history, selection)
    shown = without_secrets(command, arguments.database, history.name)
    made_by = provenance(shown) | {"window": window.origin}
    result = solve_window(window.nights, observable, window.configuration, made_by)
    with log_file(output, settings.log_level), reserved(output):
        published = publish(result, observable, output, overwrite=arguments.overwrite)
        log.info("%s, %s", result.verdict, published.monitoring)
    stdout().print(_night_table(result))
    print_result(stdout(), result, published)
    return STATUS[result.verdict.status]


def _observable(name: str) -> Observable:
    if name in OBSERVABLES:
        return OBSERVABLES[name]
    known = ", ".join(known for known in OBSERVABLES if known != TIMING_CROSS.name)
    raise ConfigurationError(f"there is no calibration {name!r}; expected one of {known}")


def _night_table(result: CalibrationResult) -> Table:
    table = Table(title=f"nights, {result.fit['window']}")
    for name in ("night", "status", "blocks", "showers", "chi2 / ndf"):
        table.add_column(name, justify="left" if name in {"night", "status"} else "right")
    table.add_column("reason or verdict", overflow="fold")
    for row in result.extras["window"].iter_rows(named=True):
        compared = f"{row['chi2']:.1f} / {row['ndf']:.0f}" if row["ndf"] else "-"
        table.add_row(
            row["night"],
            row["status"],
            f"{row['n_blocks']:,}",
            f"{row['n_showers']:,}",
            compared,
            escape(row["reason"] or row["verdict"]),
            style="" if row["status"] == USED else "yellow",
        )
    return table
