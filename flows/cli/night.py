"""``arraycal nightly``: a night, as a Prefect flow or directly."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.table import Table

from arraycal.calib.dl2.observed import refuse_impossible
from arraycal.calib.nights.record import NightRecord
from arraycal.calib.publish.writing import REPORT
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings
from arraycal.flows.jobs.direct import make_pairs, solve_and_publish
from arraycal.flows.jobs.job import Job, Outcome
from arraycal.flows.jobs.parameters import NightlyParameters
from arraycal.flows.jobs.progress import LISTENER
from arraycal.flows.jobs.site_settings import Site, find_site
from arraycal.flows.night.find_blocks import night_folder
from arraycal.flows.night.options import explain_options, read_options
from arraycal.flows.night.page import worst
from arraycal.flows.night.run import Stages, run_nightly
from arraycal.flows.terminal.console import Terminal, stdout
from arraycal.flows.terminal.outcomes import Exit

if TYPE_CHECKING:
    from arraycal.calib.blocks.stage import BlockPairs

__all__ = ["nightly_by_hand"]

STATUS = {
    "usable": Exit.USABLE,
    "degraded": Exit.DEGRADED,
    "unusable": Exit.UNUSABLE,
    "nothing to do": Exit.NOTHING_TO_DO,
}


def nightly_by_hand(arguments: Namespace, command: str) -> Exit:
    """Calibrate a night and print the verdict.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.
    command : str
        The command line, for the provenance.

    Returns
    -------
    Exit
        Says whether the results can be used.

    Raises
    ------
    ConfigurationError, WrongUsage
        If the command makes no sense.
    OSError
        If the machine fails.
    """
    site = find_site()
    parameters = _parameters(arguments, site)
    options = parameters.options
    settings = site.with_places(options.blocks, options.output)
    if parameters.night is not None:  # before a server is started
        refuse_impossible([parameters.night], datetime.now(UTC), settings.time_zone)
    with Terminal(command, 0) as terminal:
        _say_where(arguments, settings, site, terminal)
        terminal.settings = settings
        if arguments.direct:
            terminal.nights_finished(_directly(parameters, settings, terminal))
        else:
            _as_flow(parameters, terminal)
    for record in terminal.nights:
        _print(record, night_folder(record.night, options, settings))
    return STATUS[worst(terminal.nights)]


def _say_where(arguments: Namespace, settings: Settings, site: Site, terminal: Terminal) -> None:
    """Say which folders are used that neither a variable nor an option of the command names."""
    typed = {"data_root": arguments.blocks, "output_root": arguments.output}
    lines: list[str] = []
    for name, text in typed.items():
        if text is None and getattr(settings, name) is not None:
            lines += site.folder_lines(name)
    if settings.output_root is not None:
        lines += site.history_lines()
    for line in lines:
        terminal.say(line)


def _directly(
    parameters: NightlyParameters, settings: Settings, terminal: Terminal
) -> list[NightRecord]:
    def pairs(job: Job, settings: Settings) -> "list[BlockPairs]":
        terminal.say(f"{job.night} {job.observable.name}")
        return make_pairs(job, settings, terminal)

    def solve(blocks: "list[BlockPairs]", job: Job, settings: Settings) -> Outcome:
        return solve_and_publish(blocks, job, settings, terminal)

    stages = Stages(pairs, solve, terminal.command)
    return run_nightly(parameters, settings, datetime.now(UTC), stages)


def _as_flow(parameters: NightlyParameters, terminal: Terminal) -> None:
    terminal.say("starting as a Prefect flow")
    from arraycal.flows.nightly import nightly as flow
    from arraycal.flows.terminal.outcomes import raise_failure

    token = LISTENER.set(terminal)
    try:
        state = flow(parameters, return_state=True)
    except Exception as error:  # the flow's own failures are in its state: this is the server's
        raise ConnectionError(
            f"Prefect did not run the flow ({error}). Check the server of PREFECT_API_URL or of "
            "the active profile, or use --direct"
        ) from error
    finally:
        LISTENER.reset(token)
    if not terminal.nights:
        raise_failure(state)


def _parameters(arguments: Namespace, site: Site) -> NightlyParameters:
    if arguments.options is not None:
        options = read_options(arguments.options, "--options")
    else:
        options = read_options(site.settings.nightly_options, "ARRAYCAL_NIGHTLY_OPTIONS")
    if arguments.calibration:
        given = {_name(item): item for item in options.get("calibrations", [])}
        options["calibrations"] = [
            given.get(name, {"calibration": name}) for name in arguments.calibration
        ]
    if arguments.again:
        options["again"] = "always"
    for name, root in (("blocks", "data_root"), ("output", "output_root")):
        text = getattr(arguments, name)
        if text is not None:
            # What is typed in a shell is meant from where the shell is.
            options[name] = text if root in site.named else str(Path.cwd() / _expanded(text))
    values: dict[str, Any] = {"night": arguments.night, "options": options}
    if arguments.look_back is not None:
        values["look_back"] = arguments.look_back
    try:
        return NightlyParameters.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain_options(error, NightlyParameters)) from None


def _expanded(text: str) -> str:
    return str(Path(text).expanduser()) if text == "~" or text.startswith("~/") else text


def _name(item: object) -> str:
    return str(item.get("calibration")) if isinstance(item, Mapping) else str(item)


def _print(record: NightRecord, folder: Path) -> None:
    console = stdout()
    if record.calibrations:
        console.print(_table(record))
    for item in record.calibrations:
        if item.folder:  # on a line of its own, so that it can be copied
            console.print(f"report {folder / item.folder / REPORT}", markup=False, soft_wrap=True)
        for text in item.trends:
            console.print(f"{item.calibration}: trend of {text}", markup=False, soft_wrap=True)
    for path, reason in (*record.waiting, *record.left_out):
        console.print(f"left out: {path}: {reason}", markup=False, soft_wrap=True)
    console.print(f"{record}", markup=False, soft_wrap=True)


def _table(record: NightRecord) -> Table:
    table = Table(title=f"night of {record.night}")
    for name in ("calibration", "verdict", "blocks", "cached"):
        table.add_column(name, overflow="fold")
    for item in record.calibrations:
        verdict = f"{item.status}, unchanged" if item.is_reused else item.status
        row: Sequence[str] = (item.calibration, verdict, f"{item.n_blocks}", f"{item.n_cached}")
        table.add_row(*row)
    return table
