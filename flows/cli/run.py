"""``arraycal run``: a calibration, as a Prefect flow or directly."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from arraycal.calib.publish.writing import refuse_existing
from arraycal.config.errors import ConfigurationError, shown
from arraycal.config.settings import Settings
from arraycal.flows.jobs.job import estimator_note, prepare_job
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.jobs.path_patterns import from_here
from arraycal.flows.jobs.progress import LISTENER
from arraycal.flows.jobs.site_settings import run_settings
from arraycal.flows.terminal.console import Terminal, print_result, stdout
from arraycal.flows.terminal.outcomes import STATUS, Exit, raise_failure
from arraycal.flows.terminal.truth import read_truth

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["run"]


def run(arguments: Namespace, command: str) -> Exit:
    """Run a calibration and print what came out.

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
    ConfigurationError
        If the command makes no sense.
    ArraycalError
        If nothing can be computed.
    OSError
        If the machine fails.
    """
    settings = run_settings(arguments.record)
    parameters = _parameters(arguments, settings)
    job = prepare_job(parameters, settings)
    refuse_existing(job.output, overwrite=job.overwrite)
    truth = read_truth(arguments.truth, arguments.calibration) if arguments.truth else None
    with Terminal(command, arguments.workers) as terminal:
        if note := estimator_note(parameters, job.configuration):
            terminal.say(note)
        if arguments.direct:
            from arraycal.flows.jobs.direct import run_directly

            run_directly(job, settings, terminal)
        else:
            _run_flow(parameters, terminal)
    if terminal.result is None or terminal.published is None:
        return Exit.UNUSABLE
    print_result(stdout(), terminal.result, terminal.published, truth)
    if terminal.unrecorded:
        terminal.say(f"the history did not take the result: {terminal.unrecorded}")
    status = STATUS[terminal.result.verdict.status]
    return Exit.DEGRADED if terminal.unrecorded and status == Exit.USABLE else status


def _run_flow(parameters: CalibrateParameters, terminal: Terminal) -> None:
    """Call the flow; it tells the terminal what it does."""
    terminal.say("starting as a Prefect flow")
    from prefect.task_runners import ThreadPoolTaskRunner

    from arraycal.flows.calibrate import calibrate

    run_it = calibrate
    if terminal.workers:
        runner: Any = ThreadPoolTaskRunner(max_workers=terminal.workers)
        run_it = calibrate.with_options(task_runner=runner)
    token = LISTENER.set(terminal)
    try:
        state = run_it(parameters, return_state=True)
    except Exception as error:  # the flow's own failures are in its state: this is the server's
        raise ConnectionError(
            f"Prefect did not run the flow ({error}). Check the server of PREFECT_API_URL or of "
            "the active profile, or use --direct"
        ) from error
    finally:
        LISTENER.reset(token)
    if terminal.result is None:
        raise_failure(state)


def _parameters(arguments: Namespace, settings: Settings) -> CalibrateParameters:
    try:
        return CalibrateParameters(
            calibration=arguments.calibration,
            blocks=[from_here(text, settings.data_root) for text in arguments.blocks],
            output=arguments.output,
            preset=arguments.preset,
            config=[from_here(text, settings.data_root) for text in arguments.config],
            overrides=arguments.overrides,
            inter=_file_from_here(arguments.inter, settings.data_root),
            simulation_reference=_file_from_here(
                arguments.simulation_reference, settings.data_root
            ),
            compare=_file_from_here(arguments.compare, settings.data_root),
            overwrite=arguments.overwrite,
            record=arguments.record,
            night=arguments.night,
        )
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise ConfigurationError(problems) from None


def _problem(item: "ErrorDetails") -> str:
    name, *_ = item["loc"]
    if name == "overrides":
        return f"--set {item['input']}: expected SECTION.KEY=VALUE"
    if item["type"] == "value_error":  # our own sentence
        return item["msg"].removeprefix("Value error, ")
    return f"{name}: {item['msg']} (found {shown(item['input'])})"


def _file_from_here(text: str | None, root: Path | None) -> str | None:
    return None if text is None else from_here(text, root)
