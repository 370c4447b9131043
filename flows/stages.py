"""The stages of one calibration as Prefect tasks, in the order that every flow shares."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from prefect import State, runtime, unmapped
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import as_completed
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import SecretStr

from arraycal.calib.blocks.stage import BlockPairs
from arraycal.calib.errors import ArraycalError, CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.history.publishing import NOT_RECORDED
from arraycal.calib.publish.writing import Published
from arraycal.calib.result.result import CalibrationResult
from arraycal.calib.result.verdict import outliers_of
from arraycal.config.settings import Settings
from arraycal.flows.jobs.events import report_outliers
from arraycal.flows.jobs.job import Job, Outcome
from arraycal.flows.jobs.logs import logging_to
from arraycal.flows.jobs.origin import job_provenance
from arraycal.flows.jobs.progress import LISTENER
from arraycal.tasks.calibration import NOTHING_TO_DO, UNUSABLE, WRONG_USAGE, publish, show, solve
from arraycal.tasks.history import record
from arraycal.tasks.one_thread import one_polars_thread
from arraycal.tasks.pairs import pairs_of_block, sums_of_rows
from arraycal.tasks.workers import Workers, block_stage, open_workers, spreading

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
    listener, blocks = LISTENER.get(), list[BlockPairs]()
    listener.started(len(job.blocks))
    progress = create_progress_artifact(
        0.0,
        key=f"arraycal-{job.observable.name}-blocks",
        description=f"{len(job.blocks)} blocks",
    )
    with block_stage(
        job.observable,
        job.configuration,
        settings,
        listener.workers,
        one_polars_thread,
        listener.remark,
    ) as stage:
        # Not that of the flow, whose threads are for the processors of this machine.
        runner: Any = ThreadPoolTaskRunner(max_workers=min(stage.at_once, len(job.blocks)))
        parameters = {"path": list(job.blocks), "stage": unmapped(stage)}
        with runner:
            for future in as_completed(runner.map(pairs_of_block, parameters)):
                blocks.append(future.result())
                listener.block_done(blocks[-1])
                share = 100.0 * len(blocks) / len(job.blocks)
                update_progress_artifact(cast("UUID", progress), share)
    return blocks


def solve_and_publish(blocks: list[BlockPairs], job: Job, settings: Settings) -> Outcome:
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
    origin = job_provenance(made_by(), job, settings)
    opening = partial(open_workers, settings, listener.workers, one_polars_thread, listener.remark)
    with spreading(opening, _map_rows) as spread:
        state = solve(blocks, job.observable, job.configuration, origin, spread, return_state=True)
    if state.name in REFUSALS:
        raise REFUSALS[state.name](state.message or "nothing can be computed")
    result = state.result()
    published = publish(result, job.observable, job.output, overwrite=job.overwrite)
    if show(result, return_state=True).is_failed():
        log.warning("the results are published, but Prefect did not take the artifacts")
    _report_outliers(result)
    log.info("%s, %s", result.verdict, published.monitoring)
    listener.finished(result, published)
    unrecorded = _record(result, job, published, settings)
    return Outcome(result.verdict, published, unrecorded, outliers_of(result.telescopes))


def _map_rows(workers: Workers, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Map the rows of blocks, as `map_blocks` maps the blocks."""
    runner: Any = ThreadPoolTaskRunner(max_workers=min(workers.at_once, len(items)))
    parameters = {"rows": list(items), "work": unmapped(work), "call": unmapped(workers.call)}
    with runner:
        for future in runner.map(sums_of_rows, parameters):
            yield future.result()


def _record(result: CalibrationResult, job: Job, published: Published, settings: Settings) -> str:
    """Return why the history did not take the result; empty if it did, or was not to."""
    if not job.record:
        return ""
    state = record(
        result,
        job.configuration,
        published.result,
        url=SecretStr(settings.history_url),
        time_zone=settings.time_zone,
        night=job.night,
        return_state=True,
    )
    if not state.is_failed():
        return ""
    error = state.result(raise_on_failure=False)
    reason = str(error) if isinstance(error, NOT_RECORDED) else str(state.message)
    log.warning("the history did not take the result: %s", reason)
    LISTENER.get().not_recorded(reason)
    return reason


def _report_outliers(result: CalibrationResult) -> None:
    try:
        report_outliers(result.calibration, result.telescopes)
    except Exception:  # the results are published; the event is for automations
        log.exception("Prefect did not take the event of telescopes out of range")


def final_state(outcome: Outcome) -> State[Any]:
    """Tell the truth: Prefect takes any other return value for a complete success."""
    verdict, published = outcome.verdict, outcome.published
    data = {
        "verdict": str(verdict),
        "monitoring": str(published.monitoring),
        "result": str(published.result),
        "report": str(published.report),
    }
    missing = f"; not in the history: {outcome.unrecorded}" if outcome.unrecorded else ""
    message = f"{verdict}{missing}"
    if verdict.status == "unusable":
        return Failed(name=UNUSABLE, message=message)
    if verdict.status == "degraded" or outcome.unrecorded:
        return Completed(name=DEGRADED, message=message, data=data)
    return Completed(message=message, data=data)


@contextmanager
def run_log(level: str) -> Iterator[None]:
    """Send our log records to the run, which Prefect otherwise does for its own loggers only."""
    if any(isinstance(item, APILogHandler) for item in logging.getLogger("arraycal").handlers):
        yield  # PREFECT_LOGGING_EXTRA_LOGGERS has done so
        return
    with logging_to(APILogHandler(), level):
        yield
