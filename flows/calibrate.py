"""The calibration of an array as a Prefect flow: one task per block, then solve and publish."""

import logging
from typing import Any, cast

from prefect import State, flow, runtime
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from arraycal.calib.errors import ArraycalError, NothingToDo, WrongUsage
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.publish.writing import refuse_existing, reserved
from arraycal.config.errors import ConfigurationError
from arraycal.flows.jobs.job import prepare_job
from arraycal.flows.jobs.logs import log_file
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.jobs.site_settings import run_settings
from arraycal.flows.stages import final_state, map_blocks, run_log, solve_and_publish
from arraycal.tasks.calibration import NOTHING_TO_DO, UNUSABLE, WRONG_USAGE
from arraycal.tasks.workers import cpu_count

__all__ = ["calibrate", "of_deployment"]

log = logging.getLogger("arraycal.flows")


@flow(
    name="calibrate",
    flow_run_name="{parameters.calibration}",
    task_runner=cast("Any", ThreadPoolTaskRunner(max_workers=cpu_count())),  # its type is invariant
    persist_result=False,
)
def calibrate(parameters: CalibrateParameters) -> State[Any]:
    """Calibrate an array from its observation blocks.

    Args:
        parameters: What to calibrate, with which settings, and where the results go.

    """
    settings = run_settings(parameters.record)
    with run_log(settings.log_level):
        try:
            own = of_deployment(parameters, runtime.deployment.name)
            job = prepare_job(own, settings)
            refuse_existing(job.output, overwrite=job.overwrite)
        except (ArraycalError, ConfigurationError) as error:
            log.error("%s", error)  # noqa: TRY400  expected: the message says it all
            return Failed(message=str(error))
        try:
            with log_file(job.output, settings.log_level), reserved(job.output):
                refuse_existing(job.output, overwrite=job.overwrite)
                return final_state(solve_and_publish(map_blocks(job, settings), job, settings))
        except NothingToDo as error:
            return Completed(name=NOTHING_TO_DO, message=str(error))
        except ConfigurationError as error:  # of the machine, found when the work starts
            return Failed(name=WRONG_USAGE, message=str(error))
        except ArraycalError as error:  # the log has it
            name = WRONG_USAGE if isinstance(error, WrongUsage) else UNUSABLE
            return Failed(name=name, message=str(error))


def of_deployment(parameters: CalibrateParameters, deployment: str | None) -> CalibrateParameters:
    """Parameters of a run of a deployment, which runs the calibration whose name it bears.

    The schema that `arraycal.flows.service.registering` makes refuses another one before a run
    starts; that of ``prefect deploy`` does not.

    Parameters
    ----------
    parameters : CalibrateParameters
        What was asked for.
    deployment : str or None
        Its name; None, or a name that is not ours, leaves everything as it is.

    Raises
    ------
    WrongUsage
        If another calibration was asked for.
    """
    if deployment not in OBSERVABLES or deployment == parameters.calibration:
        return parameters
    if "calibration" in parameters.model_fields_set:
        raise WrongUsage(
            f"the deployment {deployment} runs {deployment}, found calibration: "
            f"{parameters.calibration}. Start the deployment {parameters.calibration} instead, or "
            "leave the parameter out"
        )
    return parameters.model_copy(update={"calibration": deployment})
