"""The calibration of an array as a Prefect flow: one task per block, then solve and publish."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from prefect import State, flow, runtime, unmapped
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import as_completed
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from calib.errors import ArraycalError
from calib.pipeline import BlockPairs
from calib.result import Verdict
from calib.store import Published, provenance, refuse_existing
from config.errors import ConfigurationError
from config.settings import Settings, load_settings
from flows.cli import one_polars_thread
from flows.job import Job, prepare
from flows.logs import log_file, logging_to
from flows.parameters import CalibrateParameters
from flows.progress import LISTENER
from tasks.calibration import NOTHING_TO_DO, UNUSABLE, WRONG_USAGE, publish, show, solve
from tasks.pairs import pairs_of_block
from tasks.workers import block_stage, cpu_count

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["calibrate"]

log = logging.getLogger("arraycal.flows")

#: Name of the state of a run whose result can be used although something was left out.
DEGRADED = "Degraded"


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
    settings = load_settings()
    with _run_log(settings.log_level):
        try:
            job = prepare(parameters, settings)
            refuse_existing(job.output, overwrite=job.overwrite)
        except (ArraycalError, ConfigurationError) as error:
            log.error("%s", error)  # noqa: TRY400  expected: the message says it all
            return Failed(message=str(error))
        with log_file(job.output, settings.log_level):
            return _calibrate(job, settings)


def _calibrate(job: Job, settings: Settings) -> State[Any]:
    listener = LISTENER.get()
    blocks = _pairs(job, settings)
    listener.solving()
    made_by = provenance(listener.command or f"Prefect flow run {runtime.flow_run.name}")
    state = solve(blocks, job.observable, job.configuration, made_by, return_state=True)
    if state.name == NOTHING_TO_DO:
        log.warning("%s", state.message)
        return Completed(name=NOTHING_TO_DO, message=state.message)
    if state.name in {UNUSABLE, WRONG_USAGE}:
        log.error("%s", state.message)
        return Failed(name=state.name, message=state.message)
    result = state.result()
    published = publish(result, job.observable, job.output, overwrite=job.overwrite)
    if show(result, return_state=True).is_failed():
        log.warning("the results are published, but Prefect did not take the artifacts")
    log.info("%s, %s", result.verdict, published.monitoring)
    listener.finished(result, published)
    return _final_state(result.verdict, published)


def _pairs(job: Job, settings: Settings) -> list[BlockPairs]:
    """Map the blocks, and show how many are done."""
    listener, blocks = LISTENER.get(), []
    listener.started(len(job.blocks))
    progress = create_progress_artifact(
        0.0,
        key=f"arraycal-{job.observable.name}-blocks",
        description=f"{len(job.blocks)} blocks",
    )
    workers = min(listener.workers or cpu_count(), len(job.blocks))
    with block_stage(
        job.observable, job.configuration, settings, workers, one_polars_thread
    ) as stage:
        futures = pairs_of_block.map(list(job.blocks), unmapped(stage))
        for future in as_completed(futures):
            blocks.append(future.result())
            listener.block_done(blocks[-1])
            update_progress_artifact(cast("UUID", progress), 100.0 * len(blocks) / len(job.blocks))
    return blocks


def _final_state(verdict: Verdict, published: Published) -> State[Any]:
    """Tell the truth: Prefect takes any other return value for a complete success."""
    data = {
        "verdict": str(verdict),
        "monitoring": str(published.monitoring),
        "result": str(published.result),
        "report": str(published.report),
    }
    if verdict.status == "usable":
        return Completed(message=str(verdict), data=data)
    if verdict.status == "degraded":
        return Completed(name=DEGRADED, message=str(verdict), data=data)
    return Failed(name=UNUSABLE, message=str(verdict))


@contextmanager
def _run_log(level: str) -> Iterator[None]:
    """Send our log records to the run, which Prefect otherwise does for its own loggers only."""
    if any(isinstance(item, APILogHandler) for item in logging.getLogger("arraycal").handlers):
        yield  # PREFECT_LOGGING_EXTRA_LOGGERS has done so
        return
    with logging_to(APILogHandler(), level):
        yield
