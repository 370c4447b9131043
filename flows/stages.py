"""The stages of one calibration as Prefect tasks, in the order that every flow shares."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from prefect import State, runtime, unmapped
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import as_completed
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed

from calib.errors import ArraycalError, CannotCompute, NothingToDo, WrongUsage
from calib.pipeline import BlockPairs
from calib.result import CalibrationResult, Verdict
from calib.store import Published, provenance
from config.settings import Settings
from flows.cli import one_polars_thread
from flows.events import report_outliers
from flows.job import Job, Outcome
from flows.logs import logging_to
from flows.progress import LISTENER
from tasks.calibration import NOTHING_TO_DO, UNUSABLE, WRONG_USAGE, publish, show, solve
from tasks.pairs import pairs_of_block
from tasks.workers import block_stage, cpu_count

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["final_state", "made_by", "map_blocks", "run_log", "solve_and_publish"]

log = logging.getLogger("arraycal.flows")

#: Name of the state of a run whose result can be used although something was left out.
DEGRADED = "Degraded"
#: Outcomes without a result, by the name of the state of `solve`.
REFUSALS: dict[str | None, type[ArraycalError]] = {
    UNUSABLE: CannotCompute,
    NOTHING_TO_DO: NothingToDo,
    WRONG_USAGE: WrongUsage,
}


def made_by() -> str:
    """What started this run, for the provenance."""
    return LISTENER.get().command or f"Prefect flow run {runtime.flow_run.name}"


def map_blocks(job: Job, settings: Settings) -> list[BlockPairs]:
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


def solve_and_publish(blocks: list[BlockPairs], job: Job) -> Outcome:
    """Solve, publish and show what the blocks give.

    Raises
    ------
    CannotCompute
        If they give nothing.
    NothingToDo
        If there is nothing in them that this calibration could use.
    WrongUsage
        If something was asked for that they do not have.
    """
    listener = LISTENER.get()
    listener.solving()
    state = solve(
        blocks, job.observable, job.configuration, provenance(made_by()), return_state=True
    )
    if state.name in REFUSALS:
        raise REFUSALS[state.name](state.message or "nothing can be computed")
    result = state.result()
    published = publish(result, job.observable, job.output, overwrite=job.overwrite)
    if show(result, return_state=True).is_failed():
        log.warning("the results are published, but Prefect did not take the artifacts")
    _report_outliers(result)
    log.info("%s, %s", result.verdict, published.monitoring)
    listener.finished(result, published)
    return Outcome(result.verdict, published)


def _report_outliers(result: CalibrationResult) -> None:
    try:
        report_outliers(result.calibration, result.telescopes)
    except Exception:  # the results are published; the event is for automations
        log.exception("Prefect did not take the event of telescopes out of range")


def final_state(verdict: Verdict, published: Published) -> State[Any]:
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
def run_log(level: str) -> Iterator[None]:
    """Send our log records to the run, which Prefect otherwise does for its own loggers only."""
    if any(isinstance(item, APILogHandler) for item in logging.getLogger("arraycal").handlers):
        yield  # PREFECT_LOGGING_EXTRA_LOGGERS has done so
        return
    with logging_to(APILogHandler(), level):
        yield
